"""Cross-origin requests (CORS) of web pages, for public routes alone."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response
from flask.globals import request_ctx

from app.api.http import empty_reply
from app.settings import normal_origin

#: The response headers that a web page may read, beside those that browsers always show it.
EXPOSED = "x-request-id, request-id, retry-after, etag, deprecation, sunset, link"

_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,4096}", re.ASCII)


def allowed_origin(origins: Sequence[str], environ: Mapping[str, Any]) -> str | None:
    """Return the value of Access-Control-Allow-Origin for a request, None if it gets none."""
    if "*" in origins:
        return "*"
    origin: str | None = environ.get("HTTP_ORIGIN")
    if origin is None or (origin not in origins and normal_origin(origin) not in origins):
        return None
    return origin  # as it was sent: browsers compare it with their own, character by character


def headers(origins: Sequence[str], environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what lets a page of an allowed origin read an answer, errors included."""
    origin = allowed_origin(origins, environ)
    if origin is None:
        return []
    return [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED)]


def is_allowed_preflight(origins: Sequence[str], environ: Mapping[str, Any]) -> bool:
    """Return whether a request is a preflight of a page whose origin is allowed.

    It must succeed at a wrong URL as well: else the browser hides the 404 of the request that
    follows from the page.
    """
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        and allowed_origin(origins, environ) is not None
    )


def preflight_response(origins: Sequence[str], environ: Mapping[str, Any]) -> Response:
    """Return the answer to OPTIONS on a public route, with what the page of a request may do."""
    response = empty_reply(204)
    adapter = request_ctx.url_adapter
    assert adapter is not None, "a request always has one"  # noqa: S101
    methods = ", ".join(sorted(adapter.allowed_methods()))
    if methods:
        response.headers["Allow"] = methods
    if allowed_origin(origins, environ) is not None:
        # At an unknown URL every method gets the same 404.
        response.headers["Access-Control-Allow-Methods"] = methods or "*"
        response.headers["Access-Control-Max-Age"] = "600"  # 10 minutes
        names = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        if _HEADER_NAMES.fullmatch(names):  # SDKs send a dozen of their own
            response.headers["Access-Control-Allow-Headers"] = names
    return response
