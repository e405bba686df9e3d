"""OpenAI: https://platform.openai.com/docs/api-reference/models, as in ``docs/list-models.md``.

The list is the reference's ``data`` and ``success``, and OpenAI's own ``object``, without which
strict clients fail. OpenAI's clients never ask for a second page: all of it comes in one reply,
unless a part is asked for; that is a page, of 1,000 entries where no limit is given.
"""

from collections.abc import Mapping, Sequence

from app.catalog.model import Model
from app.catalog.paging import EVERYTHING, Page, Window
from app.dialects import MAX_LIMIT, Dialect, Problem, enclose, id_parameter, whole_parameter
from app.schemas import REFERENCE_FIELDS, ModelSchema
from app.strict_json import dump


class OpenAI(Dialect):
    """The dialect of every request that is not written in another one."""

    name = "openai"

    def __init__(self, *, reference_only: bool) -> None:
        """Show the reference's seven fields of an entry, or all that is known of it."""
        self._schema = ModelSchema(only=REFERENCE_FIELDS) if reference_only else ModelSchema()

    def window(self, query: Mapping[str, str]) -> Window:
        """Return what ``limit``, ``after``, ``owned_by`` and ``q`` ask for, or everything."""
        if not query:
            return EVERYTHING
        limit = query.get("limit")
        window = Window(
            limit=None if limit is None else whole_parameter("limit", limit),
            after=id_parameter("after", query.get("after")),
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
        """Return the list; with the paging fields if a part was asked for."""
        tail = b'],"success":true}'
        if window != EVERYTHING:
            ends = {
                "has_more": page.has_more,
                "first_id": page.first_id,
                "last_id": page.last_id,
            }
            tail = tail[:-1] + b"," + dump(ends)[1:].encode()
        return enclose(b'{"object":"list","data":[', items, tail)

    def error(self, problem: Problem) -> bytes:
        """Return OpenAI's error object; ``errors`` is in it when several fields are wrong."""
        error: dict[str, object] = {
            "message": problem.message + problem.advice,
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
