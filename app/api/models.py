"""The public routes: the list of models and single models, in every dialect.

``/v1/models`` is also at ``/models`` and ``/openai/v1/models``: some clients drop ``/v1`` from
their base URL, and others put ``/openai`` before it.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import floor
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Response
from werkzeug.http import http_date

from app.api import cors
from app.api.context import RequestContext, request
from app.api.http import MAX_LOOKUP, accepts_gzip, read_body, reply
from app.catalog.errors import InvalidValue, ModelNotFound
from app.catalog.lifecycle import deprecation_time, shutdown_time
from app.catalog.model import Model
from app.dialects import Routes
from app.services import services_of
from app.strict_json import parse_object

blueprint = Blueprint("models", __name__)

#: Of the URL of a list: it is also matched with a slash at its end, without a redirect.
_LIST: dict[str, Any] = {"strict_slashes": False}


def init_app(app: Flask) -> None:
    """Register the routes that all dialects share, and those of each dialect."""
    app.register_blueprint(blueprint)
    for dialect in services_of(app).dialects:
        if dialect.routes is not None:
            _add(app, dialect.routes)


def _add(app: Flask, routes: Routes) -> None:
    """Register the routes of one dialect, which the path of a request selects."""

    def add(path: str, view: Callable[..., Response], method: str = "GET", **how: Any) -> None:
        app.add_url_rule(path, f"models.{view.__name__}", view, methods=[method], **how)
        app.add_url_rule(path, "models.preflight", preflight, methods=["OPTIONS"], **how)

    add(routes.listing, list_models, **_LIST)
    if routes.entry is not None:
        add(f"{routes.entry}<path:model_id>", show_model)
    if routes.lookup is not None:
        add(routes.lookup, look_up_model, "POST")
    for path in routes.constants:
        add(path, show_constant)


@blueprint.get("/openai/v1/models", **_LIST)
@blueprint.get("/models", **_LIST)
@blueprint.get("/v1/models", **_LIST)
def list_models() -> Response:
    """Return the list of the models that the caller sees."""
    current = request.context
    window, viewer = current.dialect.window(current.query), current.viewer
    body = current.services.replies.listing(
        current.snapshot,
        current.dialect,
        viewer,
        window,
        gzipped=accepts_gzip(current.environ.get("HTTP_ACCEPT_ENCODING")),
    )
    return reply(current.environ, body)


@blueprint.get("/openai/v1/models/<path:model_id>")
@blueprint.get("/models/<path:model_id>")
@blueprint.get("/v1/models/<path:model_id>")
def show_model(model_id: str) -> Response:
    """Return one model, if the caller sees it."""
    return _entry(request.context, model_id)


def look_up_model() -> Response:
    """Return the model that the body names, if the caller sees it."""
    current = request.context
    routes = current.dialect.routes
    assert routes is not None, "the dialect has this route"  # noqa: S101
    given = parse_object(read_body(MAX_LOOKUP))
    model_id = next(filter(None, map(given.get, routes.lookup_fields)), None)
    if not isinstance(model_id, str):
        [name, *_] = routes.lookup_fields
        raise InvalidValue(name, f"'{name}' must be the id of a model.")
    # An entity tag is for GET: here it would be of no use.
    return _entry(current, model_id, tagged=False)


def show_constant() -> Response:
    """Return the constant that a dialect has at this path."""
    current = request.context
    body = current.services.replies.constant(
        current.dialect,
        current.environ["PATH_INFO"],
        gzipped=accepts_gzip(current.environ.get("HTTP_ACCEPT_ENCODING")),
    )
    return reply(current.environ, body)


@blueprint.route("/openai/v1/models", methods=["OPTIONS"], **_LIST)
@blueprint.route("/openai/v1/models/<path:model_id>", methods=["OPTIONS"])
@blueprint.route("/models", methods=["OPTIONS"], **_LIST)
@blueprint.route("/models/<path:model_id>", methods=["OPTIONS"])
@blueprint.route("/v1/models", methods=["OPTIONS"], **_LIST)
@blueprint.route("/v1/models/<path:model_id>", methods=["OPTIONS"])
def preflight(model_id: str | None = None) -> Response:  # noqa: ARG001 - any id will do
    """Return the methods that the route has."""
    current = request.context
    return cors.preflight_response(current.services.settings.cors_origins, current.environ)


def _entry(current: RequestContext, model_id: str, *, tagged: bool = True) -> Response:
    dialect, viewer = current.dialect, current.viewer
    model = current.snapshot.find(model_id, viewer, dialect.default_tag)
    body = current.services.replies.entry(
        dialect,
        model,
        viewer,
        gzipped=accepts_gzip(current.environ.get("HTTP_ACCEPT_ENCODING")),
    )
    has_end = model.deprecation or model.shutdown_date or model.deprecation_replacement_model
    others = [*_end_of(model, current)] if has_end else ()
    return reply(current.environ, body, others, tagged=tagged)


def _end_of(model: Model, current: RequestContext) -> Iterator[tuple[str, str]]:
    """Yield the headers about the end of `model`: RFC 9745, RFC 8594, and its replacement.

    The link is to what the caller now retrieves by GET, beside the URL that was asked for.
    """
    if (moment := deprecation_time(model)) is not None:
        yield "Deprecation", f"@{floor(moment)}"
    if (moment := shutdown_time(model)) is not None:
        yield "Sunset", http_date(moment)
    path, is_path_of_models, _ = (current.route or "").partition("<")
    if is_path_of_models and (name := model.deprecation_replacement_model):
        with suppress(ModelNotFound):
            current.snapshot.find(name, current.viewer)
            yield "Link", f'<{path}{quote(name, safe="")}>; rel="successor-version"'
