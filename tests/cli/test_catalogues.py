"""``flask models`` for whole catalogues, from the terminal."""

import json

from app.catalog.sources import FailedRun, GoodRun


def test_sources_are_listed(app, admin):
    """A table has each source and what its imports did; --json is the reply of the route."""
    run = app.test_cli_runner().invoke
    store = app.extensions["roster"].store
    assert "NAME  FORMAT  LAST GOOD  ADDED" in run(args=["models", "sources"]).stdout

    good = GoodRun(at=1_800_000_000, revision=7, added=25, removed=3)
    store.record_run("litellm", good, known_format="litellm")
    store.record_run("b", FailedRun(at=1_800_000_000, message="No catalogue.\x1b[31m" + "x" * 199))
    done = run(args=["models", "sources"])

    assert 0 == done.exit_code
    assert (
        "NAME     FORMAT   LAST GOOD             ADDED  CHANGED  REMOVED  LAST FAILED"
        "           REASON\n"
        "b        -        -                     -      -        -        2027-01-15T08:00:00Z"
        f"  No catalogue.\ufffd[31m{'x' * 101}…\n"
        "litellm  litellm  2027-01-15T08:00:00Z  25     0        3        -"
        "                     -\n"
    ) == done.stdout
    listed = json.loads(run(args=["models", "sources", "--json"]).stdout)
    assert admin("GET", "/admin/sources").json == listed
