"""The public routes: the list of models and one of them, in every dialect."""

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

from flask import Blueprint, Response, request

from app.api.conditional import is_known
from app.api.exchange import Exchange, exchange, preflight_response
from app.api.replies import empty_reply
from app.catalog.snapshot import EVERYTHING, Window, cut

blueprint = Blueprint("models", __name__)


@dataclass(frozen=True, slots=True)
class Body:
    """A reply that stands ready: its bytes, and their hash as a strong entity tag."""

    content: bytes
    etag: str


@blueprint.get("/v1/models")
def list_models() -> Response:
    """Answer the list of what the caller sees."""
    current = exchange()
    window = current.dialect.window(request.args)
    if window != EVERYTHING:
        return _reply(_body(_listing(current, window)))
    bodies = current.snapshot.bodies
    key: Hashable = (current.dialect.name, current.viewer)
    body: Body | None = bodies.get(key)
    if body is None:
        body = bodies[key] = _body(_listing(current, window))
    return _reply(body)


@blueprint.get("/v1/models/<path:model_id>")
def show_model(model_id: str) -> Response:
    """Answer one model, if the caller sees it."""
    current = exchange()
    model = current.snapshot.find(model_id, current.viewer)
    bodies = current.snapshot.bodies
    key: Hashable = (current.dialect.name, model.id)
    body: Body | None = bodies.get(key)
    if body is None:
        body = bodies[key] = _body(current.dialect.entry(model))
    return _reply(body)


@blueprint.route("/v1/models", methods=["OPTIONS"])
@blueprint.route("/v1/models/<path:model_id>", methods=["OPTIONS"])
def preflight(model_id: str | None = None) -> Response:  # noqa: ARG001 - any id will do
    """Answer what these routes allow."""
    return preflight_response()


def _listing(current: Exchange, window: Window) -> bytes:
    page = cut(current.snapshot.visible_to(current.viewer), window)
    entries = [current.dialect.entry(model) for model in page.models]
    return current.dialect.listing(entries, page, window)


def _body(content: bytes) -> Body:
    return Body(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _reply(body: Body) -> Response:
    if is_known(body.etag):
        response = empty_reply(304)
    else:
        response = Response(body.content, mimetype="application/json")
    response.headers["ETag"] = body.etag
    return response
