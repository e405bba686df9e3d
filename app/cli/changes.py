"""``flask models``: the commands that add, edit, copy and remove entries."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import click

from app.administration.edits import select_ids
from app.administration.entries import Written
from app.catalog.errors import ModelNotFound, ValidationFailed
from app.catalog.filters import Selection
from app.catalog.model import Model, Permission
from app.catalog.snapshot import Snapshot
from app.cli.assignments import read_fields, read_patch
from app.cli.models import find, group
from app.cli.plans import Mode, carry_out, echo_undo, planning
from app.cli.selection import selecting
from app.cli.terminal import Refusal, actor, as_json, echo_json, printable
from app.cli.wording import seen_by
from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema
from app.services import services

_MODEL = AdminModelSchema()

_assignments = click.argument("assignments", metavar="[FIELD=VALUE]...", nargs=-1)
_from_file = click.option(
    "--file", "file", type=click.File("rb"), help="Read a JSON object of fields; - is stdin."
)


@group.command()
@click.argument("model_id", metavar="ID")
@_assignments
@_from_file
@as_json
def add(
    model_id: str, assignments: tuple[str, ...], file: BinaryIO | None, *, as_json: bool
) -> None:
    """Add an entry; fields left out get their defaults.

    VALUE is text for a text field and JSON for any other. A time is a date, an RFC 3339 time or
    Unix seconds. A member of an object is FIELD.MEMBER.

    Example: flask models add gpt-x owned_by=acme context_length=8192 pricing.prompt=0.0000025
    """
    fields = {"id": model_id, **read_fields(file, assignments)}
    if fields["id"] != model_id:
        raise ValidationFailed({"id": ["Must be left out or equal to ID."]})
    written = services().administration.create_model(fields, actor=actor())
    echo_written(written, "Added", as_json=as_json)


@group.command()
@click.argument("words", metavar="[ID]... [FIELD=VALUE]...", nargs=-1)
@click.option("--unset", metavar="FIELD", multiple=True, help="Remove an optional field.")
@_from_file
@selecting
@planning
def edit(
    words: tuple[str, ...],
    unset: tuple[str, ...],
    file: BinaryIO | None,
    selection: Selection,
    mode: Mode,
) -> None:
    """Change some fields of an entry, and leave the others.

    With several ids, or with filters instead, what would change is shown, and you are asked
    whether to do it. VALUE is as for add, and null removes the field; a list is replaced whole.

    Example: flask models edit gpt-x name='GPT X' --unset description

    Example: flask models edit --owned-by acme shutdown_date=2027-03-31
    """
    # An id may have a '=', too: without filters the first word is one.
    first = 0 if selection != Selection() else 1
    while first < len(words) and "=" not in words[first]:
        first += 1
    ids, assignments = words[:first], words[first:]
    patch = read_patch(ids[0] if len(ids) == 1 else None, file, assignments, unset)
    if not patch:
        if [*words] == [*ids] and len(ids) == 1 and "=" in ids[0]:
            raise click.UsageError(
                f"Which entry? '{ids[0]}' is taken for its ID: give one before it, or select "
                "entries, as with --owned-by NAME."
            )
        raise click.UsageError(
            "Nothing to change: give FIELD=VALUE, --unset FIELD or --file FILE."
        )
    if _is_one(ids, selection, mode):
        written = services().administration.merge_model(ids[0], patch, actor=actor())
        echo_written(written, "Changed", as_json=mode.as_json)
    else:
        _change_many(ids, selection, patch, "Changed", mode)


@group.command()
@click.argument("model_id", metavar="ID")
@click.argument("new_id", metavar="NEW")
@_assignments
@as_json
def copy(model_id: str, new_id: str, assignments: tuple[str, ...], *, as_json: bool) -> None:
    """Add an entry like another one, with its permissions and without its aliases.

    FIELD=VALUE sets what is to differ. If the old entry is its own root, so is the new one. If NEW
    replaces the old entry, it does not retire with it.

    Example: flask models copy gpt-x gpt-x-2 name='GPT X 2'
    """
    old = find(model_id)
    fields = _fields_of(old)
    fields.pop("aliases", None)
    fields.pop("list_aliases", None)
    for permission in fields["permission"]:
        del permission["id"]  # each has an id of its own
    if old.root == old.id:
        del fields["root"]
    if old.deprecation_replacement_model == new_id:
        for name in ("deprecation", "shutdown_date", "deprecation_replacement_model"):
            fields.pop(name, None)
    fields = {**fields, "id": new_id, **read_fields(None, assignments)}
    if fields["id"] != new_id:
        raise ValidationFailed({"id": ["Must be left out or equal to NEW."]})
    written = services().administration.create_model(fields, actor=actor())
    echo_written(written, "Added", as_json=as_json, about=seen_now(written.model))


@group.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@selecting
@planning
def remove(ids: tuple[str, ...], selection: Selection, mode: Mode) -> None:
    """Remove an entry, and print the command that brings it back.

    With several ids, or with filters instead, what would be removed is shown, and you are asked
    whether to do it.

    Example: flask models remove gpt-x

    Example: flask models remove --lifecycle retired
    """
    if not _is_one(ids, selection, mode):
        _change_many(ids, selection, None, "Removed", mode)
        return
    [model_id] = ids
    revision = services().administration.remove_model(model_id, actor=actor())
    if mode.as_json:
        echo_json({"id": model_id, "removed": True, "revision": revision})
        return
    click.echo(f"Removed {model_id} at revision {revision}.")
    echo_undo(revision)


def _is_one(ids: Sequence[str], selection: Selection, mode: Mode) -> bool:
    """Return whether one entry is changed, at once; raise an error if there are no entries."""
    if ids and selection != Selection():
        raise click.UsageError(f"Give ids, such as '{ids[0]}', or filters, and not both.")
    if not ids and selection == Selection():
        raise click.UsageError(
            "Missing argument 'ID': or select entries, as with --owned-by NAME."
        )
    return len(ids) == 1 and not mode.dry_run


def _change_many(
    ids: Sequence[str],
    selection: Selection,
    patch: Mapping[str, Any] | None,
    done: str,
    mode: Mode,
) -> None:
    """Apply a patch to these entries, or remove them if it is None, as `mode` says."""

    def select(snapshot: Snapshot) -> Sequence[Model | ModelNotFound]:
        if ids:
            return select_ids(ids, snapshot)
        if found := selection.page(snapshot).models:
            return found
        raise Refusal("No entry matches.")

    mode = mode.ask_on(sys.stdin)
    change = partial(services().catalogues.edit_models, select, patch, actor=actor())
    carry_out(change, done, mode)


def _fields_of(model: Model) -> dict[str, Any]:
    """Return the fields that make an entry like this one."""
    shown: dict[str, Any] = _MODEL.dump(model)
    derived = {*MIRROR_FIELDS, "object", "capabilities", "revision"}
    fields = {n: v for n, v in shown.items() if n not in derived and v is not None}
    return {**fields, "permission": permissions_of(model)}


def permissions_of(model: Model) -> list[dict[str, Any]]:
    """Return the permissions, without members that have their defaults."""
    default = Permission(id="", created=model.created)
    return [
        {n: v for n, v in one.items() if n != "object" and v != getattr(default, n)}
        for one in _MODEL.dump(model)["permission"]
    ]


def seen_now(model: Model) -> str:
    """Return a sentence that says who sees `model`."""
    return f"Seen by: {seen_by(model, services().clock())}."


def echo_written(written: Written, done: str, *, as_json: bool, about: str | None = None) -> None:
    """Print what a change has made, with the sentence `about` it; `done` is its verb."""
    model = written.model
    for sentence in written.warnings:
        click.echo(printable(f"Warning: {sentence}"), err=True)
    if as_json:
        echo_json(_MODEL.dump(model))
        return
    if written.is_changed:
        click.echo(f"{done} {model.id} at revision {model.revision}.")
    else:
        click.echo(f"{model.id} was so already, at revision {model.revision}.")
    if about is not None:
        click.echo(printable(about))
    if written.is_changed and not written.is_new:
        echo_undo(model.revision)
