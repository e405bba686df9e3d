"""The short way through Flask leads to the same answers, and keeps nothing of a request."""

import gc
import gzip
import tracemalloc

import pytest
from flask import Response, session, url_for

from app.api.application import SharedResponse
from app.api.context import request_context
from app.api.http import accepts_gzip


def test_requests_share_a_response_and_nothing_else(client, admin):
    """Each answer has its own request id, though the response object is one."""
    admin.add("x")
    answers = [client.get("/v1/models", headers={"X-Request-ID": name}) for name in "ab"]

    assert ["a", "b"] == [answer.headers["x-request-id"] for answer in answers]
    assert 1 == len(answers[1].headers.getlist("x-request-id"))


def test_a_ready_response_cannot_be_changed(app, client):
    """A hook that edits a shared response raises, and leaks into no other answer."""
    ready = SharedResponse(b"{}", 200, {"Content-Type": "application/json"})

    for edit in (
        lambda: ready.headers.update({"X-Leak": "1"}),
        lambda: ready.headers.add("X-Leak", "1"),
        lambda: ready.headers.__setitem__("X-Leak", "1"),
        lambda: ready.headers.pop("Content-Type"),
    ):
        with pytest.raises(TypeError):
            edit()
    assert "X-Leak" not in ready.headers


def test_an_extensions_hook_still_runs(app, client):
    """after_request and before_request functions of others see every answer."""
    seen = []

    @app.before_request
    def before():
        seen.append("before")

    @app.after_request
    def after(response):
        seen.append(response.status_code)
        return response

    client.get("/v1/models")

    assert ["before", 200] == seen


def test_a_url_is_built_for_the_host_that_asks(app, client):
    """Known static URLs keep no request's host for the next one."""
    app.view_functions["operation.index"] = lambda: url_for("models.list_models", _external=True)

    assert ["http://one.example/v1/models", "http://two.example/v1/models"] == [
        client.get("/", base_url=f"http://{host}.example").text for host in ("one", "two")
    ]


def test_the_same_path_with_another_method_is_matched_anew(client):
    """What is known of GET says nothing of POST."""
    assert [200, 405, 204, 200] == [
        client.open("/v1/models", method=method).status_code
        for method in ("GET", "POST", "OPTIONS", "HEAD")
    ]


@pytest.mark.parametrize("path", ["//v1/models", "///admin/models", "//", "//healthz"])
def test_two_slashes_are_not_one(client, admin, path):
    """A path with slashes before it is another path: no rule of a proxy is walked past."""
    client.get("/v1/models")

    answer = client.open("/", environ_overrides={"PATH_INFO": path})
    assert 404 == answer.status_code


def test_a_session_is_not_there_to_be_used(app, client):
    """Whoever tries to remember something of a caller is told that nobody does."""

    def view():
        session["x"] = 1

    app.view_functions["operation.index"] = view

    assert 500 == client.get("/").status_code


def test_gzip_is_sent_to_those_who_take_it(client, admin):
    """A body of 1 KiB goes gzip-encoded to clients that accept it, each form with its tag."""
    admin.add("x", description="x" * 4000)
    plain = client.get("/v1/models")
    packed = client.get("/v1/models", headers={"Accept-Encoding": "gzip"})

    assert plain.data == gzip.decompress(packed.data)
    assert "gzip" == packed.headers["Content-Encoding"]
    assert "Content-Encoding" not in plain.headers
    assert str(len(packed.data)) == packed.headers["Content-Length"]
    for first, encoding in ((plain, "identity"), (packed, "gzip")):
        headers = {"If-None-Match": first.headers["ETag"], "Accept-Encoding": encoding}
        again = client.get("/v1/models", headers=headers)
        assert (304, b"") == (again.status_code, again.data)
        assert first.headers["ETag"] == again.headers["ETag"]
    head = client.head("/v1/models", headers={"Accept-Encoding": "gzip"})
    assert (b"", packed.headers["Content-Length"]) == (head.data, head.headers["Content-Length"])


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        (f"gzip, {'x' * 250}", True),
        (f"gzip, {'x' * 251}", False),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("br, *;q=0", False),
        ("nonsense;;;q=,", False),
    ],
)
def test_accept_encoding_is_read_with_its_weights(header, accepted):
    """Weights, stars and refusals count."""
    assert accepted == accepts_gzip(header)


def test_hooks_that_somebody_adds_run_inside(app):
    """Behind the guard and before the end: a hook sees the exchange, and its headers are sent."""
    seen = []
    app.before_request(lambda: seen.append(request_context().dialect.name))

    @app.after_request
    def mark(response):
        made = Response(response.get_data(), response.status)
        made.headers["x-marked"] = "yes"
        return made

    answer = app.test_client().get("/v1/models")

    assert ["openai"] == seen
    assert "yes" == answer.headers["x-marked"]
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


def test_the_cache_counts_what_responses_take(app, client, admin):
    """Bodies with every response that may be made of them take what is counted, and no more."""
    bodies = app.extensions["roster"].replies
    for number in range(100):
        admin.add(f"m{number:02}")
    key = {"Authorization": f"Bearer {admin.new_key()}"}
    variants = [{}, {"If-None-Match": "*"}, key, {**key, "If-None-Match": "*"}]
    for headers in variants:
        client.get("/v1/models", headers=headers)
    before = bodies.size
    gc.collect()
    tracemalloc.start()
    for number in range(99):
        for headers in variants:
            client.get(f"/v1/models?limit=1&after=m{number:02}", headers=headers)
    gc.collect()
    measured, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 0.7 * (bodies.size - before) < measured < 1.1 * (bodies.size - before)
