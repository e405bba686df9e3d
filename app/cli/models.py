"""``flask models``: the entries of the catalogue."""

from collections.abc import Mapping
from functools import partial
from typing import Any, BinaryIO

import click

from app.administration.entries import Precondition, Written
from app.catalog.errors import ModelNotFound, RevisionMismatch, ValidationFailed
from app.catalog.filters import Filter, read_viewer
from app.catalog.lifecycle import deprecation_time, read_moment, shutdown_time
from app.catalog.model import Grant, Model, Permission
from app.catalog.paging import Window, cut
from app.catalog.visibility import Viewer, is_permitted
from app.cli.assignments import read_fields, read_patch
from app.cli.terminal import (
    Commands,
    Refusal,
    actor,
    as_json,
    command_line,
    echo_json,
    echo_table,
    in_utc,
    printable,
)
from app.cli.wording import permission as words_of
from app.cli.wording import retires, seen_by
from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema
from app.services import services
from app.strict_json import dump, parse_object

_MODEL = AdminModelSchema()

_COPY = "'flask models copy ID NEW' makes an entry with another id."
group = Commands("models", help="List, show, add, edit and remove the entries of the catalogue.")
group.instead = dict.fromkeys(("rename", "move", "mv", "cp"), _COPY)

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
        ("ID", "NAME", "OWNED BY", "SEEN BY", "RETIRES"),
        (
            (m.id, m.name, m.owned_by, seen_by(m, snapshot.since), in_utc(shutdown_time(m)))
            for m in models
        ),
    )


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def show(model_id: str, *, as_json: bool) -> None:
    """Show one entry, field by field.

    Example: flask models show chatgpt-4o-latest
    """
    model = _read(model_id)
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
            rows.append(("seen by", seen_by(model, services().clock())))
            rows += [(name, words_of(permission)) for permission in model.permission]
        else:
            rows.append((name, value))
    echo_table(("FIELD", "VALUE"), rows)


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
@click.argument("new_id", metavar="NEW")
@_assignments
@as_json
def copy(model_id: str, new_id: str, assignments: tuple[str, ...], *, as_json: bool) -> None:
    """Add an entry like another one, with its permissions and without its aliases.

    FIELD=VALUE sets what is to differ. If the old entry is its own root, so is the new one. If NEW
    replaces the old entry, it does not retire with it.

    Example: flask models copy gpt-x gpt-x-2 name='GPT X 2'
    """
    old = _read(model_id)
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
    _echo_written(written, "Added", as_json=as_json, audience=True)


@group.command()
@click.argument("model_id", metavar="ID")
@click.option("--on", "date", required=True, metavar="DATE", help="It disappears at 00:00 UTC.")
@click.option("--use", metavar="ID", help="The entry that replaces it.")
@as_json
def retire(model_id: str, date: str, use: str | None, *, as_json: bool) -> None:
    """Let an entry disappear on a date, and name its replacement.

    It is deprecated from now on, unless it is already. 'flask models edit ID --unset shutdown_date
    --unset deprecation --unset deprecation_replacement_model' takes that back.

    Example: flask models retire gpt-x --on 2027-03-31 --use gpt-x-2
    """
    old = _read(model_id)
    patch = read_fields(None, [f"shutdown_date={date}"])
    end = read_moment(date)
    if end is None:
        raise click.BadParameter("Must be a date like 2027-01-31.", param_hint="--on")
    if use is not None:
        patch["deprecation_replacement_model"] = use
    deprecated = deprecation_time(old)
    if deprecated is None or deprecated > end:
        patch["deprecation"] = in_utc(min(services().clock(), end))
    written = _change(old, patch)
    _echo_written(written, "Changed", as_json=as_json)
    if not as_json:
        done = "Retires" if end > services().clock() else "Retired at once, for that is past"
        click.echo(f"{done}: {retires(written.model)}.")


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def hide(model_id: str, *, as_json: bool) -> None:
    """Hide an entry from everyone, and print the command that shows it again.

    Example: flask models hide gpt-x
    """
    old = _read(model_id)
    written = _change(old, {"permission": []})
    _echo_written(written, "Changed", as_json=as_json, audience=True)
    if written.is_changed and not as_json:
        again = f"permission={dump(_permissions_of(old))}"
        command = command_line("models", "edit", old.id, again)
        click.echo(printable(f"To show it as before: {command}"))


@group.command()
@click.argument("model_id", metavar="ID")
@click.option("--organization", required=True, help="Whose keys see it; '*' is everyone.")
@click.option("--group", "groups", multiple=True, help="Only this group of it, or these: a,b.")
@click.option("--only", is_flag=True, help="Nobody else sees it any more.")
@as_json
def allow(
    model_id: str, organization: str, groups: tuple[str, ...], *, only: bool, as_json: bool
) -> None:
    """Let an organization, or groups of it, see an entry, and print who sees it then.

    Those who see it already, as everyone may, go on to see it: with --only nobody else does.

    Example: flask models allow gpt-x --organization acme --group billing --only
    """
    old = _read(model_id)
    wanted: list[str | None] = [g.strip() for text in groups for g in text.split(",")] or [None]
    viewers = {g: Viewer(organization, frozenset(filter(None, (g,)))) for g in wanted}
    given = [] if only else _permissions_of(old)
    rule = frozenset() if only else old.rule
    added = [group for group, viewer in viewers.items() if not is_permitted(rule, viewer)]
    given += [{"organization": organization, "group": group} for group in added]
    rule = rule.union(
        Grant(organization, group, allow_view=True, is_blocking=False) for group in added
    )
    if not all(is_permitted(rule, viewer) for viewer in viewers.values()):
        raise Refusal(
            "A permission blocks them, whatever another one allows: 'flask models show ID' has "
            "it, and --only replaces all permissions."
        )
    written = _change(old, {"permission": given})
    _echo_written(written, "Changed", as_json=as_json, audience=True)
    if not written.is_changed and not only and not as_json:
        click.echo("With --only nobody else sees it.")


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def remove(model_id: str, *, as_json: bool) -> None:
    """Remove an entry, and print the command that brings it back.

    What it was stays in the log.

    Example: flask models remove gpt-x
    """
    removed = services().administration.remove_model(model_id, actor=actor())
    if as_json:
        echo_json({"id": model_id, "removed": True})
        return
    click.echo(f"Removed {model_id}.")
    given = [_typed(name, value) for name, value in _fields_of(removed).items() if name != "id"]
    command = command_line("models", "add", model_id, *given)
    click.echo(printable(f"To bring it back: {command}"))


def _read(model_id: str) -> Model:
    """Return the entry with this id or alias; raise `ModelNotFound` if there is none."""
    model = services().store.model(model_id)
    if model is None:
        raise ModelNotFound(model_id)
    return model


def _fields_of(model: Model) -> dict[str, Any]:
    """Return the fields that make an entry like this one."""
    shown: dict[str, Any] = _MODEL.dump(model)
    derived = {*MIRROR_FIELDS, "object", "capabilities", "revision"}
    fields = {n: v for n, v in shown.items() if n not in derived and v is not None}
    return {**fields, "permission": _permissions_of(model)}


def _permissions_of(model: Model) -> list[dict[str, Any]]:
    """Return the permissions, without members that have their defaults."""
    default = Permission(id="", created=model.created)
    return [
        {n: v for n, v in one.items() if n != "object" and v != getattr(default, n)}
        for one in _MODEL.dump(model)["permission"]
    ]


def _typed(name: str, value: object) -> str:
    """Return FIELD=VALUE."""
    return f"{name}={value}" if isinstance(value, str) else f"{name}={dump(value)}"


def _change(old: Model, patch: Mapping[str, Any]) -> Written:
    """Apply a merge patch that was made for `old`."""
    unchanged = Precondition(if_match=frozenset({str(old.revision)}))
    try:
        return services().administration.merge_model(
            old.id, patch, actor=actor(), precondition=unchanged
        )
    except RevisionMismatch as error:
        sentence = "Somebody else has just changed it: run the command again."
        raise Refusal(sentence) from error


def _echo_written(written: Written, done: str, *, as_json: bool, audience: bool = False) -> None:
    """Print what a change has made; `done` is its verb. With `audience`, who sees the entry."""
    model = written.model
    for sentence in written.warnings:
        click.echo(printable(f"Warning: {sentence}"), err=True)
    if as_json:
        echo_json(_MODEL.dump(model))
    elif written.is_changed:
        click.echo(f"{done} {model.id} at revision {model.revision}.")
    else:
        click.echo(f"{model.id} was so already, at revision {model.revision}.")
    if audience and not as_json:
        click.echo(printable(f"Seen by: {seen_by(model, services().clock())}."))


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
    rows = ((item["id"], item["owned_by"], in_utc(item["created"])) for item in listing["data"])
    echo_table(("ID", "OWNED BY", "CREATED"), rows)
