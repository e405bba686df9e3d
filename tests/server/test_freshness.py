"""A write that was answered is in the next reply of every worker."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.catalog.errors import InvalidValue
from app.catalog.history import LogFilter
from tests.administration.conftest import Roster

pytestmark = pytest.mark.databases("sqlite", "postgresql")


@pytest.mark.slow
def test_no_read_is_stale(serve):
    """After each of 1,000 writes, the next read from either worker shows it."""
    server = serve()
    key = server.admin_key
    stale = []
    with server.connections_to_each() as readers, closing(server.connect()) as writer:
        assert 2 == len(readers)
        for number in range(1000):
            model_id = f"m{number // 4}"
            name = f"name {number}"
            if number % 4 == 0:
                body = {"id": model_id, "name": name}
                written = server("POST", "/admin/models", body, key, writer)
            elif number % 4 == 3:
                name = None
                written = server("DELETE", f"/admin/models/{model_id}", None, key, writer)
            else:
                body = {"name": name}
                written = server("PATCH", f"/admin/models/{model_id}", body, key, writer)
            assert written.status in (200, 201, 204)
            for reader in readers:
                listed = server("GET", "/v1/models", connection=reader).json["data"]
                shown = {entry["id"]: entry["name"] for entry in listed}
                if shown.get(model_id) != name:
                    stale.append((number, name, shown))

    assert [] == stale


@pytest.mark.slow
def test_dates_change_the_list_of_every_worker_without_a_write(serve):
    """One entry appears and another is deprecated at its second, and never before it."""
    server = serve()
    seen = {False: set(), True: set()}
    with server.connections_to_each() as readers:
        moment = int(time.time()) + 3
        deprecation = datetime.fromtimestamp(moment, UTC).isoformat()
        server.admin("POST", "/admin/models", {"id": "ending", "deprecation": deprecation})
        server.admin("POST", "/admin/models", {"id": "upcoming", "available_from": moment})
        revision = server("GET", "/readyz").json["revision"]
        while len(seen[True]) < len(readers):
            for reader in readers:
                began = time.time()
                answer = server("GET", "/v1/models", connection=reader, anthropic_version="x")
                is_past = began >= moment
                if is_past or time.time() < moment:  # else it may be either
                    shown = [(model["id"], model["lifecycle"]) for model in answer.json["data"]]
                    after = [("ending", "deprecated"), ("upcoming", "active")]
                    assert (after if is_past else [("ending", "active")]) == shown
                    seen[is_past].add(reader)

        assert [2, 2] == [*map(len, seen.values())]
    assert revision == server("GET", "/readyz").json["revision"]


def test_a_revoked_key_is_refused_by_every_worker(serve):
    """The request after a revocation is a 401, whichever worker answers it."""
    server = serve()
    with server.connections_to_each() as readers:
        for _ in range(50):
            key = server.admin("POST", "/admin/keys", {"name": "n"}).json["key"]
            for reader in readers:
                assert 200 == server("GET", "/v1/models", key=key, connection=reader).status
            server.admin("DELETE", f"/admin/keys/{key[3:11]}")
            for reader in readers:
                assert 401 == server("GET", "/v1/models", key=key, connection=reader).status


@pytest.mark.slow
def test_a_revoked_key_stays_revoked(serve, settings):
    """Whatever another process takes back, every worker refuses the key, and follows the rest."""
    server = serve()
    made = server.admin("POST", "/admin/keys", {"name": "n"}).json
    for number in range(3):
        server.admin("POST", "/admin/models", {"id": f"m{number}"})
    kid, key = made["id"], made["key"]
    server.admin("PATCH", f"/admin/keys/{kid}", {"groups": ["staff"]})
    server.admin("DELETE", f"/admin/keys/{kid}")
    server.admin("PATCH", "/admin/models/m0", {"name": "changed"})
    revoked = server.admin("GET", f"/admin/keys/{kid}").json
    roster = Roster(replace(settings, instance_path=server.instance), time.time)

    def check(ids):
        for reader in readers:
            answer = server("GET", "/v1/models", connection=reader)

            assert ids == [entry["id"] for entry in answer.json["data"]]
            assert 401 == server("GET", "/v1/models", key=key, connection=reader).status

    with server.connections_to_each() as readers, closing(roster.store):
        check(["m0", "m1", "m2"])
        for revision in range(roster.revision):
            roster.revert(revision)
            check([f"m{number}" for number in range(3) if revision >= 3 + number])
        for act in {line.batch for line in roster.store.log.lines(LogFilter(), 1000)}:
            is_key = roster.store.log.act(act).keys
            with pytest.raises(InvalidValue) if is_key else nullcontext():
                roster.undo(act, force=True)
            check(sorted(roster.entries()))
        roster.revert(roster.revision - 1)

    assert revoked == server.admin("GET", f"/admin/keys/{kid}").json


@pytest.mark.slow
def test_concurrent_increments_are_all_kept(serve):
    """Two hundred increments under If-Match, by eight clients at once: none is lost."""
    server = serve()
    key = server.admin_key
    server.admin("POST", "/admin/models", {"id": "counter", "context_length": 1})

    def increment(_):
        connection = server.connect()
        while True:
            read = server("GET", "/admin/models/counter", None, key, connection)
            written = server(
                "PATCH",
                "/admin/models/counter",
                {"context_length": read.json["context_length"] + 1},
                key,
                connection,
                If_Match=read.headers["ETag"],
            )
            if written.status == 200:
                connection.close()
                return
            assert 412 == written.status, written.body

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(increment, range(200)))

    assert 201 == server.admin("GET", "/admin/models/counter").json["context_length"]


@pytest.mark.slow
def test_a_hundred_create_races_have_one_winner_each(serve):
    """Of four that create the same id at once, one gets 201 and the others 409."""
    server = serve()
    key = server.admin_key
    with ThreadPoolExecutor(4) as clients:
        for number in range(100):
            body = {"id": f"race-{number}"}
            answers = clients.map(
                lambda _, body=body: server("POST", "/admin/models", body, key).status, range(4)
            )

            assert [201, 409, 409, 409] == sorted(answers)
    assert 100 == len(server("GET", "/v1/models").json["data"])
