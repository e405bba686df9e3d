"""The objects that the factory wired together: `services()` in a request or a command."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import cast

from flask import Flask, current_app

from app.administration import Administration
from app.administration.catalogues import CatalogueChanges
from app.administration.history import History
from app.catalog.catalog import Catalog
from app.catalog.keys import ADMIN, digest
from app.catalog.snapshot import Snapshot
from app.catalog.visibility import ANONYMOUS
from app.dialects import Dialects
from app.metrics.gathering import Metrics
from app.replies import ReplyCache
from app.settings import Settings, short_path
from app.store.first_key import read_key_file
from app.store.schema import HEAD
from app.store.store import Store

_log = logging.getLogger(__name__)

#: The version of this program.
VERSION = version("roster")

#: The name in `Flask.extensions` that `Services` has.
EXTENSION = "roster"


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that views and commands work with."""

    settings: Settings
    dialects: Dialects
    store: Store
    catalog: Catalog
    administration: Administration
    catalogues: CatalogueChanges
    history: History
    replies: ReplyCache
    #: None where the extra ``metrics`` is not installed.
    metrics: Metrics | None
    #: Unix seconds.
    clock: Callable[[], float]

    def init_app(self, app: Flask) -> None:
        """Register with `app`: `services()` then returns this."""
        app.extensions[EXTENSION] = self

    def warm_up(self, *, wait: bool) -> None:
        """Load the first snapshot, and cache the list of the default dialect.

        Unless it is to `wait`, a thread makes the list: of 100,000 entries that takes a second. A
        request for the list waits for that, in its thread; others are answered by the threads that
        are left. The lists of other dialects are made when somebody requests them.
        """
        snapshot = self.catalog.current()
        if wait:
            self._make_list(snapshot)
        else:
            threading.Thread(None, self._try_list, "first list", (snapshot,), daemon=True).start()

    def _make_list(self, snapshot: Snapshot) -> None:
        dialect = self.dialects.default
        self.replies.listing(snapshot, dialect, ANONYMOUS, dialect.window({}), gzipped=False)

    def _try_list(self, snapshot: Snapshot) -> None:
        try:
            self._make_list(snapshot)
        except Exception:  # noqa: BLE001 - nobody else would log it as JSON
            _log.exception("The first list could not be made; the next request makes it.")

    def start(self) -> dict[str, str]:
        """Open the store and return the facts for `app.logs.start_block`; load no entry."""
        self.store.open(create=True)
        self.store.add_given_key()
        keys = self.store.keys()
        path = self.settings.admin_key_file or self.settings.first_key_path
        in_file = _digest_in_file(self.settings)
        key = next((key for key in keys if key.digest == in_file), None)
        now = self.clock()
        if key is not None and key.is_accepted(now):
            shown_key = short_path(path)
        elif any(ADMIN in key.scopes and key.is_accepted(now) for key in keys):
            shown_key = "not in a file here; 'flask keys create NAME --admin' makes another"
        else:
            shown_key = "none is active; 'flask keys create NAME --admin' makes one"
        return {
            "version": VERSION,
            "database": f"{self.store.name}, schema {HEAD}, {self.store.count()} entries",
            "admin key": shown_key,
        }


def services() -> Services:
    """Return the services of the current application."""
    return services_of(current_app)


def services_of(app: Flask) -> Services:
    """Return the services of `app`."""
    return cast("Services", app.extensions[EXTENSION])


def _digest_in_file(settings: Settings) -> str:
    """Return the digest of the key in the key file, of an empty string if it cannot be read."""
    try:
        return digest(read_key_file(settings))
    except (OSError, UnicodeDecodeError):  # only a line of the start block depends on it
        return digest("")
