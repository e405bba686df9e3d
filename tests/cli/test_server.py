"""What ``flask run`` says when it starts."""

import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask

from app import create_app
from app.catalog.keys import mint
from app.catalog.ports import Actor
from app.cli.server import announce
from app.settings import Settings
from app.store.schema import HEAD

ROOT = Path(__file__).parent.parent.parent
#: How long a server may take to start, in seconds.
PATIENCE = 30.0

BLOCK = (
    r"Roster \S+ at {url}\n"
    r"  database   {folder}/roster\.db, schema {schema}, 0 entries\n"
    r"  admin key  {folder}/admin-key\n"
    r"  try        curl {url}/v1/models\n"
)
#: What the block says of the admin key when there is no file with one that works.
KEPT = "not in a file here; 'flask keys create NAME --admin' makes another"
NONE = "none is active; 'flask keys create NAME --admin' makes one"


def block(url: str, folder: Path) -> re.Pattern[str]:
    return re.compile(BLOCK.format(url=re.escape(url), folder=re.escape(str(folder)), schema=HEAD))


class Run:
    """A real ``flask run`` on a free port, and what it prints."""

    def __init__(self, folder: Path, *args: str, **environ: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        folder.mkdir()
        self._out = folder / "stdout"
        self._err = folder / "stderr"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ROSTER_", "FLASK_", "WERKZEUG_"))
        }
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("flask"),
                    "run",
                    f"--port={self.port}",
                    *args,
                ],
                cwd=ROOT,
                stdout=out,
                stderr=err,
                env={
                    **inherited,
                    "ROSTER_INSTANCE_PATH": str(folder),
                    "PYTHONUNBUFFERED": "1",
                    **environ,
                },
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def answer(self) -> int:
        """Return the status of the list, once somebody answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("GET", "/v1/models")
                return connection.getresponse().status
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.err
                assert time.monotonic() < deadline, self.err
                time.sleep(0.02)
            finally:
                connection.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(PATIENCE)


@pytest.fixture
def flask_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start ``flask run``."""
    started: list[Run] = []

    def start(*args: str, **environ: str) -> Run:
        started.append(Run(tmp_path / "run", *args, **environ))
        return started[-1]

    yield start
    for run in started:
        run.stop()


@pytest.mark.parametrize("args", [[], ["--debug"], ["--reload"], ["--debug", "--no-reload"]])
def test_started(flask_run: Callable[..., Run], tmp_path: Path, args: list[str]) -> None:
    """The start is told in one block, printed once, with and without the reloader."""
    run = flask_run(*args, ROSTER_PORT="tcp://10.0.0.1:80")

    assert 200 == run.answer()
    assert 1 == len(block(f"http://127.0.0.1:{run.port}", tmp_path / "run").findall(run.out))
    assert 1 == run.out.count("Roster ")
    assert 1 == run.err.count("Warning: ROSTER_PORT is no setting of Roster")


@pytest.mark.parametrize("args", [[], ["--reload"]])
def test_port_in_use(flask_run: Callable[..., Run], args: list[str]) -> None:
    """Where the port is another program's, no block says that Roster is there."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        run = flask_run(*args, f"--port={other.getsockname()[1]}")

        assert 1 == run.process.wait(PATIENCE)
    assert "is in use by another program" in run.err
    assert "Roster" not in run.out


def test_stopped(flask_run: Callable[..., Run], tmp_path: Path) -> None:
    """TERM ends it as Ctrl-C does, and the database is one file."""
    run = flask_run()
    assert 200 == run.answer()
    run.process.terminate()

    assert 0 == run.process.wait(PATIENCE)
    assert [] == [*(tmp_path / "run").glob("roster.db-*")]


def test_relative_folder(flask_run: Callable[..., Run], tmp_path: Path) -> None:
    """A folder that is given from the current one is shown whole."""
    run = flask_run(ROSTER_INSTANCE_PATH=os.path.relpath(tmp_path / "run", ROOT))

    assert 200 == run.answer()
    shown = re.findall("  (?:database|admin key) +([^, \\n]+)", run.out)
    assert [f"{tmp_path}/run/roster.db", f"{tmp_path}/run/admin-key"] == [
        os.path.normpath(path) for path in shown
    ]
    assert all(Path(path).is_absolute() for path in shown)


def test_cannot_start(flask_run: Callable[..., Run]) -> None:
    """A store that cannot be opened stops the start with a sentence and no traceback."""
    run = flask_run(ROSTER_ADMIN_KEY_FILE="absent")

    assert 1 == run.process.wait(PATIENCE)
    sentence = "Roster cannot start: The admin key cannot be read from absent: "
    assert run.err.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in run.err
    assert "Roster" not in run.out


@pytest.fixture
def running() -> Iterator[dict[str, Any]]:
    """Let this be ``flask run``; yield its parameters."""
    params = {"host": "127.0.0.1", "port": 5000, "reload": None}
    with click.Context(click.Command("run"), info_name="run") as context:
        context.params = params
        yield params


def start(app: Flask) -> None:
    """Announce `app`, and log the line with which Werkzeug begins to serve."""
    announce(app)
    logging.getLogger("werkzeug").warning("Running on …")


@pytest.mark.parametrize("child", [True, False])
@pytest.mark.parametrize(
    ("debug", "reload", "reloads"),
    [
        (False, None, False),
        (True, None, True),
        (False, True, True),
        (True, False, False),
    ],
)
def test_reloader(
    unopened_app: Flask,
    settings: Settings,
    running: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    debug: bool,
    reload: bool | None,
    reloads: bool,
    child: bool,
) -> None:
    """Of the two processes of the reloader, the one that serves speaks."""
    monkeypatch.setenv("WERKZEUG_RUN_MAIN", str(child).lower())
    unopened_app.debug = debug
    running["reload"] = reload

    start(unopened_app)

    speaks = child or not reloads
    said = block("http://127.0.0.1:5000", settings.instance_path).fullmatch(
        capsys.readouterr().out
    )
    assert speaks == bool(said)
    assert speaks == settings.instance_path.exists()


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "0.0.0.0"), ("::1", "[::1]")])  # noqa: S104
def test_address(
    app: Flask,
    settings: Settings,
    running: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    *,
    host: str,
    url: str,
) -> None:
    """The address in the block is one that curl takes."""
    running["host"] = host

    start(app)

    assert block(f"http://{url}:5000", settings.instance_path).fullmatch(capsys.readouterr().out)


def test_unknown_variable(
    app: Flask,
    running: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unknown variable is one warning."""
    monkeypatch.setenv("ROSTER_THREDS", "5")

    start(app)

    sentence = "ROSTER_THREDS is no setting of Roster and is ignored; nearest: ROSTER_THREADS."
    assert 1 == capsys.readouterr().err.count(f"Warning: {sentence}\n")


def test_admin_key_file(
    tmp_path: Path, running: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The block names the file of the operator's key, or says that there is none."""
    settings = Settings(instance_path=tmp_path, admin_key_file=tmp_path / "mine")
    first = create_app(Settings(instance_path=tmp_path))
    start(first)
    (tmp_path / "admin-key").rename(tmp_path / "mine")
    start(first)
    first.extensions["roster"].store.close()
    second = create_app(settings)
    start(second)
    second.extensions["roster"].store.close()

    assert [
        str(tmp_path / "admin-key"),
        KEPT,
        str(tmp_path / "mine"),
    ] == re.findall("  admin key  (.*)", capsys.readouterr().out)


def test_no_entry_is_read(
    admin: Any,
    settings: Settings,
    sql: Callable[..., list[Any]],
    running: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The block has the number of entries, and none is loaded: of 100,000 that takes a second."""
    for model_id in ("a", "b"):
        admin.add(model_id)
    sql("UPDATE models SET document = 'of no use'")
    other = create_app(settings)
    start(other)
    other.extensions["roster"].store.close()

    assert ", 2 entries\n" in capsys.readouterr().out


def test_unreadable_admin_key(app: Flask, settings: Settings) -> None:
    """A key file that cannot be read costs a line of the block, and not the start."""
    app.extensions["roster"].store.open(create=True)
    settings.first_key_path.write_bytes(b"\xff\xfe")
    with app.app_context():
        assert "not in a file here" in app.extensions["roster"].start()["admin key"]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_dead_admin_key(
    tmp_path: Path,
    clock: Any,
    running: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    *,
    end: str,
    given: bool,
) -> None:
    """The block does not name a file whose key is refused."""
    path = tmp_path / ("mine" if given else "admin-key")
    if given:
        path.write_text(mint())
    settings = Settings(instance_path=tmp_path, admin_key_file=path if given else None)
    app = create_app(settings, clock)
    services = app.extensions["roster"]
    start(app)
    [key] = services.store.load().keys
    if end == "revoked":
        services.administration.revoke_key(key.kid, actor=Actor("test"), last=True)
    else:
        services.administration.rotate_key(key.kid, {"grace": 60}, actor=Actor("test"))
        clock.now += 60
    start(app)
    services.store.close()

    assert path.exists()
    told = NONE if end == "revoked" else KEPT  # whoever rotated it has the successor
    assert [str(path), told] == re.findall("  admin key  (.*)", capsys.readouterr().out)


def test_broken_store(settings: Settings, unopened_app: Flask, running: dict[str, Any]) -> None:
    """A corrupt database stops the start with a sentence."""
    settings.instance_path.mkdir()
    (settings.instance_path / "roster.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(
        SystemExit, match=r"^Roster cannot start: .* is damaged \(file is not a database\): "
    ):
        announce(unopened_app)


@pytest.mark.parametrize("name", ["config", None])
def test_other_commands(
    unopened_app: Flask,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    name: str | None,
) -> None:
    """Nothing is said, and nothing opened, when no server starts."""
    if name is None:
        announce(unopened_app)
    else:
        with click.Context(click.Command(name), info_name=name):
            announce(unopened_app)

    assert "" == capsys.readouterr().out
    assert not settings.instance_path.exists()
