"""Errors: one envelope for every status, and nothing of our insides in it."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests
from werkzeug.routing import BaseConverter

from app import create_app
from app.api.errors import STATUS, init_app
from app.catalog import errors
from app.catalog.catalog import Catalog
from app.catalog.errors import StoreUnavailable
from app.catalog.keys import mint, parse_kid
from app.settings import Settings
from app.store.schema import HEAD
from app.store.sqlite.connection import sqlite


def subclasses(cls):
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_every_domain_error_has_a_status():
    """The table has each code that an error can have."""
    codes = {cls.code for cls in subclasses(errors.RosterError)}

    assert set() == codes - set(STATUS)


def test_an_unknown_url_is_a_404_in_json(client):
    """No URL answers HTML."""
    answer = client.get("/v1/nowhere?secret")

    assert (404, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    assert {
        "error": {
            "message": "Unknown URL: GET /v1/nowhere",
            "type": "invalid_request_error",
            "param": None,
            "code": "unknown_url",
        }
    } == answer.json


@pytest.mark.parametrize(
    "path", ["/v1/models//", "//v1/models", "/v1//models", "/V1/models", "/v1", "/healthz/"]
)
def test_paths_are_taken_as_they_are(client, path):
    """A path with a slash too many is another path: there are no redirects."""
    # The client of the tests would take the first name after two slashes for a host.
    assert 404 == client.get("/", environ_overrides={"PATH_INFO": path}).status_code


@pytest.mark.parametrize(
    "odd",
    [
        {"Connection": "Upgrade", "Upgrade": "websocket"},
        {"Host": ".."},
        {"Host": "x" * 300},
        {"Host": ""},
    ],
    ids=["websocket", "dots", "long", "empty"],
)
def test_an_odd_host_or_upgrade_changes_nothing(app, client, admin, odd):
    """No answer depends on Host, nor on an upgrade, which a server may ignore."""
    admin.add("x")
    rules = {rule.rule for rule in app.url_map.iter_rules()} - {"/metrics", "/readyz"}
    paths = [rule.replace("<path:model_id>", "x").replace("<kid>", "x") for rule in rules]
    for method, path, dialect in product(
        ["GET", "POST", "OPTIONS"], [*paths, "/no"], [{}, {"anthropic-version": "1"}]
    ):
        first, second = (
            client.open(path, method=method, headers={"x-request-id": "1", **dialect, **more})
            for more in (odd, {})
        )

        assert (second.status_code, second.data) == (first.status_code, first.data), path
        assert second.headers == first.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND"])
def test_the_path_of_a_url_without_one_is_a_slash(client, method):
    """``GET http://host?query`` asks for ``/`` (RFC 9110, section 4.2.3): there is no redirect."""
    plain, empty = (
        client.open("/", method=method, environ_overrides={"PATH_INFO": path})
        for path in ("/", "")
    )

    assert plain.status_code in (200, 404, 405)
    assert (plain.status_code, plain.data) == (empty.status_code, empty.data)
    assert "x-request-id" in empty.headers


@pytest.mark.parametrize("dialect", [{}, {"anthropic-version": "1"}])
def test_a_fault_while_the_url_is_matched_is_a_500_of_ours(
    app, client, caplog, access_lines, dialect
):
    """It has the request id and the caller's dialect, and one line in each log."""

    class Faulty(BaseConverter):
        def to_python(self, value):
            raise RuntimeError

    app.url_map.converters["faulty"] = Faulty
    app.add_url_rule("/v2/<faulty:x>", "faulty", lambda x: x)
    headers = {**dialect, "x-request-id": "faulty-1"}
    answer = client.get("/v2/hunter2", headers=headers)

    assert (500, "faulty-1") == (answer.status_code, answer.headers["request-id"])
    assert "Internal error." == answer.json["error"]["message"]
    assert bool(dialect) == ("type" in answer.json)
    [record] = caplog.records
    assert ("Unexpected error in -", "faulty-1") == (record.getMessage(), record.request_id)
    assert record.exc_info[0] is RuntimeError
    assert [(500, "faulty-1")] == [(x["status"], x["request_id"]) for x in access_lines()]


def test_a_wrong_method_says_which_are_right(client):
    """405 has the envelope and Allow."""
    answer = client.post("/v1/models")

    assert (405, "method_not_allowed") == (answer.status_code, answer.json["error"]["code"])
    assert {"GET", "HEAD", "OPTIONS"} == set(answer.headers["Allow"].split(", "))


def test_an_unknown_model_is_a_404(client):
    """The message is OpenAI's own sentence, cut where the id is long."""
    answer = client.get("/v1/models/" + "x" * 300).json["error"]

    assert ("invalid_request_error", "model", "model_not_found") == (
        answer["type"],
        answer["param"],
        answer["code"],
    )
    assert f"The model '{'x' * 59}…' does not exist" == answer["message"]


def test_a_retired_model_names_its_replacement(admin, client, clock):
    """A retired id answers 404 and says what to use, to those who may see both."""
    clock.now = 1_800_000_000  # 2027-01-15
    admin.add("old", shutdown_date="2027-01-16", deprecation_replacement_model="new")
    admin.add("new")
    assert 200 == client.get("/v1/models/old").status_code
    clock.now += 24 * 60 * 60
    answer = client.get("/v1/models/old")

    assert (404, "model_not_found") == (answer.status_code, answer.json["error"]["code"])
    assert (
        "The model 'old' does not exist: it was retired, use 'new' instead"
        == answer.json["error"]["message"]
    )
    assert ["new"] == [entry["id"] for entry in client.get("/v1/models").json["data"]]


@pytest.fixture
def failing(app, admin):
    """Return a function that answers a request whose view raises `error`."""

    def answer(error):
        def view(**_):
            raise error

        app.view_functions["models.list_models"] = view
        return app.test_client().get("/v1/models")

    return answer


def test_the_unexpected_is_a_500_without_a_trace(failing, caplog):
    """An error that nobody thought of is told in full to the operator alone."""
    answer = failing(RuntimeError("inside ro_AAAAAAAA_secret"))

    assert 500 == answer.status_code
    assert {
        "error": {
            "message": "Internal error.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    } == answer.json
    [record] = caplog.records
    assert answer.headers["x-request-id"] == record.request_id
    assert "inside" in str(record.exc_info[1])


def test_an_outage_is_a_503_that_may_be_tried_again(failing, caplog):
    """A store out of reach is a 503 with Retry-After; the reason is the operator's."""
    answer = failing(StoreUnavailable("disk I/O error"))

    assert (503, "1", "unavailable", "server_error") == (
        answer.status_code,
        answer.headers["Retry-After"],
        answer.json["error"]["code"],
        answer.json["error"]["type"],
    )
    assert "disk" not in answer.text
    assert "disk I/O error" in caplog.text


def test_a_line_about_a_request_names_it(app, client, settings, caplog):
    """What the catalogue logs while it answers a request has the id and the route of that."""
    client.get("/v1/models")
    app.extensions["roster"].store.close()
    settings.database_path.unlink()
    answer = client.get("/v1/models/x")
    app.logger.getChild("x").error("Of no request.")
    missing = f"There is no database {settings.database_path}: a server's start"
    reason = f"The store cannot be read: {missing} and 'flask db upgrade' make one."
    named = [(line.getMessage(), line.request_id, line.route) for line in caplog.records[:-1]]

    assert [
        (
            reason,
            answer.headers["x-request-id"],
            "/v1/models/<path:model_id>",
        )
    ] == named
    assert not hasattr(caplog.records[-1], "request_id")


def test_an_outage_is_logged_once_a_second(app, clock, failing, caplog, samples):
    """The next line gives the number of requests in between; the metrics count all of them."""
    init_app(app, clock)
    answers = []
    for seconds in (0, 0, 0.5, 0.4, 0.1, 5):
        clock.now += seconds
        answers.append(failing(StoreUnavailable(f"reason {len(answers)}")))
    answers_503 = 'roster_requests_total{dialect="openai",route="/v1/models",status="503"}'

    assert [
        ("Answered 503: reason 0", answers[0].headers["x-request-id"]),
        (
            "Answered 503: reason 4 (and 3 more requests since the last such line)",
            answers[4].headers["x-request-id"],
        ),
        ("Answered 503: reason 5", answers[5].headers["x-request-id"]),
    ] == [(record.getMessage(), record.request_id) for record in caplog.records]
    assert 6 == samples(app.test_client().get("/metrics").text)[answers_503]


@pytest.mark.parametrize(
    ("error", "status", "type_", "code"),
    [
        (TooManyRequests(retry_after=7), 429, "requests", "rate_limit_exceeded"),
        (ServiceUnavailable(retry_after=7), 503, "server_error", "unavailable"),
    ],
)
def test_flasks_own_errors_keep_their_headers(failing, error, status, type_, code):
    """What an extension refuses comes in the envelope, with its Retry-After."""
    answer = failing(error)

    assert (status, type_, code) == (
        answer.status_code,
        answer.json["error"]["type"],
        answer.json["error"]["code"],
    )
    assert "7" == answer.headers["Retry-After"]


def test_every_route_answers_every_method_in_json(app, admin):
    """Whatever is asked of whatever route, the answer is JSON or has no body, but for metrics."""
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:model_id>", "x").replace("<kid>", "x")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"):
            answer = admin(method, path)

            assert answer.status_code < 500, (method, path)
            if answer.data and (method, path) != ("GET", "/metrics"):
                assert "application/json" == answer.headers["Content-Type"]
                json.loads(answer.data)


# While the store cannot be read


@pytest.fixture
def outage(app, admin, settings, monkeypatch):
    """Return a function after which the store cannot be read, and one that mends it."""
    monkeypatch.setattr("app.catalog.catalog.PAUSE", 0)
    store = app.extensions["roster"].store
    path = settings.database_path
    moved = path.with_name("moved.db")

    def begin():
        store.close()
        path.rename(moved)
        path.write_bytes(b"not a database, " * 512)

    def end():
        store.close()
        moved.rename(path)

    return begin, end


def test_a_page_that_is_damaged_later_is_no_short_list(app, admin, client, settings):
    """Writes that meet damage are 503, and readers keep the whole list that there was."""
    store = app.extensions["roster"].store
    for number in range(100):
        admin.add(f"m{number:03}", description="x" * 2000)
    listed = client.get("/v1/models").data
    store.close()
    path = settings.database_path
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 4, len(content) * 3 // 4, 4096 * 3):
        content[place : place + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    answers = [
        admin("DELETE", f"/admin/models/m{number:03}", If_Match='"1"') for number in range(100)
    ]

    assert {412, 503} == {answer.status_code for answer in answers}
    assert listed == client.get("/v1/models").data
    put = {admin("PUT", f"/admin/models/n{number}", {}).status_code for number in range(50)}
    assert put <= {201, 503}
    assert len(client.get("/v1/models").json["data"]) >= 100


def test_reads_survive_the_store(outage, admin, client):
    """From the last snapshot readers are answered, told so, and told apart from fresh ones."""
    begin, end = outage
    admin.add("x")
    fresh = client.get("/v1/models")
    begin()
    stale = client.get("/v1/models")

    assert "x-roster-stale" not in fresh.headers
    assert (200, fresh.data) == (stale.status_code, stale.data)
    assert int(stale.headers["x-roster-stale"]) >= 0
    assert 200 == client.get("/v1/models/x").status_code
    assert 200 == client.get("/v1/models", headers={"x-api-key": admin.key}).status_code
    ready = client.get("/readyz")
    assert (200, "stale", 1) == (ready.status_code, ready.json["status"], ready.json["entries"])
    assert "not a database" in ready.json["store"]
    write = admin("POST", "/admin/models", {"id": "y"})
    assert (503, "1") == (write.status_code, write.headers["Retry-After"])
    assert 200 == client.get("/healthz").status_code
    end()
    assert 201 == admin("POST", "/admin/models", {"id": "y"}).status_code
    assert "x-roster-stale" not in client.get("/v1/models").headers
    assert 200 == client.get("/readyz").status_code


def test_an_unknown_key_may_be_newer_than_the_last_snapshot(outage, admin, client, access_lines):
    """While the store cannot be read a key is refused for good only when the snapshot has it."""
    begin, end = outage
    unknown = {"Authorization": f"Bearer {mint()}"}
    revoked = {"Authorization": f"Bearer {admin.new_key()}"}
    kid = parse_kid(revoked["Authorization"].removeprefix("Bearer "))
    assert 204 == admin("DELETE", f"/admin/keys/{kid}").status_code
    assert 401 == client.get("/v1/models", headers=unknown).status_code
    begin()
    answer = client.get("/v1/models", headers=unknown)

    assert (503, "1", "unavailable") == (
        answer.status_code,
        answer.headers["Retry-After"],
        answer.json["error"]["code"],
    )
    client.get("/readyz", headers=unknown, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert [(503, None), (200, None)] == [
        (line["status"], line["refused"]) for line in access_lines()[-2:]
    ]
    assert [unknown["Authorization"][10:18]] * 2 == [line["kid"] for line in access_lines()[-2:]]
    assert 401 == client.get("/v1/models", headers=revoked).status_code
    mistyped = {"Authorization": unknown["Authorization"][:-1] + "!"}
    assert 401 == client.get("/v1/models", headers=mistyped).status_code
    newer = unknown["Authorization"].removeprefix("Bearer ")
    for beside in (revoked, mistyped, {"Authorization": "Basic x"}):
        assert 503 == client.get("/v1/models", headers={**beside, "x-api-key": newer}).status_code
        assert newer[3:11] == access_lines()[-1]["kid"]
    good = {"Authorization": f"Bearer {admin.key}", "x-api-key": newer}
    assert 200 == client.get("/v1/models", headers=good).status_code
    end()
    assert 401 == client.get("/v1/models", headers=unknown).status_code


def test_without_any_snapshot_reads_are_a_503(unopened_app, settings, access_lines):
    """A worker that never saw the store answers 503, and no short list."""
    client = unopened_app.test_client()
    settings.instance_path.mkdir()
    (settings.instance_path / "roster.db").write_bytes(b"not a database, " * 512)
    answer = client.get("/v1/models")

    assert (503, "unavailable") == (answer.status_code, answer.json["error"]["code"])
    ready = client.get("/readyz")
    assert (503, "unavailable") == (ready.status_code, ready.json["status"])
    key = mint()
    client.get("/v1/models", headers={"x-api-key": key})
    assert (503, key[3:11]) == tuple(access_lines()[-1][name] for name in ("status", "kid"))


def test_readiness_tells_strangers_no_places(app, admin, client, caplog, monkeypatch):
    """Why the store cannot be read is told to anyone, and where it is to the log alone."""
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    assert 200 == client.get("/readyz").status_code
    path = app.extensions["roster"].settings.database_path
    for file in path.parent.glob("roster.db*"):
        file.unlink()
    ready = client.get("/readyz")

    expected = (200, "The database roster.db is gone: put it back.")
    assert expected == (ready.status_code, ready.json["store"])
    assert f"The database {path} is gone:" in caplog.text


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("database is locked", "database is locked"),
        ("disk I/O error", "disk I/O error"),
        ("Others have held /a/b/x.lock for 5 seconds.", "Others have held x.lock for 5 seconds."),
        ("[Errno 13] Permission denied: '/a/x.lock'", "[Errno 13] Permission denied: 'x.lock'"),
        (
            'connection to server at "db.internal" (10.0.0.5), port 5432 failed',
            "connection to server at , port 5432 failed",
        ),
        ("failed to resolve host 'db.internal': -2", "failed to resolve host : -2"),
        ('socket "/run/postgresql/.s.PGSQL.5432" failed', "socket  failed"),
    ],
)
def test_no_reason_names_a_place(unopened_app, monkeypatch, reason, shown):
    """Paths are shown without their folders, and neither hosts nor users of a server."""
    assert shown == ready_with(unopened_app, monkeypatch, reason)


def ready_with(app, monkeypatch, reason):
    def fail():
        raise StoreUnavailable(reason)

    monkeypatch.setattr(app.extensions["roster"].store, "position", fail)
    return app.test_client().get("/readyz").json["store"]


@pytest.mark.parametrize(
    ("given", "reason", "shown"),
    [
        ({}, "The database inst/roster.db is gone", "The database roster.db is gone"),
        ({}, "Others have held {here}/inst/x.lock", "Others have held x.lock"),
        (
            {"database_url": "sqlite:///my data/a.db"},
            "There is no database my data/a.db, nor {here}/my data/a.db",
            "There is no database a.db, nor a.db",
        ),
        (
            {"instance_path": Path("my data/inst")},
            "{here}/my data/inst belongs to user 1, {here}/my data to user 2",
            "inst belongs to user 1, my data to user 2",
        ),
        (
            {"admin_key_file": Path("given/key")},
            "The admin key cannot be read from given/key: disk I/O error: 'given/key'",
            "The admin key cannot be read from key: disk I/O error: 'key'",
        ),
        (
            {"database_url": "postgresql://roster:x@db.internal:5432/catalogue"},
            "There is no database postgresql://roster:***@db.internal:5432/catalogue: a start",
            "There is no database catalogue: a start",
        ),
        (
            {"database_url": "postgresql:///x?host=/run/secret/db"},
            "There is no database postgresql:///x?host=/run/secret/db: accepting TCP/IP",
            "There is no database db: accepting TCP/IP",
        ),
    ],
)
def test_no_reason_names_a_place_of_the_settings(tmp_path, monkeypatch, given, reason, shown):
    """Relative folders and those with spaces are hidden too, and where a server is."""
    monkeypatch.chdir(tmp_path)
    app = create_app(Settings(**{"instance_path": tmp_path / "inst", **given}))

    assert shown == ready_with(app, monkeypatch, reason.format(here=tmp_path))


def test_a_store_in_use_elsewhere_refuses_writes(admin, client, settings, monkeypatch):
    """A write that cannot get the lock in time is a 503, and nothing of it is stored."""
    admin.add("x")
    monkeypatch.setattr("app.store.writing.WRITE_TIMEOUT", 0.05)
    holder = sqlite.connect(settings.database_path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    answer = admin("POST", "/admin/models", {"id": "y"})
    holder.execute("ROLLBACK")
    holder.close()

    assert (503, "unavailable") == (answer.status_code, answer.json["error"]["code"])
    assert ["x"] == [entry["id"] for entry in client.get("/v1/models").json["data"]]


def test_readiness_tells_what_is_served(client, admin):
    """/readyz says schema, revision, entries and the age of the snapshot."""
    admin.add("x")

    assert {
        "status": "ready",
        "store": "ok",
        "writes": "ok",
        "schema": HEAD,
        "revision": 2,
        "entries": 1,
        "image_age": pytest.approx(0, abs=5),
    } == client.get("/readyz").json


@pytest.mark.parametrize(
    ("asked_by", "shown"),
    [
        (("127.0.0.1",), True),
        (("127.8.9.1",), True),
        (("::1",), True),
        (("::ffff:127.0.0.1",), True),
        (("",), True),  # at a Unix socket
        (("127.0.0.1", "127.0.0.1"), False),
        (("", "127.0.0.1"), False),
        (("", ""), False),
        (("192.0.2.1",), False),
        (("fe80::1%lo",), False),
        (("localhost",), False),
        (("/run/a.sock",), False),  # the peer of a Unix socket chose this name
        ((" ",), False),
    ],
)
@pytest.mark.parametrize("stale", [False, True])
def test_strangers_see_no_numbers(admin, outage, asked_by, shown, stale):
    """Hidden entries are counted for this host and an admin key alone, and no key is a 401."""
    environ = dict(zip(("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR"), asked_by, strict=False))
    client = admin.client
    keys = {"": False, "Basic x": False, f"Bearer {mint()}": False}
    keys |= {f"Bearer {admin.new_key()}": False, f"Bearer {admin.key}": True}
    admin.add("hidden", permission=[])
    client.get("/v1/models")
    if stale:
        outage[0]()
    for key, is_admin in keys.items():
        ready = client.get("/readyz", headers={"Authorization": key}, environ_overrides=environ)

        assert (200, "stale" if stale else "ready") == (ready.status_code, ready.json["status"])
        assert {"status", "store", "writes", "image_age"} <= set(ready.json)
        numbers = {"schema", "revision", "entries"}
        assert (numbers if shown or is_admin else set()) == numbers & set(ready.json)
    if stale:
        outage[1]()


def test_a_key_refused_by_readiness_leaves_a_trace(client, admin, access_lines):
    """Nobody tries keys there unseen, though the answer stays 200."""
    unknown = mint()
    for address, key in product(("192.0.2.1", "127.0.0.1"), (unknown, admin.key)):
        headers = {"Authorization": f"Bearer {key}"}
        client.get("/readyz", headers=headers, environ_overrides={"REMOTE_ADDR": address})

    assert [(200, "unknown", unknown[3:11]), (200, None, admin.key[3:11])] * 2 == [
        (line["status"], line["refused"], line["kid"]) for line in access_lines()[-4:]
    ]


def test_readiness_tells_whether_writes_succeed(app, admin, client, outage):
    """What became of the last write is told, and not what may become of the next one."""
    begin, end = outage
    store = app.extensions["roster"].store
    store.writer.writes = "unknown"  # as in a worker that has not written yet
    told = [client.get("/readyz").json["writes"]]
    admin.add("x")
    assert 409 == admin("POST", "/admin/models", {"id": "x"}).status_code
    told.append(client.get("/readyz").json["writes"])
    begin()
    assert 503 == admin("POST", "/admin/models", {"id": "y"}).status_code
    told.append(client.get("/readyz").json["writes"])
    end()
    told.append(client.get("/readyz").json["writes"])
    admin.add("y")
    told.append(client.get("/readyz").json["writes"])

    assert ["unknown", "ok", "failing", "failing", "ok"] == told


def test_lists_that_are_too_old_are_refused(settings, outage, clock, monkeypatch):
    """Beyond ROSTER_MAX_STALE neither lists nor readiness are answered from the last snapshot."""
    begin, end = outage
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", 0)
    app, ages = create_app(settings, clock), type(clock)(0)
    services, client = app.extensions["roster"], app.test_client()
    catalog = Catalog(services.store, clock, ages, max_stale=1)
    replace(services, catalog=catalog).init_app(app)
    assert 200 == client.get("/v1/models").status_code
    services.store.close()
    begin()
    assert (200, "stale") == (
        client.get("/readyz").status_code,
        client.get("/readyz").json["status"],
    )
    ages.now += 2
    ready = client.get("/readyz")

    assert 503 == client.get("/v1/models").status_code
    assert (503, "unavailable") == (ready.status_code, ready.json["status"])
    services.store.close()
    end()
    assert 200 == client.get("/v1/models").status_code
    services.store.close()


def test_the_index_says_what_this_is(client):
    """The root names the program and links to what it has."""
    index = client.get("/").json

    assert "Roster" == index["name"]
    for path in index["links"].values():
        assert 200 == client.get(path).status_code
