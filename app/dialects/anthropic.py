"""Anthropic: https://platform.claude.com/docs/en/api/models/list.

An unknown field is null: typed clients want every field. The default page has 1,000 entries, and
not the vendor's 20, because several clients read only page 1.
"""

from collections.abc import Mapping, Sequence

from marshmallow import Schema, fields

from app.catalog.errors import InvalidValue, quote
from app.catalog.lifecycle import rfc3339
from app.catalog.model import Model
from app.catalog.paging import FIRST_PAGE, MAX_LIMIT, Page, Window
from app.dialects import Dialect, Problem
from app.dialects.encoding import join_items, page_end
from app.dialects.parameters import read_id, read_limit
from app.names import named_fields
from app.strict_json import dump

# https://platform.claude.com/docs/en/api/errors
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ModelInfoSchema(Schema):
    """A model as the vendor's ``ModelInfo``; a retired one is in no list."""

    type = fields.Constant("model")
    id = fields.String()
    display_name = fields.Function(lambda model: model.name or model.id)
    created_at = fields.Function(lambda model: rfc3339(model.created))
    lifecycle = fields.Function(lambda m: "deprecated" if m.is_deprecated else "active")
    line = fields.Constant(None)
    deprecated_at = fields.Function(lambda m: m.deprecation and m.deprecation.upper())
    retires_at = fields.Function(lambda m: m.shutdown_date and f"{m.shutdown_date}T00:00:00Z")
    #: Each of the vendor's dozen is required, and an entry does not know most of them.
    capabilities = fields.Constant(None)

    class Meta:
        """The limits, under the vendor's names."""

        include = named_fields("anthropic")


_MODEL_INFO = ModelInfoSchema()


class Anthropic(Dialect):
    """The dialect of requests with the version header of Anthropic's API."""

    name = "anthropic"
    shows_permission = False
    headers = ("Anthropic-Version",)

    def window(self, query: Mapping[str, str]) -> Window:
        """Return what ``limit`` and one of ``after_id`` and ``before_id`` ask for."""
        if not query:
            return FIRST_PAGE
        after, before = read_id("after_id", query), read_id("before_id", query)
        if after is not None and before is not None:
            raise InvalidValue("before_id", "'after_id' and 'before_id' exclude each other.")
        limit = read_limit("limit", query) or MAX_LIMIT
        return Window(limit=limit, after=after, before=before)

    def entry(self, model: Model) -> bytes:
        """Return the bare ``ModelInfo``."""
        return dump(_MODEL_INFO.dump(model)).encode()

    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:  # noqa: ARG002
        """Return the page; without ``has_more`` some clients loop for ever, and others stop."""
        return join_items(b'{"data":[', items, b"]," + page_end(page))

    def error(self, problem: Problem) -> bytes:
        """Return the vendor's error object, with the vendor's messages where it has some."""
        message = problem.message
        if problem.code == "invalid_api_key":
            message = "invalid x-api-key"
        elif problem.model_id is not None:
            message = f"model: {quote(problem.model_id)}"
        other = "api_error" if problem.status >= 500 else "invalid_request_error"  # noqa: PLR2004
        error = {
            "type": _TYPES.get(problem.status, other),
            "message": problem.advise(message),
        }
        return dump({"type": "error", "error": error, "request_id": problem.request_id}).encode()
