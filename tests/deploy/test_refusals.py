"""What the shipped site refuses by itself, in the words of the caller's dialect."""

import json
import os
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, closing
from http.client import HTTPResponse, HTTPSConnection
from itertools import combinations
from pathlib import Path

import pytest

from app import dialects_of
from app.api.context import request
from app.catalog.errors import MissingKey
from app.dialects import Problem
from app.settings import Settings
from tests.dialects.derived import address

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds
DIALECTS = {dialect.name: dialect for dialect in dialects_of(Settings())}
#: The longest body of an import, in bytes.
IMPORT = 64 << 20
#: How a refusal is provoked: method, what follows the path, body, headers.
PROVOKED = {
    400: ("GET", "", None, {"bad name": "x"}),
    405: ("TRACE", "", None, {}),
    413: ("POST", "", "x" * 70_000, {}),
    431: ("GET", "", None, {"x_long": "x" * 9_000}),
}
SENTENCES = {
    400: "This is not an HTTP request that can be understood.",
    401: str(MissingKey()),
    404: "Unknown URL.",
    405: "This method is not allowed.",
    413: "The body is too long.",
    414: "The URL is too long.",
    429: "Too many requests from this address: try again in a second.",
    431: "The headers are too long or too many.",
    502: "Roster cannot be reached: try again in a second.",
    504: "Roster did not answer in time: a change may have been made all the same.",
}
CODES = {
    400: "invalid_request",
    401: "missing_api_key",
    404: "unknown_url",
    405: "method_not_allowed",
    413: "request_too_large",
    414: "invalid_request",
    429: "rate_limit_exceeded",
    431: "invalid_request",
    502: "unavailable",
    504: "unavailable",
}
#: Gemini's status where the application has none: it never answers so.
GEMINI = {502: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

pytestmark = pytest.mark.needs("nginx", "nginx")
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def refusal(status, dialect, request_id):
    """Return the whole body of a refusal: the application's error with nginx's sentence."""
    problem = Problem(
        status=status, code=CODES[status], message=SENTENCES[status], request_id=request_id
    )
    body = json.loads(DIALECTS[dialect].error(problem))
    if dialect == "gemini" and status in GEMINI:
        body["error"]["status"] = GEMINI[status]
    return body


def read(answer, dialect):
    """Return the body of a refusal, which is empty in a dialect that the site does not know."""
    assert answer.body, f"$roster_refusal of deploy/nginx/roster.conf has no line for {dialect}."
    return answer.json


def sentence(body):
    """Return what a refusal in OpenAI's or Ollama's dialect says."""
    error = body["error"]
    return error if isinstance(error, str) else error["message"]


def check(status, dialect, answer):
    """Fail unless `answer` is the refusal with everything that belongs to it."""
    headers = answer.headers
    [request_id] = {*headers.get_all("x-request-id"), *headers.get_all("request-id")}

    assert (status, refusal(status, dialect, request_id)) == (answer.status, read(answer, dialect))
    assert ["application/json"] == headers.get_all("Content-Type")
    assert ["nosniff"] == headers.get_all("X-Content-Type-Options")
    assert ["private, no-cache"] == headers.get_all("Cache-Control")
    assert ("1" if status in (429, 502, 504) else None) == headers["Retry-After"]
    assert (status == 405) == ("Allow" in headers)


@pytest.fixture
def silent(tmp_path):
    """Listen as an application that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield listener


@pytest.fixture
def site_of_nobody(nginx, tmp_path):
    """Return a site whose application is not there."""
    return nginx(tmp_path / "nobody")


@every_dialect
def test_a_refusal_is_in_the_callers_dialect(nginx, tmp_path, dialect):
    """Whatever nginx does not take, and an application that is not there."""
    site = nginx(tmp_path / "nobody")
    path, headers = address(DIALECTS[dialect])
    for status, (method, suffix, body, more) in PROVOKED.items():
        answer = site(method, path + suffix, body, **headers, **more)
        check(status, dialect, answer)

    check(502, dialect, site("GET", path, **headers))


def test_a_request_line_that_is_not_read_to_its_end_is_refused(nginx, tmp_path):
    """In OpenAI's words: the headers that would say otherwise are not read any more."""
    site = nginx(tmp_path / "nobody")

    check(400, "openai", site("GET", "/v1/models/%zz", anthropic_version="1"))
    check(400, "openai", site("get", "/v1/models"))
    check(414, "openai", site("GET", f"/v1/models/{'x' * 9_000}", anthropic_version="1"))


@pytest.mark.parametrize(
    ("status", "path", "length", "header"),
    [
        (413, "/api/show", 99_999, "X: x"),
        (413, "/admin/models", 99_999, "Authorization: Bearer x"),
        (413, "/admin/import/", 99_999, "Authorization: Bearer x"),
        (413, "/admin/import", IMPORT + 1, "Authorization: Bearer x"),
        (401, "/admin/import", IMPORT, "X-Api-Key: x"),
        (401, "/admin/import?key=x", 2, "Authorization:"),
    ],
)
def test_a_body_that_is_announced_and_never_comes_is_refused(
    site_of_nobody, status, path, length, header
):
    """If it is too long, or an import without a credential: before any of it is kept.

    Also where the client has closed its side before nginx could discard the body.
    """
    with socket.create_connection(("127.0.0.1", site_of_nobody.port), PATIENCE) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {length}\r\n\r\n"
        client.sendall(f"{head}{{}}".encode())
        client.shutdown(socket.SHUT_WR)
        response = HTTPResponse(client)
        response.begin()
        body = json.loads(response.read())

    assert (status, SENTENCES[status]) == (response.status, sentence(body))
    assert ("Bearer" if status == 401 else None) == response.headers["WWW-Authenticate"]
    if status == 401:
        assert refusal(401, "openai", None) == body
        assert "no-store" == response.headers["Cache-Control"]


def announce_import(site):
    """Return a connection on which nginx waits for the body of an import."""
    client = socket.create_connection(("127.0.0.1", site.port), PATIENCE)
    head = "POST /admin/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
    client.sendall(f"{head}Content-Length: {IMPORT}\r\nExpect: 100-continue\r\n\r\n".encode())

    assert client.recv(100).startswith(b"HTTP/1.1 100 "), "an import of 64 MiB is not taken"
    client.sendall(b"[")
    return client


def test_an_address_has_two_imports_under_way(nginx, tmp_path):
    """A third is a 429, and one more goes on as soon as one of the two is over."""
    site = nginx(tmp_path / "nobody")
    with announce_import(site) as first, announce_import(site):
        answer = site("POST", "/admin/import", [], "x")

        assert (429, SENTENCES[429]) == (answer.status, sentence(answer.json))
        assert 502 == site("POST", "/admin/models", {}, "x").status
        first.close()
        deadline = time.monotonic() + PATIENCE
        while site("POST", "/admin/import", [], "x").status == 429:
            assert time.monotonic() < deadline


def test_a_slow_import_reaches_the_application_when_all_of_it_is_here(nginx, silent):
    """It holds no thread: the application is asked by a later request first."""
    site = nginx(silent.getsockname())
    silent.settimeout(PATIENCE)
    with announce_import(site), closing(site.connect()) as connection:
        connection.request("GET", "/v1/models")
        with silent.accept()[0] as asked:
            assert asked.recv(100).startswith(b"GET /v1/models ")


@pytest.mark.parametrize(
    ("path", "shipped"),
    [
        ("import", "proxy_read_timeout 300s;  # 100,000"),
        ("undo", "(undo|revert)$ {\n            proxy_read_timeout 300s;"),
        ("revert", "(undo|revert)$ {\n            proxy_read_timeout 300s;"),
    ],
)
def test_an_import_may_take_longer_than_other_requests(nginx, silent, path, shipped):
    """nginx waits for its answer, and that of an undo, for five minutes; then it is a 504."""
    site = nginx(silent.getsockname(), changes={shipped: shipped.replace("300s", "1s")})

    assert 504 == site("POST", f"/admin/{path}", [], "x").status


@every_dialect
def test_a_silent_application_is_a_504(nginx, silent, dialect):
    """After the time that the site gives it."""
    site = nginx(silent.getsockname(), changes={"proxy_read_timeout 35s": "proxy_read_timeout 1s"})
    path, headers = address(DIALECTS[dialect])

    check(504, dialect, site("GET", path, **headers))


@every_dialect
def test_too_many_requests_of_one_address_are_429(nginx, tmp_path, dialect):
    """Those beyond the burst, until time has passed."""
    few = {"rate=300r/s": "rate=1r/m", "burst=600": "burst=2"}
    site = nginx(tmp_path / "nobody", changes=few)
    path, headers = address(DIALECTS[dialect])
    statuses = [site("GET", path, **headers).status for _ in range(3)]

    assert [502, 502, 502] == statuses
    check(429, dialect, site("GET", path, **headers))


def test_too_many_open_requests_of_one_address_are_429(nginx, silent):
    """Slow ones that are under way count, and idle connections do not."""
    changes = {"limit_conn roster_open 256": "limit_conn roster_open 2"}
    site = nginx(silent.getsockname(), changes=changes)
    silent.settimeout(PATIENCE)
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(site.connect())) for _ in range(3)]
        for connection in idle:
            connection.connect()
        for connection in idle[:2]:
            connection.request("GET", "/v1/models")
            stack.enter_context(silent.accept()[0])  # now it is under way

        check(429, "openai", site("GET", "/v1/models", connection=idle[2]))


def test_a_whole_office_may_start_at_once(nginx, gunicorn):
    """600 requests of one address, as fast as they can be made, are answered as shipped."""
    as_shipped = {"rate=300r/s": "rate=300r/s", "rate=10r/s": "rate=10r/s"}
    site = nginx(gunicorn / "s", changes=as_shipped)
    connection = site.connect()
    statuses = {site("GET", "/v1/models", connection=connection).status for _ in range(600)}
    connection.close()

    assert {200} == statuses


PAGE = "https://chat.example.com"
#: The line of the site that allows no page.
ORIGINS = 'default "";  # Origins:'
#: What a page's browser looks at, and a cache.
SHARING = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")


APPS = ("app://obsidian.md", "tauri://localhost", "chrome-extension://abcdefghijklmnop")


@pytest.mark.parametrize("setting", ["", PAGE, "*", " ".join(APPS)])
def test_a_page_may_read_what_the_application_lets_it_read(
    nginx, tmp_path, run_gunicorn, at_socket, setting
):
    """A refusal of nginx has the headers of the application's, if its line is as the setting."""
    lines = {"": ORIGINS, "*": 'default "*";  #'}
    each = "".join(f'"{origin}" $http_origin; ' for origin in setting.split())
    line = lines.get(setting, f"{each} #")
    site = nginx(tmp_path / "nobody", changes={ORIGINS: line})
    same = (PAGE, f"{PAGE}:443", PAGE.upper(), "http://chat.example.com:80", f"{PAGE}:444")
    public = ("/v1/models/x", "/nowhere", "/api/tags", "/v1beta/models", "/models", "/adminx")
    with run_gunicorn(WEB_CONCURRENCY="1", ROSTER_CORS_ORIGINS=setting) as folder:
        direct = at_socket(folder / "s")
        for path in (*public, "/admin/models", "/admin", "/", "/healthz?x"):
            for origin in (*same, *APPS, "https://evil.example.com", "null", None):
                headers = {} if origin is None else {"Origin": origin}
                expected = direct("POST", path, "{", Authorization="bad", **headers).headers
                answer = site("POST", path, "{", **headers)

                assert 502 == answer.status
                for name in SHARING:
                    assert expected[name] == answer.headers[name], (path, origin, name)


def test_a_page_can_read_that_it_asks_too_often(nginx, tmp_path):
    """Its preflight succeeds also beyond the limit, or its browser would hide the 429 from it."""
    changes = {
        "rate=300r/s": "rate=1r/m",
        "burst=600": "burst=1",
        ORIGINS: f'"{PAGE}" $http_origin;  #',
    }
    site = nginx(tmp_path / "nobody", changes=changes)
    asked = "authorization, x-stainless-os"
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": asked}
    for _ in range(3):
        answer = site("OPTIONS", "/v1/models", Origin=PAGE, **preflight)

        assert (204, b"") == (answer.status, answer.body)
        assert PAGE == answer.headers["Access-Control-Allow-Origin"]
        assert ("*", asked) == (
            answer.headers["Access-Control-Allow-Methods"],
            answer.headers["Access-Control-Allow-Headers"],
        )
    answer = site("GET", "/v1/models", Origin=PAGE)
    assert (429, PAGE) == (answer.status, answer.headers["Access-Control-Allow-Origin"])
    check(429, "openai", answer)
    for path, origin in (("/v1/models", "https://evil.example.com"), ("/admin/models", PAGE)):
        answer = site("OPTIONS", path, Origin=origin, **preflight)
        assert (429, None) == (answer.status, answer.headers["Access-Control-Allow-Methods"])
    assert 429 == site("OPTIONS", "/v1/models", Origin=PAGE).status


def spoken(body, answer):
    """Return the dialect of a refusal."""
    request_id = answer.headers["x-request-id"]
    return [name for name in DIALECTS if refusal(answer.status, name, request_id) == body]


def requests_of(app):
    """Yield paths and headers: each route and other paths, with what may select a dialect."""
    rules = {re.sub(r"<.*>", "x", rule.rule) for rule in app.url_map.iter_rules()}
    prefixes = {d.routes.prefix for d in app.extensions["roster"].dialects if d.routes is not None}
    nowhere = {"/unknown", "/admin", "/adminx", "/openapi.json", "/docs", "/healthz/", "/v1beta"}
    names = app.extensions["roster"].dialects.headers
    for path in sorted(rules | prefixes | nowhere | {f"{prefix}nowhere" for prefix in prefixes}):
        for number in range(len(names) + 1):
            for chosen in combinations(names, number):
                yield path, dict.fromkeys(chosen, "x")
        for query in ("?x", "?key", "?key=x", "?alt=json&key=x", "?monkey=x"):
            for name in (*names, "Authorization", "X-Other"):
                yield path + query, {name: "x"}
            yield path + query, {"Authorization": "bEarer "}  # nothing is behind it


def test_the_dialect_is_chosen_as_the_application_does(nginx, tmp_path, unopened_app):
    """At each path, with each set of headers and each query, it is the application's own."""
    site, seen = nginx(tmp_path / "nobody"), Counter()
    with closing(site.connect()) as connection:
        for path, headers in requests_of(unopened_app):
            with unopened_app.test_request_context(path, headers=headers):
                expected = request.context.dialect.name
            answer = site("GET", path, connection=connection, **headers)
            seen[expected] += 1

            assert [expected] == spoken(read(answer, expected), answer), (path, headers)
    assert {*DIALECTS} == {*seen}, seen


def test_a_refusal_of_the_administration_is_never_stored(nginx, tmp_path):
    """In OpenAI's envelope, whatever the headers say."""
    site = nginx(tmp_path / "nobody")
    for path in ("/admin/models", "/admin/models?q=x", "/admin", "/admin?x"):
        answer = site("GET", path, anthropic_version="1")

        assert (502, "no-store") == (answer.status, answer.headers["Cache-Control"])
        assert "unavailable" == answer.json["error"]["code"]


def test_what_gunicorn_refuses_is_json_too(nginx, gunicorn, direct):
    """Also without nginx: too many headers, a method of two letters, a control character."""
    for site in (nginx(gunicorn / "s"), direct):
        for method, headers, status in (
            ("GET", {f"x_{number}": "x" for number in range(120)}, 431),
            ("AB", {}, 400),
            ("GET", {"x": "\x01"}, 400),
        ):
            answer = site(method, "/v1/models", **headers)

            assert (status, "invalid_request") == (answer.status, answer.json["error"]["code"])
            assert "application/json" == answer.headers["Content-Type"]
            assert "nosniff" == answer.headers["X-Content-Type-Options"]


def test_a_refusal_leaves_a_line_without_a_key(nginx, tmp_path):
    """One line of JSON; the key that stood in the request is in no log of nginx."""
    few = {"rate=300r/s": "rate=1r/m", "burst=600": "burst=1"}
    site = nginx(tmp_path / "nobody", changes=few | {"1% 1;": "100% 1;"})
    statuses = [site("GET", "/v1beta/models?key=secret-key").status for _ in range(3)]
    deadline = time.monotonic() + PATIENCE
    while len(lines := (tmp_path / "refusals").read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    # The two processes of nginx write when each of them likes.
    assert [429, 502, 502] == sorted(json.loads(line)["status"] for line in lines)
    assert [502, 502, 429] == statuses
    assert {"gemini"} == {json.loads(line)["dialect"] for line in lines}
    for log in ("refusals", "errors", "log"):
        assert "secret-key" not in (tmp_path / log).read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start nginx under another user")
def test_a_socket_that_nginx_may_not_open_is_named(nginx, gunicorn, tmp_path):
    """The 502 has its reason in the log of refusals: the error log has no line about it."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o711)
    site = nginx(gunicorn / "s", changes={" buffer=32k flush=1s": ""}, user="nobody nogroup")
    answer = site("GET", "/v1/models")
    deadline = time.monotonic() + PATIENCE
    while not (text := (tmp_path / "refusals").read_text()):  # it comes after the answer
        assert time.monotonic() < deadline
        time.sleep(0.01)
    line = json.loads(text)

    assert 502 == answer.status
    assert (
        "no connection to the socket: does Roster run, and may nginx's user write to it?"
        == (line["reason"])
    )


def logged(folder):
    """Return how often each status is in the log, when the last request is in it."""
    deadline = time.monotonic() + PATIENCE
    while "the-last" not in (text := (folder / "refusals").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return Counter(json.loads(line)["status"] for line in text.splitlines())


def test_a_flood_leaves_few_lines(nginx, tmp_path):
    """Of refusals by a limit one in a hundred is logged; of others the first 50, then 5 a second.

    That is so for each address: another one's only malformed request is in the log.
    """
    few = {"rate=300r/s": "rate=1r/m", "burst=600": "burst=1", " buffer=32k flush=1s": ""}
    site = nginx(tmp_path / "nobody", changes=few)
    began = time.monotonic()
    with closing(site.connect()) as connection:
        for _ in range(2_000):
            site("GET", "/v1/models", connection=connection)
        for _ in range(500):
            assert 404 == site("GET", "/metrics", connection=connection).status
    lasted = time.monotonic() - began
    malformed = b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: the-last\r\nbad name: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", site.port), PATIENCE, ("127.0.0.2", 0)) as other:
        other.sendall(malformed)
        assert other.recv(4096).startswith(b"HTTP/1.1 400 ")
    lines = logged(tmp_path)

    assert 0 < lines[429] < 60
    assert 50 <= lines[404] <= 51 + 5 * lasted
    assert 1 == lines[400]


@pytest.mark.needs("logrotate", "logrotate")
def test_the_log_is_rotated_by_size(nginx, tmp_path):
    """A run of logrotate begins a new file if the old one is long enough; nginx writes to it."""
    site = nginx(tmp_path / "nobody", changes={" buffer=32k flush=1s": ""})
    log, old, config = tmp_path / "refusals", tmp_path / "refusals.1", tmp_path / "rotated"
    text = (ROOT / "deploy" / "logrotate" / "roster").read_text()
    text = text.replace("/var/log/nginx/roster-refusals.jsonl", str(log))
    text = text.replace("/run/nginx.pid", str(tmp_path / "pid"))
    config.write_text(text.replace("size 10M", "size 2k").replace(" 0640 www-data adm", ""))
    config.chmod(0o644)
    rotate = ["logrotate", "--state", tmp_path / "state", config]
    site("GET", "/metrics")
    subprocess.run(rotate, check=True)
    assert not old.exists()

    for _ in range(20):
        site("GET", "/metrics")
    subprocess.run(rotate, check=True)
    asked, deadline = 21, time.monotonic() + PATIENCE
    while not log.read_text():  # each process of nginx reopens it at its own time
        site("GET", "/metrics")
        asked += 1
        assert time.monotonic() < deadline

    assert asked == sum(len(path.read_text().splitlines()) for path in (log, old))


@pytest.mark.needs("openssl", "openssl")
def test_tls_is_two_lines_away(nginx, gunicorn, tmp_path, site_at):
    """With the lines that are comments as shipped; plain HTTP on that port is a JSON 400."""
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "key.pem"
    options = (
        "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    )
    subprocess.run(
        ["openssl", "req", *options.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx(
        gunicorn / "s",
        changes={
            "# listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "# ssl_certificate /etc/ssl/roster/fullchain.pem;": f"ssl_certificate {certificate};",
            "# ssl_certificate_key /etc/ssl/roster/key.pem;": f"ssl_certificate_key {key};",
            "# ssl_protocols": "ssl_protocols",
        },
    )
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    connection = HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=trusting)

    assert 200 == site_at(port)("GET", "/v1/models", connection=connection).status
    connection.close()
    check(400, "openai", site_at(port)("GET", "/v1/models"))
