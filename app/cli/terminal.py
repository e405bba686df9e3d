"""What all commands share: output, errors, and the acting user."""

import getpass
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any

import click
from flask.cli import AppGroup

from app.catalog.errors import (
    ChangeLost,
    ChangeUncertain,
    RosterError,
    StoreUnavailable,
    ValidationFailed,
)
from app.catalog.keys import end_after
from app.catalog.lifecycle import read_moment, rfc3339
from app.catalog.ports import Actor
from app.fields import UNWANTED
from app.strict_json import dump

#: The option that every command with an answer has.
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

#: How a sentence names a parameter of HTTP that is also an option.
_PARAMETER = re.compile(
    r"'((?:as_of|before|dry_run|force|format|min_context|on_conflict|partial|prefix|prune"
    r"|retire|retiring_before|since|source|state|until)(?:=\w+)?)'"
    r"(?= must| may| all | is | each| adds| shows| leaves| changes| takes| overrides"
    r"|: the catalogue is)"
)

_DAY = 24 * 60 * 60  # seconds
_UNITS = {"s": 1, "m": 60, "h": 60 * 60, "d": _DAY}  # seconds
_DAYS_BACK = {"today": 0, "yesterday": 1}


class Refusal(click.ClickException):
    """Sentences that end a command with exit code 1; they may repeat stored text."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(map(printable, lines)))


#: Commands that cannot be undone by the next one. No hint names them for a word that is none.
_DESTRUCTIVE = frozenset({"prune-history", "remove", "revoke", "restore", "rotate"})


class Commands(AppGroup):
    """A group of commands that ends a refused command with a sentence and exit code 1.

    `instead` has hints for words that are no commands.
    """

    instead: Mapping[str, str] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; the error for a word that is none suggests others."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            harmless = self.commands.keys() - _DESTRUCTIVE
            hint = self.instead.get(args[0])
            message = error.message if hint is None else f"{error.message} {hint}"
            suggested = sorted(harmless) if hint is None else ()
            raise click.NoSuchCommand(args[0], message, suggested, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            # A letter that the terminal's encoding lacks must not end a command after its change.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        log = logging.getLogger("app")
        level = log.level
        log.setLevel(logging.CRITICAL)  # an error is printed once, as a sentence
        try:
            return super().invoke(ctx)
        except ValidationFailed as error:
            lines = [
                f"{field}: {' '.join(sentences)}" for field, sentences in error.errors.items()
            ]
            raise Refusal(*lines) from error
        except (ChangeLost, ChangeUncertain) as error:
            raise Refusal(f"{error} ({error.reason})") from error
        except StoreUnavailable as error:
            raise Refusal(error.reason) from error
        except RosterError as error:
            raise Refusal(as_options(str(error))) from error
        except UnicodeEncodeError as error:
            raise Refusal("An argument is not valid UTF-8.") from error
        finally:
            log.setLevel(level)


class Duration(click.ParamType[int]):
    """A time span such as 90d, 24h, 30m or 45s, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        seconds = _read_span(str(value))
        if seconds is None:
            self.fail(f"'{value}' is no time span such as 90d, 24h, 30m or 45s.", param, ctx)
        return seconds


class Moment(click.ParamType[Callable[[float], int]]):
    """A day, an RFC 3339 time, Unix seconds or a span: Unix seconds as a function of now.

    See `app.catalog.lifecycle.read_moment`.
    """

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Callable[[float], int]:
        """Return what gives the time, rounded up to whole seconds."""
        text = str(value)
        if (span := _read_span(text)) is not None:
            return partial(end_after, span)
        moment = read_moment(text)
        if moment is None:
            self.fail(
                f"'{value}' is no time: give a day like 2027-01-31, an RFC 3339 time like "
                "2027-01-31T08:00:00Z, Unix seconds, or a span from now such as 90d, 24h, 30m or "
                "45s.",
                param,
                ctx,
            )
        return lambda _: ceil(moment)


def past_time(text: str, now: float, also: str = "") -> str:
    """Return a time that has been as HTTP takes it; a revision stays as it is.

    A span back from `now` (Unix seconds), ``today`` and ``yesterday`` are times, too. A refusal
    names `also` what else may be given.
    """
    if (span := _read_span(text)) is not None:
        return rfc3339(max(now - span, 0))
    if text in _DAYS_BACK:
        return rfc3339((now // _DAY - _DAYS_BACK[text]) * _DAY)
    if not text.isdigit() and read_moment(text) is None:
        raise click.BadParameter(
            f"'{text}' is no time: give {also}a day like 2027-01-31, today, yesterday, an RFC "
            "3339 time like 2027-01-31T08:00:00Z, Unix seconds, or a span back from now such as "
            "7d, 24h, 30m or 45s."
        )
    return text


def actor() -> Actor:
    """Return the person at the terminal, for the log of changes: with sudo or doas, who ran that.

    The name is what the environment says, which that person can change.
    """
    user = os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container may run under a number without a name
            user = str(os.getuid())
    return Actor(f"cli:{printable(user)}")


def echo_json(value: object) -> None:
    """Print `value` as one line of JSON, with what `printable` replaces escaped."""
    click.echo(UNWANTED.sub(lambda found: f"\\u{ord(found[0]):04x}", dump(value)))


def echo_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, each column as wide as its widest cell."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def in_utc(seconds: float | None) -> str:
    """Return a moment (Unix seconds) with its zone, as commands take it."""
    return "-" if seconds is None else rfc3339(seconds)


def command_line(*words: str) -> str:
    """Return a command of ours as a shell takes it; no word but the first two is an option."""
    dashes = ["--"] if any(word.startswith("-") for word in words[2:]) else []
    return shlex.join(["flask", *words[:2], *dashes, *words[2:]])


def printable(text: str) -> str:
    """Return `text` without characters that change the lines around it.

    An older version may have stored some, and so may an attacker in a file that is read.
    """
    return UNWANTED.sub("\N{REPLACEMENT CHARACTER}", text)


def as_options(sentence: str) -> str:
    """Return `sentence` with the options of commands in place of the parameters of HTTP."""
    return _PARAMETER.sub(lambda found: "--" + found[1].replace("_", "-"), sentence)


def _read_span(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def _cell(value: object) -> str:
    if value in (None, "", [], ()):
        return "-"
    text = dump(value) if isinstance(value, list | tuple | dict) else str(value)
    return printable(text)
