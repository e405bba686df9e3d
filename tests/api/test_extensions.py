"""A Flask extension of the ordinary kind works on every route, and leaves nothing to the next."""

import pytest
from flask import Response, abort, after_this_request, g, request, request_finished, session
from werkzeug.exceptions import TooManyRequests

from app.settings import Settings

#: Headers of the contract; nothing an extension does takes them from an answer.
CONTRACT = ("x-request-id", "request-id", "X-Content-Type-Options", "Cache-Control")
#: What an answer says that is not the same twice.
UNSTEADY = {"/metrics", "/readyz"}


@pytest.fixture
def settings(tmp_path):
    """Settings for web pages of one origin."""
    return Settings(instance_path=tmp_path, cors_origins=("https://a.example",))


@pytest.fixture
def extension(app):
    """Add an extension that acts on requests with ``X-Extend``; give what it has seen."""
    seen = []

    def is_wanted():
        return "X-Extend" in request.headers

    @app.url_value_preprocessor
    def endpoint(endpoint, values):
        g.endpoint = endpoint

        @after_this_request
        def this(response):
            if is_wanted():
                response.headers["X-This"] = response.status
            return response

    @app.before_request
    def before():
        if is_wanted():
            seen.append("before")

    @app.after_request
    def after(response):
        if is_wanted():
            seen.append(f"after {g.endpoint}")
            response.headers["X-After"] = "1"
            response.status_code = 203
            response.set_cookie("a", "b")
            response.vary.add("Cookie")
            response.call_on_close(lambda: seen.append("closed"))
        return response

    @app.teardown_request
    def teardown(error):
        if is_wanted():
            seen.append("torn down")

    return seen


def requests_of(app, admin):
    """Yield method, path and headers: every method of every route, and what none is for."""
    keys = {"Authorization": f"Bearer {admin.key}"}
    page = {"Origin": "https://a.example"}
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<path:model_id>", "x").replace("<kid>", "absent")
        for method in sorted(rule.methods - {"DELETE"}):
            yield method, path, keys if path.startswith("/admin/") else {}
            yield method, path, {**page, "Access-Control-Request-Method": "GET"}
    yield "GET", "/v1/models", {"Accept-Encoding": "gzip"}
    yield "GET", "/v1/models", {"If-None-Match": "*"}
    yield "GET", "/v1/models", keys
    yield "GET", "/v1/models/absent", {"anthropic-version": "1"}
    yield "GET", "/v1/models", {"Authorization": "Bearer wrong"}
    yield "POST", "/v1/models", page
    yield "OPTIONS", "/nowhere", {**page, "Access-Control-Request-Method": "GET"}
    for path in ("/nowhere", "/admin/nowhere"):
        yield "GET", path, {}
        yield "GET", path, keys
    yield "DELETE", "/admin/models/absent", keys


def test_an_extension_works_on_every_route(app, admin, extension, access_lines):
    """Its header, status, cookie and hooks are there, the contract's too, and not without it."""
    admin.add("x", description="x" * 2000)
    client = app.test_client(use_cookies=False)
    asked = list(requests_of(app, admin))
    for method, path, headers in asked:
        case = (method, path, headers)
        given = {**headers, "X-Request-ID": "r"}
        before, extended, after = (
            client.open(path, method=method, headers={**given, **more}, buffered=True)
            for more in ({}, {"X-Extend": "1"}, {})
        )
        lines = access_lines()[-3:]
        if path not in UNSTEADY:
            assert (before.data, before.headers) == (after.data, after.headers), case
            assert before.data == extended.data, case
        assert before.status_code == after.status_code == lines[2]["status"], case
        assert 203 == extended.status_code == lines[1]["status"], case
        assert (before.status, "1") == tuple(extended.headers[x] for x in ("X-This", "X-After"))
        assert extended.headers.getlist("Set-Cookie"), case
        assert "Cookie" in extended.vary, case
        assert before.vary.as_set() <= extended.vary.as_set(), case
        assert before.headers.get("ETag") == extended.headers.get("ETag"), case
        for name in CONTRACT:
            assert 1 == len(extended.headers.getlist(name)), (case, name)
            assert 1 == len(before.headers.getlist(name)), (case, name)
        if before.status_code in (200, 204, 304):  # else the guard may have refused it
            assert "before" == extension[0], case
        assert 1 == sum(event.startswith("after ") for event in extension), case
        assert {"closed", "torn down"} == {*extension[-2:]}, case
        extension.clear()

    assert len(asked) > 60


def failing(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize("path", ["/v1/models", "/admin/models", "/nowhere", "/healthz"])
@pytest.mark.parametrize(
    "hook",
    [
        ("before_request", lambda: 1 / 0),
        ("url_value_preprocessor", lambda *_: 1 / 0),
        ("after_request", lambda _: 1 / 0),
        ("after_request", lambda _: abort(418)),
    ],
    ids=["before", "preprocessor", "after", "after abort"],
)
def test_a_hook_that_fails_is_a_500_of_ours(app, admin, access_lines, hook, path):
    """It has the envelope, the headers of the contract and one access line, on every route."""
    add, function = hook
    getattr(app, add)(function)
    answer = admin("GET", path, X_Request_ID="r")

    assert (500, "Internal error.") == (answer.status_code, answer.json["error"]["message"])
    assert ["r", "r", "nosniff"] == [answer.headers[name] for name in CONTRACT[:3]]
    assert "Cache-Control" in answer.headers
    assert [(500, "r")] == [(line["status"], line["request_id"]) for line in access_lines()]


def test_a_hook_may_refuse_a_request(app, access_lines):
    """What it raises before the view is answered in the envelope, with its headers."""
    app.before_request(failing(TooManyRequests(retry_after=7)))
    answer = app.test_client().get("/v1/models")

    assert (429, "7", "rate_limit_exceeded") == (
        answer.status_code,
        answer.headers["Retry-After"],
        answer.json["error"]["code"],
    )
    assert [429] == [line["status"] for line in access_lines()]


def test_a_hook_may_answer_itself(app, access_lines):
    """Its response has the headers of the contract, and shared caches do not store it."""
    app.before_request(lambda: "closed today")
    answer = app.test_client().get("/v1/models")

    assert (200, "closed today") == (answer.status_code, answer.text)
    assert ("private, no-cache", "nosniff") == tuple(
        answer.headers[name] for name in ("Cache-Control", "X-Content-Type-Options")
    )
    assert [200] == [line["status"] for line in access_lines()]


def test_a_hook_may_replace_an_answer(app):
    """What it returns is sent, with the headers of the contract."""
    app.after_request(lambda response: Response(response.get_data() + b" ", headers={"X-A": "1"}))
    answer = app.test_client().get("/v1/models")

    assert b'{"object":"list","data":[],"success":true} ' == answer.data
    assert ("1", "43") == (answer.headers["X-A"], answer.headers["Content-Length"])
    assert answer.headers["x-request-id"] == answer.headers["request-id"]


def test_a_receiver_of_a_signal_may_change_an_answer(app):
    """After all hooks an answer is still the request's own, complete with its headers."""

    def mark(_, response, **__):
        response.headers["X-Signal"] = response.headers["x-request-id"]

    with request_finished.connected_to(mark, app):
        answers = [app.test_client().get("/v1/models") for _ in range(2)]

    assert 2 == len({answer.headers["X-Signal"] for answer in answers})
    for answer in answers:
        assert 200 == answer.status_code
        assert [answer.headers["request-id"]] == answer.headers.getlist("X-Signal")
    assert "X-Signal" not in app.test_client().get("/v1/models").headers


def test_sessions_work_where_there_is_a_secret_key(app):
    """Flask's own sessions: the cookie is set on a list as anywhere."""
    app.secret_key = "for a test"

    @app.before_request
    def count():
        session["count"] = session.get("count", 0) + 1

    client = app.test_client()
    answers = [client.get("/v1/models") for _ in range(2)]

    assert [1, 1] == [len(answer.headers.getlist("Set-Cookie")) for answer in answers]
    assert all("Cookie" in answer.vary and "Origin" in answer.vary for answer in answers)
    with client.session_transaction() as stored:
        assert 2 == stored["count"]


def test_the_values_of_a_url_are_those_of_one_request(app):
    """What a preprocessor adds to the values of a static URL is not there in the next request."""
    seen = []

    @app.url_value_preprocessor
    def add(endpoint, values):
        seen.append(dict(values))
        values["user"] = "alice"

    @app.before_request
    def answer():
        return "answered"

    client = app.test_client()
    for _ in range(3):
        client.get("/v1/models")

    assert [{}, {}, {}] == seen


def test_a_redirect_of_a_route_leads_to_the_host_that_was_asked(app):
    """A route that ends with a slash redirects there, with host, scheme and query."""
    app.add_url_rule("/extension/", "extension", lambda: "")
    answer = app.test_client().get("/extension?x=1", base_url="https://models.example")

    assert (308, "https://models.example/extension/?x=1") == (
        answer.status_code,
        answer.headers["Location"],
    )


@pytest.mark.parametrize("by", ["hook", "session"])
def test_no_shared_cache_stores_a_cookie(app, admin, by):
    """A list for everyone is private where an extension adds a cookie."""
    app.secret_key = "x"

    @app.before_request
    def remember():
        if by == "session":
            session["user"] = "alice"

    @app.after_request
    def add(response):
        if by == "hook":
            response.set_cookie("user", "alice")
        return response

    answer = app.test_client().get("/v1/models")

    assert "Set-Cookie" in answer.headers
    assert "private, no-cache" == answer.headers["Cache-Control"]


def test_what_an_extension_lets_nobody_store_stays_so(app):
    """The no-store of an extension is not replaced."""

    @app.after_request
    def add(response):
        response.headers["Cache-Control"] = "no-store"
        return response

    assert "no-store" == app.test_client().get("/v1/models").headers["Cache-Control"]


def test_another_class_of_responses_is_refused(app):
    """To set the class of all responses raises, rather than break the public routes."""
    with pytest.raises(AttributeError):
        app.response_class = type("Own", (Response,), {})
