"""The admin routes for the past: the log of changes, the catalogue as it was, undo and revert."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from app.administration.history import shown_page, unchecked
from app.administration.plans import Applying, report
from app.api.context import request
from app.api.http import check_parameters, json_reply, read_object
from app.api.isolated import MAX_ENTRIES_HERE, answer_isolated, is_isolated, spool
from app.catalog.errors import HistoryPruned, RevisionUnknown
from app.catalog.history import LOG_PARAMETERS, Entries, LogFilter
from app.catalog.snapshot import Snapshot
from app.dialects.parameters import read_limit
from app.fields import StrictBoolean, StrictInteger, Text, check_id
from app.schemas import StrictSchema, check
from app.strict_json import dump

blueprint = Blueprint("history", __name__, url_prefix="/admin")

#: How many lines a page of the log has, unless `limit` says otherwise.
PAGE = 100
#: The most revisions that a worker reads without a child process, to show what was before them:
#: they take 35 µs each, in which no other thread of the worker answers.
MAX_REVISIONS_HERE = 2_000


class ReturnSchema(StrictSchema):
    """What an undo and a revert have in common."""

    # Null is refused: to take back more than was meant would be worse.
    model = Text(load_default=None, allow_none=False, validate=check_id)
    dry_run = StrictBoolean(load_default=False)


class UndoSchema(ReturnSchema):
    """The body of an undo: an act, or the last one."""

    revision = StrictInteger(load_default=None, allow_none=False, least=1)
    force = StrictBoolean(load_default=False)


class RevertSchema(ReturnSchema):
    """The body of a revert."""

    revision = StrictInteger(
        required=True, error_messages={"required": "Missing: send the revision to return to."}
    )


_UNDO = UndoSchema()
_REVERT = RevertSchema()


@blueprint.get("/changes")
@unchecked()
def list_changes() -> Response:
    """Return a page of the log, newest first."""
    check_parameters("limit", *LOG_PARAMETERS)
    selection = LogFilter.read(request.args)
    limit = read_limit("limit", request.args) or PAGE
    return json_reply(shown_page(request.context.services.store.log, selection, limit))


@blueprint.post("/undo")
def undo() -> Response:
    """Take an act back."""
    body = read_object()
    given = check(_UNDO, body)
    history = request.context.services.history
    act = history.find_act(given["revision"], given["model"])
    # The last act of an entry is taken back as a whole.
    only = None if given["revision"] is None else given["model"]
    number = 1 if only is not None else act.added + act.changed + act.removed
    if number > MAX_ENTRIES_HERE and not is_isolated():
        return _answer_isolated(body, given)
    applying = Applying(dry_run=given["dry_run"])
    actor = request.context.actor
    applied = history.undo(act, only, applying, force=given["force"], actor=actor)
    return json_reply(report(applied, dry_run=applying.dry_run))


@blueprint.post("/revert")
def revert() -> Response:
    """Put the catalogue, or one entry, back to what it was at a revision."""
    body = read_object()
    given = check(_REVERT, body)
    history, snapshot = request.context.services.history, request.context.snapshot
    moment = history.at_revision(given["revision"], snapshot, "revision")
    is_large = given["model"] is None and snapshot.revision - moment.revision > MAX_ENTRIES_HERE
    if is_large and not is_isolated():
        return _answer_isolated(body, given)
    applying = Applying(dry_run=given["dry_run"])
    actor = request.context.actor
    applied = history.revert(moment, given["model"], applying, actor=actor)
    return json_reply(report(applied, dry_run=applying.dry_run))


def answer_as_of(answer: Callable[[Snapshot | Entries], Response]) -> Response:
    """Return the `answer` for the moment in the parameter `as_of`, or for now."""
    snapshot = request.context.snapshot
    text = request.args.get("as_of")
    if text is None:
        return answer(snapshot)
    history = request.context.services.history
    try:
        moment = history.find(text, snapshot)
        if snapshot.revision - moment.revision > MAX_REVISIONS_HERE and not is_isolated():
            with spool(()) as file:
                return answer_isolated(file, changes=False)
        with unchecked():
            return answer(history.as_of(moment, snapshot))
    except (HistoryPruned, RevisionUnknown) as error:
        error.param = "as_of"
        raise


def _answer_isolated(body: dict[str, Any], given: dict[str, Any]) -> Response:
    with spool([dump(body).encode()]) as file:
        return answer_isolated(file, changes=not given["dry_run"])
