"""The admin routes for many entries at once: import, export, and edits of a selection."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from flask import Blueprint, Response
from marshmallow import fields

from app.administration.edits import select_ids
from app.administration.imports import ImportOptions
from app.administration.plans import Applying, report
from app.api.context import request
from app.api.http import (
    UnsupportedMediaType,
    body_pieces,
    check_parameters,
    json_reply,
    read_object,
)
from app.api.isolated import (
    MAX_BYTES_HERE,
    MAX_ENTRIES_HERE,
    Interrupted,
    answer_isolated,
    is_isolated,
    spool,
)
from app.catalog.errors import InvalidValue, ModelNotFound, ValidationFailed, quote
from app.catalog.filters import PARAMETERS, Filter, Selection
from app.catalog.history import read_revision
from app.catalog.model import Model
from app.catalog.paging import Window
from app.catalog.snapshot import Snapshot
from app.fields import StrictBoolean, StrictInteger, StrictList, Text, got
from app.schemas import StrictSchema, check
from app.sources.reading import MAX_FILE, MEDIA_TYPES
from app.sources.roster import export
from app.strict_json import dump

blueprint = Blueprint("catalogues", __name__, url_prefix="/admin")

#: The parameters of an import that are 1 or left out.
FLAGS = ("prefix", "hidden", "prune", "force", "partial", "dry_run")

_Selection = Callable[[Snapshot], Sequence[Model | ModelNotFound]]


class EditSchema(StrictSchema):
    """The body of an edit: ids or filters, and what is done with the entries."""

    ids = StrictList(Text())
    patch = fields.Raw(
        required=True,
        allow_none=True,
        error_messages={"required": "Missing: send an object, or null to remove the entries."},
    )
    dry_run = StrictBoolean(load_default=False)
    revision = StrictInteger(load_default=None)


#: The parameters of the list that select entries.
_FILTERS = ("owned_by", "q", *PARAMETERS)
_AS_JSON = {"hidden", "min_context", "retiring_before"}
_EDIT = cast("StrictSchema", EditSchema.from_dict({name: Text() for name in _FILTERS})())


@blueprint.post("/import")
def import_catalogue() -> Response:
    """Bring the catalogue in step with the file in the body."""
    if request.mimetype not in MEDIA_TYPES:
        raise UnsupportedMediaType(
            f"Send a catalogue with a Content-Type of {', '.join(MEDIA_TYPES)}, "
            f"not '{quote(request.mimetype)}'."
        )
    with spool(body_pieces(MAX_FILE)) as file:
        options, applying = _import_options()
        changes = request.context.services.catalogues
        length = file.seek(0, 2)
        file.seek(0)
        if length > MAX_BYTES_HERE and not is_isolated():
            try:
                return answer_isolated(file, changes=not applying.dry_run)
            except Interrupted as error:
                changes.record_failure(options, error)
                raise
        applied = changes.import_catalogue(
            file.read(),
            options,
            applying,
            actor=request.context.actor,
            media_type=request.mimetype,
        )
    return json_reply(report(applied, dry_run=applying.dry_run))


@blueprint.get("/export")
def export_catalogue() -> Response:
    """Return all entries, as an import takes them back."""
    check_parameters("format")
    form = request.args.get("format", "roster")
    if form not in ("roster", "ndjson"):
        raise InvalidValue("format", f"'format' must be roster or ndjson, not '{quote(form)}'.")
    models = request.context.snapshot.models
    if len(models) > MAX_ENTRIES_HERE and not is_isolated():
        with spool(()) as file:
            return answer_isolated(file, changes=False)
    is_ndjson = form == "ndjson"
    media_type, ending = ("x-ndjson", "ndjson") if is_ndjson else ("json", "json")
    body = b"".join(export(models, ndjson=is_ndjson))
    response = Response(body, mimetype=f"application/{media_type}")
    response.headers["Content-Disposition"] = f'attachment; filename="roster.{ending}"'
    return response


@blueprint.patch("/models")
def edit_models() -> Response:
    """Apply a merge patch to the entries of a selection, or remove them."""
    body = read_object()
    # The filters are texts; these may be as JSON has them.
    known = {n: dump(body[n]) for n in _AS_JSON & body.keys() if isinstance(body[n], int)}
    given = check(_EDIT, {**body, **known})
    select, patch = _selection(given), given["patch"]
    if patch is not None and not isinstance(patch, dict):
        sentence = f"Must be an object, or null to remove the entries, not {got(patch)}."
        raise ValidationFailed({"patch": [sentence]})
    if not is_isolated() and len(select(request.context.snapshot)) > MAX_ENTRIES_HERE:
        with spool([dump(body).encode()]) as file:
            return answer_isolated(file, changes=not given["dry_run"])
    applying = Applying(dry_run=given["dry_run"], revision=given["revision"])
    try:
        applied = request.context.services.catalogues.edit_models(
            select, patch, applying, actor=request.context.actor
        )
    except ValidationFailed as error:
        errors = {f"patch.{name}": sentences for name, sentences in error.errors.items()}
        raise ValidationFailed(errors) from None
    return json_reply(report(applied, dry_run=applying.dry_run))


def _import_options() -> tuple[ImportOptions, Applying]:
    check_parameters("format", "source", "on_conflict", "retire", "revision", *FLAGS)
    query = request.args
    flags: dict[str, Any] = {name: query.get(name, "0") == "1" for name in FLAGS}
    for name in FLAGS:
        if (text := query.get(name, "0")) not in ("0", "1"):
            raise InvalidValue(name, f"'{name}' must be 1, 0 or left out, not '{quote(text)}'.")
    revision = query.get("revision")
    applying = Applying(
        dry_run=flags.pop("dry_run"),
        partial=flags.pop("partial"),
        revision=None if revision is None else read_revision("revision", revision),
    )
    options = ImportOptions(
        format=query.get("format", "auto"),
        source=query.get("source"),
        on_conflict=query.get("on_conflict", "fail"),
        retire=query.get("retire"),
        **flags,
    )
    return options, applying


def _selection(given: dict[str, Any]) -> _Selection:
    """Return what selects entries by ids, or by filters."""
    filters = {name: given[name] for name in _FILTERS if name in given}
    if ("ids" in given) == bool(filters):
        sentence = f"Send either 'ids' or filters: {', '.join(_FILTERS)}."
        raise ValidationFailed({"ids": [sentence]})
    if not filters:
        return partial(select_ids, given["ids"])
    window = Window(owned_by=filters.get("owned_by"), q=filters.get("q"))
    try:
        selection = Selection(window, Filter.read(filters))
    except InvalidValue as error:
        raise ValidationFailed({str(error.param): [str(error)]}) from None
    return lambda snapshot: selection.page(snapshot).models
