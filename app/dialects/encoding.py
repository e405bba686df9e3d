"""The JSON that several dialects write: lists of encoded entries, and ends of pages."""

from collections.abc import Sequence

from app.catalog.paging import Page
from app.strict_json import dump


def join_items(start: bytes, items: Sequence[bytes], end: bytes) -> bytes:
    """Return `items` with commas between `start` and `end`, copied once: they may be long."""
    if not items:
        return start + end
    pieces = list(items)
    pieces[0] = start + pieces[0]
    pieces[-1] += end
    return b",".join(pieces)


def page_end(page: Page) -> bytes:
    """Return the members has_more, first_id and last_id of an object, and its brace."""
    ends = {"has_more": page.has_more, "first_id": page.first_id, "last_id": page.last_id}
    return dump(ends)[1:].encode()
