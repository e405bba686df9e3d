"""The options that select entries, which several commands have."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from app.catalog.filters import PARAMETERS, Filter, Selection
from app.catalog.paging import Window

#: How a reader is given: see `app.catalog.filters.read_viewer`.
VIEWER = "ORGANIZATION[/GROUP,...]"


_OPTIONS = (
    click.option("--owned-by", help="Only the entries that this owner has."),
    click.option("--q", help="Only entries with this in their id, name or aliases, in any case."),
    click.option("--type", help="Only models of this type, such as embedding."),
    click.option("--supports", help="Only models with this capability or parameter."),
    click.option(
        "--min-context", metavar="TOKENS", help="Only models with at least this context."
    ),
    click.option("--tag", help="Only entries with this tag."),
    click.option("--source", metavar="NAME", help="Only entries that this source has added."),
    click.option("--lifecycle", help="Only upcoming, active, deprecated or retired entries."),
    click.option("--visible-to", metavar=VIEWER, help="Only entries that such a reader sees now."),
    click.option("--hidden", is_flag=True, help="Only entries that nobody sees now."),
    click.option("--visible", is_flag=True, help="Only entries that somebody sees."),
    click.option(
        "--retiring-before", metavar="TIME", help="Only entries that retire before then."
    ),
)


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them as `selection`."""

    @wraps(command)
    def with_selection(
        *args: Any,
        owned_by: str | None,
        q: str | None,
        hidden: bool,
        visible: bool,
        **others: Any,
    ) -> None:
        given = {name: others.pop(name) for name in PARAMETERS if name in others}
        given = {name: text for name, text in given.items() if text is not None}
        if hidden and visible:
            raise click.UsageError("--hidden and --visible exclude each other: no entry is both.")
        if hidden or visible:
            given["hidden"] = "true" if hidden else "false"
        window = Window(owned_by=owned_by, q=q or None)  # an empty text is in each entry
        command(*args, selection=Selection(window, Filter.read(given)), **others)

    for option in reversed(_OPTIONS):
        with_selection = option(with_selection)
    return with_selection
