"""``flask models``: the log of changes, and the commands that take changes back."""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import click

from app.administration.history import shown_page, unchecked
from app.catalog.errors import HistoryPruned, ModelNotFound, quote
from app.catalog.history import Act, LogFilter
from app.catalog.lifecycle import rfc3339
from app.cli.models import group
from app.cli.plans import LINES, SIGNS, Mode, carry_out, echo_coloured, lines_of, planning
from app.cli.terminal import Refusal, actor, as_json, echo_json, in_utc, past_time
from app.services import services

#: What was done, by the action in the log, or by the part of it before a colon.
_WORDS = {
    "model.create": "addition",
    "model.update": "edit",
    "model.delete": "removal",
    "key.create": "new key",
    "key.update": "edit of a key",
    "key.rotate": "rotation of a key",
    "key.revoke": "revocation of a key",
    "import": "import from ",
    "undo": "undo of ",
    "revert": "return to ",
}
#: How many acts are shown, and how many lines with ``--json``.
_ACTS, _JSON_LINES = 20, 100
_NUMBER = click.IntRange(1, 10**15 - 1)
#: The form of an author in the log.
_AUTHOR = re.compile("cli:.|key:.|start$")

_one = click.argument("model_id", metavar="[ID]", required=False)


@group.command("log")
@_one
@click.option("--since", metavar="TIME", help="From then on, such as yesterday or 7d.")
@click.option("--until", metavar="TIME", help="Until before then.")
@click.option("--actor", metavar="NAME", help="Only changes of this author, such as cli:anna.")
@click.option("--batch", type=_NUMBER, metavar="N", help="All of what has done revision N.")
@click.option("--limit", type=_NUMBER, metavar="N", help="How many items; 20, if left out.")
@as_json
@unchecked()
def show_log(model_id: str | None, limit: int | None, *, as_json: bool, **given: Any) -> None:
    """Show who has changed what, newest first; with ID only changes of that entry.

    What was done at once, as by an import, is one item. With --json each line of the log is one,
    and --limit is 100, if left out.

    Example: flask models log --since yesterday

    Example: flask models log gpt-x --limit 3
    """
    now = services().clock()
    texts = {name: given.pop(name) for name in ("since", "until")}
    times = {name: past_time(text, now) for name, text in texts.items() if text is not None}
    selection = LogFilter.read(times)._replace(model=model_id, **given)
    if selection.batch is not None:
        selection = selection._replace(batch=_first_revision(selection.batch))
    if as_json:
        echo_json(shown_page(services().store.log, selection, limit or _JSON_LINES))
        return
    number = 0
    for number, act in enumerate(_acts(selection), 1):
        if number > (limit or _ACTS):
            click.echo("There is more: --limit N shows it.")
            return
        click.echo(_header(act))
        _echo_act(act, model_id)
    if number == 0:
        click.echo("The log has no such change.")
    if selection.actor is not None and not _AUTHOR.match(selection.actor):
        click.echo("An author is cli:USER, key:ID with the id of a key, or start.")
    if (removed := _removed(selection)) is not None:
        click.echo(removed)


@group.command()
@_one
@click.option("--revision", type=_NUMBER, metavar="N", help="What has this revision in the log.")
@click.option("--force", is_flag=True, help="Also of entries that were changed again since.")
@planning
@unchecked()
def undo(model_id: str | None, revision: int | None, mode: Mode, *, force: bool) -> None:
    """Take back what was done last or, with ID, what was done last to that entry.

    All is taken back that was done at once, as by an import; with --revision and ID only what it
    did to this entry. What would change is shown, and you are asked whether to do it. Keys stay.

    Example: flask models undo gpt-x

    Example: flask models undo --revision 12
    """
    history = services().history
    try:
        act = history.find_act(revision, model_id)
    except ModelNotFound as error:
        if model_id is not None and model_id.isdigit():
            sentence = f"{error}: for a revision, give --revision {model_id}."
            raise Refusal(sentence) from error
        raise
    mode = mode.ask_on(sys.stdin)
    if not mode.as_json:
        click.echo(f"Undo of {_header(act)}")
    only = None if revision is None else model_id
    carry_out(partial(history.undo, act, only, force=force, actor=actor()), "Undone", mode)


@group.command()
@click.argument("when", metavar="WHEN")
@_one
@planning
@unchecked()
def revert(when: str, model_id: str | None, mode: Mode) -> None:
    """Make all entries, or one, what they were at WHEN: a revision, or a time.

    What was added since is removed. What would change is shown, and you are asked whether to do
    it. A time is a day, today, yesterday, a span back such as 24h, an RFC 3339 time or Unix
    seconds. Keys stay.

    Example: flask models revert yesterday

    Example: flask models revert 12 gpt-x
    """
    current = services()
    text = past_time(when, current.clock(), "a revision, ")
    moment = current.history.find(text, current.catalog.current(), "WHEN")
    mode = mode.ask_on(sys.stdin)
    if not mode.as_json:
        time = "" if moment.time is None else f", the last one at {in_utc(moment.time)}"
        click.echo(f"Return to revision {moment.revision}{time}")
    carry_out(partial(current.history.revert, moment, model_id, actor=actor()), "Returned", mode)


def _header(act: Act) -> str:
    """Return what was done, when and by whom, in one line."""
    revisions = f"{act.batch}" if act.last == act.batch else f"{act.batch}-{act.last}"
    kind, colon, name = act.action.partition(":")
    what = quote(_WORDS[kind] + name if kind in _WORDS else act.action)
    counts = {"added": act.added, "changed": act.changed, "removed": act.removed}
    if (total := sum(counts.values())) and (colon or total > 1):
        what += ": " + ", ".join(f"{number:,} {word}" for word, number in counts.items() if number)
    return f"{revisions}  {in_utc(act.at)}  {quote(act.actor)}  {what}"


def _first_revision(revision: int) -> int:
    """Return the first revision of what was done with this one."""
    with suppress(HistoryPruned):  # of an act that was removed in part the first may be gone
        if (act := services().store.log.act(revision)) is not None:
            return act.batch
    return revision


def _removed(selection: LogFilter) -> str | None:
    """Return the sentence about what was removed, if some of it may have been selected."""
    try:
        services().store.log.check_begin(0)
    except HistoryPruned as error:
        is_later = selection.since is not None and rfc3339(selection.since) > error.time
        if not is_later and (selection.batch is None or selection.batch < error.oldest):
            return str(error)
    return None


def _acts(selection: LogFilter) -> Iterator[Act]:
    """Yield what was done, newest first."""
    log = services().store.log
    while found := log.lines(selection, 1):
        act = log.act(found[0].revision)
        if act is None:  # it was pruned meanwhile, and so was all before it
            return
        yield act
        selection = selection._replace(after=act.batch)


def _echo_act(act: Act, model_id: str | None) -> None:
    """Print the first changes of an act, or those of one entry."""
    number = act.added + act.changed + act.removed + act.keys
    end = act.last + 1 if model_id is not None else min(act.batch + LINES, act.last + 1)
    selection = LogFilter(model=model_id, batch=act.batch, after=end)
    left, room = number, LINES
    for line in reversed(services().store.log.lines(selection, LINES)):
        texts = [*lines_of(line.model_id or line.kid or "", line)]
        if room < min(LINES, len(texts)):
            break
        sign, colour = SIGNS[line.kind]
        for text in texts:
            echo_coloured(f"  {sign}{text}", colour)
        room -= len(texts)
        left -= 1
    if left and model_id is None:
        command = f"flask models log --batch {act.batch} --json --limit {number}"
        click.echo(f"  and {left:,} more ({command} has all)")
