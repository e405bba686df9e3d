"""Requests and responses: bodies, encodings, entity tags.

Flask's `get_json` accepts what is no JSON, and can fail with a RecursionError: see
``app.strict_json``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Response, request
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from app.administration.entries import ANY, Precondition
from app.catalog.errors import InvalidValue, RosterError, quote
from app.compression import Reply
from app.strict_json import dump, parse_object

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The longest body of a single entry or key, in bytes.
MAX_BODY = 64 * 1024  # 64 KiB
#: The longest body of a lookup. Anyone may send one, and 64 KiB of JSON take 5 ms to parse.
MAX_LOOKUP = 4 * 1024  # 4 KiB
#: How much of a body is read, or of a file is sent, at a time, in bytes.
PIECE = 256 * 1024  # 256 KiB
#: The longest Accept-Encoding header that is read: 8 KiB take 2 ms to parse.
MAX_LENGTH = 256  # characters

_TAG = re.compile(r'(W/)?"([^"]*)"')
# A list may have empty elements (RFC 9110, section 5.6.1).
_TAGS = re.compile(rf"[\s,]*{_TAG.pattern}(?:\s*,[\s,]*{_TAG.pattern})*[\s,]*")

#: The names of the attributes that Flask gives a response when it builds one.
_PARTS = frozenset(vars(Response()))
#: Header fields: names and values.
Fields = Sequence[tuple[str, str]]
_STATUS_LINES = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}


class InvalidBody(RosterError):
    """The body is incomplete."""

    code = "invalid_body"


class BodyTooLarge(RosterError):
    """The body is longer than the route takes."""

    code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is longer than {limit} bytes.")


class UnsupportedMediaType(RosterError):
    """The Content-Type is not JSON, or the body has a Content-Encoding."""

    code = "unsupported_media_type"


def read_object() -> dict[str, Any]:
    """Return the JSON object in the body of an administrator's request.

    Raises, in this order: `UnsupportedMediaType`, what `read_body` does, `InvalidValue` for a
    query parameter, `InvalidJson`.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(
            f"Send JSON with 'Content-Type: application/json', not '{quote(request.mimetype)}'."
        )
    body = read_body()
    check_parameters()
    return parse_object(body)


def read_body(limit: int = MAX_BODY) -> bytes:
    """Return the body of the request, of `limit` bytes at most; see `body_pieces`."""
    return b"".join(body_pieces(limit))


def body_pieces(limit: int) -> Iterator[bytes]:
    """Yield the body of the request, of `limit` bytes at most.

    Raises, in this order: `UnsupportedMediaType` for an encoded one, `BodyTooLarge`,
    `InvalidBody` for an incomplete one.
    """
    if request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(limit)
    # Werkzeug cuts a chunked body at the limit and raises nothing. One byte more shows the cut.
    request.max_content_length = limit + 1
    length = 0
    try:
        while piece := request.stream.read(PIECE):
            length += len(piece)
            if length > limit:
                raise BodyTooLarge(limit)
            yield piece
    except (ParseException, OSError) as error:
        raise InvalidBody("The body did not arrive whole.") from error
    if request.content_length is not None and length != request.content_length:
        raise InvalidBody("The body is shorter than its Content-Length.")


def check_parameters(*known: str) -> None:
    """Raise `InvalidValue` for a query parameter that is not `known`, or is there twice."""
    for name, values in request.args.lists():
        if name not in known:
            raise InvalidValue(quote(name), f"Unknown query parameter '{quote(name)}'.")
        if len(values) > 1:
            raise InvalidValue(name, f"'{name}' must be there once, not {len(values)} times.")


def read_precondition() -> Precondition:
    """Return what If-Match and If-None-Match of the request require of the entry.

    A tag is the revision of an entry. A malformed header has no tags, so no entry matches it.
    """
    match = request.headers.get("If-Match")
    return Precondition(
        None if match is None else _revisions(match, strong=True),
        _revisions(request.headers.get("If-None-Match", "")),
    )


@lru_cache(maxsize=256)  # there are few clients and many requests
def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether an Accept-Encoding header (RFC 9110, section 12.5.3) allows gzip."""
    if not accept_encoding or len(accept_encoding) > MAX_LENGTH:
        return False
    return bool(parse_accept_header(accept_encoding, Accept).quality("gzip") > 0)


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Return whether an If-None-Match header names `etag`; weak tags and ``*`` count."""
    if if_none_match is None or if_none_match == etag:
        return if_none_match is not None
    return if_none_match.strip() == "*" or etag.strip('"') in _tags(if_none_match)


def _revisions(header: str, *, strong: bool = False) -> frozenset[str]:
    # ``"*"`` in quotes is a tag, and none of ours.
    return ANY if header.strip() == "*" else _tags(header, strong=strong) - ANY


def _tags(header: str, *, strong: bool = False) -> frozenset[str]:
    if not _TAGS.fullmatch(header):
        return frozenset()
    return frozenset(tag for weak, tag in _TAG.findall(header) if not (weak and strong))


class LazyResponse(Response):
    """A response that Flask builds when somebody reads or changes a part of it.

    Most are sent as they are, which saves 26 µs. Hooks, signals and extensions get a response
    that is this request's own, and may do with it whatever they do with others.
    """

    __slots__ = ("code", "content", "fields")

    def __init__(self, content: bytes, code: int, fields: list[tuple[str, str]]) -> None:
        self.content = content
        self.code = code
        #: The header fields.
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name not in _PARTS:
            return self.__getattribute__(name)  # raises the usual error
        built = Response(self.content, self.code, self.fields)
        if self.code == 304:  # noqa: PLR2004 - Not Modified describes no content
            built.headers.remove("Content-Type")
            built.headers.remove("Content-Length")
        vars(self).update({**vars(built), **vars(self)})  # what was set already stays
        return vars(self)[name]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Send the response; Flask builds it only if a hook has read or changed a part."""
        if vars(self):
            # A shared cache must not store a cookie; Flask adds a session's after all hooks.
            if self.cache_control.public and "Set-Cookie" in self.headers:
                self.headers["Cache-Control"] = "private, no-cache"
            return super().__call__(environ, start_response)
        start_response(_STATUS_LINES[self.code], self.fields)
        return (self.content,) if self.content and environ["REQUEST_METHOD"] != "HEAD" else ()


def reply(
    environ: Mapping[str, Any], body: Reply, others: Fields = (), *, tagged: bool = True
) -> LazyResponse:
    """Return the response with `body` and `others`, or a 304 to a client that has them.

    The entity tag is of both: after a 304, nginx and others send the header fields that they have.
    """
    etag = Reply(f"{body.etag}{others}".encode()).etag if others else body.etag
    fields = [("ETag", etag), *others] if tagged else [*others]
    if body.encoding is not None:
        fields.append(("Content-Encoding", body.encoding))
    if tagged and is_known(environ.get("HTTP_IF_NONE_MATCH"), etag):
        return LazyResponse(b"", 304, fields)
    fields.append(("Content-Type", "application/json"))
    fields.append(("Content-Length", str(len(body.content))))
    return LazyResponse(body.content, 200, fields)


def json_reply(value: object, status: int = 200, others: Fields = ()) -> Response:
    """Return `value` as compact JSON, its keys in their own order, with `others` as headers."""
    content = dump(value).encode()
    length = ("Content-Length", str(len(content)))
    return LazyResponse(content, status, [("Content-Type", "application/json"), length, *others])


def empty_reply(status: int) -> Response:
    """Return a response without a body, and so without a Content-Type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response
