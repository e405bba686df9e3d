"""An import from the bytes of a file to the catalogue."""

import pytest

from app import sources_of
from app.administration.catalogues import CatalogueChanges
from app.administration.imports import ImportOptions
from app.administration.plans import Applying, report
from app.catalog.catalog import Catalog
from app.catalog.errors import InvalidValue, RowsRefused, ValidationFailed
from app.catalog.ports import Actor
from app.store.store import Store

FILE = b"id,owned_by,context_length\nx,acme,8192\ny,acme,many\nz z,acme,\nz?,acme,\n"


@pytest.fixture
def store(settings, clock):
    store = Store(settings, clock)
    store.open(create=True)
    yield store
    store.close()


@pytest.fixture
def bring(store, clock):
    """Import a file, and return the report."""
    changes = CatalogueChanges(store, clock, Catalog(store, clock), sources_of())

    def bring(body, *, applying=None, **options):
        applying = applying or Applying()
        applied = changes.import_catalogue(
            body, ImportOptions(**options), applying, actor=Actor("test")
        )
        return report(applied, dry_run=applying.dry_run)

    return bring


def test_an_import_is_shown_refused_and_applied(store, bring):
    """A file with a wrong id is shown as a plan, is refused, and brings its other rows."""
    shown = bring(FILE, applying=Applying(dry_run=True))
    with pytest.raises(RowsRefused):
        bring(FILE)
    before = store.load()
    done = bring(FILE, applying=Applying(partial=True))

    assert [] == before.models
    assert ["x", "y", "z z"] == [model.id for model in store.load().models]
    assert {**shown, "dry_run": False, "revision": done["revision"], "seconds": 0} == {
        **done,
        "seconds": 0,
    }
    assert {
        "object": "plan",
        "format": "csv",
        "source": "csv",
        "dry_run": True,
        "revision": shown["revision"],
        "added": ["x", "y", "z z"],
        "changed": [],
        "removed": [],
        "unchanged": 0,
        "skipped": [],
        "refused": [
            {
                "row": 4,
                "id": "z?",
                "field": "id",
                "message": "Must not contain any of ? # % \\: not every client could fetch it.",
            }
        ],
        "degraded": [
            {
                "row": 2,
                "id": "y",
                "field": "context_length",
                "message": "Must be a whole number, not the text 'many'.",
            }
        ],
        "kept": [],
        "warnings": [],
        "seconds": 0.0,
    } == shown


def test_how_an_import_ended_is_recorded(store, bring):
    """The last good and the last refused run are there; a dry run is none."""
    bring(FILE, applying=Applying(dry_run=True))
    before = store.sources()
    with pytest.raises(RowsRefused):
        bring(FILE)
    bring(FILE, applying=Applying(partial=True))
    [source] = store.sources()

    assert [] == before
    assert ("csv", "csv", 3, 1) == (
        source.name,
        source.format,
        source.last_good.added,
        source.last_good.refused,
    )
    assert source.last_failed.message.startswith("Nothing was changed, for 1 refused: row 4, 'z?'")


def test_the_same_file_twice_changes_nothing(store, bring):
    """The second import finds each entry unchanged, and takes no revision."""
    first = bring(FILE, applying=Applying(partial=True))
    second = bring(FILE, applying=Applying(partial=True))

    assert ([], [], 3, first["revision"]) == (
        second["added"],
        second["changed"],
        second["unchanged"],
        second["revision"],
    )


def test_fields_are_set_under_any_of_their_names(store, bring):
    """A field for all rows may have another name of its fact, and replaces that of the rows."""
    bring(b"id,context_length\nx,1\n", fields={"context_window": 8192.0, "owned_by": "acme"})
    [model] = store.load().models

    assert (8192, "acme") == (model.context_length, model.owned_by)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fields": {"id": "x"}}, ValidationFailed),
        ({"fields": {"context_length": "many"}}, ValidationFailed),
        ({"source": "a b"}, InvalidValue),
        ({"retire": "2027-02-30"}, InvalidValue),
        ({"format": "xml"}, InvalidValue),
        ({"prefix": True}, InvalidValue),
    ],
)
def test_wrong_options_are_refused(store, bring, options, error):
    """What is wrong with an option is an error, and nothing is stored."""
    with pytest.raises(error):
        bring(b"id\nx\n", **options)

    assert [] == store.load().models
