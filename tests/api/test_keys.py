"""Keys on the wire: where they are read, what is refused, and the guard before every view."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from flask import Blueprint

from app import create_app
from app.api.context import OPEN_BLUEPRINTS, Area
from app.catalog import keys
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.store import Store
from tests.postgresql import wait_until

BOTH = pytest.mark.databases("sqlite", "postgresql")

BAD = "ro_AAAAAAAA_" + "0" * 38


@pytest.fixture
def make(tmp_path, clock, sign_in):
    """Return clients, without a key and with one, of an application with such settings."""

    def start(**settings):
        app = create_app(Settings(instance_path=tmp_path, **settings), clock)
        return app.test_client(), sign_in(app)

    return start


def refused(answer, code="invalid_api_key", status=401):
    # Gemini's error, which Google's own header asks for, repeats the status in place of a code.
    told = {code, status} if "status" in answer.json["error"] else {code}
    assert status == answer.status_code, answer.text
    assert answer.json["error"]["code"] in told, answer.text
    if status == 401:
        assert "Bearer" == answer.headers["WWW-Authenticate"]


FORMS = [
    lambda key: {"Authorization": f"Bearer {key}"},
    lambda key: {"Authorization": f"bEaReR   {key}"},
    lambda key: {"x-api-key": key},
    lambda key: {"x-goog-api-key": key},
    lambda key: {"api-key": key},
    lambda key: {"Authorization": f"Bearer {key}", "x-api-key": key, "api-key": key},
    lambda key: {"Authorization": "", "x-api-key": key},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_key_is_read(client, admin, form):
    """A good key shows its organization's entries in whatever header it comes."""
    admin.add("ours", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")

    assert 404 == client.get("/v1/models/ours").status_code
    assert 200 == client.get("/v1/models/ours", headers=form(key)).status_code


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/nowhere"])
def test_a_bad_key_is_a_401_wherever_it_comes(client, form, path):
    """A well-formed key that is unknown is never the public list, nor a 404."""
    refused(client.get(path, headers=form(keys.mint())))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/admin/keys/x/nothing"])
def test_a_bad_key_comes_before_a_wrong_method(client, method, path):
    """A bad key is a 401 also where the method is wrong or the URL unknown."""
    refused(client.open(path, method=method, headers={"Authorization": f"Bearer {BAD}"}))


@pytest.mark.parametrize(
    "authorization",
    [
        BAD,
        "Bearerx",
        f"Basic {BAD}",
        "Bearer a b",
        "Bearer sk-1234567890",
        f"Bearer {BAD}, Bearer {BAD}",
        "Bearer \xfc\xf6",
        "Bearer " + "x" * 5000,
    ],
)
def test_anything_but_one_bearer_key_is_a_401(client, authorization):
    """A malformed Authorization header is a bad key, not an absent one."""
    answer = client.get("/v1/models", headers={"Authorization": authorization})

    refused(answer)
    assert "private, no-cache" == answer.headers["Cache-Control"]


@pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key", "api-key"])
@pytest.mark.parametrize("value", ["nonsense", "\xfc\xf6", BAD, f"{BAD},{BAD}"])
def test_a_malformed_key_in_any_header_is_a_401(client, header, value):
    """Other headers are as strict."""
    refused(client.get("/v1/models", headers={header: value}))


def message_of(answer):
    refused(answer)
    return answer.json["error"]["message"]


def test_two_good_keys_that_differ_are_a_401(client, admin):
    """Two good keys in one request leave open whose it is; the message has where they are."""
    one, other = admin.new_key(), admin.new_key()
    two = client.get("/v1/models", headers={"x-api-key": one, "Authorization": f"Bearer {other}"})
    query = client.get(f"/v1beta/models?key={one}&key={other}")

    assert (
        "Incorrect API key provided: ***. There are good keys that differ in Authorization and "
        "X-Api-Key: send one of them." == message_of(two)
    )
    assert "differ in ?key= and ?key=: " in message_of(query)


@pytest.fixture
def dead(admin, clock):
    """Every value that is no active key, by what is wrong with it."""
    revoked, expired = admin.new_key(), admin.new_key(expires_at=int(clock()) + 1)
    assert 204 == admin("DELETE", f"/admin/keys/{revoked[3:11]}").status_code
    clock.now += 1
    foreign = "sk-ant-api03-" + "x1Y2" * 20
    return [foreign, keys.mint(), revoked, expired, BAD, "\xfc\xf6", "a,b", "Bearer x"]


@pytest.mark.parametrize("place", ["Authorization", "x-api-key", "x-goog-api-key", "api-key"])
def test_one_good_key_counts_beside_any_others(client, admin, dead, place):
    """Of all that is presented the one active key counts, wherever it and the others are."""
    admin.add("ours", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")
    prefix = "Bearer " if place == "Authorization" else ""
    for other in {"x-api-key", "x-goog-api-key", "api-key", "Authorization"} - {place}:
        values = ["Basic eDp5", key, "Token x", *(f"Bearer {value}" for value in dead[:5])]
        for value in values if other == "Authorization" else dead:
            headers = {place: prefix + key, other: value}
            answer = client.get("/v1/models/ours", headers=headers)

            assert (200, "private, no-cache") == (
                answer.status_code,
                answer.headers["Cache-Control"],
            ), headers


def test_every_key_of_a_query_is_read(client, admin, dead):
    """The one active key among several ?key= counts, whatever their order."""
    admin.add("ours", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")
    for query in (f"key={key}&key={dead[1]}", f"key={dead[0]}&key=&key={key}", f"key={key}&" * 3):
        assert 200 == client.get(f"/v1beta/models/ours?{query}").status_code, query
    beside = {"x-api-key": key}
    assert 200 == client.get(f"/v1beta/models/ours?key={dead[0]}", headers=beside).status_code
    refused(client.get(f"/v1beta/models/ours?key={dead[0]}&key={dead[1]}"))


def test_two_authorization_headers_are_a_401_beside_a_good_key(client, admin):
    """A server joins them by a comma: whose request it is cannot be known."""
    key = admin.new_key()
    for value in (f"Bearer {key},", f"Bearer {key}, Bearer {key}", ",", "Bearer,Bearer"):
        answer = client.get("/v1/models", headers={"Authorization": value, "x-api-key": key})

        assert message_of(answer).endswith(
            " Authorization has a comma, or was sent twice: send 'Authorization: Bearer KEY' once."
        )


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (
            {"Authorization": "KEY"},
            "Authorization has no scheme: send 'Authorization: Bearer KEY'.",
        ),
        (
            {"Authorization": "bearer  Bearer KEY"},
            "Authorization has 'Bearer' twice: send 'Authorization: Bearer KEY'.",
        ),
        (
            {"Authorization": "Basic KEY"},
            "Authorization has the scheme Basic: send 'Authorization: Bearer KEY'.",
        ),
        ({"Authorization": "Bearer KEY KEY"}, "Authorization is not 'Bearer KEY'."),
        ({"Authorization": "hunter2 KEY"}, "Authorization is not 'Bearer KEY'."),
        (
            {"x-api-key": "Bearer KEY"},
            "X-Api-Key has 'Bearer' before the key: send the key alone.",
        ),
        ({"api-key": "KEY,KEY"}, "Api-Key has a comma, or was sent twice: send one key."),
    ],
)
def test_the_message_has_what_is_wrong_with_the_form(client, admin, dead, headers, fault):
    """A good key in a wrong form is refused by a message with the fault, also beside others."""
    key = admin.new_key()
    headers = {name: value.replace("KEY", key) for name, value in headers.items()}
    alone = message_of(client.get("/v1/models", headers=headers))

    assert alone.startswith("Incorrect API key provided: ")
    assert alone.endswith(f"***. {fault}")
    assert key[4:] not in alone
    assert "hunter2" not in alone
    for other in dead[:5]:
        both = message_of(client.get("/v1/models", headers={**headers, "x-goog-api-key": other}))
        assert fault in both
    if "Authorization" in headers:
        assert alone == message_of(client.get("/admin/models", headers=headers))


def test_an_empty_header_is_no_key(make):
    """Clients with an empty key setting get the public list, or read that a key is missing."""
    client, _ = make(auth="optional")
    strict, _ = make(auth="required")
    for value in ("", " ", "Bearer", "bEARER ", "Bearer   "):
        headers = {"Authorization": value, "x-api-key": "", "api-key": ""}
        answer = client.get("/v1/models", headers=headers)

        assert (200, "public, no-cache") == (answer.status_code, answer.headers["Cache-Control"])
        refused(strict.get("/v1/models", headers=headers), "missing_api_key")
        refused(client.get("/admin/models", headers=headers), "missing_api_key")


def test_an_empty_header_beside_a_key_is_nothing(client, admin):
    """The key in the other header counts alone."""
    admin.add("ours", permission=[{"organization": "acme"}])
    headers = {"Authorization": "Bearer", "x-api-key": admin.new_key(organization="acme")}

    assert 200 == client.get("/v1/models/ours", headers=headers).status_code


def test_an_empty_bearer_hides_no_key_in_the_query(client, admin):
    """The key in ?key= counts as if the empty header were not there, a bad one as well."""
    admin.add("ours", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")
    for empty in ("Bearer", "bearer ", " "):
        headers = {"Authorization": empty}

        assert 200 == client.get(f"/v1/models/ours?key={key}", headers=headers).status_code
        refused(client.get("/v1/models?key=nonsense", headers=headers))


def test_a_key_in_the_query_is_not_openais(client, admin):
    """?key= belongs to another dialect: with Authorization it is a parameter without meaning."""
    headers = {"Authorization": f"Bearer {admin.key}"}

    assert 200 == client.get("/v1/models?key=nonsense", headers=headers).status_code
    refused(client.get("/v1/models?key=nonsense"))


def test_the_message_shows_four_characters_at_most(client, admin):
    """A refused key is told by its first four characters, a short one not at all."""

    def message(key):
        answer = client.get("/v1/models", headers={"x-api-key": key})
        return answer.json["error"]["message"]

    assert f"Incorrect API key provided: {admin.key[:4]}***." == message(admin.key + "x")
    assert "Incorrect API key provided: ***." == message("hunter2")


def test_a_key_expires_on_the_second(client, admin, clock):
    """A key is good until the second before its end."""
    key = admin.new_key(expires_at=int(clock()) + 10)
    bearer = {"Authorization": f"Bearer {key}"}
    clock.now += 9.9

    assert 200 == client.get("/v1/models", headers=bearer).status_code
    clock.now += 0.1
    refused(client.get("/v1/models", headers=bearer))


@BOTH
def test_a_revoked_key_is_dead_at_once(client, admin):
    """The next request with a revoked key is refused."""
    key = admin.new_key()
    bearer = {"Authorization": f"Bearer {key}"}
    assert 200 == client.get("/v1/models", headers=bearer).status_code
    assert 204 == admin("DELETE", f"/admin/keys/{key[3:11]}").status_code

    refused(client.get("/v1/models", headers=bearer))
    assert 204 == admin("DELETE", f"/admin/keys/{key[3:11]}").status_code


@BOTH
def test_a_rotated_key_lives_for_its_grace(client, admin, clock):
    """After a rotation both keys are good for the grace, then only the new one."""
    old = admin.new_key("billing", organization="acme", groups=["a"])
    answer = admin("POST", f"/admin/keys/{old[3:11]}/rotate", {"grace": 60})
    new = answer.json["key"]

    assert 201 == answer.status_code
    assert ("billing", "acme", ["a"]) == tuple(
        answer.json[name] for name in ("name", "organization", "groups")
    )
    clock.now += 59
    for key in (old, new):
        assert 200 == client.get("/v1/models", headers={"x-api-key": key}).status_code
    clock.now += 1
    refused(client.get("/v1/models", headers={"x-api-key": old}))
    assert 200 == client.get("/v1/models", headers={"x-api-key": new}).status_code


def test_a_key_in_its_grace_says_so(admin, clock):
    """Each answer with a key has its state; a rotated one is in its grace until it expires."""
    old = admin.new_key()[3:11]
    new = admin("POST", f"/admin/keys/{old}/rotate", {"grace": 60}).json

    def states():
        return {key["id"]: key["state"] for key in admin("GET", "/admin/keys").json["data"]}

    assert "active" == new["state"] == states()[new["id"]]
    assert "grace" == states()[old]
    clock.now += 60
    assert "expired" == states()[old]
    admin("DELETE", f"/admin/keys/{old}")
    assert "revoked" == states()[old]


@pytest.fixture
def states(admin, clock):
    """Return by state the names of keys that are in it: two of each, and the first key."""
    now = int(clock())
    kids = {
        (state, owner): admin.new_key(
            f"{state} of {owner}",
            organization=owner,
            expires_at=now + 1 if state == "expired" else None,
        )[3:11]
        for state in ("active", "grace", "expired", "revoked")
        for owner in ("acme", "Zen")
    }
    for (state, _), kid in kids.items():
        if state == "revoked":
            assert 204 == admin("DELETE", f"/admin/keys/{kid}").status_code
        if state == "grace":
            admin("POST", f"/admin/keys/{kid}/rotate", {"grace": 60})
    clock.now += 1
    return kids


def test_keys_are_found_by_state_and_text(admin, states):
    """`state` and `q` restrict the list together; a text is found in name, organization and id."""

    def found(query):
        answer = admin("GET", f"/admin/keys?{query}")
        assert 200 == answer.status_code
        return {(key["state"], key["organization"]) for key in answer.json["data"]}

    for state in ("grace", "expired", "revoked"):
        assert {(state, "acme"), (state, "Zen")} == found(f"state={state}")
    assert {("active", "acme"), ("active", "Zen"), ("active", None)} == found("state=active")
    assert {("grace", "Zen"), ("expired", "Zen")} == found("q=zen") - {
        ("active", "Zen"),
        ("revoked", "Zen"),
    }
    assert {("revoked", "Zen")} == found("q=REVOKED+of+z")
    assert {("grace", "acme")} == found(f"q={states['grace', 'acme']}")
    assert {("expired", "acme")} == found("q=acme&state=expired")
    assert set() == found("q=nobody")
    assert found("") == found("q=")
    for bad in ("state=", "state=dead", "state=Active"):
        answer = admin("GET", f"/admin/keys?{bad}")
        refused(answer, "invalid_value", 400)
        assert (
            f"'state' must be one of active, grace, expired, revoked, not '{bad[6:]}'."
        ) == answer.json["error"]["message"]


def test_pages_of_found_keys(admin, states):
    """Pages count the keys that are left, and go on behind a key that is not one of them."""

    def page(query):
        answer = admin("GET", f"/admin/keys?{query}").json
        return [key["id"] for key in answer["data"]], answer["has_more"]

    whole, _ = page("q=acme")
    assert 5 == len(whole)  # and the successor of the one in its grace
    assert (whole[:2], True) == page("q=acme&limit=2")
    assert (whole[2:4], True) == page(f"q=acme&limit=2&after={whole[1]}")
    assert (whole[4:], False) == page(f"q=acme&limit=2&after={whole[3]}")
    every, _ = page("")
    other = next(kid for kid in every if kid not in whole)
    assert ([kid for kid in whole if every.index(kid) > every.index(other)], False) == page(
        f"q=acme&after={other}"
    )


def test_a_rotation_never_lengthens_a_life(admin, clock, client):
    """A key that ends within the grace ends when it would have, and so does its successor."""
    end = int(clock()) + 10
    old = admin.new_key(expires_at=end)
    new = admin("POST", f"/admin/keys/{old[3:11]}/rotate", {"grace": 60}).json
    clock.now = end

    assert end == new["expires_at"]
    for key in (old, new["key"]):
        refused(client.get("/v1/models", headers={"x-api-key": key}))


def test_a_repeated_rotation_makes_an_equal_key(admin, clock, client):
    """Who lost the answer to a rotation rotates again, and gets a key that lives as long."""
    old = admin.new_key()
    answers = [admin("POST", f"/admin/keys/{old[3:11]}/rotate", {"grace": 60}) for _ in range(2)]

    assert [None, None] == [answer.json["expires_at"] for answer in answers]
    clock.now += 60
    again = {"x-api-key": answers[1].json["key"]}
    assert 200 == client.get("/v1/models", headers=again).status_code
    refused(client.get("/v1/models", headers={"x-api-key": old}))


@pytest.fixture
def expiring(admin, app, clock):
    """An administrator whose key ends in a minute."""
    key = admin.new_key(scopes=["admin"], expires_at=int(clock()) + 60)
    return type(admin)(app.test_client(), key)


def test_no_admin_key_outlives_the_one_that_made_it(expiring, clock):
    """An admin key that expires gives its end to admin keys, and none may end later."""
    end = int(clock()) + 60

    def made(**fields):
        return expiring("POST", "/admin/keys", {"name": "x", "scopes": ["admin"], **fields})

    for fields in ({}, {"expires_at": None}, {"expires_at": end}, {"scopes": ["read", "admin"]}):
        assert (201, end) == (made(**fields).status_code, made(**fields).json["expires_at"])
    assert end - 1 == made(expires_at=end - 1).json["expires_at"]
    for later in (end + 1, 2**32 - 1):
        answer = made(expires_at=later)
        sentence = f"Must be at most {end}: the admin key that makes it ends then."
        assert (422, [sentence]) == (
            answer.status_code,
            answer.json["error"]["errors"]["expires_at"],
        )
    assert None is made(scopes=["read"]).json["expires_at"]


def test_an_admin_key_that_expires_rotates_none_that_lives_longer(expiring, admin, clock):
    """Such a rotation is a 422 and changes nothing; one that makes no longer life succeeds."""
    end = int(clock()) + 60
    lasting = [admin.key, admin.new_key(scopes=["admin"], expires_at=end + 1)]
    before = admin("GET", "/admin/keys").json
    for key in lasting:
        answer = expiring("POST", f"/admin/keys/{key[3:11]}/rotate", {})

        assert (422, "expires_at") == (answer.status_code, answer.json["error"]["param"])
        assert f"ends at {end} " in answer.json["error"]["message"]
    assert before == admin("GET", "/admin/keys").json
    sooner = admin.new_key(scopes=["admin"], expires_at=end - 1)
    reader = admin.new_key()
    for key, expires_at in ((expiring.key, end), (sooner, end - 1), (reader, None)):
        answer = expiring("POST", f"/admin/keys/{key[3:11]}/rotate", {})

        assert (201, expires_at) == (answer.status_code, answer.json["expires_at"])


def test_a_rotated_admin_key_makes_none_that_outlives_its_grace(admin, app, clock):
    """What was rotated because it leaked cannot live on in a key of its own making."""
    old = type(admin)(app.test_client(), admin.new_key(scopes=["admin"]))
    assert 201 == admin("POST", f"/admin/keys/{old.key[3:11]}/rotate", {"grace": 60}).status_code
    made = old("POST", "/admin/keys", {"name": "x", "scopes": ["admin"]})
    again = old("POST", f"/admin/keys/{old.key[3:11]}/rotate", {"grace": 60})

    assert int(clock()) + 60 == made.json["expires_at"]
    assert 422 == again.status_code


@BOTH
@pytest.mark.parametrize(
    "write",
    [
        ("POST", "/admin/models", {"id": "new"}),
        ("DELETE", "/admin/models/kept"),
        ("POST", "/admin/keys", {"name": "x", "scopes": ["admin"]}),
        ("POST", "/admin/keys/KID/rotate", {}),
        ("PATCH", "/admin/keys/KID", {"expires_at": None, "groups": ["x"]}),
        ("DELETE", "/admin/keys/KID"),
    ],
)
def test_a_write_that_waits_while_its_key_is_revoked_is_refused(
    app, admin, settings, clock, *, access_lines, write
):
    """A revocation that is stored before a write counts for it, also behind the guard."""
    admin.add("kept", name="kept")
    kept = admin.new_key()[3:11]
    stolen = type(admin)(app.test_client(), admin.new_key(scopes=["admin"]))
    own = stolen.key[3:11]
    method, path, *body = write
    store = app.extensions["roster"].store
    other = Store(settings, clock)
    written = Event()

    def revoke():
        with other.transaction(actor=Actor("test"), now=int(clock())) as transaction:
            key = transaction.key(own)
            transaction.put_key(replace(key, revoked_at=int(clock())), key, "key.revoke")
            written.set()
            wait_until(lambda: store.writer.slots.in_use)  # the guard has accepted the key by now

    with ThreadPoolExecutor(1) as thread:
        revoking = thread.submit(revoke)
        assert written.wait(30)
        answer = stolen(method, path.replace("KID", kept), *body)
        revoking.result()
    revision = other.position().revision
    other.close()

    refused(answer)
    assert ("revoked", own) == tuple(access_lines()[-1][name] for name in ("refused", "kid"))
    assert 5 == revision  # the first key, three additions and the revocation
    refused(stolen("GET", "/admin/keys"))
    assert answer.json == stolen("GET", "/admin/keys").json


@BOTH
def test_a_key_is_edited(client, admin, clock, log):
    """PATCH changes name, groups and expiry; the next request with the key sees by them."""
    admin.add("ours", permission=[{"organization": "acme", "group": "b"}])
    key = admin.new_key(organization="acme", groups=["a"])
    path, bearer = f"/admin/keys/{key[3:11]}", {"Authorization": f"Bearer {key}"}
    [before] = [k for k in admin("GET", "/admin/keys").json["data"] if k["id"] == key[3:11]]
    assert 404 == client.get("/v1/models/ours", headers=bearer).status_code
    end = int(clock()) + 60
    changes = {"name": "Billing", "groups": ["a", "b", "a"], "expires_at": end}
    answer = admin("PATCH", path, changes)

    edited = {**before, **changes, "groups": ["a", "b"]}
    assert (200, edited) == (answer.status_code, answer.json)
    assert edited in admin("GET", "/admin/keys").json["data"]
    assert 200 == client.get("/v1/models/ours", headers=bearer).status_code
    line = log()[-1]
    assert ("key.update", key[3:11]) == (line.action, line.kid)
    for nothing in ({}, {"name": "Billing"}, changes):
        assert (200, edited) == (admin("PATCH", path, nothing).status_code, answer.json)
    assert line == log()[-1]
    clock.now = end
    refused(client.get("/v1/models", headers=bearer))
    removed = admin("PATCH", path, {"groups": None, "expires_at": None}).json
    assert ([], None, "active") == tuple(
        removed[name] for name in ("groups", "expires_at", "state")
    )
    assert 200 == client.get("/v1/models", headers=bearer).status_code


@pytest.mark.parametrize(
    ("patch", "param", "sentence"),
    [
        ({"scopes": ["admin"]}, "scopes", "Cannot be changed; name, groups and expires_at can: "),
        ({"organization": None}, "organization", "Cannot be changed; name, groups and expires_at"),
        ({"id": "x", "name": "y"}, "id", "Cannot be changed; name, groups and expires_at can: "),
        ({"revoked_at": None}, "revoked_at", "Cannot be changed; name, groups and expires_at can"),
        ({"names": "x"}, "names", "Unknown field; is 'name' meant?"),
        ({"name": ""}, "name", "Must be 1 to 256 characters long, not 0."),
        ({"name": None}, "name", "Must not be null: leave the field out, or give it a value."),
        ({"groups": "a"}, "groups", "Must be a list, not the text 'a'."),
        ({"groups": [""]}, "groups.0", "Must be 1 to 256 characters long, not 0."),
        (
            {"expires_at": 5},
            "expires_at",
            "Must be in the future, not 5 (Unix seconds), which is ",
        ),
        (
            {"expires_at": "2027"},
            "expires_at",
            "Must be a whole number of Unix seconds, not the text '2027'.",
        ),
    ],
)
def test_what_an_edit_of_a_key_refuses(admin, log, *, patch, param, sentence):
    """A wrong field is a 422 that says what is possible, and changes nothing."""
    key = admin.new_key()
    lines = len(log())
    answer = admin("PATCH", f"/admin/keys/{key[3:11]}", patch)

    refused(answer, "validation_error", 422)
    assert param == answer.json["error"]["param"]
    assert answer.json["error"]["errors"][param][0].startswith(sentence)
    assert lines == len(log())


def test_a_key_that_has_ended_for_good_is_not_edited(admin, clock):
    """A revoked key, and one whose grace is over, stay as they are; an unknown one is a 404."""
    revoked, rotated = admin.new_key()[3:11], admin.new_key()[3:11]
    admin("DELETE", f"/admin/keys/{revoked}")
    admin("POST", f"/admin/keys/{rotated}/rotate", {"grace": 60})

    refused(admin("PATCH", f"/admin/keys/{revoked}", {"name": "x"}), "key_ended", 409)
    assert "grace" == admin("PATCH", f"/admin/keys/{rotated}", {"name": "x"}).json["state"]
    clock.now += 60
    answer = admin("PATCH", f"/admin/keys/{rotated}", {"expires_at": None})
    refused(answer, "key_ended", 409)
    assert (
        f"The key '{rotated}' was rotated, and its grace is over: it cannot be changed. Make "
        "another one instead."
    ) == answer.json["error"]["message"]
    refused(admin("PATCH", "/admin/keys/none", {}), "key_not_found", 404)


def test_an_admin_key_that_expires_lengthens_no_life(expiring, admin, clock):
    """By an edit, too, it makes no admin key live longer than itself, but may end one sooner."""
    end = int(clock()) + 60
    sooner = admin.new_key(scopes=["admin"], expires_at=end - 1)
    later = admin.new_key(scopes=["admin"], expires_at=end + 10)
    before = admin("GET", "/admin/keys").json

    def edit(key, **fields):
        return expiring("PATCH", f"/admin/keys/{key[3:11]}", fields)

    for key, expires_at in (
        (sooner, end + 1),
        (sooner, None),
        (later, end + 11),
        (later, None),
        (expiring.key, end + 1),
        (expiring.key, None),
    ):
        answer = edit(key, expires_at=expires_at)
        refused(answer, "validation_error", 422)
        assert "expires_at" == answer.json["error"]["param"]
        assert f"ends at {end} " in answer.json["error"]["message"]
    assert before == admin("GET", "/admin/keys").json
    assert end == edit(sooner, expires_at=end).json["expires_at"]
    assert end + 9 == edit(later, expires_at=end + 9).json["expires_at"]
    assert end + 70 == edit(admin.key, expires_at=end + 70).json["expires_at"]
    assert "x" == edit(later, name="x").json["name"]
    assert None is edit(admin.new_key(expires_at=end), expires_at=None).json["expires_at"]


@BOTH
def test_the_last_admin_key_is_revoked_on_purpose_only(admin, clock):
    """While no other admin key is accepted, a revocation needs `last=1`."""
    now, own = int(clock()), admin.key[3:11]
    admin.new_key()
    admin.new_key(scopes=["admin"], expires_at=now + 1)
    clock.now += 1
    revoked = admin.new_key(scopes=["admin"])[3:11]
    assert 204 == admin("DELETE", f"/admin/keys/{revoked}").status_code

    def delete(query=""):
        return admin("DELETE", f"/admin/keys/{own}{query}")

    refused(delete(), "last_admin_key", 409)
    assert (
        f"The key '{own}' is the last active admin key: make another one first. To revoke it "
        "nevertheless, send '?last=1' or give '--yes' on the command line."
    ) == delete().json["error"]["message"]
    for query in ("?last=", "?last=0", "?last=true"):
        refused(delete(query), "invalid_value", 400)
    assert 204 == admin("DELETE", f"/admin/keys/{revoked}").status_code
    successor = admin("POST", f"/admin/keys/{own}/rotate", {"grace": 60}).json
    assert 204 == admin("DELETE", f"/admin/keys/{successor['id']}").status_code
    refused(delete("?last=0"), "invalid_value", 400)
    refused(delete(), "last_admin_key", 409)
    assert 204 == delete("?last=1").status_code
    refused(admin("GET", "/admin/keys"))


@BOTH
def test_of_two_admin_keys_revoked_at_once_one_stays(app, admin, settings, clock):
    """A revocation that waits for that of the only other admin key is refused."""
    other_kid = admin.new_key(scopes=["admin"])[3:11]
    store = app.extensions["roster"].store
    other = Store(settings, clock)
    written = Event()

    def revoke():
        with other.transaction(actor=Actor("test"), now=int(clock())) as transaction:
            key = transaction.key(other_kid)
            transaction.put_key(replace(key, revoked_at=int(clock())), key, "key.revoke")
            written.set()
            wait_until(lambda: store.writer.slots.in_use)

    with ThreadPoolExecutor(1) as thread:
        revoking = thread.submit(revoke)
        assert written.wait(30)
        answer = admin("DELETE", f"/admin/keys/{admin.key[3:11]}")
        revoking.result()
    other.close()

    refused(answer, "last_admin_key", 409)
    assert 200 == admin("GET", "/admin/keys").status_code


def test_dead_keys_do_not_rotate(admin, clock):
    """A revoked, an expired and an unknown key have no successor."""
    revoked = admin.new_key()
    admin("DELETE", f"/admin/keys/{revoked[3:11]}")
    expired = admin.new_key(expires_at=int(clock()) + 1)
    clock.now += 1
    for kid, word in (
        (revoked[3:11], "revoked"),
        (expired[3:11], "expired"),
        ("00000000", "exist"),
    ):
        answer = admin("POST", f"/admin/keys/{kid}/rotate", {})

        refused(answer, "key_not_found", 404)
        assert word in answer.json["error"]["message"]


def test_a_refused_key_leaves_a_trace(make, clock, access_lines):
    """The access line has the reason and, of one well-formed key, the id: never random text."""
    client, admin = make()
    expired, revoked, good = (admin.new_key(expires_at=n) for n in (clock.now + 1, None, None))
    assert 204 == admin("DELETE", f"/admin/keys/{revoked[3:11]}").status_code
    clock.now += 1
    unknown = keys.mint()
    traces = [
        ("unknown", unknown[3:11], unknown),
        ("expired", expired[3:11], expired),
        ("revoked", revoked[3:11], revoked),
        ("malformed", None, BAD),
        ("malformed", None, "ro_AAAAAAAA_"),
        ("malformed", None, "\xfc\xf6"),
        (None, good[3:11], good),
        (None, None, ""),
    ]
    for path in ("/v1/models", "/v1beta/models", "/nowhere"):
        for *_, key in traces:
            client.get(path, headers={"x-api-key": key})
    found = [(line["refused"], line["kid"]) for line in access_lines()[-3 * len(traces) :]]

    assert [trace[:2] for trace in traces] * 3 == found
    other = {"Authorization": f"Bearer {good}", "x-api-key": admin.key}
    nearest = [
        {"x-api-key": unknown, "api-key": revoked},
        {"Authorization": "Basic x", "x-api-key": unknown},
        {"x-api-key": BAD, "api-key": expired},
    ]
    for headers in (other, *nearest, {"Authorization": "Basic x"}):
        client.get("/v1/models", headers=headers)
    client.get("/admin/models")
    client.get("/admin/models", headers={"Authorization": f"Bearer {good}"})

    assert [
        (401, "ambiguous", None),
        (401, "revoked", revoked[3:11]),
        (401, "unknown", unknown[3:11]),
        (401, "expired", expired[3:11]),
        (401, "malformed", None),
        (401, "missing", None),
        (403, None, good[3:11]),
    ] == [(line["status"], line["refused"], line["kid"]) for line in access_lines()[-7:]]


# ROSTER_AUTH


def test_required_asks_every_reader_for_a_key(make):
    """With ROSTER_AUTH=required no key is a 401, after what is wrong with the URL."""
    client, admin = make(auth="required")

    refused(client.get("/v1/models"), "missing_api_key")
    refused(client.get("/v1/nowhere"), "unknown_url", 404)
    refused(client.post("/v1/models"), "method_not_allowed", 405)
    assert 200 == client.get("/v1/models", headers={"x-api-key": admin.new_key()}).status_code
    assert 200 == client.get("/healthz").status_code
    assert 204 == client.options("/v1/models").status_code


def test_off_reads_no_key_in_public(make):
    """With ROSTER_AUTH=off everyone is keyless in public; administration asks as ever."""
    client, admin = make(auth="off")
    admin.add("ours", permission=[{"organization": "acme"}])
    key = admin.new_key(organization="acme")
    for headers in ({}, {"x-api-key": BAD}, {"x-api-key": key}):
        answer = client.get("/v1/models", headers=headers)

        assert (200, []) == (answer.status_code, answer.json["data"])
        assert "public, no-cache" == answer.headers["Cache-Control"]
    refused(client.get("/admin/models"), "missing_api_key")
    refused(client.get("/admin/models", headers={"Authorization": f"Bearer {BAD}"}))


@pytest.mark.parametrize(
    "form", [FORMS[0], FORMS[2], FORMS[3], lambda key: {"Authorization": f"bearer  {key}"}]
)
@pytest.mark.parametrize("word", ["EMPTY", "no-key-required"])
def test_a_placeholder_is_no_key_in_public(make, form, word):
    """What ROSTER_PUBLIC_KEYS names gets what no key gets, and is a bad key for administration."""
    client, admin = make(public_keys=("no-key-required", "EMPTY"))
    strict, _ = make(public_keys=("no-key-required", "EMPTY"), auth="required")
    admin.add("for-all")
    admin.add("ours", permission=[{"organization": "acme"}])
    answer = client.get("/v1/models", headers=form(word))

    assert client.get("/v1/models", headers=form("")).data == answer.data
    assert "public, no-cache" == answer.headers["Cache-Control"]
    assert 200 == client.get(f"/v1beta/models?key={word}").status_code
    refused(strict.get("/v1/models", headers=form(word)), "missing_api_key")
    refused(client.get("/v1/models", headers=form(word.lower() + "x")))
    refused(client.get("/v1/models", headers={**form(word), "api-key": BAD}))
    beside = {**form(word), "api-key": admin.new_key(organization="acme")}
    assert 200 == client.get("/v1/models/ours", headers=beside).status_code
    if "Authorization" in form(word):
        refused(client.get("/admin/models", headers=form(word)))


def test_no_word_is_a_placeholder_unless_it_is_named(client):
    """Without the setting, each of them is a bad key."""
    for word in ("EMPTY", "no-key-required", "ollama", "none"):
        refused(client.get("/v1/models", headers={"Authorization": f"Bearer {word}"}))


# The guard


def test_administration_reads_bearer_alone(client, admin):
    """The other headers are not read on admin routes."""
    for header in ("x-api-key", "x-goog-api-key", "api-key"):
        refused(client.get("/admin/models", headers={header: admin.key}), "missing_api_key")


def test_a_reading_key_may_not_administer(client, admin):
    """Without the admin scope a good key is a 403."""
    bearer = {"Authorization": f"Bearer {admin.new_key()}"}

    refused(client.get("/admin/models", headers=bearer), "insufficient_permissions", 403)
    refused(client.get("/admin/nowhere", headers=bearer), "unknown_url", 404)


def test_an_admin_key_sees_no_more_in_public(client, admin):
    """On public routes the admin scope gives no sight."""
    admin.add("ours", permission=[{"organization": "acme"}])

    assert [] == admin("GET", "/v1/models").json["data"]


def test_routes_are_closed_unless_they_are_declared_open(app, client, admin):
    """Every route but those of readers and of operation asks for an admin key."""
    public = {
        "/": {"GET", "HEAD"},
        "/healthz": {"GET", "HEAD"},
        "/readyz": {"GET", "HEAD"},
        "/metrics": {"GET", "HEAD"},
    }
    for prefix in ("/v1", "", "/openai/v1"):
        public[f"{prefix}/models"] = {"GET", "HEAD", "OPTIONS"}
        public[f"{prefix}/models/<path:model_id>"] = {"GET", "HEAD", "OPTIONS"}
    dialects = app.extensions["roster"].dialects
    own = tuple(dialect.routes.prefix for dialect in dialects if dialect.routes)
    rules = [
        rule
        for rule in app.url_map.iter_rules()
        if rule.rule not in public and not rule.rule.startswith(own)
    ]
    for rule in rules:
        path = rule.rule.replace("<path:model_id>", "x").replace("<kid>", "x")
        for method in rule.methods:
            answer = client.open(path, method=method)

            assert (path, method, 401) == (path, method, answer.status_code)
    assert len(rules) >= 9
    for path, methods in public.items():
        found = {m for r in app.url_map.iter_rules() if r.rule == path for m in r.methods}

        assert methods == found


def test_a_new_route_is_closed(app, admin, monkeypatch):
    """On the application, or on a blueprint of its own, be it in an open one: it needs a key."""
    monkeypatch.setitem(OPEN_BLUEPRINTS, "open", Area.PUBLIC)
    outer, inner = Blueprint("open", __name__), Blueprint("new", __name__)
    inner.add_url_rule("/inner", "view", lambda: "secret")
    outer.register_blueprint(inner)
    new = Blueprint("new", __name__)
    new.add_url_rule("/new", "view", lambda: "secret")
    app.add_url_rule("/alone", "alone", lambda: "secret")
    app.register_blueprint(outer)
    app.register_blueprint(new)
    client = app.test_client()

    for path in ("/alone", "/new", "/inner"):
        refused(client.get(path), "missing_api_key")
        refused(client.get(path, headers={"x-api-key": admin.key}), "missing_api_key")
        assert "secret" == admin("GET", path).text
        assert 405 == admin("OPTIONS", path).status_code
        refused(client.post(path, headers={"Authorization": "Bearer wrong"}))


@pytest.mark.parametrize("area", [Area.PUBLIC, Area.OPERATION])
def test_one_line_opens_a_blueprint(app, monkeypatch, area):
    """Its routes get the checks and the headers of the area; a bad key is refused in public."""
    monkeypatch.setitem(OPEN_BLUEPRINTS, "new", area)
    blueprint = Blueprint("new", __name__)
    blueprint.add_url_rule("/new", "view", lambda: "for all")
    app.register_blueprint(blueprint)
    client = app.test_client()
    answer = client.get("/new")

    assert (200, "for all") == (answer.status_code, answer.text)
    assert (area is Area.PUBLIC) == ("Vary" in answer.headers)
    bad = client.get("/new", headers={"Authorization": "Bearer wrong"})
    assert (401 if area is Area.PUBLIC else 200) == bad.status_code


@pytest.mark.parametrize("call", [("DELETE", ""), ("PATCH", ""), ("POST", "/rotate")])
def test_a_key_in_the_place_of_its_id_is_not_repeated(admin, call):
    """Whoever pastes a leaked key to revoke it is told its id, and nobody reads the key."""
    method, path = call
    key = admin.new_key()
    answer = admin(method, f"/admin/keys/{key}{path}", None if method == "DELETE" else {})

    assert (404, f"'{key[:12]}***' is a key and not the id of one: its id is {key[3:11]}.") == (
        answer.status_code,
        answer.json["error"]["message"],
    )


def test_a_change_reads_the_keys_and_not_the_entries(app, client, admin):
    """Changes wait for no snapshot, and a key that is made or revoked counts at once."""
    client.get("/v1/models")
    catalog = app.extensions["roster"].catalog
    before = catalog.rebuilds
    statuses = [admin("POST", "/admin/models", {"id": name}).status_code for name in "abc"]

    assert [201] * 3 == statuses
    assert before == catalog.rebuilds
    assert ["a", "b", "c"] == [item["id"] for item in client.get("/v1/models").json["data"]]
    assert before + 1 == catalog.rebuilds
    made = admin("POST", "/admin/keys", {"name": "second", "scopes": ["admin"]}).json
    headers = {"Authorization": f"Bearer {made['key']}"}
    new = client.post("/admin/models", json={"id": "d"}, headers=headers)
    admin("POST", "/admin/models", {"id": "e"})
    revoked = admin("DELETE", f"/admin/keys/{made['id']}")
    refused = client.post("/admin/models", json={"id": "f"}, headers=headers)

    assert [201, 204, 401] == [answer.status_code for answer in (new, revoked, refused)]
