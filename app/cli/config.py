"""``flask config``: what the settings are and where each came from."""

import os

import click
from flask.cli import with_appcontext

from app.cli.terminal import as_json, echo_json, echo_table
from app.services import services
from app.settings import unknown_variables


@click.command("config")
@as_json
@with_appcontext
def command(*, as_json: bool) -> None:
    """Show every setting, its value and where it came from.

    Example: flask config
    """
    for sentence in unknown_variables(os.environ):
        click.echo(f"Warning: {sentence}", err=True)
    headings = ("VARIABLE", "VALUE", "SOURCE", "MEANING")
    rows = list(services().settings.rows(os.environ))
    if as_json:
        echo_json([dict(zip(map(str.lower, headings), row, strict=True)) for row in rows])
    else:
        echo_table(headings, rows)
