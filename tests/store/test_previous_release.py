"""The previous release runs on the data of this program: an upgrade can be undone."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from app.names import MIRROR_FIELDS
from app.schemas import AdminModelSchema, KeySchema

ROOT = Path(__file__).parent.parent.parent
_GIT = ("git", "-C", ROOT)
#: An entry and a key with every field that one can be given.
ENTRY = {
    "id": "acme/seer:8b",
    "created": 1_626_777_600,
    "owned_by": "acme",
    "permission": [{"organization": "*", "group": None, "allow_fine_tuning": True}],
    "root": "acme/seer",
    "parent": "acme/seer-base",
    "name": "Seer",
    "description": "Sees things.",
    "aliases": ["acme/seer"],
    "type": "language",
    "tags": ["eu"],
    "context_length": 128_000,
    "max_input_tokens": 100_000,
    "max_output_tokens": 8192,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "supported_parameters": ["tools", "reasoning"],
    "supported_endpoint_types": ["openai"],
    "reasoning": {"supported_efforts": ["low"], "default_effort": "low", "mandatory": False},
    "knowledge_cutoff": "2025-08",
    "pricing": {"prompt": "0.0000025", "completion": "0.00001"},
    "list_aliases": True,
    "available_from": 1_700_000_000,
    "shutdown_date": "2038-01-31",
    "deprecation": "2037-06-01T00:00:00Z",
    "deprecation_replacement_model": "plain",
    "metadata": {"team": "vision"},
    "work_name": "a",
    "work_video_path": "b",
    "wm_work_video_path": "c",
    "no_wm_work_video_path": "d",
    "work_webp_path": "e",
    "web_work_status": 1,
    "create_time": 1_626_777_600.5,
}
KEY = {
    "name": "billing",
    "scopes": ["read"],
    "organization": "acme",
    "groups": ["research"],
    "expires_at": 2_000_000_000,
}


@pytest.fixture(scope="module")
def previous(request, tmp_path_factory):
    """The program of the newest release before this one, or of a tag, in a folder of its own."""
    tag = getattr(request, "param", "v*")
    described = subprocess.run(
        [*_GIT, "describe", "--tags", "--abbrev=0", "--match", tag],
        capture_output=True,
        text=True,
        check=False,
    )
    if described.returncode:
        pytest.skip("There is no tag of a release here: git fetch --tags")
    program = subprocess.run(
        [*_GIT, "archive", described.stdout.strip(), "app", "wsgi.py"],
        stdout=subprocess.PIPE,
        check=True,
    )
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(program.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def flask(previous, settings):
    """Run a command of the previous program on the data of `settings`; return what it printed."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "flask", *arguments, "--json"],
            cwd=previous,
            env={
                **os.environ,
                "PYTHONPATH": str(previous),
                "ROSTER_INSTANCE_PATH": str(settings.instance_path),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert all("goes on beside the newer program" in x for x in done.stderr.splitlines())
        return json.loads(done.stdout)

    return run


@pytest.mark.needs("git", "git")
def test_the_previous_release_reads_and_writes_this_data(flask, app, admin, client):
    """It lists every entry and key, edits an entry, and removes nothing that it does not know."""
    admin.add("plain")
    assert 201 == admin("POST", "/admin/models", ENTRY).status_code
    before = admin("GET", f"/admin/models/{ENTRY['id']}").json
    kid = admin("POST", "/admin/keys", KEY).json["id"]
    assert AdminModelSchema().load_fields.keys() - {"object"} - MIRROR_FIELDS == ENTRY.keys()
    assert KEY.keys() == KeySchema().load_fields.keys()

    assert {"plain", ENTRY["id"]} == {each["id"] for each in flask("models", "list")["data"]}
    assert kid in {each["id"] for each in flask("keys", "list")["data"]}

    flask("models", "edit", ENTRY["id"], "name=Edited")
    after = admin("GET", f"/admin/models/{ENTRY['id']}").json

    assert {**before, "name": "Edited", "revision": after["revision"]} == after
    assert "Edited" in client.get(f"/v1/models/{ENTRY['id']}").text
    app.extensions["roster"].store.close()


@pytest.mark.needs("git", "git")
@pytest.mark.parametrize("previous", ["v0.1.0"], indirect=True)
def test_a_release_without_aliases_writes_beside_them(flask, app, admin):
    """It leaves those of an entry that it edits; the names of one that it removes are free."""
    admin.add("x", aliases=["a", "b"])
    admin.add("y", aliases=["c"])

    def take(model_id):
        answer = admin("POST", "/admin/models", {"id": model_id})
        return answer.json.get("error", {}).get("message", answer.status_code)

    flask("models", "edit", "x", "name=Edited")

    assert ["a", "b"] == admin("GET", "/admin/models/x").json["aliases"]
    assert "The model 'a' is an alias of 'x' already." == take("a")
    flask("models", "remove", "y")
    assert 201 == take("c")
    flask("models", "add", "a")  # an alias for us, and free for a program that knows none
    assert "The model 'a' exists already." == take("a")
    edited = admin("PATCH", "/admin/models/x", {"aliases": ["b", "a", "d"]})
    assert (200, ["b", "a", "d"]) == (edited.status_code, edited.json["aliases"])
    assert 204 == admin("DELETE", "/admin/models/a").status_code
    assert "The model 'a' is an alias of 'x' already." == take("a")
    flask("models", "remove", "x")
    flask("models", "add", "x")
    assert [201, 201, 201] == [take(name) for name in "abd"]
    app.extensions["roster"].store.close()


@pytest.mark.needs("git", "git")
@pytest.mark.parametrize("previous", ["v0.1.0"], indirect=True)
def test_a_release_of_other_prices_refuses_to_change_them(flask, app, admin):
    """A price that is no number stays, and so does its entry."""
    admin.add("x", pricing={"prompt": "1", "audio": "on request"})
    before = admin("GET", "/admin/models/x").json
    with pytest.raises(AssertionError, match=r"pricing\.audio: Must be a decimal string"):
        flask("models", "edit", "x", "name=Edited")

    assert before == admin("GET", "/admin/models/x").json
    app.extensions["roster"].store.close()
