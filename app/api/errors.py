"""The answers to errors: a status for each code, in the envelope of the dialect."""

import logging
import math
import time
from collections.abc import Callable
from functools import partial

from flask import Flask, Response, has_request_context
from werkzeug.exceptions import HTTPException

from app.api import cors
from app.api.context import Area, request
from app.api.wrong_urls import hint_at, hint_on
from app.catalog.errors import (
    ChangeUncertain,
    InvalidKey,
    MissingKey,
    ModelNotFound,
    RosterError,
    StoreUnavailable,
    ValidationFailed,
    quote,
)
from app.dialects import Problem

_log = logging.getLogger(__name__)

#: The status of each code of ``app.catalog.errors`` and of the request itself.
STATUS = {
    "invalid_json": 400,
    "invalid_body": 400,
    "invalid_value": 400,
    "missing_api_key": 401,
    "invalid_api_key": 401,
    "insufficient_permissions": 403,
    "model_not_found": 404,
    "key_not_found": 404,
    "history_pruned": 404,
    "revision_unknown": 404,
    "unknown_url": 404,
    "method_not_allowed": 405,
    "key_ended": 409,
    "last_admin_key": 409,
    "model_exists": 409,
    "plan_changed": 409,
    "revision_mismatch": 412,
    "request_too_large": 413,
    "unsupported_media_type": 415,
    "rows_refused": 422,
    "validation_error": 422,
    "rate_limit_exceeded": 429,
    "unavailable": 503,
}

# What Flask and Werkzeug refuse by themselves, by status.
_CODES = {
    400: "invalid_body",
    404: "unknown_url",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "unavailable",
}

#: The Retry-After of an outage, in seconds. SDKs wait that long.
RETRY_AFTER = 1


class _OutageLog:
    """The log lines "Answered 503", at most one a second; the metrics count every request."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next = -math.inf
        self._omitted = 0

    def write(self, reason: str) -> None:
        """Log one answer, or count it for the next line."""
        now = self._monotonic()
        if now < self._next:
            self._omitted += 1
            return
        self._next = now + 1  # second
        omitted, self._omitted = self._omitted, 0
        more = f" (and {omitted} more requests since the last such line)" if omitted else ""
        _log.error("Answered 503: %s%s", reason, more)


def init_app(app: Flask, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Answer every error of `app` in the caller's dialect."""
    outage_log = _OutageLog(monotonic)
    app.register_error_handler(RosterError, partial(_answer_roster_error, outage_log))
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_unexpected)
    # A filter of the logger itself would not see the lines of its children.
    for handler in logging.getLogger("app").handlers:
        handler.addFilter(_name_request)


def _name_request(record: logging.LogRecord) -> bool:
    """Give a line about a request its id and route: of whatever module, such as the store's."""
    if has_request_context():
        record.request_id, record.route = request.context.request_id, request.context.route or "-"
    return True


def _answer_roster_error(outage_log: _OutageLog, error: RosterError) -> Response:
    if isinstance(error, InvalidKey | MissingKey):
        request.context.refuse_key(error)
    if isinstance(error, StoreUnavailable):
        outage_log.write(error.reason)
    response = _respond(
        Problem(
            status=STATUS[error.code],
            code=error.code,
            message=str(error),
            param=error.param,
            errors=error.errors if isinstance(error, ValidationFailed) else {},
            model_id=error.model_id if isinstance(error, ModelNotFound) else None,
            replacement=error.replacement if isinstance(error, ModelNotFound) else None,
            hint=_hint_of(error),
            request_id=request.context.request_id,
        )
    )
    if isinstance(error, ChangeUncertain):  # sent again, it might make a second key
        del response.headers["Retry-After"]
    return response


def _hint_of(error: RosterError) -> str:
    if isinstance(error, InvalidKey):
        return error.hint
    return hint_on(error.model_id) if isinstance(error, ModelNotFound) else ""


def _answer_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    current = request.context
    if status == 404 and current.area is Area.PUBLIC:  # noqa: PLR2004 - Not Found
        cross_origin = current.services.settings.cors_origins, current.environ
        if cors.is_allowed_preflight(*cross_origin):
            return cors.preflight_response(*cross_origin)
    if status >= 500 and status not in _CODES:  # noqa: PLR2004
        return _answer_unexpected(getattr(error, "original_exception", None) or error)
    # As it was asked for; Werkzeug's path has one slash where there were several at the start.
    path = current.environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
    hint = ""
    if status in (404, 405) and current.area is Area.PUBLIC:
        hint = hint_at(path, status, request.method)
    messages = {
        404: f"Unknown URL: {quote(f'{request.method} {path}')}",
        405: f"{quote(request.method)} is not allowed here.",
    }
    response = _respond(
        Problem(
            status=status,
            code=_CODES.get(status),
            message=messages.get(status) or error.description or error.name,
            hint=hint,
            request_id=request.context.request_id,
        )
    )
    # An exception may bring headers of its own: Allow, Retry-After.
    for name, value in error.get_headers(request.environ):
        if name.lower() != "content-type":
            # The order in Allow would differ from one worker to the next.
            in_order = ", ".join(sorted(value.split(", "))) if name == "Allow" else value
            response.headers[name] = in_order
    return response


def _answer_unexpected(error: Exception) -> Response:
    _log.error("Unexpected error in %s", request.context.route or "-", exc_info=error)
    return _respond(
        Problem(
            status=500,
            code=None,
            message="Internal error.",
            request_id=request.context.request_id,
        )
    )


def _respond(problem: Problem) -> Response:
    body = request.context.dialect.error(problem)
    response = Response(body, problem.status, mimetype="application/json")
    if problem.status == 401:  # noqa: PLR2004
        response.headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 503:  # noqa: PLR2004
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response
