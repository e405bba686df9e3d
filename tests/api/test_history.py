"""The log of changes, the catalogue as it was, undo and revert, over HTTP."""

import json
import time
from contextlib import closing
from urllib.parse import urlencode

import pytest

from app.api.isolated import MAX_ENTRIES_HERE
from app.catalog.ports import Actor
from app.store.backend import WRITE_TIMEOUT
from app.store.documents import check_model, write_model
from app.store.sqlite.connection import sqlite

BOTH = pytest.mark.databases("sqlite", "postgresql")
ROUTES = (("GET", "/admin/changes"), ("POST", "/admin/undo"), ("POST", "/admin/revert"))


def error(answer):
    return answer.status_code, answer.json["error"]["code"], answer.json["error"]["param"]


@pytest.fixture
def changes(admin):
    """Return what reads a page of the log."""

    def read(**query):
        answer = admin("GET", f"/admin/changes?{urlencode(query)}")
        assert 200 == answer.status_code, answer.text
        return answer.json

    return read


@pytest.fixture
def revisions(changes):
    """Return what reads the revisions of a page of the log."""
    return lambda **query: [line["revision"] for line in changes(**query)["data"]]


@pytest.fixture
def send(admin):
    """Return what posts an undo or revert, and reads its plan without the seconds."""

    def post(path, **body):
        answer = admin("POST", path, body)
        assert 200 == answer.status_code, answer.text
        report = answer.json
        report.pop("seconds")
        return report

    return post


@pytest.fixture
def import_ids(admin):
    """Return what imports entries with these ids."""

    def send(*ids, **fields):
        body = {"data": [{"id": model_id, **fields} for model_id in ids]}
        answer = admin("POST", "/admin/import?source=s&on_conflict=update", body)
        assert 200 == answer.status_code, answer.text

    return send


@BOTH
def test_the_log_is_a_list(admin, changes):
    """A line says when, who, what and in which request; fields have the old and the new value."""
    admin.add("a", name="A")
    admin("PATCH", "/admin/models/a", {"name": "B", "tags": ["t"]}, X_Request_ID="one")
    admin("DELETE", "/admin/models/a")
    page = changes()
    kid = admin.key[3:11]
    removed, changed, added, key = page["data"]

    assert ("list", False, 4, 1) == (
        page["object"],
        page["has_more"],
        page["first_id"],
        page["last_id"],
    )
    assert {
        "revision": 3,
        "at": 1_800_000_000,
        "actor": f"key:{kid}",
        "action": "model.update",
        "kind": "changed",
        "batch": 3,
        "request_id": "one",
        "model": "a",
        "fields": {"name": {"old": "A", "new": "B"}, "tags": {"old": None, "new": ["t"]}},
    } == changed
    assert ("added", {"old": None, "new": "A"}) == (added["kind"], added["fields"]["name"])
    assert ("removed", {"old": "B", "new": None}) == (removed["kind"], removed["fields"]["name"])
    assert ("start", "key.create", kid) == (key["actor"], key["action"], key["key"])
    assert "model" not in key
    assert ["admin"] == key["fields"]["scopes"]["new"]


@BOTH
def test_no_digest_is_in_the_log(app, admin):
    """Lines about keys have the fields of the key, and neither the key nor its digest."""
    key = admin.new_key("reader")
    admin("DELETE", f"/admin/keys/{key[3:11]}")
    text = admin("GET", "/admin/changes").text
    digests = [stored.digest for stored in app.extensions["roster"].catalog.current().keys]

    assert 2 == len(digests)
    assert not any(secret in text for secret in (*digests, key, key[12:], "digest"))
    assert '"revoked_at":{"old":null,"new":1800000000}' in text


@BOTH
def test_pages_of_the_log_while_others_write(admin, changes, revisions):
    """Each line is on one page, whatever is written between two pages; each page has its ends."""
    for number in range(7):
        admin.add(f"m{number}")
    seen, cursor = [], {}
    while True:
        page = changes(limit=3, **cursor)
        data = [line["revision"] for line in page["data"]]
        seen += data
        assert (data[0], data[-1]) == (page["first_id"], page["last_id"])
        if not page["has_more"]:
            break
        cursor = {"after": page["last_id"]}
        admin.add(f"new{len(seen)}")

    assert [*range(8, 0, -1)] == seen
    assert [] == revisions(after=1)
    empty = changes(after=1)
    assert (False, None, None) == (empty["has_more"], empty["first_id"], empty["last_id"])


def test_a_page_of_the_log_has_100_lines(stocked, admin, changes, revisions):
    """More or fewer are given by `limit`, of 1,000 at most."""
    assert 100 == len(revisions())
    assert 1000 == len(revisions(limit=1000))
    for limit in ("0", "1001", "x", ""):
        answer = admin("GET", f"/admin/changes?limit={limit}")
        assert (400, "invalid_value", "limit") == error(answer)


@BOTH
def test_filters_of_the_log(admin, clock, revisions, import_ids):
    """Each selects lines, and several together those for which all hold."""
    admin.add("a")  # 2
    clock.now += 10
    import_ids("a", "b", context_length=9)  # 3, 4
    clock.now += 10
    admin.add("c")  # 5
    at, actor = int(clock.now), f"key:{admin.key[3:11]}"

    assert [3, 2] == revisions(model="a")
    assert [1] == revisions(actor="start")
    assert [5, 4, 3, 2] == revisions(actor=actor)
    assert [5, 4, 3] == revisions(since=at - 10)
    assert [5] == revisions(since=at - 9)
    assert [2, 1] == revisions(until=at - 10)
    assert [4, 3, 2, 1] == revisions(until=at - 9)
    assert [4, 3] == revisions(batch=3)
    assert [] == revisions(batch=4)
    assert [3] == revisions(since=at - 10, until=at, model="a", actor=actor, batch=3, after=4)
    assert [4, 3] == revisions(since="2027-01-15T08:00:10Z", until="2027-01-15T08:00:20.0Z")
    assert [5] == revisions(since="2027-01-15T08:00:10.5Z")
    assert [4, 3, 2, 1] == revisions(until="2027-01-15T09:00:10.5+01:00")
    assert [] == revisions(since="2999-01-01")
    assert [] == revisions(model="A") == revisions(actor="nobody") == revisions(model="a\0")


@BOTH
def test_lines_without_a_batch(admin, sql, revisions, send):
    """A line of a program before schema 3 is an act of its own."""
    admin.add("a", name="A")
    admin("PATCH", "/admin/models/a", {"name": "B"})
    sql("UPDATE changes SET batch = NULL, mark = NULL")

    assert [3] == revisions(batch=3)
    assert [2] == revisions(batch=2)
    assert ["a"] == [entry["id"] for entry in send("/admin/undo")["changed"]]
    assert "A" == admin("GET", "/admin/models/a").json["name"]


def test_wrong_parameters_of_the_log(admin):
    """A parameter that is wrong, unknown or there twice is a 400 that names it."""
    for query, param in (
        ("since=yesterday", "since"),
        ("until=", "until"),
        ("since=12345678", "since"),
        ("until=2027-13-01", "until"),
        ("batch=x", "batch"),
        ("batch=-1", "batch"),
        ("after=a", "after"),
        ("after=" + "9" * 16, "after"),
        ("of_entries=1", "of_entries"),
        ("as_of=1", "as_of"),
        ("model=a&model=b", "model"),
    ):
        answer = admin("GET", f"/admin/changes?{query}")

        assert (400, "invalid_value", param) == error(answer), query
        assert 15 < len(answer.json["error"]["message"]) < 200


def test_a_zone_whose_plus_is_a_space(admin):
    """A time as `date -Iseconds` prints it is good with %2B, and the refusal of a + says so."""
    admin.add("a")
    path = "/admin/models/a?as_of=2027-01-15T09:00:00"
    refused = admin("GET", f"{path}+01:00")

    assert 200 == admin("GET", f"{path}%2B01:00").status_code
    assert (400, "invalid_value", "as_of") == error(refused)
    assert refused.json["error"]["message"].endswith(
        "not '2027-01-15T09:00:00 01:00': a + in a URL is a space, write it as %2B."
    )


def test_only_administrators(client, admin):
    """All routes need the scope admin."""
    reader = {"Authorization": f"Bearer {admin.new_key()}"}
    for method, path in ROUTES:
        assert 401 == client.open(path, method=method).status_code
        assert 403 == client.open(path, method=method, headers=reader).status_code


@BOTH
def test_the_list_as_it_was(admin, clock):
    """At each earlier revision and time it is what was answered then, but for other revisions."""
    shown = {}
    for change in (
        ("POST", "/admin/models", {"id": "a", "name": "A"}),
        ("POST", "/admin/models", {"id": "b", "aliases": ["x"]}),
        ("PATCH", "/admin/models/a", {"name": "B"}),
        ("DELETE", "/admin/models/b"),
        ("POST", "/admin/models", {"id": "c"}),
    ):
        clock.now += 10
        assert admin(*change).status_code < 300
        revision = admin("GET", "/admin/changes?limit=1").json["last_id"]
        shown[revision, int(clock.now)] = admin("GET", "/admin/models").data
    clock.now += 10

    for (revision, at), body in shown.items():
        assert body == admin("GET", f"/admin/models?as_of={revision}").data
        assert body == admin("GET", f"/admin/models?as_of={at + 9}").data
    assert [] == admin("GET", "/admin/models?as_of=0").json["data"]
    assert [] == admin("GET", "/admin/models?as_of=2001-01-01").json["data"]


def test_filters_hold_at_the_moment_of_the_list(admin, clock):
    """Pages and filters are those of then: what has retired since was active."""
    admin.add("a", shutdown_date="2027-02-01", tags=["t"])
    admin.add("b")
    admin.add("c", tags=["t"])
    clock.now += 100 * 24 * 60 * 60
    admin("DELETE", "/admin/models/c")

    def ids(query):
        page = admin("GET", f"/admin/models?{query}").json
        return [model["id"] for model in page["data"]], page["has_more"]

    assert (["a"], False) == ids("lifecycle=retired")
    assert ([], False) == ids("lifecycle=retired&as_of=4")
    assert (["a"], False) == ids("retiring_before=2027-03-01&as_of=4")
    assert (["a", "c"], False) == ids("tag=t&as_of=4")
    assert (["a"], True) == ids("limit=1&lifecycle=active&as_of=4")
    assert (["b"], True) == ids("limit=1&after=a&as_of=4")


@BOTH
def test_an_entry_as_it_was(admin):
    """It is found by its id and alias of then, has no ETag and is never a 304."""
    admin.add("a", aliases=["x"])
    before = admin("GET", "/admin/models/a").data
    admin("PATCH", "/admin/models/a", {"aliases": None})
    answer = admin("GET", "/admin/models/a?as_of=2", If_None_Match="*")

    assert (200, before) == (answer.status_code, answer.data)
    assert "ETag" not in answer.headers
    assert before == admin("GET", "/admin/models/x?as_of=2").data
    assert (404, "model_not_found", "model") == error(admin("GET", "/admin/models/a?as_of=1"))
    assert (404, "model_not_found", "model") == error(admin("GET", "/admin/models/x?as_of=3"))
    assert (404, "model_not_found", "model") == error(admin("GET", "/admin/models/x"))


def test_moments_that_cannot_be_shown(admin):
    """A revision that is not yet, the future, and what is neither are a 400."""
    for text in ("9", "1900000000", "2999-01-01", "yesterday", "", "-1", "7d"):
        for path in ("/admin/models", "/admin/models/a"):
            answer = admin("GET", f"{path}?as_of={text}")

            assert (400, "invalid_value", "as_of") == error(answer), text


@BOTH
def test_before_the_log_begins(admin, sql):
    """What the log no longer has is a 404 that names the parameter or the member."""
    for model_id in ("a", "b", "c"):
        admin.add(model_id)
    sql("UPDATE catalogue SET pruned = 3")

    for path in ("/admin/models", "/admin/models/a"):
        assert (404, "history_pruned", "as_of") == error(admin("GET", f"{path}?as_of=2"))
    answer = admin("POST", "/admin/revert", {"revision": 2})
    assert (404, "history_pruned", "revision") == error(answer)
    assert "before revision 3, of 2027-01-15T08:00:00Z" in answer.json["error"]["message"]
    assert 200 == admin("GET", "/admin/models?as_of=3").status_code


def test_what_a_restored_backup_does_not_know(app, sign_in, clock, tmp_path):
    """A revision after the backup is a 404 that says so; before it, and since, all are known."""
    store = app.extensions["roster"].store
    admin = sign_in(app)
    admin.add("a")
    store.backup(tmp_path / "backup.db")
    clock.now += 10
    admin.add("b")
    admin.add("c")
    store.close()
    store.restore(tmp_path / "backup.db", actor=Actor("test"))
    clock.now += 10
    admin.add("d")

    assert ["a"] == [x["id"] for x in admin("GET", "/admin/models?as_of=2").json["data"]]
    for text in (3, int(clock.now) - 5):
        for path in ("/admin/models", "/admin/models/a"):
            answer = admin("GET", f"{path}?as_of={text}")
            assert (404, "revision_unknown", "as_of") == error(answer)
    answer = admin("POST", "/admin/revert", {"revision": 3})
    assert (404, "revision_unknown", "revision") == error(answer)
    assert (400, "invalid_value", "revision") == error(
        admin("POST", "/admin/undo", {"revision": 3})
    )
    assert 200 == admin("GET", "/admin/models?as_of=5").status_code
    assert ["a"] == [
        *admin("POST", "/admin/revert", {"revision": 2}).json["removed"],
        *(x["id"] for x in admin("GET", "/admin/models").json["data"]),
    ][1:]


def test_in_an_outage(app, admin, settings):
    """What needs the log is a 503, and reads go on."""
    admin.add("a")
    admin.add("b")
    assert 200 == admin("GET", "/admin/models").status_code
    app.extensions["roster"].store.close()
    settings.database_path.rename(settings.database_path.with_name("away"))

    assert 200 == admin("GET", "/admin/models").status_code
    for method, path, body in (
        ("GET", "/admin/changes", None),
        ("GET", "/admin/models?as_of=2", None),
        ("GET", "/admin/models/a?as_of=2", None),
        ("GET", "/admin/models?as_of=2001-01-01", None),
        ("POST", "/admin/undo", {}),
        ("POST", "/admin/revert", {"revision": 2}),
        # Another process may have written what this one cannot see.
        ("GET", "/admin/models?as_of=4", None),
        ("POST", "/admin/revert", {"revision": 4}),
    ):
        answer = admin(method, path, body)
        assert (503, "unavailable", None) == error(answer)
        assert "1" == answer.headers["Retry-After"]


@BOTH
def test_an_act_is_taken_back(admin, send, import_ids):
    """All lines of an import are; the next undo takes that back; both are in the log."""
    admin.add("a", name="A")
    before = admin("GET", "/admin/export").data
    import_ids("a", "b", context_length=9)
    after = admin("GET", "/admin/export").data
    shown = send("/admin/undo", dry_run=True)
    done = send("/admin/undo")

    fields = {"context_length": {"old": 9, "new": None}}
    assert {
        "object": "plan",
        "undone": 3,
        "dry_run": False,
        "revision": 6,
        "added": [],
        "changed": [{"id": "a", "fields": fields}],
        "removed": ["b"],
        "unchanged": 0,
        "skipped": [],
        "refused": [],
        "degraded": [],
        "kept": [],
        "warnings": [],
    } == done
    assert {**done, "dry_run": True, "revision": 4} == shown
    assert before == admin("GET", "/admin/export").data
    assert ["undo:3"] * 2 == [
        line["action"] for line in admin("GET", "/admin/changes?batch=5").json["data"]
    ]
    assert ["b"] == send("/admin/undo")["added"]
    assert after == admin("GET", "/admin/export").data


@BOTH
def test_an_act_is_taken_back_twice(admin, send):
    """By its revision it changes nothing the second time."""
    admin.add("a")
    assert ["a"] == send("/admin/undo", revision=2)["removed"]
    again = send("/admin/undo", revision=2)

    assert ([], [], 1, 3) == (
        again["added"],
        again["removed"],
        again["unchanged"],
        again["revision"],
    )


@BOTH
def test_an_undo_of_one_entry(admin, send, import_ids):
    """Its last act is taken back as a whole; with a revision only what that act did to it."""
    import_ids("a", "b", "c")
    admin.add("d")

    assert ["a", "b", "c"] == send("/admin/undo", model="b", dry_run=True)["removed"]
    assert ["b"] == send("/admin/undo", model="b", revision=2)["removed"]
    for model_id, code in (("d", (400, "invalid_value")), ("e", (404, "model_not_found"))):
        answer = admin("POST", "/admin/undo", {"model": model_id, "revision": 2})
        assert (*code, "model") == error(answer)


@BOTH
def test_an_entry_that_was_changed_again(admin, send):
    """It is refused with a sentence and nothing is changed, unless `force` is given."""
    admin.add("a", name="A")
    admin("PATCH", "/admin/models/a", {"name": "B"})
    admin("PATCH", "/admin/models/a", {"name": "C"})
    refused = admin("POST", "/admin/undo", {"revision": 3})

    assert (422, "rows_refused", None) == error(refused)
    message = refused.json["error"]["message"]
    assert "'a': Was changed again, at revision 4 by key:" in message
    assert "'force' overrides what was changed again" in message
    [row] = send("/admin/undo", revision=3, dry_run=True)["refused"]
    assert "a" == row["id"]
    assert "C" == admin("GET", "/admin/models/a").json["name"]
    send("/admin/undo", revision=3, force=True)
    assert "A" == admin("GET", "/admin/models/a").json["name"]


@BOTH
def test_a_return_to_a_revision(admin, send, import_ids):
    """All entries are what they were then; the dry run shows the same, and changes nothing."""
    admin.add("a", name="A")
    admin.add("b")
    before = admin("GET", "/admin/export").data
    admin("PATCH", "/admin/models/a", {"name": "B"})
    admin("DELETE", "/admin/models/b")
    import_ids("c")
    after = admin("GET", "/admin/export").data
    shown = send("/admin/revert", revision=3, dry_run=True)
    assert after == admin("GET", "/admin/export").data
    done = send("/admin/revert", revision=3)

    assert {**shown, "dry_run": False, "revision": 9} == done
    assert (3, ["b"], ["a"], ["c"]) == (
        done["reverted_to"],
        done["added"],
        [entry["id"] for entry in done["changed"]],
        done["removed"],
    )
    assert before == admin("GET", "/admin/export").data
    assert "revert:3" == admin("GET", "/admin/changes?limit=1").json["data"][0]["action"]
    assert [] == send("/admin/revert", revision=9)["changed"]


@BOTH
def test_a_return_of_one_entry(admin, send):
    """Others stay as they are; of an entry that never was it is a 404."""
    admin.add("a", name="A")
    admin.add("b", name="A")
    for model_id in ("a", "b"):
        admin("PATCH", f"/admin/models/{model_id}", {"name": "B"})
    send("/admin/revert", revision=3, model="a")

    assert ["A", "B"] == [x["name"] for x in admin("GET", "/admin/models").json["data"]]
    answer = admin("POST", "/admin/revert", {"revision": 3, "model": "c"})
    assert (404, "model_not_found", "model") == error(answer)
    assert ["a"] == send("/admin/revert", revision=1, model="a")["removed"]


def test_an_undo_that_would_take_a_name(admin, send):
    """A removed entry whose alias is another's by now is refused, `force` or not."""
    admin.add("a", aliases=["x"])
    admin("DELETE", "/admin/models/a")
    admin.add("x")
    answers = [
        admin("POST", "/admin/undo", {"revision": 3, "force": True}),
        admin("POST", "/admin/revert", {"revision": 2, "model": "a"}),
    ]

    assert [(422, "rows_refused", None)] * 2 == [error(answer) for answer in answers]
    assert all("'x' exists already" in answer.text for answer in answers)
    assert ["a"] == send("/admin/revert", revision=2)["added"]


def test_an_alias_as_the_model(admin):
    """As in a PATCH it is a 404 that names the id."""
    admin.add("a", aliases=["x"])
    for path, body in (
        ("undo", {"model": "x"}),
        ("undo", {"model": "x", "revision": 2}),
        ("revert", {"model": "x", "revision": 2}),
    ):
        answer = admin("POST", f"/admin/{path}", body)

        assert (404, "model_not_found", "model") == error(answer)
        assert "it is an alias, use 'a' instead" in answer.json["error"]["message"]


#: The end of the path, the body, and the member that is wrong.
WRONG = [
    *(
        (path, {"revision": 1, name: value}, name)
        for path in ("undo", "revert")
        for name, value in (
            ("revision", "1"),
            ("revision", 1.5),
            ("revision", -1),
            ("revision", True),
            ("revision", None),
            ("revision", [1]),
            ("revision", 2**60),
            ("model", 5),
            ("model", ""),
            ("model", None),
            ("model", ["a"]),
            ("model", "what?"),
            ("model", "a\0"),
            ("dry_run", 1),
            ("dry_run", "true"),
            ("dry_run", None),
            ("as_of", 1),
            ("to", 1),
        )
    ),
    ("undo", {"revision": 0}, "revision"),
    ("undo", {"force": 1}, "force"),
    ("revert", {}, "revision"),
    ("revert", {"revision": "2027-01-31"}, "revision"),
    ("revert", {"revision": 1, "force": True}, "force"),
]


def test_wrong_members(admin):
    """What is wrong with the body is a 422 that names the member, and nothing is changed."""
    admin.add("a")
    for path, body, field in WRONG:
        answer = admin("POST", f"/admin/{path}", body)

        assert (422, "validation_error", field) == error(answer), (path, body)
        assert 15 < len(answer.json["error"]["message"]) < 200
    assert 200 == admin("GET", "/admin/models/a").status_code


def test_revisions_that_are_not_yet(admin):
    """They are a 400, also numbers that would be a time elsewhere."""
    for revision in (9, 10_000_000, 1_700_000_000, 2**53 - 1):
        for path in ("undo", "revert"):
            answer = admin("POST", f"/admin/{path}", {"revision": revision})

            assert (400, "invalid_value", "revision") == error(answer)
            assert str(revision) in answer.json["error"]["message"]


def test_bodies_and_parameters(admin):
    """A query parameter is a 400, and a body that is no JSON object too."""
    for path in ("/admin/undo", "/admin/revert"):
        assert (400, "invalid_value", "dry_run") == error(
            admin("POST", f"{path}?dry_run=1", {"revision": 1})
        )
        assert (400, "invalid_json", None) == error(admin("POST", path, []))
        assert (415, "unsupported_media_type", None) == error(admin("POST", path))


def test_nothing_to_take_back(admin):
    """Where no entry was ever changed it is a 400 that says so."""
    answer = admin("POST", "/admin/undo", {})

    assert (400, "invalid_value", "revision") == error(answer)
    assert "No entry was changed yet" in answer.json["error"]["message"]


@BOTH
def test_a_revoked_key_stays_revoked(admin, client, send):
    """It is refused at the next request, whatever is taken back, and its lines never are."""
    admin.add("a")
    key = admin.new_key("other", scopes=["admin"])
    own = {"Authorization": f"Bearer {key}"}
    assert 200 == client.get("/admin/models", headers=own).status_code
    admin.add("b")
    admin("DELETE", f"/admin/keys/{key[3:11]}")
    lines = admin("GET", "/admin/changes").json["data"]

    def is_refused():
        return 401 == client.get("/v1/models", headers=own).status_code

    for line in lines:
        answer = admin("POST", "/admin/undo", {"revision": line["revision"]})
        assert ("key" in line) == (answer.status_code == 400), answer.text
        assert is_refused()
    assert "what was done to keys stays" in answer.json["error"]["message"]
    for revision in range(len(lines), -1, -1):
        send("/admin/revert", revision=revision)
        assert is_refused()
    for _ in range(3):
        send("/admin/undo")
        assert is_refused()
    [state] = [
        k["state"] for k in admin("GET", "/admin/keys").json["data"] if k["id"] == key[3:11]
    ]
    assert "revoked" == state


@pytest.mark.slow
@BOTH
def test_a_child_process_answers_large_requests(admin, import_ids, monkeypatch, access_lines):
    """A large undo and revert, and a moment far back, have the bytes that a worker makes.

    What a large act has done to one entry is taken back by the worker itself.
    """
    ids = sorted(f"m{number}" for number in range(MAX_ENTRIES_HERE + 1))
    admin.add("a")
    import_ids(*ids)
    monkeypatch.setattr("app.api.history.MAX_REVISIONS_HERE", MAX_ENTRIES_HERE)
    requests = [
        ("POST", "/admin/undo", {"dry_run": True}),
        ("POST", "/admin/revert", {"revision": 2, "dry_run": True}),
        ("GET", "/admin/models?as_of=2", None),
        ("GET", "/admin/models/m1?as_of=2", None),
    ]
    started = len(access_lines())
    isolated = [admin(*request, X_Request_ID="one") for request in requests]
    lines = access_lines()[started:]
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        failed = [admin(*request) for request in requests]
        one = admin("POST", "/admin/undo", {"revision": 3, "model": "m1", "dry_run": True})
        unsure = admin("POST", "/admin/undo", {})
        patch.setattr("app.api.history.MAX_ENTRIES_HERE", 10**9)
        patch.setattr("app.api.history.MAX_REVISIONS_HERE", 10**9)
        here = [admin(*request, X_Request_ID="one") for request in requests]

    assert [(a.status_code, a.data) for a in here] == [(a.status_code, a.data) for a in isolated]
    assert [200, 200, 200, 404] == [answer.status_code for answer in isolated]
    assert ids == isolated[0].json["removed"] == isolated[1].json["removed"]
    assert [len(answer.data) for answer in isolated] == [line["bytes"] for line in lines]
    assert {(503, "1")} == {(a.status_code, a.headers["Retry-After"]) for a in failed}
    assert ["m1"] == one.json["removed"]
    assert "a change may have happened" in unsure.json["error"]["message"]
    assert ids == admin("POST", "/admin/undo", {}).json["removed"]


@pytest.mark.slow
def test_no_child_process_waits_for_writers(app, admin, import_ids, monkeypatch):
    """What changes nothing is answered while another process holds the lock of writers."""
    import_ids(*(f"m{number}" for number in range(MAX_ENTRIES_HERE + 1)))
    monkeypatch.setattr("app.api.isolated.TIMEOUT", WRITE_TIMEOUT)
    backend = app.extensions["roster"].store.backend
    with backend.writer_lock(time.monotonic() + WRITE_TIMEOUT):
        answers = [
            admin("POST", "/admin/undo", {"dry_run": True}),
            admin("GET", "/admin/export"),
        ]

    assert [200, 200] == [answer.status_code for answer in answers]


#: What the members of an entry in a restored log may be.
HOSTILE = [
    {"created": "x"},
    {"created": 5.5},
    {"created": 10**18},
    {"owned_by": None},
    {"owned_by": {"a": 1}},
    {"permission": 5},
    {"permission": [5]},
    {"permission": [{"organization": 5}]},
    {"permission": None},
    {"aliases": 5},
    {"aliases": "abc"},
    {"aliases": [["a"]]},
    {"aliases": ["a"]},
    {"aliases": ["b"]},
    {"tags": 5},
    {"tags": {"a": 1}},
    {"type": ["a"]},
    {"context_length": "9"},
    {"context_length": 9, "max_input_tokens": 10},
    {"architecture": 5},
    {"architecture": {"input_modalities": 5}},
    {"supported_parameters": 5},
    {"reasoning": [1]},
    {"pricing": 5},
    {"pricing": {"prompt": 5}},
    {"metadata": ["a"]},
    {"shutdown_date": "soon"},
    {"shutdown_date": 5},
    {"deprecation": "0001-01-01T00:00:00+14:00"},
    {"deprecation": 5},
    {"deprecation_replacement_model": 5},
    {"deprecation_replacement_model": ["a"]},
    {"deprecation_replacement_model": "a"},
    {"available_from": "x"},
    {"available_from": 10**18},
    {"list_aliases": 1},
    {"source": 5},
    {"source": ["s"]},
    {"source": "-"},
    {"name": "a\u202eb"},
    {"name": "a\0b"},
    {"id": "b"},
    {"id": 5},
    {"id": ["a"]},
    {"parent": 5},
    {"root": None},
    {"revision": 5},
    {"is_deprecated": 5},
    {"unknown_members": 5},
    {"references": 5},
]


#: Those that are tried each time.
FOUND = ("architecture-5",)


def hostile():
    for members in HOSTILE:
        [(name, value)] = [*members.items()][-1:]
        test_id = f"{name}-{value}"
        marks = () if test_id in FOUND else pytest.mark.slow
        yield pytest.param(members, marks=marks, id=test_id)


@pytest.fixture
def restored(app, sign_in, tmp_path):
    """Return what restores a backup in whose log line 4, an edit of a, is changed."""

    def restore(values, *parameters):
        store = app.extensions["roster"].store
        admin = sign_in(app)
        admin.add("b")
        admin.add("a", name="A")
        admin("PATCH", "/admin/models/a", {"name": "B"})
        admin("DELETE", "/admin/models/a")
        admin("POST", "/admin/import?source=s", {"data": [{"id": "a"}]})
        store.backup(tmp_path / "backup.db")
        with closing(sqlite.connect(tmp_path / "backup.db")) as connection:
            connection.execute(f"UPDATE changes SET {values} WHERE revision = 4", parameters)  # noqa: S608
            connection.commit()
        store.close()
        store.restore(tmp_path / "backup.db", actor=Actor("test"))

    return restore


@pytest.fixture
def withstand(app, admin):
    """Return what sends all kinds of requests to a restored log."""
    filters = ("", "&q=a&tag=t&lifecycle=active&hidden=true&min_context=1&supports=vision")
    requests = [
        ("GET", "/admin/changes", None),
        ("GET", "/admin/changes?batch=4", None),
        (
            "POST",
            "/admin/import?source=s&on_conflict=update&dry_run=1",
            {"data": [{"id": "a", "name": "C"}, {"id": "b", "name": "C"}]},
        ),
        *(("POST", "/admin/undo", {"revision": n, "force": True}) for n in range(2, 7)),
        *(("POST", "/admin/undo", {"model": "a", "revision": n}) for n in range(3, 7)),
        ("POST", "/admin/undo", {}),
        ("POST", "/admin/undo", {"model": "a"}),
        *(("POST", "/admin/revert", {"revision": n}) for n in range(7)),
        *(("POST", "/admin/revert", {"revision": n, "model": "a"}) for n in range(7)),
        *(("GET", f"/admin/models?as_of={n}{more}", None) for n in range(7) for more in filters),
        *(("GET", f"/admin/models/a?as_of={n}", None) for n in range(7)),
    ]

    def send():
        for request in requests:
            answer = admin(*request)
            assert answer.status_code in (200, 400, 404, 422, 503), (request, answer.text)
            for model in app.extensions["roster"].store.load().models:
                check_model(write_model(model), model.revision)
            assert 200 == admin("GET", "/admin/models").status_code

    return send


@pytest.mark.parametrize("members", [*hostile()])
def test_a_hostile_entry_in_the_log(restored, withstand, members):
    """What a restored backup has in its log is no 500 anywhere, and nothing of it is stored."""
    stored = {"id": "a", "created": 1, "owned_by": "x", "permission": [], "root": "a"}
    restored("before = ?", json.dumps({**stored, "parent": None, **members}))

    withstand()


@pytest.mark.parametrize(
    "values",
    [
        "action = 'undo:0'",
        pytest.param("action = 'undo:' || hex(zeroblob(400))", marks=pytest.mark.slow),
        *(
            pytest.param(values, marks=pytest.mark.slow)
            for values in (
                "action = 'revert:0'",
                "action = 'revert:5'",
                "batch = 1",
                "batch = 2",
                "before = NULL, after = NULL",
                "before = '{}', after = '{}'",
                "model_id = NULL",
                "model_id = 'a?', batch = NULL",
                "model_id = NULL, kid = 'x'",
                "kid = 'x'",
                "at = 0",
                "at = 4294967295",
                "actor = '', request_id = ''",
            )
        ),
    ],
)
def test_a_hostile_line_of_the_log(restored, withstand, values):
    """Nor is a line whose action, batch, entry, key or time is none of ours."""
    restored(values)

    withstand()
