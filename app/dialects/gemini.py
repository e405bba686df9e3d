"""Gemini: https://ai.google.dev/api/models.

An unknown field is left out, and so is the token of a last page: an empty one makes the vendor's
JavaScript client loop for ever. The default page has 1,000 entries, and not the vendor's 50.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from marshmallow import Schema, fields, post_dump

from app.catalog.errors import InvalidValue, quote
from app.catalog.model import Model, problem_with_id
from app.catalog.paging import FIRST_PAGE, MAX_LIMIT, Page, Window
from app.dialects import Dialect, Problem, Routes
from app.dialects.encoding import join_items
from app.names import named_fields
from app.strict_json import dump

# https://ai.google.dev/gemini-api/docs/troubleshooting has the vendor's table.
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}

# Part of the checksum of a token, so that tokens of others and of other formats are refused.
_TOKEN_KIND = crc32(b"gemini page token 1")


def _methods(model: Model) -> list[str]:
    if model.makes_embeddings:
        return ["embedContent"]
    served = model.makes_text or "gemini" in (model.supported_endpoint_types or ())
    return ["generateContent", "countTokens"] if served else []


class GeminiModelSchema(Schema):
    """A model as the vendor's ``Model``."""

    name = fields.Function(lambda model: f"models/{model.id}")
    base_model_id = fields.String(attribute="id", data_key="baseModelId")
    version = fields.Constant("001")
    display_name = fields.Function(lambda m: m.name or m.id, data_key="displayName")
    description = fields.Function(lambda model: model.description or "")
    methods = fields.Function(_methods, data_key="supportedGenerationMethods")

    class Meta:
        """The limits, under the vendor's names."""

        include = named_fields("gemini")

    @post_dump
    def _leave_out_unknown(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {name: value for name, value in data.items() if value is not None}


_MODEL = GeminiModelSchema()


class Gemini(Dialect):
    """The dialect of Google's clients; the newest of them use ``/v1/models``."""

    name = "gemini"
    shows_permission = False
    routes = Routes(prefix="/v1beta/", listing="/v1beta/models", entry="/v1beta/models/")
    headers = ("X-Goog-Api-Key", "X-Goog-Api-Client")
    key_parameter = "key"

    def window(self, query: Mapping[str, str]) -> Window:
        """Return what ``pageSize`` and ``pageToken`` ask for."""
        if not query:
            return FIRST_PAGE
        token = query.get("pageToken")
        return Window(
            limit=_page_size(query.get("pageSize", "0")),
            after=_read_token(token) if token else None,
        )

    def entry(self, model: Model) -> bytes:
        """Return the bare ``Model``."""
        return dump(_MODEL.dump(model)).encode()

    def listing(self, items: Sequence[bytes], page: Page, window: Window) -> bytes:  # noqa: ARG002
        """Return the page, with a token if there is a next one."""
        tail = b"]}"
        if page.has_more and page.last_id is not None:
            tail = b'],"nextPageToken":"' + _token(page.last_id) + b'"}'
        return join_items(b'{"models":[', items, tail)

    def error(self, problem: Problem) -> bytes:
        """Return the vendor's error object."""
        message = problem.message
        if problem.model_id is not None:
            message = f"models/{quote(problem.model_id)} is not found for API version v1beta"
        other = "INTERNAL" if problem.status >= 500 else "INVALID_ARGUMENT"  # noqa: PLR2004
        error = {
            "code": problem.status,
            "message": problem.advise(message),
            "status": _STATUSES.get(problem.status, other),
        }
        return dump({"error": error}).encode()


def _page_size(text: str) -> int:
    """Return the number of entries of a page: 0 is the default, and a larger number is cut."""
    if not re.fullmatch(r"[0-9]{1,4000}", text, re.ASCII):
        raise InvalidValue(
            "pageSize", f"'pageSize' must be a whole number from 0 on, not '{quote(text)}'."
        )
    return min(int(text) or MAX_LIMIT, MAX_LIMIT)


def _token(model_id: str) -> bytes:
    """Return the token of the page after an id: the id and its checksum, for us alone to read."""
    cursor = model_id.encode("ascii")
    return urlsafe_b64encode(crc32(cursor, _TOKEN_KIND).to_bytes(4) + cursor).rstrip(b"=")


def _read_token(token: str) -> str:
    """Return the id in a token; raise `InvalidValue` for a broken or foreign one."""
    try:
        cursor = urlsafe_b64decode(token + "=" * (-len(token) % 4))[4:].decode("ascii")
        if _token(cursor) == token.encode("ascii") and not problem_with_id(cursor):
            return cursor
    except ValueError:
        pass
    raise InvalidValue("pageToken", "'pageToken' must be the nextPageToken of an earlier page.")
