"""Fixtures: an application on a database of its own, and real gunicorns."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.catalog.model import Model
from app.catalog.ports import Actor
from app.settings import Settings
from app.store.schema import upgrade
from app.store.store import Store
from tests.needs import lacking
from tests.postgresql import Cluster, which
from tests.sdk.environments import Environments
from tests.sql import run_sql
from tests.writing import write

# Here, because tests of more than one folder import them, and the first must find them told.
pytest.register_assert_rewrite(
    "tests.dialects.promises", "tests.server.hostile", "tests.server.replay"
)

ROOT = Path(__file__).parent.parent
#: How long a server may take to start or to stop, in seconds.
PATIENCE = 30.0
#: Programs that nearly every machine has. What needs another one is left to ``--all``.
COMMON = {"curl", "git", "setpriv"}
LEFT_OUT = pytest.StashKey[int]()
#: What the marker ``databases`` names.
DATABASES = {
    "sqlite": pytest.param(None, id="sqlite"),
    "postgresql": pytest.param(
        "postgresql", id="postgresql", marks=pytest.mark.needs("initdb", "postgresql")
    ),
}


class Clock:
    """A clock that stands until a test moves it; Unix seconds."""

    def __init__(self, now: float = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all",
        action="store_true",
        help="run the slow tests too, and those that need PostgreSQL, nginx, npm or a browser",
    )


@pytest.hookimpl(tryfirst=True)  # before ``-m``
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what needs a program that has to be installed; leave out what is slow."""
    for item in items:
        if any(marker.args[0] not in COMMON for marker in item.iter_markers("needs")):
            item.add_marker("slow")
    if not config.getoption("all"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        config.stash[LEFT_OUT] = len(slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Say below everything else how many tests were left out, and how to run them."""
    yield
    if number := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{number} tests are slow or need a program such as nginx, and did not run: "
            "'pytest --all' runs them, too (see CONTRIBUTING.md)."
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that lacks something, or fail it on CI; the sentence says what to install.

    It is a hook, so that no fixture of a module uses it before this check.
    """
    for marker in item.iter_markers("needs"):
        program, package = marker.args
        if which(program) is None:
            lacking(f"{program} is not installed: apt-get install {package}")
    for marker in item.iter_markers("imports"):
        [package] = marker.args
        if not any(distributions(name=package)):
            lacking(f"{package} is not installed: pip install -e '.[test-all]'")


@pytest.fixture(scope="session", autouse=True)
def _left_lines() -> Iterator[deque[str]]:
    """Keep the lines of applications in this process from pytest's own output."""
    left: deque[str] = deque(maxlen=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.logs.access_lines.write", left.append)
        patch.setattr("app.logs.error_lines.write", deque(maxlen=0).append)  # caplog has them
        yield left


@pytest.fixture
def access_lines(_left_lines: deque[str]) -> Callable[[], list[dict[str, Any]]]:
    """Return what tells the access lines since the beginning of the test."""
    _left_lines.clear()
    return lambda: [json.loads(line) for line in _left_lines]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked with several databases on each of them."""
    marker = metafunc.definition.get_closest_marker("databases")
    if marker is not None and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", [DATABASES[name] for name in marker.args], indirect=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server, shared by all tests that do not mind one another."""
    started = Cluster(fsync="off")
    yield started
    started.remove()


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """A database of PostgreSQL with our tables, to be copied: quicker than to migrate."""
    name = cluster.create()
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: cluster.connect(name))
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    return name


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of a new database, None for SQLite's; of PostgreSQL where the test is marked so."""
    if getattr(request, "param", None) is None:
        yield None
        return
    cluster = request.getfixturevalue("cluster")
    name = cluster.create(request.getfixturevalue("template"))
    yield cluster.url(name)
    cluster.drop(name)


@pytest.fixture
def settings(tmp_path: Path, database: str | None) -> Settings:
    return Settings(instance_path=tmp_path / "instance", database_url=database)


@pytest.fixture
def sql(settings: Settings) -> Callable[..., list[Any]]:
    """What runs a statement in the database as another program, and returns its rows."""
    return partial(run_sql, settings)


@pytest.fixture
def log(sql: Callable[..., list[Any]]) -> Callable[[], list[Any]]:
    """What reads the log, in order of its revisions."""
    return lambda: sql("SELECT * FROM changes ORDER BY revision")


@pytest.fixture
def unopened_app(settings: Settings, clock: Clock) -> Iterator[Flask]:
    """An application whose database does not exist yet."""
    app = create_app(settings, clock)
    yield app
    app.extensions["roster"].store.close()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new database and the first admin key, to be copied, which is quicker."""
    folder = tmp_path_factory.mktemp("prepared") / "instance"
    store = Store(Settings(instance_path=folder), Clock())
    store.open(create=True)
    store.close()
    return folder


@pytest.fixture
def app(unopened_app: Flask, prepared: Path) -> Flask:
    """An application on a new database with the first admin key."""
    services = unopened_app.extensions["roster"]
    if services.settings.database_url is None:
        shutil.copytree(prepared, services.settings.instance_path, dirs_exist_ok=True)
    services.store.open(create=True)
    return unopened_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without a key."""
    return app.test_client()


@pytest.fixture
def sign_in() -> "Callable[[Flask], Admin]":
    """What makes a client with the first admin key of an application."""

    def client_of(app: Flask) -> Admin:
        services = app.extensions["roster"]
        services.store.open(create=True)
        return Admin(app.test_client(), services.settings.first_key_path.read_text().strip())

    return client_of


@pytest.fixture
def admin(app: Flask, sign_in: "Callable[[Flask], Admin]") -> "Admin":
    """A client with the first admin key."""
    return sign_in(app)


@pytest.fixture
def stocked(app: Flask, client: FlaskClient) -> list[str]:
    """1,002 public entries, stored at once: their ids, in order."""
    ids = [f"m{number:04}" for number in range(1002)]
    with app.extensions["roster"].store.transaction(actor=Actor("test"), now=0) as transaction:
        for model_id in ids:
            write(transaction, Model.compose({"id": model_id}, now=0))
    return ids


class Admin:
    """A test client that sends an admin key, and bodies as JSON."""

    def __init__(self, client: FlaskClient, key: str) -> None:
        self.client = client
        self.key = key

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(
            path,
            method=method,
            headers={"Authorization": f"Bearer {self.key}", **given},
            data=None if body is None else json.dumps(body),
            content_type=None if body is None else "application/json",
            buffered=True,  # and so closed, if it comes from a file
        )

    def add(self, model_id: str, **fields: Any) -> dict[str, Any]:
        """Add an entry and return it."""
        answer = self("POST", "/admin/models", {"id": model_id, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json

    def new_key(self, name: str = "test", **fields: Any) -> str:
        """Make a key and return it."""
        answer = self("POST", "/admin/keys", {"name": name, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json["key"]


@pytest.fixture
def samples() -> Callable[[str], dict[str, float]]:
    """What reads the text of /metrics: numbers, by name and labels as they are written."""

    def read(text: str) -> dict[str, float]:
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {name: float(number) for name, _, number in (x.rpartition(" ") for x in lines)}

    return read


@dataclass
class Answer:
    """What a real server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """Something that answers HTTP on a port of 127.0.0.1."""

    #: The first admin key of what is there.
    admin_key: str

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def wait(self) -> None:
        """Return when the port takes connections."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"nothing listens on port {self.port}"
                time.sleep(0.01)
            else:
                return

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str | None = None,
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request, on a connection of its own unless one is given."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        used = connection or self.connect()
        try:
            used.request(method, path, None if body is None else json.dumps(body), sent)
            response = used.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if connection is None:
                used.close()

    def admin(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request with the first admin key."""
        return self(method, path, body, key=self.admin_key, **headers)


class Server(Site):
    """A real gunicorn, as ``gunicorn`` with no argument starts it, on a port of its own.

    An argument names another application than ours. `before` are the words of a command that
    runs another, such as ``setpriv``. `stderr` is a descriptor that takes standard error instead
    of the file.
    """

    def __init__(
        self,
        instance: Path,
        *arguments: str,
        before: tuple[str, ...] = (),
        stderr: int | None = None,
        **environ: str,
    ) -> None:
        self.instance = instance
        self.out = instance / "stdout"
        self.err = instance / "stderr"
        instance.mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ROSTER_", "WEB_CONCURRENCY"))
        }
        with self.out.open("ab") as out, self.err.open("ab") as err:
            printed = out.tell()
            self.process = subprocess.Popen(
                [*before, Path(sys.executable).with_name("gunicorn"), *arguments],
                cwd=ROOT,
                stdout=out,
                stderr=err if stderr is None else stderr,
                env={
                    **inherited,
                    "ROSTER_INSTANCE_PATH": str(instance),
                    "ROSTER_BIND": "127.0.0.1:0",
                    **environ,
                },
                start_new_session=True,
            )
        super().__init__(self._port(printed))
        assert self("GET", "/healthz").status == 200

    def _port(self, printed: int) -> int:
        """Return the port that the kernel chose, from the start block after `printed` bytes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.err.read_text()
            block = self.out.read_bytes()[printed:]
            found = re.search(rb"^Roster .* at http://127\.0\.0\.1:(\d+)\n", block, re.MULTILINE)
            if found:
                return int(found[1])
            time.sleep(0.01)
        raise AssertionError(self.err.read_text())

    @property
    def logs(self) -> list[Path]:
        """Everything that it writes."""
        return [self.out, self.err]

    @property
    def admin_key(self) -> str:
        return (self.instance / "admin-key").read_text().strip()

    def access_line(self, answer: Answer) -> dict[str, Any]:
        """Return the access line of an answer; it is written a moment behind it."""
        wanted = f'"request_id": "{answer.headers["x-request-id"]}"'
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            *lines, _ = self.out.read_text().split("\n")  # the last one may not be whole yet
            for line in reversed(lines):
                if wanted in line:
                    return json.loads(line)
            time.sleep(0.01)
        raise AssertionError(f"no access line with {wanted}")

    def access_lines(self) -> list[dict[str, Any]]:
        """Return all access lines by now, if there is one worker: its lines come in order."""
        assert 1 == len(self.workers())
        last = self.access_line(self("GET", "/healthz"))
        lines = [line for line in self.out.read_text().splitlines() if line.startswith("{")]
        told = [json.loads(line) for line in lines]
        return told[: told.index(last)]

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    @contextmanager
    def connections_to_each(self) -> Iterator[list[http.client.HTTPConnection]]:
        """Give a keep-alive connection to each worker."""
        found: dict[int, http.client.HTTPConnection] = {}
        while len(found) < len(self.workers()):
            connection = self.connect()
            line = self.access_line(self("GET", "/v1/models", connection=connection))
            if found.setdefault(line["pid"], connection) is not connection:
                connection.close()
        try:
            yield list(found.values())
        finally:
            for connection in found.values():
                connection.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)


@pytest.fixture
def site_at() -> type[Site]:
    """What makes a client of whatever answers on a port."""
    return Site


@pytest.fixture
def serve(tmp_path: Path, database: str | None) -> Iterator[Callable[..., Server]]:
    """Start servers; those of one name share an instance folder."""
    started: list[Server] = []

    def start(
        name: str = "served",
        *before: str,
        application: tuple[str, ...] = (),
        stderr: int | None = None,
        **environ: str,
    ) -> Server:
        if database is not None:
            environ = {"ROSTER_DATABASE_URL": database, **environ}
        started.append(
            Server(tmp_path / name, *application, before=before, stderr=stderr, **environ)
        )
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Settings of `server`: none, unless a folder has its own."""
    return {}


@pytest.fixture(scope="module")
def application() -> tuple[str, ...]:
    """Return the application of `server` as an argument: ours, unless a file has its own."""
    return ()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    application: tuple[str, ...],
    environ: dict[str, str],
) -> Iterator[Server]:
    """One server for all tests of a file that do not mind one another."""
    started = Server(tmp_path_factory.mktemp("served"), *application, **environ)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def environments(pytestconfig: pytest.Config) -> Environments:
    """Interpreters with the official clients, installed once and kept by pytest's cache."""
    return Environments(pytestconfig.cache.mkdir("sdk"))
