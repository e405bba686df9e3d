"""``flask keys``: the API keys of readers and administrators."""

from collections.abc import Callable
from typing import Any

import click

from app.catalog.errors import KeyNotFound
from app.catalog.filters import select_keys
from app.catalog.keys import ADMIN, READ, ApiKey
from app.cli.terminal import (
    Commands,
    Duration,
    Moment,
    actor,
    as_json,
    echo_json,
    echo_table,
    in_utc,
    printable,
)
from app.schemas import KeySchema
from app.services import services

_TIMES = ("created", "expires_at", "retires_at", "revoked_at")


def _split(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",")]


_groups = click.option(
    "--group",
    "groups",
    metavar="GROUP,...",
    multiple=True,
    callback=_split,
    help="Groups of the organization.",
)
_expires = click.option(
    "--expires",
    "--expires-in",
    "expires",
    type=Moment(),
    help="The end: a day, an RFC 3339 time, Unix seconds or a span from now, such as 90d.",
)

group = Commands("keys", help="Create, list, show, edit, revoke and rotate API keys.")
group.instead = {"rename": "'flask keys edit ID --name NAME' renames a key."}


@group.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="The key may also administer the catalogue.")
@click.option("--organization", help="Whose entries the holder sees, beside the public ones.")
@_groups
@_expires
@as_json
def create(
    name: str,
    *,
    admin: bool,
    organization: str | None,
    groups: list[str],
    expires: Callable[[float], int] | None,
    as_json: bool,
) -> None:
    """Make a key; NAME describes what it is for.

    The key is printed once and stored nowhere.

    Example: flask keys create billing --organization acme --expires 90d
    """
    fields: dict[str, Any] = {
        "name": name,
        "scopes": [READ, ADMIN] if admin else [READ],
        "organization": organization,
        "groups": groups,
    }
    if expires is not None:
        fields["expires_at"] = expires(services().clock())
    key, secret = services().administration.create_key(fields, actor=actor())
    _echo_new(key, secret, as_json=as_json)


@group.command("list")
@click.option("--state", help="Only active, grace, expired or revoked keys.")
@click.option("--q", help="Only keys with this in their name, organization or id, in any case.")
@as_json
def list_keys(state: str | None, q: str | None, *, as_json: bool) -> None:
    """List all keys: active, in their grace, expired and revoked.

    Example: flask keys list --state active --q billing
    """
    now = services().clock()
    keys = select_keys(services().store.keys(), now, state=state, q=q)
    if as_json:
        echo_json({"object": "list", "data": KeySchema(now).dump(keys, many=True)})
        return
    echo_table(
        ("ID", "NAME", "SCOPES", "ORGANIZATION", "GROUPS", "EXPIRES", "STATE"),
        (
            (
                key.kid,
                key.name,
                " ".join(key.scopes),
                key.organization,
                " ".join(key.groups),
                in_utc(key.ends_at),
                key.state(now),
            )
            for key in keys
        ),
    )


@group.command()
@click.argument("kid", metavar="ID")
@as_json
def show(kid: str, *, as_json: bool) -> None:
    """Show one key, field by field.

    Example: flask keys show 7fGh2kLm
    """
    found = services().store.keys()
    keys = {key.kid: key for key in found}
    if kid not in keys:
        raise KeyNotFound(kid)
    _echo(keys[kid], as_json=as_json)


@group.command()
@click.argument("kid", metavar="ID")
@click.option("--name", help="What the key is for.")
@_groups
@_expires
@click.option(
    "--unset",
    metavar="FIELD",
    type=click.Choice(["groups", "expires_at"]),
    multiple=True,
    help="groups: the key is in none; expires_at: it has no end.",
)
@as_json
def edit(
    kid: str,
    *,
    name: str | None,
    groups: list[str],
    expires: Callable[[float], int] | None,
    unset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change name, groups and expiry of a key, and leave the others.

    The groups are replaced whole. A key that has expired works again, if it is given a later end.

    Example: flask keys edit 7fGh2kLm --group red,blue --expires 90d
    """
    patch: dict[str, Any] = {} if name is None else {"name": name}
    if groups:
        patch["groups"] = groups
    if expires is not None:
        patch["expires_at"] = expires(services().clock())
    if both := patch.keys() & {*unset}:
        raise click.UsageError(f"'{min(both)}' is both given and unset: do one of them.")
    patch |= dict.fromkeys(unset)
    if not patch:
        raise click.UsageError(
            "Nothing to change: give --name, --group, --expires or --unset FIELD."
        )
    _echo(services().administration.merge_key(kid, patch, actor=actor()), as_json=as_json)


@group.command()
@click.argument("kid", metavar="ID")
@click.option("--yes", is_flag=True, help="Revoke it even if it is the last active admin key.")
@as_json
def revoke(kid: str, *, yes: bool, as_json: bool) -> None:
    """Refuse a key from the next request on.

    Example: flask keys revoke 7fGh2kLm
    """
    key = services().administration.revoke_key(kid, actor=actor(), last=yes)
    if as_json:
        _echo(key, as_json=True)
    else:
        click.echo(f"Revoked {kid}.")


@group.command()
@click.argument("kid", metavar="ID")
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the old key works on.",
)
@as_json
def rotate(kid: str, grace: int, *, as_json: bool) -> None:
    """Make a new key like an old one; the old one ends after the grace.

    Example: flask keys rotate 7fGh2kLm --grace 1h
    """
    key, secret = services().administration.rotate_key(kid, {"grace": grace}, actor=actor())
    _echo_new(key, secret, as_json=as_json)


def _echo(key: ApiKey, *, as_json: bool) -> None:
    shown = KeySchema(services().clock()).dump(key)
    if as_json:
        echo_json(shown)
        return
    times = {name: in_utc(shown[name]) for name in _TIMES}
    echo_table(("FIELD", "VALUE"), {**shown, **times}.items())


def _echo_new(key: ApiKey, secret: str, *, as_json: bool) -> None:
    if as_json:
        shown = KeySchema(services().clock()).dump(key)
        echo_json({"id": shown.pop("id"), "key": secret, **shown})
        return
    click.echo(secret)
    click.echo(
        f"Key {key.kid} for {printable(key.name)}, expires: {in_utc(key.expires_at)}. "
        "It is not shown again: store it now.",
        err=True,
    )
