"""``flask models``: the edits that have a command of their own, which does more than ``edit``."""

from collections.abc import Mapping
from typing import Any

import click

from app.administration.entries import Precondition, Written
from app.catalog.errors import RevisionMismatch
from app.catalog.lifecycle import deprecation_before, read_moment
from app.catalog.model import Grant, Model
from app.catalog.visibility import Viewer, is_permitted
from app.cli.assignments import read_fields
from app.cli.changes import echo_written, permissions_of, seen_now
from app.cli.models import find, group
from app.cli.terminal import Refusal, actor, as_json
from app.cli.wording import retires
from app.services import services


@group.command()
@click.argument("model_id", metavar="ID")
@click.option("--on", "date", required=True, metavar="DATE", help="It disappears at 00:00 UTC.")
@click.option("--use", metavar="ID", help="The entry that replaces it.")
@as_json
def retire(model_id: str, date: str, use: str | None, *, as_json: bool) -> None:
    """Let an entry disappear on a date, and name its replacement.

    It is deprecated from now on, unless it is already.

    Example: flask models retire gpt-x --on 2027-03-31 --use gpt-x-2
    """
    old = find(model_id)
    patch = read_fields(None, [f"shutdown_date={date}"])
    end = read_moment(date)
    if end is None:
        raise click.BadParameter("Must be a date like 2027-01-31.", param_hint="--on")
    if use is not None:
        patch["deprecation_replacement_model"] = use
    patch["deprecation"] = deprecation_before(old, end, services().clock())
    written = _change(old, patch)
    done = "Retires" if end > services().clock() else "Retired at once, for that is past"
    about = f"{done}: {retires(written.model)}."
    echo_written(written, "Changed", as_json=as_json, about=about)


@group.command()
@click.argument("model_id", metavar="ID")
@as_json
def hide(model_id: str, *, as_json: bool) -> None:
    """Hide an entry from everyone, and print the command that shows it again.

    Example: flask models hide gpt-x
    """
    written = _change(find(model_id), {"permission": []})
    echo_written(written, "Changed", as_json=as_json, about=seen_now(written.model))


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
    old = find(model_id)
    given = [] if only else permissions_of(old)
    rule = frozenset[Grant]() if only else old.rule
    wanted: list[str | None] = [g.strip() for text in groups for g in text.split(",")] or [None]
    for name in wanted:
        if not is_permitted(rule, Viewer(organization, frozenset(filter(None, (name,))))):
            given.append({"organization": organization, "group": name})
    written = _change(old, {"permission": given})
    echo_written(written, "Changed", as_json=as_json, about=seen_now(written.model))
    if not written.is_changed and not only and not as_json:
        click.echo("With --only nobody else sees it.")


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
