"""Plans on the terminal: they show what would change, and ask whether to do it."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click

from app.administration.plans import Applied, Applying, report
from app.catalog.errors import PlanChanged, quote
from app.catalog.history import Line
from app.catalog.plan import Plan, Remark
from app.catalog.ports import Change
from app.cli.terminal import Refusal, as_json, as_options, echo_json, in_utc, printable
from app.cli.wording import permissions
from app.fields import MAX_TIME

#: How many lines of each list are shown; ``--json`` has all.
LINES = 20
#: How many other entries are named that have a sentence of the same kind.
_NAMED = 3
#: The longest value that is shown, in characters.
_LENGTH = 60
#: What differs between sentences of one kind: what was got, and what comes before the advice.
_PARTICULAR = re.compile(r"^[^']*: |, not .*$")
#: For how long, in seconds, others may wait without a word about it.
_SHORT = 0.1
#: The fields that are Unix seconds.
_TIMES = frozenset({"created", "available_from", "expires_at", "retires_at", "revoked_at"})
#: What may be done where entries are refused, by a member of the report.
_ADVICE = {"format": "--partial leaves these out.", "undone": "--force changes them, too."}
#: What each kind of change has in front, and its colour.
SIGNS = {"added": ("+ ", "green"), "changed": ("~ ", "yellow"), "removed": ("- ", "red")}


class Mode(NamedTuple):
    """What is done with a plan, as the options say."""

    dry_run: bool
    yes: bool
    as_json: bool
    #: The terminal on which the question is asked, None if none is asked.
    terminal: TextIO | None = None

    def ask_on(self, stream: TextIO | None) -> "Mode":
        """Return the mode with `stream`, None for that of the process, as the terminal.

        Raises an error if the question could not be asked.
        """
        if self.dry_run or self.yes:
            return self
        if self.as_json:
            raise click.UsageError("--json asks no question: give --dry-run or --yes, too.")
        if stream is None:
            with suppress(OSError):
                opened = Path("/dev/tty").open()  # noqa: SIM115 - the context closes it
                stream = click.get_current_context().with_resource(opened)
        if stream is None or not stream.isatty():
            raise Refusal(
                "There is no terminal to ask you on: --dry-run shows what would change, and --yes "
                "changes it."
            )
        return self._replace(terminal=stream)


def planning(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options about plans to a command, which gets them as `mode`."""

    @wraps(command)
    def with_mode(*args: Any, dry_run: bool, yes: bool, as_json: bool, **others: Any) -> None:
        command(*args, mode=Mode(dry_run, yes, as_json), **others)

    for option in (
        as_json,
        click.option("--yes", is_flag=True, help="Change it without a question."),
        click.option(
            "--dry-run", is_flag=True, help="Show what would change, and change nothing."
        ),
    ):
        with_mode = option(with_mode)
    return with_mode


def carry_out(
    run: Callable[[Applying], Applied], done: str, mode: Mode, *, partial: bool = False
) -> None:
    """Show the plan that `run` makes, and apply it unless it is a dry run; `done` is its verb.

    Between the question and the change nothing may happen to the entries of the plan.
    """
    is_dry = mode.dry_run or not mode.yes
    applied = run(Applying(dry_run=is_dry, partial=partial))
    plan = applied.plan
    if mode.as_json:
        echo_json(report(applied, dry_run=is_dry))
    else:
        _show(plan)
    if is_dry and plan.refused and not partial:
        if not mode.as_json:
            click.echo(f"Plan: {_summary(plan)}.")
        advice = [text for member, text in _ADVICE.items() if member in applied.about]
        what = "rows" if "format" in applied.about else "entries"
        raise Refusal(" ".join([f"Nothing is changed, because {what} are refused.", *advice]))
    if mode.terminal is not None:
        if plan.changes and not is_confirmed(_summary(plan), mode.terminal):
            raise Refusal("Nothing was changed.")
        try:
            applied = run(Applying(partial=partial, revision=applied.revision))
        except PlanChanged as error:
            raise Refusal(f"{error} To do that, run the command again.") from error
    if mode.dry_run and not mode.as_json:
        click.echo(f"Plan: {_summary(plan)}.")
    elif not mode.as_json:
        waited = f" (others waited {applied.seconds:.2f} s)" if applied.seconds > _SHORT else ""
        changes, summary = applied.plan.changes, _summary(applied.plan)
        what = done if changes else "Nothing to change"
        click.echo(f"{what} at revision {applied.revision}{waited}: {summary}.")
        if changes:
            echo_undo(applied.revision - len(changes) + 1)


def echo_undo(revision: int) -> None:
    """Print the command that takes back what has begun at `revision`."""
    click.echo(f"To undo it: flask models undo --revision {revision}")


def is_confirmed(summary: str, terminal: TextIO) -> bool:
    """Ask on `terminal` whether to do what `summary` says."""
    click.echo(f"{summary}. Do it? [y/N]: ", nl=False, err=True)
    return terminal.readline().strip().lower() in ("y", "yes")


def _summary(plan: Plan) -> str:
    """Return how many entries of each kind a plan has."""
    numbers = plan.counts
    kept = numbers.pop("kept")
    words = [", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)]
    if number := len(plan.degraded):
        words.append(f"{number:,} {'field' if number == 1 else 'fields'} left out")
    if kept:
        words.append(f"{kept:,} left as a person has changed them")
    return "; ".join(filter(None, words)) or "no model"


def _show(plan: Plan) -> None:
    """Print the lists of a plan."""
    for kind, (sign, colour) in SIGNS.items():
        changes = [change for change in plan.changes if change.kind == kind]
        lines = chain.from_iterable(lines_of(change.id, change) for change in changes)
        _list(sign, [*lines], colour)
    own = [
        f"{model_id}  {name}: {_value(name, stored)}, not {_value(name, given)}"
        for model_id, name, stored, given in plan.preserved
    ]
    _list("  ", own, "cyan", "Left as a person has changed it, unless you give --force:")
    _list("  ", [*_grouped(plan.degraded)], None, "Fields that are left out:")
    _list("  ", [*_grouped(plan.skipped)], None, "Skipped:")
    _list("  ", [*_grouped(plan.refused)], "red", "Refused:")
    _list("Warning: ", plan.warnings, "yellow")


def _list(sign: str, lines: Sequence[str], colour: str | None, heading: str = "") -> None:
    if heading and lines:
        click.echo(heading)
    for line in lines[:LINES]:
        echo_coloured(sign + line, colour)
    if len(lines) > LINES:
        click.echo(f"  and {len(lines) - LINES:,} more (--json has all)")


def echo_coloured(line: str, colour: str | None) -> None:
    """Print a line, in a colour if standard output is a terminal."""
    color = False if os.environ.get("NO_COLOR") else None  # None: if it is a terminal
    shown = printable(line)
    click.echo(click.style(shown, fg=colour) if colour else shown, color=color)


def lines_of(shown_id: str, change: Change | Line) -> Iterator[str]:
    """Yield the lines of a change: one of each field, if the entry is neither new nor gone."""
    if change.kind != "changed":
        yield shown_id
        return
    for name, (old, new) in change.differences().items():
        yield f"{shown_id}  {name}: {_value(name, old)} → {_value(name, new)}"


def _value(name: str, value: Any) -> str:
    if name == "permission":
        with suppress(TypeError):  # of a restored file, or of a newer program
            value = permissions(value)
    elif name in _TIMES and isinstance(value, int) and 0 <= value <= MAX_TIME:
        value = in_utc(value)
    return "-" if value is None else quote(value, _LENGTH)


def _grouped(remarks: Iterable[Remark]) -> Iterator[str]:
    """Yield one sentence of each kind, with the entries that have one like it."""
    groups: defaultdict[tuple[str | None, str], list[Remark]] = defaultdict(list)
    for remark in remarks:
        groups[remark.field, _PARTICULAR.sub("", remark.message)].append(remark)
    for first, *others in groups.values():
        row = "" if first.place in (None, first.id) else f" (row {first.place})"
        about = "" if first.field in (None, "id") else f"{first.field}: "
        sentence = f"{first.id}{row}: {about}{as_options(first.message)}"
        ids = {remark.id: None for remark in others if remark.id != first.id}
        if ids:
            more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
            sentence += f" Likewise: {', '.join(islice(ids, _NAMED))}{more}."
        yield sentence
