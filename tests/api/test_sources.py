"""GET /admin/sources: how the imports from each source last ended."""

import pytest

from app.catalog.sources import FailedRun, GoodRun, problem_with_source

GOOD = GoodRun(at=100, revision=7, added=5, changed=4, removed=3, unchanged=2, skipped=1, kept=9)


@pytest.mark.databases("sqlite", "postgresql")
def test_sources_are_listed(app, admin):
    """Each source has its last good and its last failed import, null where there was none."""
    store = app.extensions["roster"].store
    assert {"object": "list", "data": []} == admin("GET", "/admin/sources").json

    store.record_run("models.dev", GOOD, known_format="models.dev")
    store.record_run("acme/gpu-1", FailedRun(at=9, message="No catalogue."))
    answer = admin("GET", "/admin/sources")

    assert 200 == answer.status_code
    counts = '"unchanged":2,"skipped":1,"refused":0,"kept":9'
    assert (
        '{"object":"list","data":['
        '{"name":"acme/gpu-1","format":null,"last_good":null,'
        '"last_failed":{"at":9,"message":"No catalogue."}},'
        '{"name":"models.dev","format":"models.dev","last_good":'
        f'{{"at":100,"revision":7,"added":5,"changed":4,"removed":3,{counts}}},'
        '"last_failed":null}]}'
    ) == answer.text


def test_only_administrators_see_sources(admin, client):
    """The route needs the scope admin, as all of /admin."""
    reader = {"Authorization": f"Bearer {admin.new_key()}"}

    assert 401 == client.get("/admin/sources").status_code
    assert 403 == client.get("/admin/sources", headers=reader).status_code


def test_sources_are_never_old(admin, sql):
    """While the table cannot be read, there is no list, and no empty one either."""
    sql("DROP TABLE sources")
    answer = admin("GET", "/admin/sources")

    assert (503, "unavailable") == (answer.status_code, answer.json["error"]["code"])


@pytest.mark.parametrize("name", ["a", "models.dev", "acme/gpu-1_b", "9", "x" * 64])
def test_names_of_sources(name):
    """A name is letters, digits and four marks, and begins with a letter or digit."""
    assert problem_with_source(name) is None


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "-a", ".a", "/a", "_a", "a b", "a:b", "ü", "a\n", "a\0", "\u0661", "*"]
)
def test_other_names_of_sources_are_refused(name):
    """The sentence says what is wanted, in one line."""
    problem = problem_with_source(name)

    assert problem.startswith("Must be 1 to 64 letters, ")
    assert "\n" not in problem
