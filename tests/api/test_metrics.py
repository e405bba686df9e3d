"""GET /metrics: what is counted, under which names and labels, and how it is asked for."""

import random
import subprocess
import sys

import pytest

from app import create_app
from app.catalog.keys import mint
from app.catalog.model import Model
from app.catalog.ports import Actor, Change
from app.catalog.sources import FailedRun, GoodRun
from app.dialects import Dialect
from app.replies import FRAGMENT_OVERHEAD, OVERHEAD
from app.store.backend import MAX_MEASURED, Measured
from app.store.store import Store
from tests.writing import write

SIZES = {"roster_log_changes", "roster_log_oldest_timestamp_seconds", "roster_database_bytes"}
LIST = 'roster_requests_total{dialect="openai",route="/v1/models",status="200"}'


@pytest.fixture
def read(client, samples):
    """Return what asks for the metrics, and gives them by name."""
    return lambda: samples(client.get("/metrics").text)


def refusals(found):
    """Return the reasons that were counted, with their numbers."""
    prefix = "roster_key_refusals_total"
    return {
        name.removeprefix(f'{prefix}{{reason="').removesuffix('"}'): number
        for name, number in found.items()
        if name.startswith(prefix) and number
    }


def test_requests_by_route_dialect_and_status(admin, client, read):
    """Each answer is counted under the rule of its URL, never under what it asked for."""
    admin.add("x")
    for path in ("/v1/models", "/v1/models?limit=1", "/v1/models/x", "/v1/models/absent/id"):
        client.get(path)
    client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
    client.get("/v1beta/models/absent")
    client.open("/nowhere", method="BREW")
    prefix = "roster_requests_total"
    counted = {
        name.removeprefix(prefix): number
        for name, number in read().items()
        if name.startswith(prefix)
    }
    entry = "/v1/models/<path:model_id>"

    assert {
        '{dialect="openai",route="/admin/models",status="201"}': 1,
        '{dialect="openai",route="/v1/models",status="200"}': 2,
        f'{{dialect="openai",route="{entry}",status="200"}}': 1,
        f'{{dialect="openai",route="{entry}",status="404"}}': 1,
        '{dialect="anthropic",route="/v1/models",status="200"}': 1,
        '{dialect="gemini",route="/v1beta/models/<path:model_id>",status="404"}': 1,
        '{dialect="openai",route="-",status="404"}': 1,
    } == counted


def test_durations_are_a_histogram_of_each_route(client, read):
    """Buckets add up to the count; the sum is in seconds."""
    for _ in range(5):
        client.get("/v1/models")
    client.get("/v1/models", headers={"Authorization": "nonsense"})
    found = read()
    name = "roster_request_duration_seconds"
    buckets = [
        number
        for key, number in found.items()
        if key.startswith(f"{name}_bucket") and key.endswith(',route="/v1/models"}')
    ]

    assert sorted(buckets) == buckets
    assert 12 == len(buckets)
    assert 6 == found[f'{name}_bucket{{le="+Inf",route="/v1/models"}}']
    assert 6 == found[f'{name}_count{{route="/v1/models"}}']
    assert 0 < found[f'{name}_sum{{route="/v1/models"}}'] < 60


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Authorization": "Basic abc"}, "malformed"),
        ({"Authorization": "Bearer ro_mistyped"}, "malformed"),
        ({"x-api-key": "schlüssel"}, "malformed"),
        ({"x-api-key": "a", "api-key": "b"}, "malformed"),
        ({"x-api-key": "a", "api-key": mint()}, "unknown"),
        ({"Authorization": f"Bearer {mint()}"}, "unknown"),
    ],
)
def test_a_refused_key_is_counted_by_its_reason(client, read, headers, reason):
    """The caller is told nothing; the operator, which kind it was."""
    assert 401 == client.get("/v1/models", headers=headers).status_code
    assert {reason: 1} == refusals(read())


def test_dead_and_missing_keys_are_counted_too(admin, client, clock, read):
    """Revoked, expired, missing and two good keys have a reason; one good key has none."""
    good = admin.new_key()
    expiring = admin.new_key(expires_at=int(clock.now) + 5)
    revoked = admin.new_key()
    assert 204 == admin("DELETE", f"/admin/keys/{revoked[3:11]}").status_code
    clock.now += 5
    for key in (good, expiring, revoked):
        client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    client.get("/v1/models", headers={"Authorization": f"Bearer {good}", "x-api-key": expiring})
    client.get("/v1/models", headers={"Authorization": f"Bearer {good}", "x-api-key": admin.key})
    client.get("/admin/models")

    expected = {"expired": 1, "revoked": 1, "missing": 1, "ambiguous": 1}
    assert expected == refusals(read())


def test_the_snapshot_and_the_cache(admin, client, read):
    """Revision and entries are those that are served; hits, misses and bytes those of replies."""
    before = read()
    admin.add("x")
    for _ in range(3):
        body = client.get("/v1/models")
    client.get("/v1/models?q=x")
    found = read()

    def rise(name):
        return found[name] - before[name]

    assert 1 == rise("roster_revision")
    assert (0, 1) == (before["roster_entries"], found["roster_entries"])
    assert 2 == rise("roster_reply_cache_hits_total")
    assert 2 == rise("roster_reply_cache_misses_total")
    encoded = len(body.data) - len('{"object":"list","data":[],"success":true}')
    both = OVERHEAD + len(body.data) + FRAGMENT_OVERHEAD + encoded
    assert both == found["roster_reply_cache_bytes"]
    assert 1 == rise("roster_image_rebuilds_total")
    assert rise("roster_image_rebuild_seconds_total") > 0
    assert 0 <= found["roster_image_age_seconds"] < 30
    assert (1, 0) == (found["roster_workers"], found["roster_outage"])
    assert 0 == rise("roster_access_lines_lost_total")
    assert 0 == rise("roster_error_lines_lost_total")


def test_an_outage_is_a_number(unopened_app, samples, monkeypatch):
    """Without a database there are metrics all the same, and its size is not asked for."""
    monkeypatch.setattr(Store, "measure", lambda _: Measured(1, 1, 1, [], 0))
    found = samples(unopened_app.test_client().get("/metrics").text)

    assert 1 == found["roster_outage"]
    assert (0, 0) == (found["roster_revision"], found["roster_entries"])
    assert found.keys().isdisjoint(SIZES)


@pytest.mark.databases("sqlite", "postgresql")
def test_the_log_and_the_database_have_a_size(app, read):
    """Each change is one more in the log, and adds what it takes to the size of the database."""
    store = app.extensions["roster"].store
    before = read()
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        for model_id in "abc":
            text = random.Random(model_id).randbytes(50_000).hex()  # it cannot be compressed
            write(transaction, Model.compose({"id": model_id, "name": text}, now=0))
    found = read()

    assert [1, 4] == [counted["roster_log_changes"] for counted in (before, found)]
    assert found["roster_database_bytes"] > before["roster_database_bytes"] + 300_000


@pytest.mark.databases("sqlite", "postgresql")
def test_a_pruned_log_begins_later(app, admin, clock, read):
    """Removed changes do not count, nor lines before them that say who has set a field."""
    store, began = app.extensions["roster"].store, clock.now
    with store.transaction(actor=Actor("test"), now=int(began)) as transaction:
        transaction.write([Change(None, Model.compose({"id": "a"}, now=0))], "import:s")
    clock.now += 100
    admin.add("b")
    admin.add("c")
    before = read()
    clock.now += 100
    admin.add("d")
    store.pruning.remove(store.pruning.plan(clock.now))
    found = read()

    name = "roster_log_oldest_timestamp_seconds"
    assert [4, 2] == [counted["roster_log_changes"] for counted in (before, found)]
    assert [began, began + 100] == [counted[name] for counted in (before, found)]


def test_the_size_of_a_file_includes_its_wal(app, admin, read):
    """On SQLite the database is its file, and what is not in the file yet."""
    admin.add("x")
    path = app.extensions["roster"].settings.database_path
    files = [path, *path.parent.glob("roster.db-wal")]

    assert sum(file.stat().st_size for file in files) == read()["roster_database_bytes"]


@pytest.mark.databases("sqlite", "postgresql")
def test_each_source_has_the_age_of_its_last_good_import(app, read, clock):
    """The age is that of now; a source without a good import has none, and is failing."""
    store, now = app.extensions["roster"].store, int(clock.now)
    store.record_run("a/b", GoodRun(at=now, revision=1))
    store.record_run("litellm", GoodRun(at=now - 60, revision=1))
    store.record_run("litellm", FailedRun(at=now - 30, message="No catalogue."))
    store.record_run("new", FailedRun(at=now, message="No catalogue."))
    store.record_run("future", GoodRun(at=now + 60, revision=1))  # before the clock was set back
    clock.now += 40
    found = {name: value for name, value in read().items() if name.startswith("roster_import")}

    assert {
        'roster_import_age_seconds{source="a/b"}': 40,
        'roster_import_age_seconds{source="future"}': 0,
        'roster_import_age_seconds{source="litellm"}': 100,
        'roster_import_failing{source="a/b"}': 0,
        'roster_import_failing{source="future"}': 0,
        'roster_import_failing{source="litellm"}': 1,
        'roster_import_failing{source="new"}': 1,
    } == found


def test_the_sources_of_the_metrics_are_bounded(app, read):
    """Prometheus has a series for each source, so that the metrics have the first hundred."""
    for number in range(MAX_MEASURED + 1):
        run = GoodRun(at=1, revision=1)
        app.extensions["roster"].store.record_run(f"s{number:03}", run)
    found = [name for name in read() if name.startswith("roster_import_age_seconds")]

    assert [f'roster_import_age_seconds{{source="s{n:03}"}}' for n in range(MAX_MEASURED)] == found


@pytest.mark.databases("sqlite", "postgresql")
def test_a_log_that_cannot_be_read_has_no_size(read, sql):
    """While the log cannot be read, all other metrics are there."""
    full = read()
    sql("DROP TABLE changes")

    assert SIZES == full.keys() - read().keys()


def test_an_error_of_ours_is_counted(app, client, read, monkeypatch):
    """A view that breaks is a 500 in the metrics."""

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Dialect, "window", broken)
    monkeypatch.setattr(type(app.extensions["roster"].dialects.default), "window", broken)
    app.config["PROPAGATE_EXCEPTIONS"] = False

    assert 500 == client.get("/v1/models").status_code
    assert 1 == read()[LIST.replace("200", "500")]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
def test_the_format_is_the_one_asked_for(client, accept, content_type):
    """Prometheus asks for OpenMetrics; what does not ask gets plain text. Nobody keeps it."""
    answer = client.get("/metrics", headers={} if accept is None else {"Accept": accept})

    assert (200, content_type) == (answer.status_code, answer.headers["Content-Type"])
    assert ("# EOF\n" == answer.text[-6:]) == ("openmetrics" in content_type)
    assert "no-store" == answer.headers["Cache-Control"]
    assert "x-request-id" in answer.headers


def test_metrics_read_no_key(client):
    """A bad key is nobody's concern here."""
    assert 200 == client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code


@pytest.mark.needs("promtool", "prometheus")
def test_prometheus_finds_no_fault(admin, client):
    """Names, units and help are as Prometheus wants them."""
    admin.add("x")
    client.get("/v1/models")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=client.get("/metrics").text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_without_the_extra(settings, monkeypatch):
    """Nothing is counted, and /metrics says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    app = create_app(settings)
    client = app.test_client()
    services = app.extensions["roster"]
    services.store.open(create=True)

    assert services.metrics is None
    assert 200 == client.get("/v1/models").status_code
    assert 401 == client.get("/v1/models", headers={"x-api-key": "x"}).status_code
    answer = client.get("/metrics")
    assert 404 == answer.status_code
    assert {
        "message": "There are no metrics: install Roster with its extra 'metrics'.",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    } == answer.json["error"]
    services.store.close()


def test_prometheus_client_is_imported_when_it_is_asked_for():
    """A process that nobody asks for metrics does not pay for it."""
    code = "import app, sys; app.create_app(); sys.exit('prometheus_client' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
