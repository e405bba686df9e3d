"""The admin routes, for entries, keys and sources of imports."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote as percent_encode

from flask import Blueprint, Response
from marshmallow import Schema

from app.administration.entries import Written
from app.api.context import request
from app.api.history import answer_as_of
from app.api.http import (
    accepts_gzip,
    check_parameters,
    empty_reply,
    is_known,
    json_reply,
    read_object,
    read_precondition,
    reply,
)
from app.catalog.errors import InvalidValue, ModelNotFound, quote
from app.catalog.filters import PARAMETERS, Filter, Selection, select_keys
from app.catalog.history import Entries
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.paging import MAX_LIMIT, Window
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Viewer
from app.dialects import Dialect
from app.schemas import AdminModelSchema, KeySchema, SourceSchema

blueprint = Blueprint("admin", __name__, url_prefix="/admin")

_MODEL = AdminModelSchema()
_SOURCE = SourceSchema()


@blueprint.get("/models")
def list_models() -> Response:
    """Return a page of all entries, hidden ones included.

    The parameters are those of the public route, those of a `Filter`, and `as_of`.
    """
    check_parameters("limit", "after", "owned_by", "q", "as_of", *PARAMETERS)
    selection = Selection(condition=Filter.read(request.args), window=_window())

    def answer(entries: Snapshot | Entries) -> Response:
        page = selection.page(entries)
        return _page(_MODEL, page.models, has_more=page.has_more)

    return answer_as_of(answer)


@blueprint.post("/models")
def create_model() -> Response:
    """Add an entry."""
    fields = read_object()
    written = request.context.services.administration.create_model(
        fields, actor=request.context.actor, precondition=read_precondition()
    )
    return _written(written)


@blueprint.get("/models/<path:model_id>")
def show_model(model_id: str) -> Response:
    """Return one entry, hidden or not: as it is with an ETag, as it was without."""
    check_parameters("as_of")

    def answer(entries: Snapshot | Entries) -> Response:
        model = entries.get(model_id)
        if model is None:
            raise ModelNotFound(model_id)
        if "as_of" in request.args:
            return json_reply(_MODEL.dump(model))
        if is_known(request.headers.get("If-None-Match"), _etag(model)):
            response = empty_reply(304)
            response.headers["ETag"] = _etag(model)
            return response
        return _entry(model, _MODEL.dump(model))

    return answer_as_of(answer)


@blueprint.put("/models/<path:model_id>")
def replace_model(model_id: str) -> Response:
    """Replace an entry, or add it."""
    fields = read_object()
    written = request.context.services.administration.replace_model(
        model_id, fields, actor=request.context.actor, precondition=read_precondition()
    )
    return _written(written)


@blueprint.patch("/models/<path:model_id>")
def merge_model(model_id: str) -> Response:
    """Apply a merge patch to an entry."""
    fields = read_object()
    written = request.context.services.administration.merge_model(
        model_id, fields, actor=request.context.actor, precondition=read_precondition()
    )
    return _written(written)


@blueprint.delete("/models/<path:model_id>")
def remove_model(model_id: str) -> Response:
    """Remove an entry."""
    check_parameters()
    request.context.services.administration.remove_model(
        model_id, actor=request.context.actor, precondition=read_precondition()
    )
    return empty_reply(204)


@blueprint.get("/preview")
def preview() -> Response:
    """Return the list, or one model, as a reader with this organization and groups gets it."""
    check_parameters("dialect", "organization", "groups", "model")
    current, query = request.context, request.args
    # From here on errors are in this dialect, too.
    current.dialect = dialect = _dialect(query.get("dialect") or current.dialect.name)
    groups = filter(None, query.get("groups", "").split(","))
    viewer = Viewer(query.get("organization") or None, frozenset(groups))
    snapshot, replies = current.snapshot, current.services.replies
    gzipped = accepts_gzip(request.headers.get("Accept-Encoding"))
    if model_id := query.get("model"):
        model = snapshot.find(model_id, viewer, dialect.default_tag)
        body = replies.entry(dialect, model, viewer, gzipped=gzipped)
    else:
        window = dialect.window({})
        body = replies.listing(snapshot, dialect, viewer, window, gzipped=gzipped)
    return reply(current.environ, body, tagged=False)


@blueprint.get("/keys")
def list_keys() -> Response:
    """Return a page of the keys of a state, or with a text: the oldest first, without secrets."""
    check_parameters("limit", "after", "state", "q")
    window = _window()
    keys = request.context.snapshot.keys
    if window.after is not None:
        ids = [key.kid for key in keys]
        if window.after not in ids:
            raise InvalidValue("after", "'after' must be the id of a key.")
        keys = keys[ids.index(window.after) + 1 :]
    now = request.context.services.clock()
    keys = select_keys(keys, now, state=request.args.get("state"), q=request.args.get("q"))
    return _page(_key_schema(), keys[: window.limit], has_more=len(keys) > (window.limit or 0))


@blueprint.post("/keys")
def create_key() -> Response:
    """Create a key, and return it this once."""
    key, secret = request.context.services.administration.create_key(
        read_object(), actor=request.context.actor
    )
    return _new_key(key, secret)


@blueprint.patch("/keys/<kid>")
def merge_key(kid: str) -> Response:
    """Apply a merge patch to a key."""
    key = request.context.services.administration.merge_key(
        kid, read_object(), actor=request.context.actor
    )
    return json_reply(_key_schema().dump(key))


@blueprint.delete("/keys/<kid>")
def revoke_key(kid: str) -> Response:
    """Revoke a key; the last admin key only with ``last=1``."""
    check_parameters("last")
    last = request.args.get("last")
    if last not in (None, "1"):
        raise InvalidValue("last", f"'last' must be 1 or left out, not '{quote(last)}'.")
    request.context.services.administration.revoke_key(
        kid, actor=request.context.actor, last=last is not None
    )
    return empty_reply(204)


@blueprint.post("/keys/<kid>/rotate")
def rotate_key(kid: str) -> Response:
    """Create a key like an old one; the old one ends after the grace."""
    key, secret = request.context.services.administration.rotate_key(
        kid, read_object(), actor=request.context.actor
    )
    return _new_key(key, secret)


@blueprint.get("/sources")
def list_sources() -> Response:
    """Return all sources of imports, in order of their names, read from the database."""
    check_parameters()
    sources = request.context.services.store.sources()
    return json_reply({"object": "list", "data": _SOURCE.dump(sources, many=True)})


def _window() -> Window:
    """Return the window of the query, limited: here entries are encoded for each request."""
    window = request.context.dialect.window(request.args)
    return window if window.limit else window._replace(limit=MAX_LIMIT)


def _dialect(name: str) -> Dialect:
    """Return the dialect with this name; raise `InvalidValue` if there is none."""
    dialects = {dialect.name: dialect for dialect in request.context.services.dialects}
    if name not in dialects:
        names = ", ".join(dialects)
        raise InvalidValue("dialect", f"'dialect' must be one of {names}, not '{quote(name)}'.")
    return dialects[name]


def _key_schema() -> KeySchema:
    return KeySchema(request.context.services.clock())


def _page(schema: Schema, items: Sequence[object], *, has_more: bool) -> Response:
    data = schema.dump(items, many=True)
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    ends = {"has_more": has_more, "first_id": first, "last_id": last}
    return json_reply({"object": "list", "data": data, **ends})


def _entry(model: Model, shown: dict[str, Any]) -> Response:
    return json_reply(shown, 200, [("ETag", _etag(model))])


def _written(written: Written) -> Response:
    model, shown = written.model, _MODEL.dump(written.model)
    if written.warnings:
        shown["warnings"] = written.warnings
    if not written.is_new:
        return _entry(model, shown)
    location = f"/admin/models/{percent_encode(model.id, safe='')}"
    return json_reply(shown, 201, [("ETag", _etag(model)), ("Location", location)])


def _etag(model: Model) -> str:
    return f'"{model.revision}"'


def _new_key(key: ApiKey, secret: str) -> Response:
    shown = _key_schema().dump(key)
    return json_reply({"id": shown.pop("id"), "key": secret, **shown}, 201)
