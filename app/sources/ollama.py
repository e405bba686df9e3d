"""Ollama's list of local models, ``/api/tags``: https://docs.ollama.com/api/tags."""

from collections.abc import Iterator

from app.catalog.lifecycle import read_moment
from app.sources import Content, Row, Source
from app.sources.values import any_of, items_of, numbered, renamed

_PARAMETERS = {"tools": "tools", "thinking": "reasoning"}
_INPUTS = {"vision": "image", "audio": "audio"}


class Ollama(Source):
    """Ollama's list."""

    name = "ollama"
    shape = "the 'models' of a JSON object, with 'name' and 'digest' or 'details' in its objects"

    def recognises(self, content: Content) -> bool:
        """Return whether some objects have a name, and what only Ollama has beside it."""
        return any_of(
            items_of(content, "models"),
            lambda item: "name" in item and {"digest", "details"} & item.keys(),
        )

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each model."""
        for place, item in numbered(items_of(content, "models")):
            fields = renamed(item, [("context_length", "details.context_length")])
            changed = item.get("modified_at")
            if isinstance(changed, str) and (moment := read_moment(changed)) is not None:
                fields["created"] = int(moment)
            if isinstance(can := item.get("capabilities"), list):
                fields["supported_parameters"] = [
                    w for name, w in _PARAMETERS.items() if name in can
                ]
                inputs = ["text", *(word for name, word in _INPUTS.items() if name in can)]
                fields["architecture"] = {"input_modalities": inputs}
                if "embedding" in can:
                    fields["type"] = "embedding"
            yield Row(place=place, id=item.get("model") or item.get("name"), fields=fields)
