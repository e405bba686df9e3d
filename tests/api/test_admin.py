"""The admin routes: what they store, what they answer, and what they refuse."""

import json
from urllib.parse import unquote

import pytest
import sqlalchemy as sa

from app.catalog.filters import PARAMETERS
from app.catalog.keys import ApiKey
from app.catalog.model import Model
from app.catalog.ports import Actor
from tests.writing import write

BOTH = pytest.mark.databases("sqlite", "postgresql")

DEFAULT_PERMISSION = {
    "object": "model_permission",
    "allow_create_engine": True,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}
#: 2027-01-15T00:00:00Z, and an entry that ends then.
MIDNIGHT = 1_799_971_200
ENDS = {"shutdown_date": "2027-01-15"}


@pytest.fixture
def older(app, admin):
    """An entry that retires before it appears, as an older release may have stored it."""
    model = Model.compose({"id": "older", "available_from": MIDNIGHT, **ENDS}, now=0)
    with app.extensions["roster"].store.transaction(actor=Actor("test"), now=0) as transaction:
        write(transaction, model)


def error(answer):
    return answer.status_code, answer.json["error"]["code"], answer.json["error"]["param"]


@BOTH
def test_only_the_id_is_needed(admin, clock):
    """POST fills in the reference's defaults and says where the entry is."""
    answer = admin("POST", "/admin/models", {"id": "meta/llama 3"})
    entry = answer.json
    [permission] = entry.pop("permission")

    assert 201 == answer.status_code
    assert "/admin/models/meta%2Fllama%203" == answer.headers["Location"]
    assert f'"{entry["revision"]}"' == answer.headers["ETag"]
    assert "no-store" == answer.headers["Cache-Control"]
    assert {
        "id": "meta/llama 3",
        "object": "model",
        "created": int(clock()),
        "owned_by": "custom",
        "root": "meta/llama 3",
        "parent": None,
        "revision": 2,
    } == entry
    assert permission.pop("id").startswith("modelperm-")
    assert {**DEFAULT_PERMISSION, "created": int(clock())} == permission


@BOTH
def test_what_is_given_is_stored(admin):
    """Given permission ids and times stay as they are."""
    entry = admin.add("x", created=5, permission=[{"id": "mine", "created": 6}, {}])

    assert [("mine", 6), 5] == [
        (entry["permission"][0]["id"], entry["permission"][0]["created"]),
        entry["permission"][1]["created"],
    ]


@BOTH
def test_a_second_creator_is_a_409(admin):
    """An id that is taken is refused, and the entry stays."""
    admin.add("x", owned_by="first")
    answer = admin("POST", "/admin/models", {"id": "x", "owned_by": "second"})

    assert (409, "model_exists", "id") == error(answer)
    assert "first" == admin("GET", "/admin/models/x").json["owned_by"]


@BOTH
def test_an_alias_is_taken_like_an_id(admin):
    """A 409 names the field and the entry that has the name; PATCH and DELETE of it are a 404."""
    admin.add("x", aliases=["also"])
    admin.add("y")
    taken = "The model 'also' is an alias of 'x' already."
    for method, path, body, param in (
        ("POST", "", {"id": "also"}, "id"),
        ("PUT", "/also", {}, "id"),
        ("POST", "", {"id": "z", "aliases": ["also"]}, "aliases"),
        ("PUT", "/y", {"aliases": ["also"]}, "aliases"),
        ("PATCH", "/y", {"aliases": ["also"]}, "aliases"),
    ):
        answer = admin(method, f"/admin/models{path}", body)

        assert (409, "model_exists", param) == error(answer)
        assert taken == answer.json["error"]["message"]
    for answer in (
        admin("PATCH", "/admin/models/also", {"name": "X"}),
        admin("DELETE", "/admin/models/also"),
    ):
        assert (404, "model_not_found", "model") == error(answer)
        assert answer.json["error"]["message"].endswith(": it is an alias, use 'x' instead")


def test_hidden_entries_are_listed_for_administrators(admin, client):
    """The admin list has what no reader sees, with date and revision."""
    admin.add("hidden", permission=[])
    admin.add("later", available_from=4_000_000_000)
    listed = admin("GET", "/admin/models").json

    assert ["object", "data", "has_more", "first_id", "last_id"] == list(listed)
    assert ["hidden", "later"] == [entry["id"] for entry in listed["data"]]
    assert 4_000_000_000 == listed["data"][1]["available_from"]
    assert 2 == listed["data"][0]["revision"]
    assert [] == client.get("/v1/models").json["data"]
    for model_id in ("hidden", "later"):
        assert 404 == client.get(f"/v1/models/{model_id}").status_code


def test_the_admin_list_pages_and_filters(admin):
    """limit, after, owned_by and q mean what they mean in public."""
    for letter in "abc":
        admin.add(letter, owned_by="acme" if letter < "c" else "other")
    page = admin("GET", "/admin/models?limit=1&after=a").json

    assert (["b"], True, "b", "b") == (
        [entry["id"] for entry in page["data"]],
        page["has_more"],
        page["first_id"],
        page["last_id"],
    )
    owned = admin("GET", "/admin/models?owned_by=acme&q=B").json
    assert ["b"] == [entry["id"] for entry in owned["data"]]


def test_the_admin_list_has_filters(admin, clock):
    """Their conditions hold beside owner, text and page; an unknown word is an empty list."""
    for letter in "abcd":
        admin.add(letter, tags=["t"], context_length=ord(letter), type="language")
    admin.add("e", shutdown_date="2027-01-16", permission=[{"organization": "acme"}])

    def listed(query):
        page = admin("GET", f"/admin/models?{query}").json
        return "".join(entry["id"] for entry in page["data"]), page["has_more"]

    assert ("ab", True) == listed("type=language&limit=2")
    assert ("cd", False) == listed("type=language&limit=2&after=b")
    assert ("cd", False) == listed("min_context=99&tag=t&owned_by=custom")
    assert ("c", False) == listed("min_context=99&q=C")
    assert ("e", False) == listed("visible_to=acme/x&retiring_before=2027-02-01&hidden=false")
    assert ("", False) == listed("supports=unknown") == listed("lifecycle=unknown&tag=t")
    clock.now += 24 * 60 * 60
    assert ("e", False) == listed("lifecycle=retired") == listed("hidden=true")


@pytest.mark.parametrize("query", ["min_context=x", "hidden=maybe", "retiring_before=2027-02-30"])
def test_a_bad_filter_is_a_400(admin, query):
    """What is no number, no boolean or no date is refused by the name of its parameter."""
    answer = admin("GET", f"/admin/models?{query}")

    assert (400, "invalid_value", query.split("=")[0]) == error(answer)


def test_readers_have_no_filters_but_owner_and_text(client, admin):
    """In public the parameters of an administrator's filter are unknown, and so ignored."""
    admin.add("x")
    query = "&".join(f"{name}=unknown" for name in PARAMETERS)

    assert client.get("/v1/models").data == client.get(f"/v1/models?{query}").data


def test_the_admin_list_is_a_page_in_any_case(admin, stocked):
    """Without a limit it has 1,000 entries and says that there are more."""
    first = admin("GET", "/admin/models").json
    second = admin("GET", f"/admin/models?after={first['last_id']}").json

    assert ["object", "data", "has_more", "first_id", "last_id"] == list(first)
    assert (1000, True) == (len(first["data"]), first["has_more"])
    assert stocked == [entry["id"] for entry in first["data"] + second["data"]]
    assert (stocked[-1], False) == (second["last_id"], second["has_more"])
    empty = admin("GET", "/admin/models?q=nothing").json
    assert ([], False, None, None) == tuple(empty.values())[1:]


@BOTH
def test_the_list_of_keys_is_a_page_in_any_case(app, admin):
    """Without a limit it has 1,000 keys; a walk meets each of them once, oldest first."""
    services = app.extensions["roster"]
    with services.store.transaction(actor=Actor("test"), now=0) as transaction:
        for number in range(1001):
            key = ApiKey(kid=f"{number:08}", digest=str(number), name="x", created=number)
            transaction.put_key(key, None, "key.create")
    exact = admin("GET", "/admin/keys?limit=1&after=00001000").json
    assert (1, False) == (len(exact["data"]), exact["has_more"])
    first = admin("GET", "/admin/keys").json
    second = admin("GET", f"/admin/keys?after={first['last_id']}&limit=1").json
    third = admin("GET", f"/admin/keys?after={second['last_id']}").json
    listed = [key["id"] for page in (first, second, third) for key in page["data"]]

    assert [1000, 1, 1] == [len(page["data"]) for page in (first, second, third)]
    assert [True, True, False] == [page["has_more"] for page in (first, second, third)]
    assert [f"{number:08}" for number in range(1001)] == listed[:-1]
    unknown = admin("GET", "/admin/keys?after=absent")
    assert (400, "invalid_value", "after") == error(unknown)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/models?limt=1"),
        ("POST", "/admin/models?limit=1"),
        ("DELETE", "/admin/models/x?force=1"),
        ("GET", "/admin/keys?owned_by=x"),
        ("GET", "/admin/sources?limit=1"),
    ],
)
def test_unknown_parameters_are_refused_here(admin, method, path):
    """On admin routes a misspelt parameter is an error, not a loss."""
    answer = admin(method, path, {} if method == "POST" else None)

    assert (400, "invalid_value") == error(answer)[:2]
    assert error(answer)[2] in path


@BOTH
def test_put_creates_and_replaces(admin, clock):
    """PUT answers 201 for a new entry, 200 for a replaced one, whose created stays."""
    first = admin("PUT", "/admin/models/x", {"owned_by": "a", "name": "X"})
    clock.now += 100
    second = admin("PUT", "/admin/models/x", {"owned_by": "b"})

    assert (201, "/admin/models/x") == (first.status_code, first.headers["Location"])
    assert 200 == second.status_code
    assert "Location" not in second.headers
    assert "b" == second.json["owned_by"]
    assert "name" not in second.json
    assert first.json["created"] == second.json["created"]


@BOTH
def test_put_takes_what_get_gives(admin):
    """An entry put back as it was read changes nothing: same revision, no line in the log."""
    admin.add("x", context_length=10, metadata={"a": "b"}, available_from=0)
    entry = admin("GET", "/admin/models/x")
    again = admin("PUT", "/admin/models/x", entry.json)

    assert (200, entry.json) == (again.status_code, again.json)
    assert entry.headers["ETag"] == again.headers["ETag"]


def test_the_same_put_twice_changes_nothing(admin, log):
    """PUT is idempotent, though a permission that leaves out its id gets a fresh one."""
    body = {"permission": [{"group": "a"}, {"group": "b"}, {}]}
    first = admin("PUT", "/admin/models/x", body)
    second = admin("PUT", "/admin/models/x", body)

    assert (201, 200) == (first.status_code, second.status_code)
    assert first.json == second.json
    assert 2 == len(log())


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_id_cannot_change(admin, method):
    """The id of the body is absent or that of the path."""
    admin.add("x")

    assert (422, "validation_error", "id") == error(admin(method, "/admin/models/x", {"id": "y"}))
    assert 200 == admin(method, "/admin/models/x", {"id": "x"}).status_code


def test_patch_merges(admin):
    """PATCH is RFC 7396: objects merge, lists are replaced, null removes."""
    admin.add(
        "x",
        name="X",
        metadata={"a": "1", "b": "2"},
        supported_parameters=["tools", "seed"],
        parent="p",
    )
    patched = admin(
        "PATCH",
        "/admin/models/x",
        {
            "name": None,
            "parent": None,
            "metadata": {"a": None, "c": "3"},
            "supported_parameters": ["seed"],
            "description": "new",
        },
    )

    assert 200 == patched.status_code
    assert {"b": "2", "c": "3"} == patched.json["metadata"]
    assert ["seed"] == patched.json["supported_parameters"]
    assert ("new", None) == (patched.json["description"], patched.json["parent"])
    assert "name" not in patched.json
    assert 3 == patched.json["revision"]


def test_a_patch_that_changes_nothing_is_no_change(admin, log):
    """PATCH with what is there keeps the revision."""
    admin.add("x", name="X")
    answer = admin("PATCH", "/admin/models/x", {"name": "X"})

    assert (200, 2) == (answer.status_code, answer.json["revision"])
    assert 2 == len(log())


@pytest.mark.parametrize("field", ["id", "created", "owned_by", "permission", "root", "object"])
def test_a_patch_cannot_remove_what_every_entry_has(admin, field):
    """Null removes optional fields only, and the refusal is one field's."""
    admin.add("x")
    answer = admin("PATCH", "/admin/models/x", {field: None})

    assert (422, "validation_error", field) == error(answer)
    assert admin("GET", "/admin/models/x").json["revision"] == 2


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"descripton": None}, "descripton"),
        ({"architecture": {"inputt": None}}, "architecture.inputt"),
        ({"metadata": {"value": 5}}, "metadata.value"),
        ({"key": None}, "key"),
        ({"_schema": 1}, "_schema"),
        ({"": None}, "''"),
        ({"permission": [5]}, "permission.0"),
        ({"permission": [{"grup": "a"}]}, "permission.0.grup"),
    ],
)
def test_a_patch_is_checked_by_name(admin, patch, param):
    """A misspelt field is refused by its name, also where null would have removed it."""
    admin.add("x")

    assert (422, "validation_error", param) == error(admin("PATCH", "/admin/models/x", patch))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/admin/models", {"id": "new", "available_from": MIDNIGHT, **ENDS}),
        ("PUT", "/admin/models/new", {"available_from": MIDNIGHT, **ENDS}),
        ("PATCH", "/admin/models/upcoming", ENDS),
        ("PATCH", "/admin/models/ending", {"available_from": MIDNIGHT}),
        ("PUT", "/admin/models/older", {"available_from": MIDNIGHT + 1, **ENDS}),
    ],
)
def test_what_retires_before_it_appears_is_refused(admin, older, method, path, body):
    """The sentence is at shutdown_date, has both dates, and says what to do; nothing changes."""
    admin.add("upcoming", available_from=MIDNIGHT)
    admin.add("ending", **ENDS)
    before = admin("GET", "/admin/models").json
    answer = admin(method, path, body)
    moment = "2027-01-15T00:00:01Z" if path.endswith("older") else "2027-01-15T00:00:00Z"
    sentence = (
        f"Must be after available_from, which is {moment}, not 2027-01-15 (00:00 UTC): change one "
        "of them, or remove the entry."
    )

    assert (422, "shutdown_date") == (answer.status_code, answer.json["error"]["param"])
    assert [sentence] == answer.json["error"]["errors"]["shutdown_date"]
    assert before == admin("GET", "/admin/models").json


def test_stored_dates_refuse_no_other_write(admin, client, older):
    """An entry that an older release has let retire before it appears can be edited and mended."""
    shown = admin("GET", "/admin/models/older").json
    many = {"ids": ["older"], "patch": {"owned_by": "acme"}}

    assert 200 == admin("PATCH", "/admin/models/older", {"name": "Older"}).status_code
    assert 200 == admin("PUT", "/admin/models/older", shown).status_code
    assert 200 == admin("PATCH", "/admin/models", many).status_code
    assert 404 == client.get("/v1/models/older").status_code
    assert 200 == admin("PATCH", "/admin/models/older", {"available_from": None}).status_code


def test_an_object_without_members_is_left_out(admin):
    """A patch that removes the last member of an object removes the object."""
    admin.add("x", architecture={"input_modalities": ["text"]}, metadata={})
    patched = admin("PATCH", "/admin/models/x", {"architecture": {"input_modalities": None}})

    assert {"architecture", "metadata"}.isdisjoint(patched.json)


@BOTH
def test_delete_removes(admin, client):
    """DELETE answers 204 without a body; then the entry is gone everywhere."""
    admin.add("x")
    answer = admin("DELETE", "/admin/models/x")

    assert (204, b"") == (answer.status_code, answer.data)
    assert "Content-Type" not in answer.headers
    assert (404, "model_not_found", "model") == error(admin("GET", "/admin/models/x"))
    assert (404, "model_not_found", "model") == error(client.get("/v1/models/x"))


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("if_match", [None, '"1"', "*"])
def test_the_absent_is_a_404_whatever_the_precondition(admin, method, if_match):
    """A missing entry is 404 for all but PUT."""
    body = {} if method == "PATCH" else None
    headers = {} if if_match is None else {"If_Match": if_match}

    assert (404, "model_not_found", "model") == error(
        admin(method, "/admin/models/x", body, **headers)
    )


def test_every_change_names_its_actor(admin, log):
    """The log says which key made a change."""
    admin.add("x")

    assert f"key:{admin.key[3:11]}" == log()[-1].actor


@BOTH
def test_every_change_names_its_request(admin, log):
    """Each line of the log has the request id of the answer to the write that made it."""
    made = admin("POST", "/admin/keys", {"name": "x"})
    key = f"/admin/keys/{made.json['id']}"
    answers = [
        made,
        admin("POST", "/admin/models", {"id": "x"}, X_Request_ID="mine-1"),
        admin("PUT", "/admin/models/x", {"owned_by": "acme"}),
        admin("PUT", "/admin/models/y", {}),
        admin("PATCH", "/admin/models/x", {"owned_by": "corp"}),
        admin("DELETE", "/admin/models/x"),
        admin("POST", f"{key}/rotate", {}),
        admin("DELETE", key),
    ]
    actions = ["key.create", "model.create", "model.update", "model.create", "model.update"]
    actions += ["model.delete", "key.create", "key.rotate", "key.revoke"]
    ids = [answer.headers["x-request-id"] for answer in answers]
    first, *lines = log()

    assert None is first.request_id
    assert "mine-1" == ids[1]
    assert [*zip(actions, [*ids[:7], *ids[6:]], strict=True)] == [
        (line.action, line.request_id) for line in lines
    ]


# Preconditions


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("if_match", "holds"),
    [
        ('"{}"', True),
        ('"99", "{}"', True),
        ("*", True),
        ('"*"', False),
        ('"99"', False),
        ('W/"{}"', False),
        ("{}", False),
        ("", False),
        ('""', False),
        ('"60f424fde294865e403ae4d43be5e672"', False),
        ('w/"{}"', False),
        ('x"{}"', False),
        ('"{}" "9"', False),
        ('*, "{}"', False),
        ('"0{}"', False),
        ('"a"{}"b"', False),
        ('W/"1", "{}"', True),
        (', "{}",, ', True),
    ],
)
def test_if_match_guards_a_write(admin, method, if_match, holds):
    """A write with If-Match happens at that revision alone; anything malformed is a 412."""
    revision = admin.add("x")["revision"]
    body = None if method == "DELETE" else {"name": "new"}
    answer = admin(method, "/admin/models/x", body, If_Match=if_match.format(revision))

    assert (412 if not holds else 204 if method == "DELETE" else 200) == answer.status_code
    if not holds:
        assert "revision_mismatch" == answer.json["error"]["code"]
        assert revision == admin("GET", "/admin/models/x").json["revision"]


def test_if_match_on_the_absent_is_a_412_for_put(admin):
    """PUT with If-Match never creates."""
    for if_match in ('"1"', "*"):
        answer = admin("PUT", "/admin/models/x", {}, If_Match=if_match)

        assert 412 == answer.status_code


def test_if_none_match_star_never_replaces(admin):
    """PUT with If-None-Match: * creates only."""
    assert 201 == admin("PUT", "/admin/models/x", {}, If_None_Match="*").status_code
    assert 412 == admin("PUT", "/admin/models/x", {"name": "n"}, If_None_Match="*").status_code
    assert 409 == admin("POST", "/admin/models", {"id": "x"}, If_None_Match="*").status_code


@BOTH
def test_revisions_never_repeat(admin):
    """An entry created again after its removal has another tag."""
    first = admin.add("x")["revision"]
    admin("DELETE", "/admin/models/x")

    assert admin.add("x")["revision"] > first
    assert 412 == admin("PUT", "/admin/models/x", {}, If_Match=f'"{first}"').status_code


def test_a_known_revision_is_a_304(admin):
    """GET of an entry at a revision that the caller has answers no body."""
    tag = f'"{admin.add("x")["revision"]}"'
    answer = admin("GET", "/admin/models/x", If_None_Match=tag)

    assert (304, b"", tag) == (answer.status_code, answer.data, answer.headers["ETag"])


# Keys


@BOTH
def test_a_key_is_shown_once(admin, app, log):
    """POST shows the key; afterwards neither it nor its digest is anywhere."""
    answer = admin("POST", "/admin/keys", {"name": "billing"})
    shown = answer.json
    secret = shown.pop("key")
    [listed] = [k for k in admin("GET", "/admin/keys").json["data"] if k["id"] == shown["id"]]

    assert 201 == answer.status_code
    assert secret[3:11] == shown["id"]
    assert shown == listed
    assert {
        "id": shown["id"],
        "name": "billing",
        "state": "active",
        "scopes": ["read"],
        "organization": None,
        "groups": [],
        "created": shown["created"],
        "expires_at": None,
        "retires_at": None,
        "revoked_at": None,
    } == shown
    from app.catalog.keys import digest  # noqa: PLC0415

    for text in (admin("GET", "/admin/keys").text, str(log())):
        assert secret not in text
        assert digest(secret) not in text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n", "scopes": []}, "scopes"),
        ({"name": "n", "scopes": ["write"]}, "scopes.0"),
        ({"name": "n", "scopes": [5]}, "scopes.0"),
        ({"name": "n", "scopes": "read"}, "scopes"),
        ({"name": "n", "organization": "*"}, "organization"),
        ({"name": "n", "groups": [1]}, "groups.0"),
        ({"name": "n", "expires_at": 1_800_000_000}, "expires_at"),
        ({"name": "n", "expires_at": True}, "expires_at"),
        ({"name": "n", "expires": 5}, "expires"),
        ({"name": "n", "id": "chosen"}, "id"),
    ],
)
def test_a_key_that_could_not_work_is_refused(admin, body, param):
    """Every mistake in a new key is a 422 that names the field."""
    assert (422, "validation_error", param) == error(admin("POST", "/admin/keys", body))


@BOTH
@pytest.mark.parametrize("id_", ["%00", "x%00", "%0A", "%ff", "%ED%A0%80", "%E2%80%AE"])
def test_an_id_that_cannot_be_is_nobodys(admin, client, caplog, id_):
    """No character of it upsets a database: what it asks for is a 404, to make it a 422."""
    requests = [
        ("GET", "/admin/models/", None),
        ("PATCH", "/admin/models/", {}),
        ("DELETE", "/admin/models/", None),
        ("DELETE", "/admin/keys/", None),
        ("PATCH", "/admin/keys/", {}),
        ("POST", "/admin/keys/{}/rotate", {}),
        ("PUT", "/admin/models/", {}),
    ]
    answers = [
        admin(method, path.format(id_) if "{" in path else path + id_, body).status_code
        for method, path, body in requests
    ]
    id_ = unquote(id_)
    shown = client.post("/api/show", json={"model": id_})
    made = admin("POST", "/admin/models", {"id": id_})

    assert [404, 404, 404, 404, 404, 404, 422] == answers
    assert (404, 422) == (shown.status_code, made.status_code)
    assert [] == caplog.records


@BOTH
def test_no_error_of_the_database_has_parameters(app, admin):
    """They may be what a caller sent, and errors are logged."""
    admin.add("x")
    again = Model.compose({"id": "x", "name": "hunter2"}, now=0)
    store = app.extensions["roster"].store
    with (
        pytest.raises(sa.exc.IntegrityError) as caught,
        store.transaction(actor=Actor("test"), now=0) as transaction,
    ):
        write(transaction, again)

    assert "INSERT" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@BOTH
def test_an_absent_key_is_a_404(admin):
    """A key that is not there can be neither revoked nor rotated."""
    assert (404, "key_not_found", "key") == error(admin("DELETE", "/admin/keys/nothing"))
    assert (404, "key_not_found", "key") == error(admin("POST", "/admin/keys/none/rotate", {}))


@pytest.mark.parametrize("grace", [-1, 1.5, "5", None, 10**10])
def test_a_grace_is_whole_seconds(admin, grace):
    """grace is a whole number of seconds, 90 days at most."""
    kid = admin.new_key()[3:11]
    answer = admin("POST", f"/admin/keys/{kid}/rotate", {"grace": grace})

    assert (422, "validation_error", "grace") == error(answer)


# Bodies


def send(admin, body, content_type="application/json", **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return admin.client.post(
        "/admin/models",
        data=body,
        content_type=content_type,
        headers={"Authorization": f"Bearer {admin.key}", **given},
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"id":"x"} extra',
        b'{"id":"x","created":NaN}',
        b'{"id":"x","created":1e999}',
        b'{"id":"x","id":"y"}',
        b'{"id":"x","created":9223372036854775808}',
        b'{"id":"x","metadata":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"[" * 30000,
        b'{"id":"\xff"}',
        b'\xef\xbb\xbf{"id":"x"}',
        '{"id":"x"}'.encode("utf-16"),
        b'["id"]',
        b'"id"',
        b"null",
    ],
)
def test_what_is_not_one_json_object_is_a_400(admin, body):
    """Anything but strict JSON is refused before it is looked at."""
    assert (400, "invalid_json", None) == error(send(admin, body))
    assert [] == admin("GET", "/admin/models").json["data"]


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        (None, {}),
        ("application/json", {"Content_Encoding": "gzip"}),
        ("application/json", {"Content_Encoding": "identity"}),
    ],
)
def test_what_is_not_said_to_be_json_is_a_415(admin, content_type, headers):
    """Content-Type must be application/json, and nothing may be encoded."""
    answer = send(admin, b'{"id":"x"}', content_type, **headers)

    assert (415, "unsupported_media_type", None) == error(answer)


def test_a_charset_is_no_harm(admin):
    """Parameters of the media type are allowed."""
    answer = send(admin, b'{"id":"x"}', "Application/JSON; charset=utf-8")

    assert 201 == answer.status_code


def test_a_long_body_is_a_413(admin):
    """64 KiB is taken, one byte more is not, before it is parsed."""
    body = b'{"id":"x"}'.ljust(64 * 1024)

    assert 201 == send(admin, body).status_code
    assert (413, "request_too_large", None) == error(send(admin, body + b" "))


def test_all_mistakes_come_at_once(admin):
    """A 422 names the first field in param, and all of them beside it."""
    body = {"id": "a?b", "created": "5", "permission": [{"group": 5}], "contxt_length": 1}
    answer = admin("POST", "/admin/models", body).json["error"]

    assert "validation_error" == answer["code"]
    assert {"id", "created", "permission.0.group", "contxt_length"} == set(answer["errors"])
    assert ["Unknown field; is 'context_length' meant?"] == answer["errors"]["contxt_length"]
    assert answer["param"] in answer["errors"]
    assert answer["message"].startswith(answer["param"])


@pytest.mark.parametrize("body", [{}, {"id": None}, {"id": 5}, {"id": ""}, {"id": "\ud800"}])
def test_a_model_needs_an_id(admin, body):
    """POST without a usable id is a 422 that names it."""
    assert (422, "validation_error", "id") == error(admin("POST", "/admin/models", body))


def test_the_path_must_be_an_id_too(admin):
    """PUT to what could not be fetched is a 422; reading it is a 404."""
    assert (422, "validation_error", "id") == error(admin("PUT", "/admin/models/a%3Fb", {}))
    assert (404, "model_not_found", "model") == error(admin("GET", "/admin/models/a%3Fb"))


@BOTH
def test_strings_beyond_ascii_are_kept(admin, client):
    """Text is text: what is sent as escapes or as UTF-8 comes back as UTF-8."""
    admin.add("x", name="Größe \N{SNOWMAN} \U0001f999")

    assert "Größe \N{SNOWMAN} \U0001f999" == json.loads(client.get("/v1/models/x").data)["name"]
    assert "\N{SNOWMAN}".encode() in client.get("/v1/models/x").data


def test_a_warning_is_in_the_reply(admin):
    """Each write that may be a mistake says so, and is stored."""
    field = "deprecation_replacement_model"
    warning = [f"{field}: 'y' is no entry yet; no reader is referred to it."]
    written = [
        admin("POST", "/admin/models", {"id": "x", field: "y"}),
        admin("PUT", "/admin/models/z", {field: "y"}),
        admin("PUT", "/admin/models/x", {}),
        admin("PATCH", "/admin/models/x", {field: "y"}),
    ]
    shown = admin("GET", "/admin/models/x").json

    assert [warning, warning, None, warning] == [answer.json.get("warnings") for answer in written]
    assert shown == {name: v for name, v in written[-1].json.items() if name != "warnings"}
    again = admin("PUT", "/admin/models/x", written[-1].json)
    assert (200, shown) == (again.status_code, again.json)
    [dear] = admin("PATCH", "/admin/models/x", {"pricing": {"prompt": "2.5"}}).json["warnings"]
    assert dear.startswith("'x': pricing.prompt is 2.5 USD for one token. Is that the")
    refused = admin("PUT", "/admin/models/y", {field: "x"})
    assert (422, f"{field}: Must not lead back to this entry: x -> y.") == (
        refused.status_code,
        refused.json["error"]["message"],
    )
