"""The short way through Flask leads to the same answers, and keeps nothing of a request."""

import copy
import gc
import gzip
import pickle
import tracemalloc

import pytest
from flask import Response, session, url_for
from werkzeug.datastructures import Headers
from werkzeug.test import create_environ, run_wsgi_app

from app.api.context import request
from app.api.http import LazyResponse, accepts_gzip


def test_answers_from_the_cache_share_no_header(client, admin):
    """Each answer has its own request id, though the reply is one."""
    admin.add("x")
    answers = [client.get("/v1/models", headers={"X-Request-ID": name}) for name in "ab"]

    assert ["a", "b"] == [answer.headers["x-request-id"] for answer in answers]
    assert 1 == len(answers[1].headers.getlist("x-request-id"))


def lazy():
    """Return a list's response before anybody has read or changed a part of it."""
    fields = {"Content-Type": "application/json", "ETag": '"1"', "Content-Length": "2"}
    return LazyResponse(b"{}", 200, [*fields.items()])


def test_reading_the_headers_changes_no_304():
    """Not Modified describes no content, whether a hook has read its headers or not."""
    read, unread = (LazyResponse(b"", 304, [("ETag", '"1"')]) for _ in range(2))

    assert [("ETag", '"1"')] == [*read.headers]
    assert answer_of(unread) == answer_of(read)


def answer_of(response):
    """Return what the server gets of a response."""
    environ = create_environ("/")
    data, status, headers = run_wsgi_app(response, environ)
    return b"".join(data), status, headers


@pytest.mark.parametrize(
    "change",
    [
        lambda r: setattr(r, "status_code", 500),
        lambda r: setattr(r, "status", "299 Odd"),
        lambda r: r.headers.set("ETag", '"2"'),
        lambda r: setattr(r, "headers", Headers({"X-A": "1"})),
        lambda r: r.set_data(b"new"),
        lambda r: setattr(r, "response", [b"new"]),
        lambda r: r.set_cookie("a", "b"),
        lambda r: setattr(r, "mimetype", "text/plain"),
        lambda r: setattr(r, "direct_passthrough", True),
        lambda r: setattr(r.cache_control, "max_age", 3),
        lambda r: r.vary.add("X"),
        lambda r: r.stream.write(b"more"),
        lambda r: r.freeze(),
        lambda r: r.call_on_close(list),
        lambda r: r.make_conditional({"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": '"1"'}),
        lambda r: r.add_etag(overwrite=True),
        repr,
        lambda r: hasattr(r, "no_such_attribute"),
    ],
)
def test_a_lazy_response_takes_every_change(change):
    """What is done to it comes to what it comes to with a response of Flask's own."""
    changed, expected = lazy(), Response(b"{}", 200, lazy().fields)
    for response in (changed, expected):
        change(response)

    assert answer_of(expected) == answer_of(changed)
    assert b"{}" == answer_of(lazy())[0]


def test_a_lazy_response_has_the_attributes_of_every_response():
    """Each can be read, copied and pickled, and what none has is an AttributeError."""
    expected = Response(b"{}", 200, lazy().fields)
    for name in vars(expected).keys() - {"_on_close"}:
        assert getattr(expected, name) == getattr(lazy(), name)
    for copied in (copy.copy(lazy()), pickle.loads(pickle.dumps(lazy()))):  # noqa: S301
        assert answer_of(expected) == answer_of(copied)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        lazy().no_such_attribute  # noqa: B018


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
    """A hook sees the context of an authorized request, and the headers that it adds are sent."""
    seen = []
    app.before_request(lambda: seen.append(request.context.dialect.name))

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
    """The replies that the cache has take the bytes that it counts for them, and no more."""
    replies = app.extensions["roster"].replies
    for number in range(100):
        admin.add(f"m{number:02}")
    key = {"Authorization": f"Bearer {admin.new_key()}"}
    variants = [{}, {"If-None-Match": "*"}, key, {**key, "If-None-Match": "*"}]
    for headers in variants:
        client.get("/v1/models", headers=headers)
    before = replies.size
    gc.collect()
    tracemalloc.start()
    for number in range(99):
        for headers in variants:
            client.get(f"/v1/models?limit=1&after=m{number:02}", headers=headers)
    gc.collect()
    measured, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 0.7 * (replies.size - before) < measured < 1.1 * (replies.size - before)
