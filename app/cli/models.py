"""``flask models``: the entries of the catalogue."""

from functools import partial
from typing import BinaryIO

import click

from app.administration import Written
from app.catalog.errors import ModelNotFound, ValidationFailed
from app.catalog.filters import Filter, read_viewer
from app.catalog.model import Model
from app.catalog.paging import Window, cut
from app.catalog.visibility import Viewer
from app.cli.assignments import read_fields, read_patch
from app.cli.terminal import Commands, actor, as_json, day, echo_json, echo_table
from app.schemas import AdminModelSchema
from app.services import services
from app.strict_json import parse_object

_MODEL = AdminModelSchema()

group = Commands("models", help="List, show, add, edit and remove the entries of the catalogue.")

_VIEWER = "ORGANIZATION[/GROUP,...]"

_assignments = click.argument("assignments", metavar="[FIELD=VALUE]...", nargs=-1)
_from_file = click.option(
    "--file", "file", type=click.File("rb"), help="Read a JSON object of fields; - is stdin."
)


@group.command("list")
@click.option("--owned-by", help="Only the entries that this owner has.")
@click.option("--q", help="Only entries with this in their id, name or aliases, in any case.")
@click.option("--type", help="Only models of this type, such as embedding.")
@click.option("--supports", help="Only models with this capability or parameter, such as vision.")
@click.option("--min-context", metavar="TOKENS", help="Only models with at least this context.")
@click.option("--tag", help="Only entries with this tag.")
@click.option("--lifecycle", help="Only upcoming, active, deprecated or retired entries.")
@click.option("--visible-to", metavar=_VIEWER, help="Only entries that such a reader sees now.")
@click.option("--hidden", is_flag=True, help="Only entries that nobody sees now.")
@click.option("--visible", is_flag=True, help="Only entries that somebody sees.")
@click.option("--retiring-before", metavar="TIME", help="Only entries that retire before then.")
@click.option("--as", "reader", metavar=_VIEWER, help="The list as such a reader gets it.")
@as_json
def list_models(
    owned_by: str | None,
    q: str | None,
    reader: str | None,
    *,
    hidden: bool,
    visible: bool,
    as_json: bool,
    **conditions: str | None,
) -> None:
    """List all entries, hidden ones too.

    Example: flask models list --supports vision --min-context 100000
    """
    given = {name: text for name, text in conditions.items() if text is not None}
    if hidden and visible:
        raise click.UsageError("--hidden and --visible exclude each other: no entry is both.")
    if hidden or visible:
        given["hidden"] = "true" if hidden else "false"
    condition = Filter.read(given)
    window = Window(owned_by=owned_by, q=q)
    if reader is not None:
        if given:
            raise click.UsageError("--as takes --owned-by and --q: readers have no other filter.")
        _list_as(read_viewer(reader), window, as_json=as_json)
        return
    snapshot = services().catalog.current()
    accepts = partial(condition.matches, now=snapshot.since)
    models = cut([snapshot.models], window, accepts=accepts).models
    if as_json:
        echo_json({"object": "list", "data": _MODEL.dump(models, many=True)})
        return
    echo_table(
        ("ID", "OWNED BY", "CREATED", "REVISION"),
        ((model.id, model.owned_by, day(model.created), model.revision) for model in models),
    )


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def show(model_id: str, *, as_json: bool) -> None:
    """Show one entry, field by field.

    Example: flask models show chatgpt-4o-latest
    """
    shown = _MODEL.dump(_read(model_id))
    if as_json:
        echo_json(shown)
    else:
        echo_table(("FIELD", "VALUE"), shown.items())


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
    _echo_written(written, "Added", as_json=as_json)


@group.command()
@click.argument("model_id", metavar="ID")
@_assignments
@click.option("--unset", metavar="FIELD", multiple=True, help="Remove an optional field.")
@_from_file
@as_json
def edit(
    model_id: str,
    assignments: tuple[str, ...],
    unset: tuple[str, ...],
    file: BinaryIO | None,
    *,
    as_json: bool,
) -> None:
    """Change some fields of an entry, and leave the others.

    VALUE is as for add, and null removes the field; a list is replaced whole.

    Example: flask models edit gpt-x name='GPT X' --unset description
    """
    patch = read_patch(model_id, file, assignments, unset)
    if not patch:
        raise click.UsageError(
            "Nothing to change: give FIELD=VALUE, --unset FIELD or --file FILE."
        )
    written = services().administration.merge_model(model_id, patch, actor=actor())
    _echo_written(written, "Changed", as_json=as_json)


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def remove(model_id: str, *, as_json: bool) -> None:
    """Remove an entry; what it was stays in the log.

    Example: flask models remove gpt-x
    """
    services().administration.remove_model(model_id, actor=actor())
    if as_json:
        echo_json({"id": model_id, "removed": True})
    else:
        click.echo(f"Removed {model_id}.")


def _read(model_id: str) -> Model:
    """Return the entry with this id or alias; raise `ModelNotFound` if there is none."""
    model = services().store.model(model_id)
    if model is None:
        raise ModelNotFound(model_id)
    return model


def _echo_written(written: Written, done: str, *, as_json: bool) -> None:
    """Print what a change has made; `done` is its verb."""
    model = written.model
    for sentence in written.warnings:
        click.echo(f"Warning: {sentence}", err=True)
    if as_json:
        echo_json(_MODEL.dump(model))
    elif written.is_changed:
        click.echo(f"{done} {model.id} at revision {model.revision}.")
    else:
        click.echo(f"{model.id} was so already, at revision {model.revision}.")


def _list_as(viewer: Viewer, window: Window, *, as_json: bool) -> None:
    """Print the list that `viewer` gets in the default dialect."""
    current = services()
    dialect = current.dialects.default
    reply = current.replies.listing(
        current.catalog.current(), dialect, viewer, window, gzipped=False
    )
    listing = parse_object(reply.content)
    if as_json:
        echo_json(listing)
        return
    rows = ((item["id"], item["owned_by"], day(item["created"])) for item in listing["data"])
    echo_table(("ID", "OWNED BY", "CREATED"), rows)
