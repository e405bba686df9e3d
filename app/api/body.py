"""Reading the body and the parameters of a request.

Flask's `get_json` accepts what is no JSON, and can fail with a RecursionError: see
``app.strict_json``.
"""

from typing import Any

from flask import request
from gunicorn.http.errors import ParseException

from app.api.errors import BodyTooLarge, InvalidBody, UnsupportedMediaType
from app.catalog.errors import InvalidValue, quote
from app.strict_json import parse_object

#: The longest body of a single entry or key, in bytes.
MAX_BODY = 64 * 1024  # 64 KiB
#: The longest body of a lookup. Anyone may send one, and 64 KiB of JSON take 5 ms to parse.
MAX_LOOKUP = 4 * 1024  # 4 KiB


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
    """Return the body of the request, of `limit` bytes at most.

    Raises, in this order: `UnsupportedMediaType` for an encoded one, `BodyTooLarge`,
    `InvalidBody` for an incomplete one.
    """
    if request.headers.get("Content-Encoding"):
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(limit)
    # Werkzeug cuts a chunked body at the limit and raises nothing. One byte more shows the cut.
    request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except (ParseException, OSError) as error:
        raise InvalidBody("The body did not arrive whole.") from error
    if len(body) > limit:
        raise BodyTooLarge(limit)
    if request.content_length is not None and len(body) != request.content_length:
        raise InvalidBody("The body is shorter than its Content-Length.")
    return body


def check_parameters(*known: str) -> None:
    """Raise `InvalidValue` for a query parameter that is not `known`."""
    for name in request.args:
        if name not in known:
            raise InvalidValue(quote(name), f"Unknown query parameter '{quote(name)}'.")
