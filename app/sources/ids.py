"""One id a line; blank lines and those that begin with # are comments."""

from collections.abc import Iterator

from app.sources import Content, Row, Source


class Ids(Source):
    """A list of ids."""

    name = "ids"
    shape = "text of one id a line, without spaces, and no comma or semicolon in the first"

    def recognises(self, content: Content) -> bool:
        """Return whether the lines may be ids: those of prose, HTML and a table are none."""
        rows = [*self.rows(content)] if content.kind == "text" else []
        if not rows or "," in rows[0].id or ";" in rows[0].id:
            return False  # the header of a table that has no column 'id'
        return not any("<" in row.id or row.id.split() != [row.id] for row in rows)

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each id; its place is its line."""
        for place, line in enumerate(content.value, 1):
            if (model_id := line.strip()) and not model_id.startswith("#"):
                yield Row(place=place, id=model_id)
