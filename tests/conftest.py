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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.settings import Settings

ROOT = Path(__file__).parent.parent
#: How long a server may take to start or to stop, in seconds.
PATIENCE = 30.0


class Clock:
    """A clock that stands until a test moves it; Unix seconds."""

    def __init__(self, now: float = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _needed(request: pytest.FixtureRequest) -> None:
    """Skip a test whose program is missing; where everything must be tested, fail it."""
    for marker in request.node.iter_markers("needs"):
        program, package = marker.args
        if shutil.which(program) is None:
            missing = f"{program} is not installed: apt-get install {package}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(instance_path=tmp_path / "instance")


@pytest.fixture
def unopened_app(settings: Settings, clock: Clock) -> Iterator[Flask]:
    """An application whose database does not exist yet."""
    app = create_app(settings, clock)
    yield app
    app.extensions["roster"].store.close()


@pytest.fixture
def app(unopened_app: Flask) -> Flask:
    """An application on a new database with the first admin key."""
    unopened_app.extensions["roster"].store.open(create=True)
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


class Admin:
    """A test client that sends an admin key, and bodies as JSON."""

    def __init__(self, client: FlaskClient, key: str) -> None:
        self._client = client
        self.key = key

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.open(
            path,
            method=method,
            headers={"Authorization": f"Bearer {self.key}", **given},
            data=None if body is None else json.dumps(body),
            content_type=None if body is None else "application/json",
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


class Server(Site):
    """A real gunicorn, as ``gunicorn`` with no argument starts it, on a port of its own."""

    def __init__(self, instance: Path, **environ: str) -> None:
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
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("gunicorn")],
                cwd=ROOT,
                stdout=out,
                stderr=err,
                env={
                    **inherited,
                    "ROSTER_INSTANCE_PATH": str(instance),
                    "ROSTER_BIND": "127.0.0.1:0",
                    **environ,
                },
                start_new_session=True,
            )
        super().__init__(self._port())
        assert self("GET", "/healthz").status == 200

    def _port(self) -> int:
        """Return the port that the kernel chose."""
        listening = f'"pid": {self.process.pid}, "message": "Listening at: http://127.0.0.1:'
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.err.read_text()
            _, found, rest = self.err.read_text().rpartition(listening)
            if found:
                return int(re.match(r"\d+", rest)[0])
            time.sleep(0.01)
        raise AssertionError(self.err.read_text())

    @property
    def admin_key(self) -> str:
        return (self.instance / "admin-key").read_text().strip()

    def admin(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request with the first admin key."""
        return self(method, path, body, key=self.admin_key, **headers)

    def access_line(self, answer: Answer) -> dict[str, Any]:
        """Return the access line of an answer; it is written a moment behind it."""
        wanted = f'"request_id": "{answer.headers["x-request-id"]}"'
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in reversed(self.out.read_text().splitlines()):
                if wanted in line:
                    return json.loads(line)
            time.sleep(0.01)
        raise AssertionError(f"no access line with {wanted}")

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)


@pytest.fixture
def site_at() -> type[Site]:
    """What makes a client of whatever answers on a port."""
    return Site


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; those of one name share an instance folder."""
    started: list[Server] = []

    def start(name: str = "served", **environ: str) -> Server:
        started.append(Server(tmp_path / name, **environ))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file that do not mind one another."""
    started = Server(tmp_path_factory.mktemp("served"))
    yield started
    started.stop()
