"""The start of ``flask run``; that of gunicorn is in ``gunicorn.conf.py``."""

import logging
import os
import signal
import sys

import click
from flask import Flask
from werkzeug.serving import is_running_from_reloader

from app.catalog.errors import StoreUnavailable
from app.logs import start_block
from app.services import services
from app.settings import unknown_variables


def announce(app: Flask) -> None:
    """Open the store of `app`, and let the start block be printed, if this is ``flask run``."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run":
        return
    reloads = context.params["reload"]
    if (app.debug if reloads is None else reloads) and not is_running_from_reloader():
        return  # the process that serves is yet to be started
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the store is closed
    for sentence in unknown_variables(os.environ):
        click.echo(f"Warning: {sentence}", err=True)
    with app.app_context():
        try:
            facts = services().start()
        except StoreUnavailable as error:
            sys.exit(f"Roster cannot start: {error.reason}")
    host = context.params["host"]
    host = f"[{host}]" if ":" in host else host
    block = start_block(facts, f"http://{host}:{context.params['port']}")
    if is_running_from_reloader():  # its parent listens already
        click.echo(block, nl=False)
    else:
        _print_when_bound(block)


def _print_when_bound(block: str) -> None:
    """Print `block` with the first line that Werkzeug logs: it listens by then.

    Of an address that it cannot have it says so, without a log line, and ends.
    """
    logger = logging.getLogger("werkzeug")

    def print_once(_: logging.LogRecord) -> bool:
        logger.removeFilter(print_once)
        click.echo(block, nl=False)
        return True

    logger.addFilter(print_once)
