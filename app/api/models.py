"""The public routes: the list of models and one of them, in every dialect."""

from flask import Blueprint, Response

from app.api.conditional import is_known
from app.api.encoding import accepts_gzip
from app.api.exchange import VARY, Exchange, exchange, preflight_response
from app.api.ready import Ready
from app.bodies import Body

blueprint = Blueprint("models", __name__)


@blueprint.get("/v1/models")
def list_models() -> Response:
    """Answer the list of what the caller sees."""
    current = exchange()
    window = current.dialect.window(current.query)
    body = current.services.bodies.listing(
        current.snapshot,
        current.dialect,
        current.viewer,
        window,
        gzipped=accepts_gzip(current.environ.get("HTTP_ACCEPT_ENCODING")),
    )
    return _reply(current, body)


@blueprint.get("/v1/models/<path:model_id>")
def show_model(model_id: str) -> Response:
    """Answer one model, if the caller sees it."""
    current = exchange()
    body = current.services.bodies.entry(
        current.dialect,
        current.snapshot.find(model_id, current.viewer),
        gzipped=accepts_gzip(current.environ.get("HTTP_ACCEPT_ENCODING")),
    )
    return _reply(current, body)


@blueprint.route("/v1/models", methods=["OPTIONS"])
@blueprint.route("/v1/models/<path:model_id>", methods=["OPTIONS"])
def preflight(model_id: str | None = None) -> Response:  # noqa: ARG001 - any id will do
    """Answer what these routes allow."""
    return preflight_response()


def _reply(current: Exchange, body: Body) -> Ready:
    """Return the response that stands ready with `body`, made when it is first needed."""
    status = 304 if is_known(current.environ.get("HTTP_IF_NONE_MATCH"), body.etag) else 200
    shared = current.key is None
    ready = body.ready.get((status, shared))
    if ready is None:
        headers = {
            "Content-Type": "application/json",
            "ETag": body.etag,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "public, no-cache" if shared else "private, no-cache",
            "Vary": VARY,
        }
        if body.encoding is not None:
            headers["Content-Encoding"] = body.encoding
        content = body.content if status == 200 else b""  # noqa: PLR2004
        ready = body.ready[status, shared] = Ready(content, status, headers)
    response: Ready = ready
    return response
