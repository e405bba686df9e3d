"""The command line: ``flask models``, ``flask keys``, ``flask db`` and ``flask config``.

The same changes as over HTTP, by the same code, for whoever may write the database file.
Every command prints a table or sentences for people, and JSON with ``--json``.
"""

from flask import Flask

from app.cli import catalogues as catalogues  # these four add commands to the group of `models`
from app.cli import changes as changes
from app.cli import config, db, keys, models
from app.cli import history as history
from app.cli import shortcuts as shortcuts


def init_app(app: Flask) -> None:
    """Add the commands to ``flask``."""
    for command in (models.group, keys.group, db.group, config.command):
        app.cli.add_command(command)
