"""Our own export: everything that is known of each entry, and where the entry came from.

JSON is ``{"object": "roster.export", "data": [entry, ...]}``. NDJSON has ``{"object":
"roster.export"}`` in its first line, and then one entry a line.
"""

from collections.abc import Iterable, Iterator

from app.catalog.model import Model
from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema
from app.sources import Content, Row, Source
from app.sources.values import items_of, numbered
from app.strict_json import dump

EXPORT = "roster.export"
_ELSEWHERE = AdminModelSchema.read_only | MIRROR_FIELDS | {"id", "object", "source"}


#: The fields that make an entry what it is, each under one name.
_ENTRY = AdminModelSchema(
    exclude=(*MIRROR_FIELDS, "object", "capabilities", "revision", "permission.object")
)


class Roster(Source):
    """Our own export."""

    name = "roster"
    shape = f"a JSON object, or a first line of NDJSON, whose 'object' is '{EXPORT}'"
    is_complete = True

    def recognises(self, content: Content) -> bool:
        """Return whether the file says that it is an export."""
        head = content.value
        if content.kind == "ndjson":
            head = head[0] if head else None
        return isinstance(head, dict) and head.get("object") == EXPORT

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each entry."""
        items = items_of(content) or []
        for place, item in numbered(items[content.kind == "ndjson" :]):
            source = item.get("source")
            yield Row(
                place=place,
                id=item.get("id"),
                fields={name: value for name, value in item.items() if name not in _ELSEWHERE},
                source=source if isinstance(source, str) else None,
            )


def export(models: Iterable[Model], *, ndjson: bool = False) -> Iterator[bytes]:
    """Yield the export of `models`, which are in order of their ids, an entry a line."""
    head = f'{{"object":"{EXPORT}"'
    between = "\n" if ndjson else ",\n"
    yield (head + "}" if ndjson else head + ',"data":[').encode()
    for number, model in enumerate(models):
        entry = dump({name: v for name, v in _ENTRY.dump(model).items() if v is not None})
        yield ((between if number else "\n") + entry).encode()
    yield b"\n" if ndjson else b"\n]}\n"
