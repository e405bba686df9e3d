"""Fixtures: catalogues of which files are imported, without HTTP and without the command line."""

import json
import shutil
from itertools import count

import pytest

from app import sources_of
from app.administration import Administration
from app.administration.catalogues import CatalogueChanges
from app.administration.history import History
from app.administration.imports import ImportOptions
from app.administration.plans import Applying, report
from app.catalog.catalog import Catalog
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.settings import Settings
from app.sources.roster import export
from app.store.store import Store

ANNA = Actor("cli:anna")


class Roster:
    """A catalogue on a database, with the changes of a person and of imports."""

    def __init__(self, settings, clock):
        self.store = Store(settings, clock)
        self.catalog = Catalog(self.store, clock)
        self.administration = Administration(self.store, clock)
        self.catalogues = CatalogueChanges(self.store, clock, self.catalog, sources_of())
        self.history = History(self.store, clock, self.catalog)

    def put(self, entries):
        """Replace all entries: each is added by the import of its source, or by a person."""
        with self.store.transaction(actor=ANNA, now=9) as transaction:
            if stored := self.store.load().models:
                # After the removal by an import, the log says nothing of an entry.
                transaction.write([Change(model, None) for model in stored], "import:none")
            for fields in entries:
                source = fields["source"]
                change = Change(None, Model.compose(fields, now=9))
                transaction.write([change], source and f"import:{source}")

    def add(self, model_id, **fields):
        """Add an entry as a person does."""
        self.administration.create_model({"id": model_id, **fields}, actor=ANNA)

    def edit(self, model_id, **patch):
        """Change an entry as a person does."""
        self.administration.merge_model(model_id, patch, actor=ANNA)

    def remove(self, model_id):
        """Remove an entry as a person does."""
        self.administration.remove_model(model_id, actor=ANNA)

    def plan(self, rows, *, dry_run=False, partial=False, revision=None, **options):
        """Import `rows`, the items of a list or the bytes of a file; return the `Applied`."""
        if not isinstance(rows, bytes):
            rows = json.dumps({"data": rows}).encode()
        applying = Applying(dry_run=dry_run, partial=partial, revision=revision)
        options = ImportOptions(**options)
        return self.catalogues.import_catalogue(rows, options, applying, actor=ANNA)

    def take(self, rows, **options):
        """Import `rows`, and return the report."""
        return report(self.plan(rows, **options), dry_run=options.get("dry_run", False))

    def update(self, *rows, **options):
        """Import items of a list, changing what exists; return the report."""
        return self.take(rows, **{"on_conflict": "update", **options})

    def entries(self):
        """Return all entries by id, as they are stored."""
        return {model.id: model for model in self.store.load().models}

    def export(self, *, as_of=None, ndjson=False):
        """Return the bytes of the export, as it is or as it was at a revision or time."""
        snapshot = self.catalog.current()
        if as_of is not None:
            snapshot = self.history.as_of(self.history.find(str(as_of), snapshot), snapshot)
        return b"".join(export(snapshot.models, ndjson=ndjson))

    def undo(self, revision=None, model_id=None, *, force=False, **applying):
        """Take an act back, and return the report."""
        act = self.history.find_act(revision, model_id)
        applying = Applying(**applying)
        applied = self.history.undo(act, model_id, applying, force=force, actor=ANNA)
        return report(applied, dry_run=applying.dry_run)

    def revert(self, revision, model_id=None, **applying):
        """Return to a revision, and return the report."""
        moment = self.history.find(str(revision), self.catalog.current(), "revision")
        applying = Applying(**applying)
        applied = self.history.revert(moment, model_id, applying, actor=ANNA)
        return report(applied, dry_run=applying.dry_run)

    @property
    def revision(self):
        return self.store.position().revision


@pytest.fixture
def roster(settings, clock, prepared):
    """A catalogue without entries."""
    if settings.database_url is None:
        shutil.copytree(prepared, settings.instance_path)
    roster = Roster(settings, clock)
    roster.store.open(create=True)
    yield roster
    roster.store.close()


@pytest.fixture
def new_roster(tmp_path, clock, prepared):
    """What makes a catalogue without entries, on a SQLite database of its own."""
    numbers, stores = count(), []

    def new():
        folder = tmp_path / f"new-{next(numbers)}"
        shutil.copytree(prepared, folder)
        roster = Roster(Settings(instance_path=folder), clock)
        stores.append(roster.store)
        return roster

    yield new
    for store in stores:
        store.close()
