"""Lists after OpenAI's ``/v1/models``, with what other servers add to them.

vLLM has ``max_model_len``, llama.cpp ``meta.n_ctx`` and ``aliases``, Vercel ``context_window``,
``max_tokens``, ``released`` and prices, new-api ``supported_endpoint_types``; Roster has all of
its own fields. https://platform.openai.com/docs/api-reference/models/list
"""

from collections.abc import Iterator

from app.names import MIRRORS
from app.sources import Content, Row, Source
from app.sources.values import OURS, any_of, items_of, numbered, prices, renamed

_NAMES = [
    ("created", "released"),
    *OURS,
    *((fact, mirror) for mirror, fact in MIRRORS.items()),
    ("max_output_tokens", "max_tokens"),
]


class OpenAI(Source):
    """An OpenAI-like list."""

    name = "openai"
    shape = "a JSON list of objects with an 'id', which may be the 'data' of an object; or NDJSON"

    def recognises(self, content: Content) -> bool:
        """Return whether some objects have an id; an empty list is one, too."""
        items = items_of(content)
        return items == [] or any_of(items, lambda item: "id" in item)

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each item."""
        for place, item in numbered(items_of(content)):
            notes: dict[str, str] = {}
            fields = renamed(item, _NAMES)
            for name in ("aliases", "tags"):
                if isinstance(given := fields.get(name), list):
                    # llama.cpp has the id among the aliases.
                    fields[name] = [word for word in given if word != item.get("id")]
                    if not fields[name]:
                        del fields[name]
            if item.get("pricing") is not None:
                names = {"input": "prompt", "output": "completion"}
                fields["pricing"] = prices(item["pricing"], names, notes, None)
            if (permissions := item.get("permission")) is not None:
                # vLLM makes a new id at a new time for each request.
                fields["permission"] = (
                    [*map(_without_id, permissions)]
                    if isinstance(permissions, list)
                    else permissions
                )
            yield Row(place=place, id=item.get("id"), fields=fields, notes=notes)


def _without_id(permission: object) -> object:
    if not isinstance(permission, dict):
        return permission
    return {name: value for name, value in permission.items() if name not in ("id", "created")}
