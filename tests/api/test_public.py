"""The public routes in OpenAI's dialect: list, retrieval, paging, conditional requests."""

import hashlib
import json
import re

import pytest
import sqlalchemy as sa

from app import create_app
from app.settings import Settings
from tests.pages import PAGES, examples
from tests.reference import REFERENCE, REFERENCE_ENTRY

BOTH = pytest.mark.databases("sqlite", "postgresql")

# And what clients of OpenAI need beside it.
REFERENCE_LIST = {"object": "list", **REFERENCE}
[VARY] = re.findall(r"`Vary: (.*)`", PAGES["docs/contract.md"])


def compact(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def ids(answer):
    return [entry["id"] for entry in answer.json["data"]]


@BOTH
def test_the_list_is_the_reference(client, admin):
    """The reference entry, posted, is listed byte for byte as the contract shows it."""
    admin.add(**{"model_id": "chatgpt-4o-latest", **REFERENCE_ENTRY})

    assert compact(REFERENCE_LIST) == client.get("/v1/models").data


def test_one_model_is_the_bare_item(client, admin):
    """Retrieval answers the item alone."""
    admin.add(**{"model_id": "chatgpt-4o-latest", **REFERENCE_ENTRY})

    assert compact(REFERENCE_ENTRY) == client.get("/v1/models/chatgpt-4o-latest").data


def test_an_empty_catalogue_is_an_empty_list(client, admin):
    """Without entries, data is a list all the same."""
    assert b'{"object":"list","data":[],"success":true}' == client.get("/v1/models").data


@BOTH
def test_optional_fields_follow_in_order(client, admin):
    """The optional fields of `docs/fields.md` follow those of the reference, in its order."""
    hidden = {*REFERENCE_ENTRY, "list_aliases", "available_from", "revision", "source"}
    shown = {name: value for name, value in examples("Entry").items() if name not in hidden}
    sent = shown | {"shutdown_date": "2099-01-31"}
    admin.add("x", **sent)
    entry = client.get("/v1/models/x").json

    assert [*REFERENCE_ENTRY, *sent] == list(entry)
    assert sent == {name: value for name, value in entry.items() if name not in REFERENCE_ENTRY}


def test_reference_fields_alone(tmp_path, clock, sign_in):
    """With ROSTER_FIELDS=reference an item has its seven keys; the top level stays."""
    app = create_app(Settings(instance_path=tmp_path, reply_fields="reference"), clock)
    sign_in(app).add("x", name="X")
    answer = app.test_client().get("/v1/models").json

    assert list(REFERENCE_LIST) == list(answer)
    assert list(REFERENCE_ENTRY) == list(answer["data"][0])


@BOTH
def test_the_order_is_by_code_point(client, admin):
    """Entries stand in order of their ids, whatever the order of their coming."""
    for model_id in ("b", "B", "a/1", "a", "a b", "~", "0"):
        admin.add(model_id)

    assert ["0", "B", "a", "a b", "a/1", "b", "~"] == ids(client.get("/v1/models"))


@pytest.mark.parametrize(
    "path", ["meta/llama%203", "meta%2Fllama%203", "meta%2fllama%203", "%6Deta/llama%203"]
)
def test_ids_are_fetched_raw_and_encoded(client, admin, path):
    """A slash in an id may arrive as it is or as %2F."""
    admin.add("meta/llama 3")

    assert "meta/llama 3" == client.get(f"/v1/models/{path}").json["id"]


def test_equal_bytes_share_a_strong_tag(client, admin):
    """Two equal calls answer equal bytes, whose hash is their entity tag."""
    admin.add("x")
    first, second = client.get("/v1/models"), client.get("/v1/models")

    assert first.data == second.data
    assert first.headers["ETag"] == second.headers["ETag"]
    assert f'"{hashlib.sha256(first.data).hexdigest()[:32]}"' == first.headers["ETag"]
    assert client.get("/v1/models/x").headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("prefix", ["", "/openai/v1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_the_list_is_also_where_clients_expect_it(cors, sign_in, prefix, method):
    """Without /v1, and with /openai before it, each request gets the answer of /v1/models."""
    client = cors(PAGE)
    admin = sign_in(client.application)
    admin.add("acme/coder x", permission=[{"organization": "acme"}])
    admin.add("public")
    key = admin.new_key(organization="acme")
    tag = client.get("/v1/models").headers["ETag"]
    callers = (
        {},
        {"Authorization": f"Bearer {key}", "Origin": PAGE},
        {"x-api-key": "wrong"},
        {"If-None-Match": tag, "Accept-Encoding": "gzip"},
        {"Anthropic-Version": "2023-06-01", "x-api-key": key},
        {"x-goog-api-client": "genai", "x-goog-api-key": key},
    )
    paths = ("", "?limit=1", "?limit=0", "?key=x", "/acme/coder%20x", "/acme%2Fcoder%20x", "/a")
    for rest in paths:
        for headers in callers:
            sent = {"X-Request-ID": "same", **headers}
            expected = client.open(f"/v1/models{rest}", method=method, headers=sent)
            answer = client.open(f"{prefix}/models{rest}", method=method, headers=sent)

            assert expected.status_code == answer.status_code, (rest, headers)
            assert sorted(expected.headers) == sorted(answer.headers)
            assert expected.data == answer.data


LISTS = ["/v1/models", "/models", "/openai/v1/models", "/v1beta/models", "/api/tags"]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
def test_one_slash_at_the_end_changes_nothing(cors, sign_in, access_lines, path, method):
    """Clients that add one get the same answer, not a redirect, and the same route is counted."""
    client = cors(PAGE)
    admin = sign_in(client.application)
    admin.add("x", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")
    tag = client.get(path, headers={"x-api-key": key}).headers["ETag"]
    keyed = {"x-api-key": key}
    for query in ("", "?limit=1", "?limit=0", "?key=x"):
        for more in ({}, keyed, {**keyed, "If-None-Match": tag}, {"Anthropic-Version": "1"}):
            sent = {"X-Request-ID": "same", "Origin": PAGE, **more}
            plain, slash, again = (
                client.open(url + query, method=method, headers=sent)
                for url in (path, f"{path}/", f"{path}/")
            )

            assert plain.status_code == slash.status_code == again.status_code, (query, more)
            assert sorted(plain.headers) == sorted(slash.headers) == sorted(again.headers)
            assert plain.data == slash.data == again.data
    others = {"-", "/admin/models", "/admin/keys"}
    assert {path} >= {line["route"] for line in access_lines()} - others


@pytest.mark.parametrize("path", LISTS)
def test_two_slashes_are_another_url(client, path):
    """Wherever they are, and the 404 has them, as the URL was asked for."""
    for wrong in (f"/{path}", f"/{path}/", f"{path}//", f"{path}//x"):
        # The client of the tests would take the first name after two slashes for a host.
        answer = client.get("/", environ_overrides={"PATH_INFO": wrong})

        assert 404 == answer.status_code
        assert f"Unknown URL: GET {wrong}" in str(answer.json["error"])


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("//v1/é\n", "//v1/é\N{REPLACEMENT CHARACTER}"),
        ("/v1/\udcff", "/v1/\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_unknown_url_is_shown_as_it_was_asked_for(client, path, shown):
    """Its bytes are read as UTF-8; what is none, or cannot be printed, is one sign."""
    asked = path.encode("utf-8", "surrogateescape").decode("latin-1")
    answer = client.get("/", environ_overrides={"PATH_INFO": asked})

    assert answer.json["error"]["message"] == f"Unknown URL: GET {shown}"


BASE_URL = "The list of models is at {}: check the base URL of the client."
GATEWAY = (
    "Roster only lists models, at /v1/models: send this request to a gateway or a model server."
)


@pytest.mark.parametrize(
    ("listing", "paths"),
    [
        (
            "/v1/models",
            """/v1/v1/models /api/v1/models /api/v0/models /v1beta/openai/models /openai/models
            /v1/openai/models /wrong/v1/models/ //v1/models /v1//models /V1/Models /v1/engines
            /v1 /v1/ /openai /openai/v1 /api/v1 /v1beta/v1/models /api/models""",
        ),
        ("/v1beta/models", "/v1beta /v1beta/ /v1beta/v1beta/models /v1/v1beta/models"),
        ("/api/tags", "/api /api/ /tags /v1/api/tags /api/api/tags //api/tags"),
    ],
)
def test_a_wrong_way_to_the_list_names_the_right_one(client, message, listing, paths):
    """In each dialect, and what it names is the list."""
    for path in paths.split():
        for method, headers in (("GET", {}), ("GET", {"Anthropic-Version": "1"}), ("POST", {})):
            asked = {"PATH_INFO": path}
            answer = client.open("/", method=method, headers=headers, environ_overrides=asked)

            expected = f"Unknown URL: {method} {path}. {BASE_URL.format(listing)}"
            assert (404, expected) == (answer.status_code, message(answer))
    assert 200 == client.get(listing).status_code


TO_MODELS = """/v1/chat/completions /chat/completions /v1/completions /v1/messages /api/chat
/v1/messages/count_tokens /openai/v1/embeddings /api/generate /v1/images/generations /v1/responses
/v1beta/openai/chat/completions /v1/audio/speech /v1/complete"""


@pytest.mark.parametrize("path", TO_MODELS.split())
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_to_a_model_is_for_somebody_else(client, message, path, method):
    """Its 404 says that Roster does not run models."""
    answer = client.open(path, method=method)

    assert 404 == answer.status_code
    assert f"Unknown URL: {method} {path}. {GATEWAY}" == message(answer)


@pytest.mark.parametrize(
    ("path", "listing"),
    [
        ("/v1/models/models", "/v1/models"),
        ("/models/v1/models", "/v1/models"),
        ("/v1beta/models/v1beta/models", "/v1beta/models"),
    ],
)
def test_the_url_of_the_list_is_no_base_url(client, admin, message, path, listing):
    """What a client then takes for the list is the URL of a model: its 404 says so."""
    advice = BASE_URL.format(listing)
    for headers in ({}, {"Anthropic-Version": "1"}):
        assert message(client.get(path, headers=headers)).endswith(f". {advice}")
    other = client.get(f"{path}s", headers=headers)
    shown = client.post("/api/show", json={"model": "models"})

    assert "base URL" not in message(other)
    assert f"model 'models' not found. {BASE_URL.format('/v1/models')}" == message(shown)
    admin.add("v1/models")
    assert 200 == client.get("/models/v1/models").status_code


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/x:generateContent",
        "/v1beta/models/a/b:streamGenerateContent",
        "/v1/models/x:countTokens",
        "/v1/models/chat/completions",
    ],
)
def test_so_is_one_at_the_url_of_a_model(client, message, path):
    """There POST is a 405; a DELETE gets no such advice, nor does any method of the list."""
    refused = {method: client.open(path, method=method) for method in ("POST", "DELETE")}

    assert (405, f"POST is not allowed here. {GATEWAY}") == (
        refused["POST"].status_code,
        message(refused["POST"]),
    )
    assert "DELETE is not allowed here." == message(refused["DELETE"])
    assert "POST is not allowed here." == message(client.post("/v1/models"))


@pytest.mark.parametrize("path", ["/admin/v1/models", "/admin/chat", "/v1/nowhere", "/props"])
def test_other_wrong_urls_get_no_advice(client, message, path):
    """Nobody knows what was wanted, and administration has no list for readers."""
    assert f"Unknown URL: GET {path}" == message(client.get(path))


@pytest.fixture
def message():
    """What returns the message of an error in any dialect."""

    def read(answer):
        error = answer.json["error"]
        return error if isinstance(error, str) else error["message"]

    return read


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models",
        "/v1/props",
        "/props",
        "/version",
        "/v1",
        "/openai",
        "/openai/models",
        "/v1/openai/models",
        "/openai/v1beta/models",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_other_server_is_impersonated(client, path, method):
    """URLs by which clients recognise other servers are a 404 in JSON."""
    answer = client.open(path, method=method)

    assert (404, "application/json") == (answer.status_code, answer.headers["Content-Type"])
    if method != "HEAD":
        assert "Unknown URL: " in str(answer.json["error"])


def test_each_way_to_the_list_is_counted_by_its_rule(client, access_lines):
    """The route of an access line is one of six, whatever the id."""
    for model_id in ("x", "y", "z/a", "v1/models"):
        for prefix in ("/v1", "", "/openai/v1"):
            client.get(f"{prefix}/models")
            client.get(f"{prefix}/models/{model_id}")

    assert 6 == len({line["route"] for line in access_lines()})


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/models?limit=1"])
@pytest.mark.parametrize("form", ["{}", 'W/{}, "other"', '"a,b" , {}', "*", " * "])
def test_a_known_tag_is_a_304(client, admin, path, form):
    """If-None-Match takes lists, weak tags and the star, and then there is no body."""
    admin.add("x")
    tag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": form.format(tag)})

    assert (304, b"", tag) == (answer.status_code, answer.data, answer.headers["ETag"])
    assert "Content-Type" not in answer.headers
    assert "public, no-cache" == answer.headers["Cache-Control"]


@pytest.mark.parametrize("form", ["", '"other"', "W/", "unquoted", '"'])
def test_any_other_tag_is_a_200(client, admin, form):
    """A tag that is not ours, or malformed, gets the body."""
    assert 200 == client.get("/v1/models", headers={"If-None-Match": form}).status_code


@BOTH
def test_a_change_changes_the_tag(client, admin):
    """After a write the old tag gets the new list."""
    tag = client.get("/v1/models").headers["ETag"]
    admin.add("x")
    answer = client.get("/v1/models", headers={"If-None-Match": tag})

    assert (200, ["x"]) == (answer.status_code, ids(answer))


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/models/absent"])
def test_head_is_get_without_the_body(client, admin, path):
    """HEAD answers GET's status and headers, length and tag included."""
    admin.add("x")
    get, head = client.get(path), client.head(path)

    assert (get.status_code, b"") == (head.status_code, head.data)
    for name in ("Content-Length", "Content-Type", "ETag", "Vary", "Cache-Control"):
        assert get.headers.get(name) == head.headers.get(name)


def test_pages_walk_the_list(client, admin):
    """limit and after walk the list without a skip or a repeat."""
    for letter in "abcde":
        admin.add(letter)
    first = client.get("/v1/models?limit=2")
    second = client.get("/v1/models?limit=2&after=b")
    third = client.get("/v1/models?limit=2&after=d")

    assert [["a", "b"], ["c", "d"], ["e"]] == [ids(first), ids(second), ids(third)]
    assert [True, True, False] == [page.json["has_more"] for page in (first, second, third)]
    keys = ["object", "data", "success", "has_more", "first_id", "last_id"]
    assert keys == list(first.json)
    assert ("e", "e") == (third.json["first_id"], third.json["last_id"])


def test_a_page_may_be_empty(client, admin):
    """Behind the last entry there is an empty page, with null ends."""
    admin.add("a")

    assert {
        "object": "list",
        "data": [],
        "success": True,
        "has_more": False,
        "first_id": None,
        "last_id": None,
    } == client.get("/v1/models?after=zzz").json


def test_filters_narrow_the_list(client, admin):
    """owned_by takes the owner exactly, q a part of id or name in any case."""
    admin.add("alpha", owned_by="acme")
    admin.add("beta", owned_by="acme", name="The ALPHABET")
    admin.add("gamma", owned_by="Acme")

    assert ["alpha", "beta"] == ids(client.get("/v1/models?owned_by=acme"))
    assert ["alpha", "beta"] == ids(client.get("/v1/models?q=AlPha"))
    assert ["beta"] == ids(client.get("/v1/models?q=alpha&owned_by=acme&after=alpha"))
    keys = ["object", "data", "success", "has_more", "first_id", "last_id"]
    assert keys == list(client.get("/v1/models?q=a").json)


@pytest.mark.parametrize("query", ["q=m", "owned_by=custom", "after=!", "q=m&owned_by=custom"])
def test_a_part_without_a_limit_is_a_page_of_1000(client, stocked, query):
    """Whoever asks for a part gets a page and walks on; the whole list stays whole."""
    first = client.get(f"/v1/models?{query}").json
    rest = client.get(f"/v1/models?{query.replace('after=!', '')}&after={first['last_id']}").json

    assert (1000, True) == (len(first["data"]), first["has_more"])
    assert (2, False) == (len(rest["data"]), rest["has_more"])
    assert stocked == [item["id"] for item in first["data"] + rest["data"]]
    assert stocked == ids(client.get("/v1/models"))


def test_unknown_parameters_are_ignored(client, admin):
    """A parameter that means nothing here does no harm."""
    assert 200 == client.get("/v1/models?foo=1&pageSize=-1&limit=5").status_code


@pytest.mark.parametrize(
    "value", ["0", "1001", "-1", "1.0", "", "x", "+1", "\N{FULLWIDTH DIGIT ONE}"]
)
def test_a_limit_outside_its_range_is_refused(client, admin, value):
    """limit is a whole number from 1 to 1000, or a 400 that names it."""
    answer = client.get("/v1/models", query_string={"limit": value})

    assert (400, "invalid_value", "limit") == (
        answer.status_code,
        answer.json["error"]["code"],
        answer.json["error"]["param"],
    )


@pytest.mark.parametrize("value", ["", "a//b", "a?b", " ", "\0", "x" * 257])
def test_a_cursor_that_is_no_id_is_refused(client, admin, value):
    """after is a possible model id, or a 400 that names it."""
    answer = client.get("/v1/models", query_string={"after": value})

    assert (400, "after") == (answer.status_code, answer.json["error"]["param"])


def test_public_answers_have_the_contracts_headers(client, admin):
    """A keyless answer is public, a keyed one and an error private; all vary by the same."""
    key = admin.new_key()
    keyless = client.get("/v1/models")
    keyed = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    error = client.get("/v1/models/absent")

    for answer in (keyless, keyed, error):
        assert VARY == answer.headers["Vary"]
        assert "application/json" == answer.headers["Content-Type"]
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
    assert "public, no-cache" == keyless.headers["Cache-Control"]
    assert "private, no-cache" == keyed.headers["Cache-Control"]
    assert "private, no-cache" == error.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/v1/models", "/admin/models", "/nowhere", "/healthz"])
def test_every_answer_has_one_request_id_under_two_names(client, admin, path):
    """A request id is made where none is given, and given back where one is."""
    own = client.get(path).headers
    given = client.get(path, headers={"X-Request-ID": "a.b-c_1"}).headers

    assert own["x-request-id"] == own["request-id"]
    assert own["x-request-id"].startswith("req_")
    assert 28 == len(own["x-request-id"])
    assert "a.b-c_1" == given["x-request-id"] == given["request-id"]


@pytest.mark.parametrize(
    "given", ["", "a b", "x" * 129, "<script>", "\N{SNOWMAN}".encode().decode("latin-1")]
)
def test_a_malformed_request_id_is_replaced(client, given):
    """Only short ids of harmless characters are given back."""
    assert (
        client.get("/healthz", headers={"X-Request-ID": given})
        .headers["x-request-id"]
        .startswith("req_")
    )


def test_a_request_id_that_is_a_key_is_replaced(client, admin):
    """A key sent as request id reaches neither the answer nor the log."""
    for given in (admin.key, f"{admin.key[:12]}.{admin.key[12:]}", admin.key[:13].upper()):
        answer = client.get("/healthz", headers={"X-Request-ID": given})

        assert answer.headers["x-request-id"].startswith("req_")


@pytest.fixture
def statements():
    """What SQLite executes on connections that are opened from now on."""
    executed = []

    def trace(connection, _):
        connection.set_trace_callback(executed.append)

    sa.event.listen(sa.pool.Pool, "connect", trace)
    yield executed
    sa.event.remove(sa.pool.Pool, "connect", trace)


@pytest.mark.parametrize("sure", [float("inf"), 0], ids=["sure", "unsure"])
def test_the_second_equal_list_encodes_nothing(statements, client, admin, monkeypatch, sure):
    """While nothing is written, a list that stands ready costs no encoding, and no statement.

    Once a second it costs the one statement that reads the revision.
    """
    monkeypatch.setattr("app.store.opening.CHECK_INTERVAL", sure)
    admin.add("x")
    services = client.application.extensions["roster"]
    first = client.get("/v1/models").data
    mark = services.catalog.current().position.mark
    statements.clear()
    encoded = []
    dialect = services.dialects.default
    monkeypatch.setattr(type(dialect), "item", lambda *args: encoded.append(args))
    monkeypatch.setattr(type(dialect), "listing", lambda *args: encoded.append(args))

    assert first == client.get("/v1/models").data
    assert [] == encoded
    if sure:
        assert [] == statements
    else:
        [statement] = statements
        assert statement.startswith("SELECT revision, mark FROM catalogue ")
        assert statement.endswith(f" WHERE revision <> 2 OR mark <> '{mark}'")


# CORS


@pytest.fixture
def cors(tmp_path, clock):
    """Return a client of an application that some pages may read."""

    def start(*origins):
        app = create_app(Settings(instance_path=tmp_path, cors_origins=origins), clock)
        return app.test_client()

    return start


PAGE = "https://chat.example.com"


def test_an_allowed_page_may_read_answers_and_errors(cors):
    """A listed origin is echoed, also on errors, and may read headers of ours."""
    for path in ("/v1/models", "/v1/models/absent", "/v1/other"):
        headers = cors(PAGE).get(path, headers={"Origin": PAGE}).headers

        assert PAGE == headers["Access-Control-Allow-Origin"]
        exposed = "x-request-id, request-id, retry-after, etag, deprecation, sunset, link"
        assert exposed == headers["Access-Control-Expose-Headers"]


def test_any_page_may_read_where_the_star_says_so(cors):
    """With * the answer is * for everyone."""
    headers = cors("*").get("/v1/models", headers={"Origin": PAGE}).headers

    assert "*" == headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Chat.Example.com", "https://chat.example.com"),
        ("https://chat.example.com:443", "https://chat.example.com"),
        ("https://chat.example.com", "HTTPS://Chat.Example.com:443"),
        ("http://[::1]:80", "http://[::1]"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("app://Obsidian.md", "app://Obsidian.md"),
        ("tauri://localhost", "tauri://localhost"),
        ("capacitor://localhost:443", "capacitor://localhost:443"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_an_origin_is_compared_in_one_form(cors, given, sent):
    """Neither case nor the default port matters; a browser gets its own origin back."""
    settings = Settings.from_environment({"ROSTER_CORS_ORIGINS": f"https://a.example {given}"})
    client = cors(*settings.cors_origins)
    asked = {"Origin": sent, "Access-Control-Request-Method": "GET"}
    for answer in (
        client.get("/v1/models", headers=asked),
        client.get("/no", headers=asked),
        client.options("/v1/models", headers=asked),
    ):
        assert sent == answer.headers["Access-Control-Allow-Origin"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "null",
        PAGE + ":444",
        PAGE + "/",
        "http://chat.example.com",
        "app://chat.example.com",
        "http://chat.example.com:443",
        "\N{KELVIN SIGN}".encode().decode("latin-1"),
        None,
    ],
)
def test_other_pages_may_not(cors, origin):
    """An origin that is not listed gets no permission, nor does a request without one."""
    headers = cors(PAGE).get("/v1/models", headers={"Origin": origin} if origin else {}).headers

    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/admin/models", "/healthz", "/admin/nothing"])
def test_other_routes_are_no_pages_business(cors, path):
    """Administration and operation have no CORS headers."""
    headers = cors("*").get(path, headers={"Origin": PAGE}).headers

    assert [] == [name for name, _ in headers if name.startswith("Access-Control")]


def test_the_preflight_echoes_the_headers_asked_for(cors):
    """A preflight needs no key, and allows whatever headers an SDK sends."""
    asked = "authorization, x-stainless-os, x-stainless-lang"
    answer = cors(PAGE).options(
        "/v1/models/a/b",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": asked,
            "Authorization": "Bearer wrong",
        },
    )

    assert (204, b"") == (answer.status_code, answer.data)
    assert "GET, HEAD, OPTIONS" == answer.headers["Allow"]
    assert PAGE == answer.headers["Access-Control-Allow-Origin"]
    assert asked == answer.headers["Access-Control-Allow-Headers"]
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize(
    ("path", "origin", "asked", "status"),
    [
        ("/v2/models", PAGE, "GET", 204),
        ("/v1/chat/completions", PAGE, "POST", 204),
        ("/v1/files/x", PAGE, "DELETE", 204),
        ("/v2/models", PAGE, None, 404),
        ("/v2/models", "https://evil.example.com", "GET", 404),
        ("/admin/nothing", PAGE, "GET", 404),
    ],
)
def test_an_allowed_page_may_ask_for_an_unknown_url(cors, path, origin, asked, status):
    """Its preflight is answered, or else it could not read the 404 that tells what is wrong."""
    headers = {"Origin": origin, "Access-Control-Request-Headers": "authorization"}
    if asked is not None:
        headers["Access-Control-Request-Method"] = asked
    answer = cors(PAGE).options(path, headers=headers)

    assert status == answer.status_code
    allowed = answer.headers.get("Access-Control-Allow-Methods")
    assert ("*" if status == 204 else None) == allowed
    assert "Allow" not in answer.headers


def test_options_without_a_page_says_what_is_allowed(client):
    """OPTIONS is a 204 with Allow for everyone."""
    answer = client.options("/v1/models")

    assert (204, "GET, HEAD, OPTIONS") == (answer.status_code, answer.headers["Allow"])
    assert "Access-Control-Allow-Methods" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/admin/models", "/healthz", "/x"])
def test_a_query_has_64_parameters_at_most(client, path):
    """More are refused before anything else, in the caller's dialect, and not parsed."""
    headers = {"anthropic-version": "1"}
    refused = client.get(f"{path}?{'a=1&' * 63}b=%ff&c", headers=headers)
    taken = client.get(f"{path}?{'a=1&' * 63}b", headers=headers)

    assert (400, True) == (refused.status_code, "64 parameters" in refused.text)
    assert "64 parameters" not in taken.text
