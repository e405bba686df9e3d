"""The shipped nginx site before a real gunicorn: a clear pane, and a micro-cache if wanted."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product
from pathlib import Path

import pytest

from app import dialects_of
from app.api.context import KEY_HEADERS
from app.dialects import Dialects
from app.settings import Settings
from tests.dialects.test_made_up import MadeUp

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds
#: Requests of every outcome; `test_the_answer_is_that_of_the_application` sends each.
TARGETS = """GET /v1/models, HEAD /v1/models, OPTIONS /v1/models, POST /v1/models, PUT /v1/models
GET /v1/models/acme%2Fcoder%20x, GET /v1/models/acme/coder%20x, HEAD /v1/models/acme/coder%20x
GET //v1/models, GET /v1//models, GET /v1/models/, GET /v1/models/acme//coder%20x, GET /v1, GET /
GET /v1/models/..%2F..%2Fadmin/models, GET /v1/models/../../admin/models, GET /admin/models
GET /v1/models/unknown, HEAD /v1/models/unknown, GET /v1/models?limit=2, GET /v1/models?limit=0
GET /models, HEAD /models, OPTIONS /models, POST /models, GET /models/acme%2Fcoder%20x, GET /props
GET /openai/v1/models, HEAD /openai/v1/models, GET /openai/v1/models/acme/coder%20x, GET /version
GET //models, GET /models/unknown, GET /openai//v1/models, GET /api/v1/models, GET /v1/props
GET /api/ps, HEAD /api/ps, OPTIONS /api/ps, POST /api/ps, GET /v1/models//, POST /v1/models/
HEAD /v1/models/, OPTIONS /v1/models/, GET /v1beta/models/, GET /api/tags/, GET /models/?limit=1
GET /openai/v1/models/, GET /v1/v1/models, POST /v1/chat/completions, POST /v1/models/x:embed"""
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


def test_each_way_to_the_list_is_kept(gunicorn, keeping, heard):
    """The list reaches the application once for each of its URLs."""
    site = keeping(gunicorn / "s")
    before = len(heard())
    lists = ["/v1/models", "/models", "/openai/v1/models", "/v1beta/models", "/api/tags"]
    paths = [*lists, *(f"{path}/" for path in lists), "/api/ps"]
    bodies = [{site("GET", path).body for _ in range(3)} for path in paths]

    assert [*lists, *lists, "/api/ps"] == [line["route"] for line in heard()[before:]]
    assert [1] * 11 == [*map(len, bodies)]
    assert bodies[:5] == bodies[5:10]
    assert bodies[0] == bodies[1] == bodies[2]


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


def check_dialects(dialects, key, site, direct):
    """Fail unless `site` answers as the application does to every set of dialect headers.

    Each header is empty, absent or has a value. The site must not pass on an empty one, and so
    the empty ones come first: a wrong answer to them would be kept for those who send none.
    """
    bodies = {}
    for values in product(("", None, "x"), repeat=len(dialects.headers)):
        sent = {n: v for n, v in zip(dialects.headers, values, strict=True) if v is not None}
        sent = {n: key if v and n in KEY_HEADERS else v for n, v in sent.items()}
        filled = {name: value for name, value in sent.items() if value}
        environ = {"HTTP_" + name.upper().replace("-", "_"): "" for name in filled}
        expected, answer = direct("GET", "/v1/models", **filled), site("GET", "/v1/models", **sent)
        body = bodies.setdefault(dialects.choose("/v1/models", environ, {}).name, expected.body)

        assert (200, body, body) == (answer.status, expected.body, answer.body), sorted(sent)
    assert {*bodies} == {d.name for d in dialects if d.headers} | {dialects.default.name}
    assert len(bodies) == len({*bodies.values()})


def test_dialects_do_not_share(gunicorn, direct, keeping):
    """Each set of the headers that select a dialect gets the body of that dialect."""
    key = direct("POST", "/admin/keys", {"name": "reader"}, direct.admin_key).json["key"]

    check_dialects(dialects_of(Settings()), key, keeping(gunicorn / "s"), direct)


@pytest.fixture(scope="module")
def fifth(run_gunicorn):
    """Return the folder of a gunicorn whose application has a fifth dialect."""
    with run_gunicorn(application="tests.deploy.fifth:app", WEB_CONCURRENCY="1") as folder:
        yield folder


#: The lines that CONTRIBUTING.md asks for where a header selects a dialect: what each is added to.
LINES = {
    "map": (
        'map $http_x_goog_api_client $roster_google { "" ""; default google; }',
        'map $http_x_made_up $roster_made_up { "" ""; default made_up; }',
    ),
    "key": ('proxy_cache_key "$request_uri', "$roster_made_up"),
    "header": (
        "proxy_set_header X-Goog-Api-Client $http_x_goog_api_client;",
        "proxy_set_header X-Made-Up $http_x_made_up;",
    ),
}


@pytest.mark.parametrize(
    "missing", [[], ["key"], ["header"], ["key", "header"]], ids=lambda m: "+".join(m) or "none"
)
def test_a_header_that_the_site_does_not_know_is_noticed(fifth, at_socket, keeping, missing):
    """The check of the test above fails for a fifth dialect until the site has its lines."""
    lines = [line for name, line in LINES.items() if name not in missing]
    direct, dialects = at_socket(fifth / "s"), Dialects(MadeUp(), *dialects_of(Settings()))
    direct.admin_key = (fifth / "admin-key").read_text().strip()
    key = direct.admin("POST", "/admin/keys", {"name": "reader"}).json["key"]
    site = keeping(fifth / "s", {there: f"{there} {added}" for there, added in lines})

    if missing:
        with pytest.raises(AssertionError, match="X-Made-Up"):
            check_dialects(dialects, key, site, direct)
    else:
        check_dialects(dialects, key, site, direct)


def test_the_cache_separates_what_an_answer_varies_by(gunicorn, direct, keeping, heard):
    """With each header that Vary names, a request reaches the application."""
    site = keeping(gunicorn / "s")
    varying = site("GET", "/v1/models").headers["Vary"].split(", ")
    before = len(heard())
    for name in varying:
        value = "gzip" if name == "Accept-Encoding" else "x"
        for _ in range(2):
            site("GET", "/v1/models")
        site("GET", "/v1/models", **{name: value, "X-Request-ID": name})

    assert varying == [line["request_id"] for line in heard()[before:]]
    assert {*KEY_HEADERS, *dialects_of(Settings()).headers} <= {*varying}


@cached
@pytest.mark.parametrize("name", KEY_HEADERS)
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


@shipped
def test_an_import_may_be_longer_than_other_bodies(site, direct, reached):
    """A megabyte of it reaches the application, whose answer comes back; elsewhere it is a 413."""
    long = "x" * (1 << 20)
    answer = site("POST", "/admin/import", long, direct.admin_key)

    assert [answer.status] == reached()
    assert answer.status not in (413, 502)
    for path in ("/admin/models", "/admin/import/", "//admin/import", "/ADMIN/import"):
        assert 413 == site("POST", path, long, direct.admin_key).status
    assert [] == reached()


@shipped
def test_a_body_that_the_application_does_not_read_does_not_break_its_answer(site, direct):
    """It is the 401 for a wrong key, also while the body is still on its way."""
    for _ in range(20):
        for way in (site, direct):
            answer = way("POST", "/admin/import", "x" * (1 << 20), "wrong")

            assert (401, "invalid_api_key") == (answer.status, answer.json["error"]["code"])


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


def test_the_headers_of_dates_are_soon_seen(site, direct):
    """Also from the cache, in a dialect whose body has no dates, and with a 304."""
    path = site.add(fresh_id(), shutdown_date="2099-01-31").replace("/v1/", "/v1beta/")
    site.add(successor := fresh_id())
    first = site("GET", path).headers
    patch = {
        "shutdown_date": "2098-01-31",
        "deprecation": "2027-01-01T00:00:00Z",
        "deprecation_replacement_model": successor,
    }
    admin_path = path.replace("/v1beta/", "/admin/")
    assert 200 == site("PATCH", admin_path, patch, direct.admin_key).status
    expected = ["@1798761600", "Fri, 31 Jan 2098 00:00:00 GMT"]
    expected += [f'</v1beta/models/{successor}>; rel="successor-version"']
    deadline = time.monotonic() + PATIENCE
    while (answer := site("GET", path)).headers["Sunset"] == first["Sunset"]:
        assert time.monotonic() < deadline
    known = site("GET", path, If_None_Match=answer.headers["ETag"])

    assert (200, 304) == (answer.status, known.status)
    for headers in (answer.headers, known.headers):
        assert expected == [headers[name] for name in ("Deprecation", "Sunset", "Link")]


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


@shipped
def test_administration_is_open_to_this_host_alone(site, direct, reached):
    """From another address it is a 403 that says where to open it, however the path is spelt."""
    stranger = site.connect()
    stranger.source_address = ("127.0.0.9", 0)
    assert 200 == site("GET", "/admin/models", key=direct.admin_key).status
    reached()
    for path in ("/admin/models", "/admin", "/admin?x=1", "/admin/import"):
        for method in ("GET", "HEAD", "POST"):
            answer = site(method, path, None, direct.admin_key, stranger)

            assert (403, "no-store") == (answer.status, answer.headers["Cache-Control"]), path
        error = site("GET", path, None, direct.admin_key, stranger).json["error"]
        assert "insufficient_permissions" == error["code"]
        assert error["message"].endswith(": allow it in nginx's roster.conf.")
    odd = ("//admin/keys", "/%61dmin/keys", "/v1/../admin/keys", "/v1/..%2Fadmin/keys", "/ADMIN")
    for path in odd:
        assert 403 == site("GET", path, None, direct.admin_key, stranger).status
    assert [] == reached()
    for path in ("/v1/models/a", "/v1/models", "/readyz"):
        assert 200 == site("GET", path, None, None, stranger).status
    stranger.close()


def test_the_application_sees_only_what_it_should(echo):
    """No hop-by-hop header, no header that moves a route or that the cache key did not see."""
    odd = {"Connection": "x", "TE": "trailers", "Keep-Alive": "1", "Upgrade": "h2c"}
    forged = {"SCRIPT_NAME": "/x", "PATH_INFO": "/x", "X_Api_Key": "x", "Forwarded": "for=9.9.9.9"}
    for name in ("For", "Proto", "Host", "Port", "Prefix", "Protocol", "Ssl"):
        forged[f"X-Forwarded-{name}"] = "forged"
    empty = dict.fromkeys(dialects_of(Settings()).headers, "")
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


@shipped
def test_the_access_line_has_the_callers_address(site, heard):
    """A granted request and a refused one can be told by whose they are; a forged one is not."""
    connection = site.connect()
    connection.source_address = ("127.0.0.9", 0)
    for key in (None, "wrong"):
        site("GET", "/v1/models/a", None, key, connection, X_Forwarded_For="192.0.2.7")
    connection.close()
    granted, refused = heard()[-2:]

    assert [(200, "127.0.0.9"), (401, "127.0.0.9")] == [
        (line["status"], line["client"]) for line in (granted, refused)
    ]


@shipped
def test_readiness_has_numbers_for_administrators_and_this_host(site, direct):
    """Through the site only an admin key gets them, and at the socket whoever may open it."""
    numbers = {"schema", "revision", "entries"}

    assert numbers <= set(direct("GET", "/readyz").json)
    assert numbers <= set(site("GET", "/readyz", key=direct.admin_key).json)
    assert not numbers & set(site("GET", "/readyz").json)
    assert not numbers & set(site("GET", "/readyz", key="wrong").json)


@pytest.mark.parametrize("name", [*KEY_HEADERS, "Origin", *dialects_of(Settings()).headers])
def test_the_application_sees_the_value_that_nginx_saw(echo, name):
    """Of a header that is there twice it sees the first, also if that is empty, or nginx says 400.

    From nginx 1.23 on, it sees both joined, as nginx does. By itself it would join them to a key
    that is nobody's, and refuse it, where the cache saw no key and answered; or choose a dialect
    that the cache did not see.
    """
    for values in (["", "one"], ["one", "two"]):
        connection = echo.connect()
        connection.putrequest("GET", "/v1/models")
        for value in values:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()

        if name == "Authorization":  # two of them, nginx never takes
            assert 400 == answer.status
        else:
            seen = [value for header, value in body if header == name.lower()]
            assert seen in ([value for value in values[:1] if value], [", ".join(values)])


def test_nginx_does_not_say_its_version(nginx, gunicorn, tmp_path):
    """Neither in an answer of the application nor in a refusal."""
    site = nginx(gunicorn / "s")
    for path in ("/v1/models", "/metrics"):
        assert "nginx" == site("GET", path).headers["Server"]


def test_connections_are_kept_and_writes_not_sent_twice(echo):
    """A kept connection that breaks is a 502: the write may have happened."""
    for _ in range(20):
        assert "0" == echo("GET", "/v1/models?stale").headers["x-roster-stale"]
    assert next(echo.behind.connections) <= 2  # one for each process of nginx
    echo.behind.seen.clear()
    assert 502 == echo("POST", "/admin/models", {"id": "x"}).status
    assert ["POST /admin/models HTTP/1.1"] == echo.behind.seen


def test_nginx_closes_idle_connections_before_gunicorn_does():
    """Else it would send a request on a connection that gunicorn has just closed."""
    site = (ROOT / "deploy/nginx/roster.conf").read_text()
    [upstream] = re.findall(r"^upstream roster \{(.*?)^\}", site, re.DOTALL | re.MULTILINE)
    [seconds] = re.findall(r"keepalive_timeout (\d+)s;", upstream)

    assert int(seconds) < Settings().keepalive


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
