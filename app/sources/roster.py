"""Our own export: everything that is known of each entry, and where the entry came from.

JSON is ``{"object": "roster.export", "data": [entry, ...]}``. NDJSON has ``{"object":
"roster.export"}`` in its first line, and then one entry a line.
"""

from collections.abc import Iterator

from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema
from app.sources import Content, Row, Source
from app.sources.values import items_of, numbered

EXPORT = "roster.export"
_ELSEWHERE = AdminModelSchema.read_only | MIRROR_FIELDS | {"id", "object", "source"}


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
