"""The two plain answers: some JSON, and nothing."""

from flask import Response

from app.strict_json import dump


def json_reply(value: object, status: int = 200) -> Response:
    """Answer `value` as compact JSON, its keys in their own order."""
    return Response(dump(value), status, mimetype="application/json")


def empty_reply(status: int) -> Response:
    """Answer without a body, and so without a Content-Type."""
    response = Response(status=status)
    del response.headers["Content-Type"]
    return response
