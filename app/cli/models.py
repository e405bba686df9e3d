"""``flask models``: the group of its commands, and those that read."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import click

from app.administration.history import unchecked
from app.catalog.errors import ModelNotFound, quote
from app.catalog.filters import Filter, Selection, read_viewer
from app.catalog.history import Entries
from app.catalog.lifecycle import shutdown_time
from app.catalog.model import Model
from app.catalog.paging import Window
from app.catalog.ports import StoredCatalog
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import Viewer
from app.cli.selection import VIEWER, selecting
from app.cli.terminal import (
    Commands,
    Refusal,
    as_json,
    command_line,
    echo_json,
    echo_table,
    in_utc,
    past_time,
)
from app.cli.wording import permission as words_of
from app.cli.wording import seen_by
from app.schemas import AdminModelSchema
from app.services import services
from app.strict_json import parse_object

_MODEL = AdminModelSchema()

_COPY = "'flask models copy ID NEW' makes an entry with another id."
group = Commands("models", help="List, show, add, edit and remove the entries of the catalogue.")
group.instead = dict.fromkeys(("rename", "move", "mv", "cp"), _COPY)


def _as_of(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option to a command, which then reads entries that nothing has checked."""

    @wraps(command)
    def guarded(*args: Any, as_of: str | None, **others: Any) -> None:
        with nullcontext() if as_of is None else unchecked():
            command(*args, as_of=as_of, **others)

    help_text = "As it was at a revision, or a time."
    return click.option("--as-of", metavar="WHEN", help=help_text)(guarded)


@group.command("list")
@selecting
@click.option("--as", "reader", metavar=VIEWER, help="The list as such a reader gets it.")
@_as_of
@as_json
def list_models(
    selection: Selection, reader: str | None, as_of: str | None, *, as_json: bool
) -> None:
    """List all entries, hidden ones too.

    Example: flask models list --supports vision --min-context 100000
    """
    if reader is not None:
        if selection.condition != Filter():
            raise click.UsageError("--as takes --owned-by and --q: readers have no other filter.")
        _list_as(_entries(as_of), read_viewer(reader), selection.window, as_json=as_json)
        return
    entries = _entries(as_of)
    models = selection.page(entries).models
    if as_json:
        echo_json({"object": "list", "data": _MODEL.dump(models, many=True)})
        return
    echo_table(
        ("ID", "NAME", "OWNED BY", "SEEN BY", "RETIRES"),
        (
            (m.id, m.name, m.owned_by, seen_by(m, entries.since), in_utc(shutdown_time(m)))
            for m in models
        ),
    )


@group.command()
@click.argument("model_id", metavar="ID")
@_as_of
@as_json
def show(model_id: str, as_of: str | None, *, as_json: bool) -> None:
    """Show one entry, field by field.

    Example: flask models show chatgpt-4o-latest
    """
    entries = None if as_of is None else _entries(as_of)
    now = services().clock() if entries is None else entries.since
    model = find(model_id, entries)
    shown = _MODEL.dump(model)
    if as_json:
        echo_json(shown)
        return
    times: dict[str, float | None] = {
        "created": model.created,
        "available_from": model.available_from,
        "shutdown_date": shutdown_time(model),
    }
    shown |= {name: in_utc(moment) for name, moment in times.items() if name in shown}
    rows: list[tuple[str, object]] = []
    for name, value in shown.items():
        if name == "permission":
            rows.append(("seen by", seen_by(model, now)))
            rows += [(name, words_of(permission)) for permission in model.permission]
        else:
            rows.append((name, value))
    echo_table(("FIELD", "VALUE"), rows)


@group.command()
@click.option("--days", metavar="DAYS", type=click.IntRange(1), default=30, help="30 if left out.")
@as_json
def expiring(days: int, *, as_json: bool) -> None:
    """List the entries that retire within so many days, the soonest first.

    Example: flask models expiring --days 7
    """
    condition = Filter(retiring_before=services().clock() + days * 24 * 60 * 60)
    found = Selection(condition=condition).page(services().catalog.current()).models
    models = sorted(found, key=lambda model: shutdown_time(model) or 0)
    if as_json:
        echo_json({"object": "list", "data": _MODEL.dump(models, many=True)})
    elif models:
        rows = (
            (m.id, m.name, m.owned_by, in_utc(shutdown_time(m)), m.deprecation_replacement_model)
            for m in models
        )
        echo_table(("ID", "NAME", "OWNED BY", "RETIRES", "REPLACEMENT"), rows)
    else:
        click.echo(f"No entry retires within {days} days.")


def find(model_id: str, entries: Snapshot | Entries | None = None) -> Model:
    """Return the entry with this id or alias, of now or of earlier `entries`.

    Raises `ModelNotFound` or, of earlier ones, `Refusal`, if there is none.
    """
    model = services().store.model(model_id) if entries is None else entries.get(model_id)
    if model is None and entries is not None:
        command = command_line("models", "log", model_id)
        raise Refusal(f"There was no model '{quote(model_id)}' then: '{command}' has its changes.")
    if model is None:
        raise ModelNotFound(model_id)
    return model


def _entries(as_of: str | None) -> Snapshot | Entries:
    """Return the entries as they are, or as they were."""
    current = services()
    snapshot = current.catalog.current()
    if as_of is None:
        return snapshot
    moment = current.history.find(past_time(as_of, current.clock(), "a revision, "), snapshot)
    return current.history.as_of(moment, snapshot)


def _list_as(
    entries: Snapshot | Entries, viewer: Viewer, window: Window, *, as_json: bool
) -> None:
    """Print the list that `viewer` gets in the default dialect."""
    current = services()
    snapshot = Snapshot.of(StoredCatalog(0, entries.models, ()), entries.since)
    dialect = current.dialects.default
    reply = current.replies.listing(snapshot, dialect, viewer, window, gzipped=False)
    listing = parse_object(reply.content)
    if as_json:
        echo_json(listing)
        return
    rows = ((item["id"], item["owned_by"], in_utc(item["created"])) for item in listing["data"])
    echo_table(("ID", "OWNED BY", "CREATED"), rows)
