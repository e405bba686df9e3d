"""``flask db``: the database itself."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from app.catalog.errors import StoreUnavailable
from app.catalog.history import read_time
from app.cli.files import access
from app.cli.plans import Mode, is_confirmed, planning
from app.cli.terminal import (
    Commands,
    Refusal,
    actor,
    as_json,
    echo_json,
    echo_table,
    in_utc,
    past_time,
    printable,
)
from app.services import services
from app.settings import parse_database_url, short_path
from app.store.pruning import Removal
from app.store.schema import HEAD

group = Commands("db", help="Upgrade, inspect, back up, restore, copy and prune the database.")


@group.command()
@as_json
def upgrade(*, as_json: bool) -> None:
    """Make the database if it is missing, and bring its schema up to date.

    Servers do this by themselves when they start.

    Example: flask db upgrade
    """
    store = services().store
    is_new = store.schema() is None
    store.open(create=True)
    schema = store.schema()
    if as_json:
        echo_json({"database": store.name, "schema": schema})
    else:
        made = "was made without entries and " if is_new else ""
        click.echo(f"{store.name} {made}has schema {schema}.")


@group.command()
@as_json
def status(*, as_json: bool) -> None:
    """Show where the database is and in which state.

    Exit code 1 when the database cannot serve as it is.

    Example: flask db status
    """
    store = services().store
    facts: dict[str, object] = {"database": store.name, "newest_schema": HEAD}
    problem = None
    try:
        schema = facts["schema"] = store.schema()
        if schema is None:
            problem = "There is no database yet: 'flask db upgrade' makes it."
        elif schema < HEAD:
            problem = "The schema is older than this program: 'flask db upgrade' brings it up."
        else:
            facts.update(asdict(store.contents()))
    except StoreUnavailable as error:
        problem = error.reason
    if as_json:
        echo_json({**facts, "problem": problem})
    else:
        echo_table(("FACT", "VALUE"), facts.items())
    if problem is not None:
        raise Refusal(problem)


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def backup(file: Path, *, as_json: bool) -> None:
    """Write a consistent copy of the database to FILE, while servers go on.

    FILE must not exist yet.

    Example: flask db backup roster-2027-01-31.db
    """
    with access(file, "written"):
        services().store.backup(file)
    size = file.stat().st_size
    if as_json:
        echo_json({"file": str(file), "size": size})
    else:
        click.echo(f"Wrote {file}, {size} bytes.")


@group.command()
@click.argument("file", type=click.Path(dir_okay=False, readable=False, path_type=Path))
@click.option("--revive-keys", is_flag=True, help="Let keys work as they did at the backup.")
@as_json
def restore(file: Path, *, revive_keys: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the database.

    Stop the servers first. The backup is checked before anything is changed, and FILE stays as it
    is. The database before it is renamed, and stays beside the new one. Keys that were revoked or
    rotated since the backup stay so, and no key expires later than before.

    Example: flask db restore roster-2027-01-31.db
    """
    with access(file, "read"):
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    store = services().store
    restored = store.restore(file, actor=actor(), revive_keys=revive_keys)
    keys = restored.keys
    if keys.problem is not None:
        click.echo(
            "Warning: keys that were revoked since the backup may work again, for not all of them "
            f"could be looked up ({keys.problem}): see 'flask keys list'.",
            err=True,
        )
    lists = {
        "revoked": (keys.revoked, "Revoked since the backup, and still revoked"),
        "rotated": (keys.rotated, "Rotated since the backup, with the end that they had"),
        "revived": (keys.revived, "As they were at the backup, though they ended sooner since"),
        "gone": (keys.gone, "Made since the backup, and gone"),
        "added": (keys.added, "Not known before; revoke what you do not know"),
        "changed": (keys.changed, "Edited since, or in the file; see 'flask keys show ID'"),
    }
    if as_json:
        previous = None if restored.previous is None else str(restored.previous)
        facts = {"revision": restored.revision, "entries": restored.entries, "previous": previous}
        ids = {name: [key.kid for key in found] for name, (found, _) in lists.items()}
        echo_json({"database": store.name, **facts, "keys": {**ids, "problem": keys.problem}})
        return
    click.echo(
        f"Restored {store.name} from {file}: revision {restored.revision}, "
        f"{restored.entries} entries."
    )
    if restored.previous is not None:
        click.echo(f"What was there before is {short_path(restored.previous)}.")
    for found, sentence in lists.values():
        if found:
            named = ", ".join(f"{key.kid} ({key.name})" for key in found)
            click.echo(printable(f"{sentence}: {named}."))


@group.command()
@click.argument("url")
@as_json
def copy(url: str, *, as_json: bool) -> None:
    """Copy entries, keys, history and sources into the empty database URL.

    From SQLite to PostgreSQL and back. Stop the servers first: what they write during the copy
    stays behind. While they have a SQLite file open, the copy is refused. Then start them with URL
    as ROSTER_DATABASE_URL. A password may be left out of URL, for PGPASSWORD or the file that
    PGPASSFILE names.

    Example: flask db copy postgresql:///roster
    """
    try:
        parse_database_url(url)
    except ValueError as error:
        raise click.BadParameter(
            f"Must be sqlite:///PATH or postgresql://…{'; ' * bool(str(error))}{error}",
            param_hint="URL",
        ) from error
    copied = services().store.copy_to(url)
    if as_json:
        echo_json(asdict(copied))
    else:
        click.echo(
            f"Copied {copied.entries} entries, {copied.keys} keys and {copied.changes} changes, "
            f"revision {copied.revision}."
        )


@group.command("prune-history")
@click.option("--before", required=True, metavar="TIME", help="Remove what was changed before.")
@planning
def prune_history(before: str, mode: Mode) -> None:
    """Remove old changes from the log, while servers go on.

    The last change before TIME stays, and is the first that can be shown and returned to. The
    lines that say who has set the fields of imported entries stay, too. TIME is a day, an RFC 3339
    time, Unix seconds, or a span back from now.

    Example: flask db prune-history --before 365d --dry-run
    """
    now = services().clock()
    moment = read_time("before", past_time(before, now))
    if moment > now:
        raise click.BadParameter("The time must not be in the future.", param_hint="--before")
    mode = mode.ask_on(sys.stdin)
    pruning = services().store.pruning
    done = pruning.plan(moment)
    if done.lines and not mode.dry_run:
        if mode.terminal is not None and not is_confirmed(_words(done), mode.terminal):
            raise Refusal("Nothing was changed.")
        done = pruning.remove(done)
    if mode.as_json:
        echo_json({"dry_run": mode.dry_run, **done._asdict()})
    elif not done.lines:
        click.echo("No line of the log is to be removed.")
    elif mode.dry_run:
        click.echo(f"Plan: remove {_words(done)}.")
    else:
        room = (
            "PostgreSQL uses the room again after its next VACUUM."
            if services().settings.database_path is None
            else "The file stays as large, and new changes use the room. For a smaller one, stop "
            "the servers, and run 'flask db backup FILE' and 'flask db restore FILE'."
        )
        click.echo(f"Removed {_words(done)}.\n{room}")


def _words(removal: Removal) -> str:
    """Return what is removed, and what the log has then."""
    return (
        f"{removal.lines:,} of {removal.of:,} lines of the log, about {removal.size:,} bytes; "
        f"it is complete from revision {removal.revision} of {in_utc(removal.at)} on"
    )
