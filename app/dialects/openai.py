"""OpenAI: https://platform.openai.com/docs/api-reference/models, as in ``docs/list-models.md``.

The list has the reference's ``data`` and ``success``, and OpenAI's own ``object``, without which
strict clients fail. OpenAI's clients never ask for a second page: without parameters the reply is
the whole list. With parameters it is a page, of 1,000 entries by default.
"""

from collections.abc import Mapping, Sequence

from app.catalog.model import Model
from app.catalog.paging import EVERYTHING, MAX_LIMIT, Page, Window
from app.dialects import Dialect, Problem
from app.dialects.encoding import join_items, page_end
from app.dialects.parameters import read_id, read_limit
from app.schemas import REFERENCE_FIELDS, ModelSchema
from app.strict_json import dump


class OpenAI(Dialect):
    """The default dialect."""

    name = "openai"

    def __init__(self, *, reference_only: bool) -> None:
        """Show the reference's seven fields of an entry, or all known fields."""
        self._schema = ModelSchema(only=REFERENCE_FIELDS) if reference_only else ModelSchema()

    def window(self, query: Mapping[str, str]) -> Window:
        """Return what ``limit``, ``after``, ``owned_by`` and ``q`` ask for, or everything."""
        if not query:
            return EVERYTHING
        window = Window(
            limit=read_limit("limit", query),
            after=read_id("after", query),
            owned_by=query.get("owned_by"),
            q=query.get("q"),
        )
        if window != EVERYTHING and window.limit is None:
            return window._replace(limit=MAX_LIMIT)
        return window

    def entry(self, model: Model) -> bytes:
        """Return the bare item."""
        return dump(self._schema.dump(model)).encode()

    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:
        """Return the list, with the paging fields if it is a page."""
        end = b"}" if window == EVERYTHING else b"," + page_end(page)
        return join_items(b'{"object":"list","data":[', items, b'],"success":true' + end)

    def error(self, problem: Problem) -> bytes:
        """Return OpenAI's error object, with ``errors`` if fields are wrong."""
        error: dict[str, object] = {
            "message": problem.advise(problem.message),
            "type": _type(problem.status),
            "param": problem.param,
            "code": problem.code,
        }
        if problem.errors:
            error["errors"] = problem.errors
        return dump({"error": error}).encode()


def _type(status: int) -> str:
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return "requests"
    return "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004
