"""The shipped nginx site before a real gunicorn: a clear pane, and a micro-cache if wanted."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

PATIENCE = 30.0  # seconds
#: Requests of every outcome; `test_the_answer_is_that_of_the_application` sends each.
TARGETS = """GET /v1/models, HEAD /v1/models, OPTIONS /v1/models, POST /v1/models, PUT /v1/models
GET /v1/models/acme%2Fcoder%20x, GET /v1/models/acme/coder%20x, HEAD /v1/models/acme/coder%20x
GET //v1/models, GET /v1//models, GET /v1/models/, GET /v1/models/acme//coder%20x, GET /v1, GET /
GET /v1/models/..%2F..%2Fadmin/models, GET /v1/models/../../admin/models, GET /admin/models
GET /v1/models/unknown, HEAD /v1/models/unknown, GET /v1/models?limit=2, GET /v1/models?limit=0"""
fresh_id = map("fresh-{}".format, count()).__next__

pytestmark = pytest.mark.needs("nginx", "nginx")
shipped = pytest.mark.parametrize("site", ["off"], indirect=True)
cached = pytest.mark.parametrize("site", ["on"], indirect=True)


def test_the_answer_is_that_of_the_application(direct, site):
    """Status, headers and bytes are the same through nginx, also when asked again."""
    own = {"server", "date", "connection", "keep-alive", "x-request-id", "request-id"}

    def comparable(answer):
        kept = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, {n: v for n, v in kept.items() if n not in own}, answer.body

    for target in TARGETS.replace("\n", ", ").split(", "):
        for headers in ({}, {"Accept-Encoding": "gzip"}, {"x-api-key": "wrong"}):
            expected = comparable(direct(*target.split(), **headers))
            for _ in range(3):
                assert expected == comparable(site(*target.split(), **headers)), target


@shipped
def test_a_write_is_in_the_next_answer_as_shipped(site, reached):
    """100 of 100 are there at once; every request reaches the application."""
    for _ in range(100):
        path = site.add(model_id := fresh_id())

        assert f'"{model_id}"'.encode() in site("GET", "/v1/models").body
        assert 200 == site("GET", path).status
    assert [201, 200, 200] * 100 == reached()


@cached
def test_readers_without_a_key_reach_the_application_about_once_a_second(site, reached):
    """Of 200 requests, GET and HEAD, nginx answers nearly all; then it asks for news alone."""
    began = time.monotonic()
    for _ in range(100):
        assert 200 == site("GET", "/v1/models").status
        assert (200, b"") == ((head := site("HEAD", "/v1/models")).status, head.body)
    statuses = reached()
    assert len(statuses) <= 2 + (time.monotonic() - began)  # one a second, however slow we are

    deadline = time.monotonic() + PATIENCE
    while 304 not in statuses:
        assert 200 == site("GET", "/v1/models").status
        assert time.monotonic() < deadline
        statuses += reached()


@cached
def test_fifty_who_find_nothing_kept_reach_the_application_once(site, reached):
    """One asks, the others wait for its answer."""
    path = site.add(fresh_id())
    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(lambda _: site("GET", path).status, range(50)))

    assert [200] * 50 == statuses
    assert [201, 200] == reached()


@cached
def test_a_write_is_soon_seen_from_the_cache(site):
    """The age of a kept answer is bounded, although it is asked for all the time."""
    for _ in range(2):
        site("GET", "/v1/models")
        site.add(model_id := fresh_id())
        written = time.monotonic()
        while f'"{model_id}"'.encode() not in site("GET", "/v1/models").body:
            assert time.monotonic() < written + PATIENCE


def test_encodings_do_not_mix(direct, site):
    """Whoever takes gzip gets it, from the cache too, and nobody else."""
    accepted = (
        "gzip",
        "identity",
        "br, gzip;q=0.5",
        "gzip;q=0",
        "GZIP",
        "x-gzipped",
        "gzip; q=0.0",
    )
    for value in accepted * 3:
        expected = direct("GET", "/v1/models", Accept_Encoding=value)
        answer = site("GET", "/v1/models", Accept_Encoding=value)

        assert expected.body == answer.body
        for name in ("ETag", "Content-Encoding"):
            assert expected.headers[name] == answer.headers[name]


@cached
def test_dialects_do_not_share(site, reached):
    """Each set of dialect headers has an answer of its own."""
    path = site.add(fresh_id())
    reached()
    version, client = {"Anthropic-Version": "2023-06-01"}, {"X-Goog-Api-Client": "genai/1"}
    for headers in ({}, version, client, version | client):
        site("GET", path, **headers)
        assert [200] == reached()


@cached
@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
def test_a_key_always_reaches_the_application(direct, site, reached, name):
    """What it sees is kept for nobody; a bad key is a 401 although an answer is kept."""
    prefix = "Bearer " if name == "Authorization" else ""
    path = site.add(fresh_id(), permission=[{"organization": "acme"}])
    body = {"name": "reader", "organization": "acme"}
    key = direct("POST", "/admin/keys", body, direct.admin_key).json["key"]
    keyed = {name: prefix + key}
    reached()
    for _ in range(5):
        assert 200 == site("GET", path, **keyed).status
        assert 404 == site("GET", path).status
        etag = site("GET", "/v1/models", **keyed).headers["ETag"]
        assert 304 == site("GET", "/v1/models", If_None_Match=etag, **keyed).status
    assert [200, 404, 200, 304] * 5 == reached()
    for bad in ("wrong", "0"):
        assert 200 == site("GET", "/v1/models").status
        assert 401 == site("GET", "/v1/models", **{name: prefix + bad}).status


@cached
def test_what_is_unbounded_is_not_kept(site, reached):
    """Queries, so that a key in one is seen however it is spelt; origins; preconditions."""
    site("GET", "/v1/models")
    reached()
    for path in ("?key=x", "?k%65y=x", "?limit=1", "?limit=0", "/a?x"):
        for _ in range(5):
            site("GET", f"/v1/models{path}")
    since = {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    for headers in ({"Origin": "https://a.example"}, {"If-Match": '"x"'}, since):
        for _ in range(5):
            assert 200 == site("GET", "/v1/models", **headers).status

    assert 40 == len(reached())


def test_errors_are_not_kept(site):
    """A model that was unknown is there as soon as it is added."""
    for _ in range(10):
        assert 404 == site("GET", f"/v1/models/{(model_id := fresh_id())}").status
        assert 200 == site("GET", site.add(model_id)).status


def test_the_administration_is_not_kept(site, direct, reached):
    """Each request reaches the application and sees the last write."""
    for _ in range(10):
        site.add(model_id := fresh_id())
        listed = site("GET", "/admin/models", key=direct.admin_key)
        assert f'"{model_id}"'.encode() in listed.body
        assert 401 == site("GET", "/admin/models").status

    assert [201, 200, 401] * 10 == reached()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_known_etag_is_answered_with_304(site, direct, method):
    """Also from a kept answer, in each form of If-None-Match; with an unknown tag it is a 200."""
    etag = site(method, "/v1/models").headers["ETag"]
    expected = direct(method, "/v1/models", If_None_Match=etag).headers
    for given in (etag, f'"x", W/{etag}', "*"):
        answer = site(method, "/v1/models", If_None_Match=given)

        assert (304, b"") == (answer.status, answer.body)
        for name in ("ETag", "Vary", "Cache-Control", "Content-Type"):
            assert expected[name] == answer.headers[name]
    assert 200 == site(method, "/v1/models", If_None_Match='"x"').status


def test_every_answer_has_its_own_request_id(site, direct):
    """Also a kept one; the caller's own is taken, unless it is malformed or looks like a key."""
    ids = []
    for path in ("/v1/models", "/v1/models", "/v1/models", "/metrics", "/unknown"):
        headers = site("GET", path).headers
        ids += {*headers.get_all("x-request-id"), *headers.get_all("request-id")}
    assert 5 == len(ids) == len(set(ids))

    for given in ("mine-1", "a b", "x" * 129, direct.admin_key):
        answer = site("GET", "/v1/models", X_Request_ID=given)
        assert (given == "mine-1") == (given == answer.headers["x-request-id"])


def test_metrics_are_closed(echo):
    """However the path is spelt, it does not get through."""
    for path in ("/metrics", "/metrics/", "//metrics", "/%6Detrics?x", "/a/../metrics"):
        answer = echo("GET", path)

        assert (404, "unknown_url") == (answer.status, answer.json["error"]["code"])
    assert [] == echo.behind.seen


def test_the_application_sees_only_what_it_should(echo):
    """No hop-by-hop header, no header that moves a route or that the cache key did not see."""
    odd = {"Connection": "x", "TE": "trailers", "Keep-Alive": "1", "Upgrade": "h2c"}
    forged = {"SCRIPT_NAME": "/x", "PATH_INFO": "/x", "X_Api_Key": "x", "Forwarded": "for=9.9.9.9"}
    for name in ("For", "Proto", "Host", "Port", "Prefix", "Protocol", "Ssl"):
        forged[f"X-Forwarded-{name}"] = "forged"
    empty = {"Anthropic-Version": "", "X-Goog-Api-Key": "", "X-Goog-Api-Client": ""}
    connection = echo.connect()
    connection.request(
        "GET", "/v1/models/a%2Fb", None, {"Accept-Encoding": "gzip, br", **odd, **forged, **empty}
    )
    answer = connection.getresponse()
    seen = dict(json.loads(answer.read()))
    connection.close()

    assert seen.pop("x-request-id") == answer.headers["x-request-id"]
    assert {
        "host": "127.0.0.1",
        "accept-encoding": "gzip",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "127.0.0.1",
    } == seen
    assert ["GET /v1/models/a%2Fb HTTP/1.1"] == echo.behind.seen


def test_connections_are_kept_and_writes_not_sent_twice(echo):
    """A kept connection that breaks is a 502: the write may have happened."""
    for _ in range(20):
        assert "0" == echo("GET", "/v1/models?stale").headers["x-roster-stale"]
    assert next(echo.behind.connections) <= 2  # one for each process of nginx
    echo.behind.seen.clear()
    assert 502 == echo("POST", "/admin/models", {"id": "x"}).status
    assert ["POST /admin/models HTTP/1.1"] == echo.behind.seen


def test_an_outage_is_told(echo):
    """What says x-roster-stale is not kept: it would say so for ever; no old list hides a 502."""
    for _ in range(5):
        assert "0" == echo("GET", "/v1/models/stale").headers["x-roster-stale"]
    assert 5 == len(echo.behind.seen)

    assert 200 == echo("GET", "/v1/models").status
    echo.behind.down = True
    deadline = time.monotonic() + PATIENCE
    while 502 != echo("GET", "/v1/models").status:
        assert time.monotonic() < deadline
