"""Many entries at once, over HTTP: import, export and edits of a selection."""

import json
import signal
import subprocess

import pytest

from app.api.catalogues import FLAGS
from app.api.isolated import MAX_ENTRIES_HERE
from app.catalog.filters import PARAMETERS
from app.sources.reading import MEDIA_TYPES

BOTH = pytest.mark.databases("sqlite", "postgresql")
EMPTY = {
    "added": [],
    "changed": [],
    "removed": [],
    "unchanged": 0,
    "skipped": [],
    "refused": [],
    "degraded": [],
    "kept": [],
    "warnings": [],
}


def error(answer):
    return answer.status_code, answer.json["error"]["code"], answer.json["error"]["param"]


@pytest.fixture
def send(admin):
    """Return what posts a file to the import."""

    def post(file, query="", media_type="application/json", **headers):
        return admin.client.post(
            f"/admin/import{query}",
            data=file if isinstance(file, bytes) else json.dumps(file),
            content_type=media_type,
            buffered=True,  # and so closed, if it comes from a file
            headers={
                "Authorization": f"Bearer {admin.key}",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )

    return post


@pytest.fixture
def plan():
    """Return what reads a plan that was answered with a 200, without the seconds."""

    def read(answer):
        assert 200 == answer.status_code, answer.text
        report = answer.json
        assert report.pop("seconds") >= 0
        return report

    return read


def listing(*ids, **fields):
    return {"object": "list", "data": [{"id": i, "object": "model", **fields} for i in ids]}


@BOTH
def test_a_file_is_imported(send, admin, plan):
    """The answer lists what was added, and the entries are there, with their source."""
    report = plan(send(listing("a", "b", max_model_len=8192), "?source=gpu-1"))

    named = {"format": "openai", "source": "gpu-1", "dry_run": False, "revision": 3}
    assert {"object": "plan", **named, **EMPTY, "added": ["a", "b"]} == report
    entry = admin("GET", "/admin/models/a").json
    assert (8192, "gpu-1") == (entry["context_length"], entry["source"])
    assert {"object": "plan", **named, **EMPTY, "unchanged": 2} == plan(
        send(listing("a", "b", max_model_len=8192), "?source=gpu-1")
    )


def test_a_dry_run_changes_nothing(send, admin, plan, log):
    """It answers the plan, at the revision that it was made for."""
    before = len(log())
    report = plan(send(listing("a"), "?dry_run=1"))

    assert (True, 1, ["a"]) == (report["dry_run"], report["revision"], report["added"])
    assert before == len(log())
    assert [] == admin("GET", "/admin/sources").json["data"]


def test_a_plan_that_was_read_is_applied(send, admin):
    """With its revision it is refused once an entry that it touches has changed."""
    admin.add("a")
    admin.add("other")
    read = send(listing("a", max_model_len=1), "?on_conflict=update&dry_run=1").json["revision"]
    query = f"?on_conflict=update&revision={read}"
    admin("PATCH", "/admin/models/other", {"name": "Other"})
    assert 200 == send(listing("a", max_model_len=1), query).status_code

    refused = send(listing("a", max_model_len=2), query)

    assert (409, "plan_changed", "revision") == error(refused)
    assert 1 == admin("GET", "/admin/models/a").json["context_length"]
    assert (400, "invalid_value", "revision") == error(send(listing("b"), "?revision=99"))


def test_rows_that_are_refused(send, admin, plan):
    """They refuse the whole file, unless the rest is asked for; each is named with its field."""
    file = listing("a", "b?", "c")
    refused = send(file)

    assert (422, "rows_refused", None) == error(refused)
    assert "row 2, 'b?'" in refused.json["error"]["message"]
    assert [] == admin("GET", "/admin/models").json["data"]
    report = plan(send(file, "?partial=1"))
    assert ["a", "c"] == report["added"]
    [row] = report["refused"]
    assert {"row": 2, "id": "b?", "field": "id"} == {n: row[n] for n in ("row", "id", "field")}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?on_conflict=skip", {"skipped": ["a"]}),
        ("?on_conflict=update", {"changed": ["a"]}),
        ("?on_conflict=skip&prune=1", {"skipped": ["a"], "removed": ["gone"]}),
        ("?on_conflict=skip&retire=2027-06-01", {"skipped": ["a"], "changed": ["gone"]}),
        ("?on_conflict=skip&hidden=1&format=openai&prune=0", {"skipped": ["a"]}),
    ],
)
def test_options_are_parameters(send, admin, plan, query, found):
    """What is done with an id that exists, and with what the file lacks, is in the query."""
    send(listing("gone", "a"))
    report = plan(send(listing("a", "new", max_model_len=9), query))

    names = ("changed", "removed", "skipped")
    got = {name: [x if name == "removed" else x["id"] for x in report[name]] for name in names}
    assert {**{name: [] for name in names}, **found} == got
    assert ["new"] == report["added"]
    is_hidden = "hidden" in query
    assert is_hidden == (admin("GET", "/admin/models/new").json["permission"] == [])


@pytest.mark.parametrize("text", ["true", "", "2", "-0", "yes"])
def test_flags_are_1_or_0(send, text):
    """Another value of a flag is an error, and none of them counts as true."""
    for name in FLAGS:
        assert (400, "invalid_value", name) == error(send(listing("a"), f"?{name}={text}"))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("format=xml", "format"),
        ("format=", "format"),
        ("source=-", "source"),
        ("source=", "source"),
        ("on_conflict=replace", "on_conflict"),
        ("retire=soon", "retire"),
        ("retire=2027-13-01", "retire"),
        ("revision=-0", "revision"),
        ("revision=", "revision"),
        ("revision=1e3", "revision"),
        ("revision=" + "9" * 40, "revision"),
        ("revision=%D9%A1", "revision"),
        ("url=http://127.0.0.1/", "url"),
        ("prefix=1", "prefix"),
        ("dry_run=1&dry_run=1", "dry_run"),
    ],
)
def test_wrong_parameters(send, admin, query, param):
    """A parameter that is wrong or unknown is a 400 that names it, and nothing is stored."""
    assert (400, "invalid_value", param) == error(send(listing("a"), f"?{query}"))
    assert [] == admin("GET", "/admin/models").json["data"]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b'{"data": [{"id": "a"}]}'),
        ("application/x-ndjson", b'{"id": "a"}\n{"id": "b"}\n'),
        ("text/csv; charset=utf-8", b"id,owned_by\na,acme\n"),
        ("text/plain", b"a\nb\n"),
    ],
)
def test_media_types(send, admin, media_type, body):
    """JSON, NDJSON, CSV and plain text are read as what they are."""
    answer = send(body, media_type=media_type)

    assert 200 == answer.status_code, answer.text
    assert 200 == admin("GET", "/admin/models/a").status_code


@pytest.mark.parametrize(
    "media_type", ["", "text/html", "application/x-yaml", "multipart/form-data"]
)
def test_other_media_types(send, media_type):
    """Another one is a 415 that names those that are read."""
    answer = send(b"a", media_type=media_type)

    assert (415, "unsupported_media_type", None) == error(answer)
    assert all(name in answer.json["error"]["message"] for name in MEDIA_TYPES)
    encoded = send(b"a", media_type="text/plain", **{"Content-Encoding": "gzip"})
    assert (415, "unsupported_media_type", None) == error(encoded)


@pytest.mark.parametrize(
    ("media_type", "body", "code"),
    [
        ("application/json", b"", "invalid_value"),
        ("application/json", b"7", "invalid_value"),
        ("application/json", b'{"data": [NaN]}', "invalid_json"),
        ("application/json", b"[" * 10_000, "invalid_json"),
        ("application/json", b'{"data": [{"id": "a", "id": "b"}]}', "invalid_json"),
        ("application/json", b'{"data": [{"id": "a"}', "invalid_json"),
        ("application/json", b'{"error": {"message": "Wrong key."}}', "invalid_value"),
        ("application/x-ndjson", b'{"id": "a"}\n{"id":', "invalid_json"),
        ("text/csv", b'id\n"a', "invalid_value"),
        ("text/plain", b"\xff\xfe", "invalid_json"),
    ],
)
def test_no_catalogue(send, admin, media_type, body, code):
    """What is no catalogue is refused with a sentence, and nothing is stored."""
    answer = send(body, media_type=media_type)

    assert (400, code) == error(answer)[:2]
    assert 15 < len(answer.json["error"]["message"]) < 1500
    assert [] == admin("GET", "/admin/models").json["data"]


def test_a_body_that_is_too_long_or_cut_off(admin):
    """Both are refused before the file is read; the limit is 64 MiB."""
    headers = {"Authorization": f"Bearer {admin.key}", "Content-Type": "text/plain"}

    def post(length):
        return admin.client.post(
            "/admin/import",
            data=b"a\n",
            headers=headers,
            environ_overrides={"CONTENT_LENGTH": str(length)},
        )

    assert (413, "request_too_large", None) == error(post(64 * 1024**2 + 1))
    assert (400, "invalid_body", None) == error(post(3))


def test_a_failed_import_is_recorded(send, admin):
    """The source shows why, also of an import that its parameters name."""
    send(b"{", "?source=gpu-1")

    [source] = admin("GET", "/admin/sources").json["data"]
    assert ("gpu-1", None) == (source["name"], source["last_good"])
    assert source["last_failed"]["message"].startswith("The text is not JSON")


def test_only_administrators(client, admin):
    """All three routes need the scope admin."""
    reader = {"Authorization": f"Bearer {admin.new_key()}"}
    for method, path in (
        ("POST", "/admin/import"),
        ("GET", "/admin/export"),
        ("PATCH", "/admin/models"),
    ):
        assert 401 == client.open(path, method=method).status_code
        assert 403 == client.open(path, method=method, headers=reader).status_code


@BOTH
@pytest.mark.parametrize(
    ("form", "media_type"), [("roster", "application/json"), ("ndjson", "application/x-ndjson")]
)
def test_an_export_is_taken_back(send, admin, plan, form, media_type):
    """Imported again, it changes nothing; into an empty catalogue, it exports the same bytes."""
    send(listing("b", "a", max_model_len=8192), "?source=gpu-1")
    admin.add("hidden", permission=[], aliases=["h"])
    answer = admin("GET", f"/admin/export?format={form}")

    assert (200, media_type) == (answer.status_code, answer.mimetype)
    ending = "json" if form == "roster" else "ndjson"
    assert f'attachment; filename="roster.{ending}"' == answer.headers["Content-Disposition"]
    assert "no-store" == answer.headers["Cache-Control"]
    report = plan(send(answer.data, media_type=media_type))
    assert ("roster", 3, []) == (report["format"], report["unchanged"], report["changed"])
    for model_id in ("a", "b", "hidden"):
        admin("DELETE", f"/admin/models/{model_id}")
    assert ["a", "b", "hidden"] == plan(send(answer.data, "?force=1", media_type))["added"]
    assert answer.data == admin("GET", f"/admin/export?format={form}").data


def test_the_export_of_nothing(send, admin, plan):
    """It is a file too, HEAD has its length, and an unknown format is an error."""
    answer, head = admin("GET", "/admin/export"), admin("HEAD", "/admin/export")

    assert {"object": "roster.export", "data": []} == answer.json
    assert (b"", answer.headers["Content-Length"]) == (head.data, head.headers["Content-Length"])
    assert 200 == send(answer.data).status_code
    assert (400, "invalid_value", "format") == error(admin("GET", "/admin/export?format=csv"))


@BOTH
def test_many_entries_are_edited(admin, plan, log):
    """A selection gets one patch; the answer lists the fields, and who did it is in the log."""
    for model_id in ("a", "b", "c"):
        admin.add(model_id, owned_by="acme" if model_id != "c" else "custom")
    body = {"owned_by": "acme", "patch": {"owned_by": "umbrella", "name": "X"}}
    shown = plan(admin("PATCH", "/admin/models", {**body, "dry_run": True}))
    report = plan(admin("PATCH", "/admin/models", {**body, "revision": shown["revision"]}))

    fields = {
        "name": {"old": None, "new": "X"},
        "owned_by": {"old": "acme", "new": "umbrella"},
    }
    changed = [{"id": model_id, "fields": fields} for model_id in ("a", "b")]
    expected = {"object": "plan", **EMPTY, "changed": changed}
    assert {**expected, "dry_run": True, "revision": 4} == shown
    assert {**expected, "dry_run": False, "revision": 6} == report
    assert ["model.update"] * 2 == [line.action for line in log()[-2:]]
    assert "custom" == admin("GET", "/admin/models/c").json["owned_by"]


def test_many_entries_are_removed(admin, plan):
    """A patch that is null removes the entries; an id that is none is refused."""
    for model_id in ("a", "b", "c"):
        admin.add(model_id)
    refused = admin("PATCH", "/admin/models", {"ids": ["a", "x"], "patch": None})

    assert (422, "rows_refused", None) == error(refused)
    assert "'x'" in refused.json["error"]["message"]
    assert ["a", "b"] == plan(admin("PATCH", "/admin/models", {"ids": ["a", "b"], "patch": None}))[
        "removed"
    ]
    assert 404 == admin("GET", "/admin/models/a").status_code


@pytest.mark.parametrize("name", ["owned_by", "q", *PARAMETERS])
def test_every_filter_selects(admin, plan, name):
    """A body takes each filter of the list, and selects what the list shows."""
    facts = {"context_length": 9000, "tags": ["t"], "type": "language", "owned_by": "acme"}
    admin.add("a", **facts, supported_parameters=["tools"], shutdown_date="2031-01-01")
    admin.add("b", permission=[])
    admin("POST", "/admin/import?source=s", {"data": [{"id": "c"}]})
    value = {
        "owned_by": "acme",
        "q": "A",
        "type": "language",
        "supports": "tools",
        "min_context": 9000,
        "tag": "t",
        "lifecycle": "active",
        "visible_to": "acme",
        "hidden": False,
        "retiring_before": 1_999_999_999,
        "source": "s",
    }[name]
    text = value if isinstance(value, str) else json.dumps(value)
    listed = admin("GET", f"/admin/models?{name}={text}").json["data"]

    assert [] != listed
    for given in (value, text):
        body = {name: given, "patch": {"name": "X"}, "dry_run": True}
        changed = plan(admin("PATCH", "/admin/models", body))["changed"]
        assert [x["id"] for x in listed] == [x["id"] for x in changed]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": ["a"]}, "patch"),
        ({"ids": ["a"], "patch": []}, "patch"),
        ({"ids": ["a"], "patch": "null"}, "patch"),
        ({"ids": ["a"], "patch": {"nome": "x"}}, "patch.nome"),
        ({"ids": ["a"], "patch": {"id": "b"}}, "patch.id"),
        ({"ids": ["a"], "patch": {"created": None}}, "patch.created"),
        ({"ids": "a", "patch": None}, "ids"),
        ({"ids": [1], "patch": None}, "ids.0"),
        ({"ids": None, "patch": None}, "ids"),
        ({"ids": ["a"], "tag": "t", "patch": None}, "ids"),
        ({"patch": None}, "ids"),
        ({"q": "", "patch": None}, "q"),
        ({"q": None, "patch": None}, "q"),
        ({"tag": 1, "patch": None}, "tag"),
        ({"hidden": "yes", "patch": None}, "hidden"),
        ({"hidden": 1, "patch": None}, "hidden"),
        ({"min_context": True, "patch": None}, "min_context"),
        ({"min_context": -1, "patch": None}, "min_context"),
        ({"retiring_before": "soon", "patch": None}, "retiring_before"),
        ({"owner": "acme", "patch": None}, "owner"),
        ({"ids": ["a"], "patch": None, "dry_run": 1}, "dry_run"),
        ({"ids": ["a"], "patch": None, "revision": -1}, "revision"),
        ({"ids": ["a"], "patch": None, "revision": "1"}, "revision"),
        ({"ids": ["a"], "patch": None, "limit": 1}, "limit"),
    ],
)
def test_wrong_edits(admin, body, field):
    """What is wrong with the body is a 422 that names the field, and nothing is changed."""
    admin.add("a")
    answer = admin("PATCH", "/admin/models", body)

    assert (422, "validation_error", field) == error(answer), answer.text
    assert 200 == admin("GET", "/admin/models/a").status_code


def test_an_edit_that_was_read_is_refused_after_a_change(admin):
    """With its revision it is a 409 once one of its entries has changed."""
    admin.add("a")
    admin("PATCH", "/admin/models/a", {"name": "A"})
    body = {"ids": ["a"], "patch": None, "revision": 2}

    assert (409, "plan_changed", "revision") == error(admin("PATCH", "/admin/models", body))
    assert (400, "invalid_value", "revision") == error(
        admin("PATCH", "/admin/models", {**body, "revision": 9})
    )
    assert (400, "invalid_value", "dry_run") == error(
        admin("PATCH", "/admin/models?dry_run=1", body)
    )


@pytest.mark.slow
@BOTH
def test_a_child_process_answers_large_requests(send, admin, plan, access_lines):
    """A large import, export and edit is answered as a small one is, with one access line each."""
    ids = [f"m{number}" for number in range(MAX_ENTRIES_HERE + 1)]
    imported = send(listing(*ids), "?source=gpu-1", X_Request_ID="one")
    exported = admin("GET", "/admin/export")
    edit = {"q": "m", "patch": {"name": "X"}}
    edited = admin("PATCH", "/admin/models", edit, X_Request_ID="three")

    assert sorted(ids) == sorted(plan(imported)["added"])
    assert sorted(ids) == [entry["id"] for entry in exported.json["data"]]
    assert sorted(ids) == [entry["id"] for entry in plan(edited)["changed"]]
    assert "one" == imported.headers["x-request-id"]
    assert [
        ("/admin/import", 200, int(imported.headers["Content-Length"])),
        ("/admin/export", 200, int(exported.headers["Content-Length"])),
        ("/admin/models", 200, int(edited.headers["Content-Length"])),
    ] == [(line["route"], line["status"], line["bytes"]) for line in access_lines()]


def large(**fields):
    """Return a file that a worker does not read itself."""
    return listing(*(f"m{number}" for number in range(500)), **fields)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_a_child_process_finish(send, plan, monkeypatch, number):
    """A signal that a stop sends to all processes of the service does not end an import."""

    class Stopped(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.send_signal(number)

    monkeypatch.setattr(subprocess, "Popen", Stopped)

    assert 500 == len(plan(send(large()))["added"])


@pytest.mark.slow
def test_errors_of_a_child_process(send, admin):
    """A large file is refused as a small one is."""
    answer = send({**large(), "data": [{"id": "a?"}, *large()["data"]]}, X_Request_ID="mine")

    assert (422, "rows_refused", None) == error(answer)
    assert "mine" == answer.headers["x-request-id"]
    assert [] == admin("GET", "/admin/models").json["data"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        ("sys.executable", "/nonexistent", "There is no room for this just now"),
        ("tempfile.tempdir", "/nonexistent", "There is no room for this just now"),
        ("sys.executable", "/bin/false", "This was interrupted"),
        ("app.api.isolated.TIMEOUT", 0.01, "This was interrupted"),
        ("app.api.isolated.HEAD", -1, "This was interrupted"),
    ],
)
def test_no_answer_of_a_child_process(send, admin, monkeypatch, caplog, case):
    """Without one the answer is a 503 with a sentence, and the log has the reason."""
    name, value, message = case
    monkeypatch.setattr(name, value)
    answer = send(large(), "?source=gpu-1")
    monkeypatch.undo()

    assert (503, "unavailable", None) == error(answer)
    assert answer.json["error"]["message"].startswith(message)
    # What may have happened is not to be sent again blindly.
    assert ("interrupted" in message) == ("Retry-After" not in answer.headers)
    assert caplog.messages[-1].startswith(("Answered 503: The", "Answered 503: A temporary"))
    failed = [source["name"] for source in admin("GET", "/admin/sources").json["data"]]
    assert (["gpu-1"] if "interrupted" in message else []) == failed
    assert 200 == send(listing("small")).status_code


@pytest.mark.slow
def test_no_answer_of_a_child_process_that_changes_nothing(send, admin, monkeypatch):
    """An export and a dry run may be sent again: nothing has happened."""
    assert 200 == send(large()).status_code
    monkeypatch.setattr("sys.executable", "/bin/false")
    edit = {"q": "m", "patch": None, "dry_run": True}
    answers = [
        send(large(), "?dry_run=1"),
        admin("GET", "/admin/export"),
        admin("PATCH", "/admin/models", edit),
    ]
    changed = admin("PATCH", "/admin/models", {**edit, "dry_run": False})

    assert {(503, "1")} == {(a.status_code, a.headers.get("Retry-After")) for a in answers}
    assert all("nothing was changed" in answer.json["error"]["message"] for answer in answers)
    assert "a change may have happened" in changed.json["error"]["message"]
