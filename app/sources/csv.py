"""CSV with the names of our fields as header; ``pricing.prompt`` is a member of an object."""

from collections.abc import Iterator
from typing import Any

from app.catalog.errors import InvalidJson
from app.fields import Part, StrictList, Text
from app.schemas import AdminModelSchema
from app.sources import Content, Row, Source
from app.strict_json import parse

_FIELDS = AdminModelSchema().fields


class Csv(Source):
    """A table."""

    name = "csv"
    shape = "CSV whose first line has the names of fields, 'id' among them"

    def recognises(self, content: Content) -> bool:
        """Return whether the table has a column of ids."""
        return content.kind == "csv" and any("id" in row for row in content.value[:1])

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each line; an empty cell is left out."""
        for place, cells in enumerate(content.value, 1):
            fields: dict[str, Any] = {}
            for name, cell in cells.items():
                whole, _, part = name.partition(".")
                if not cell.strip() or name == "id":
                    continue
                if not part:
                    fields[name] = _value(_FIELDS.get(name), cell)
                    continue
                field = _FIELDS.get(whole)
                inner = fields.setdefault(whole, {})
                if isinstance(inner, dict):
                    known = field.schema.fields.get(part) if isinstance(field, Part) else Text()
                    inner[part] = _value(known, cell)
            yield Row(place=place, id=cells.get("id"), fields=fields)


def _value(field: Any, cell: str) -> Any:
    """Return text for a text, else JSON; a list may be words with commas."""
    if field is None or isinstance(field, Text):
        return cell
    try:
        return parse((cell.lower() if cell in ("TRUE", "FALSE") else cell).encode())
    except InvalidJson:
        if isinstance(field, StrictList) and not cell.startswith(("[", "{")):
            return [word.strip() for word in cell.split(",")]
        return cell
