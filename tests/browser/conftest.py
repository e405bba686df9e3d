"""Fixtures: Chromium, pages of several origins with official clients, and a server they read."""

import shutil
import subprocess
import threading
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = ("package.json", "page.js", "index.html")
NPM_INSTALL = "npm install --no-package-lock --no-audit --no-fund --ignore-scripts"
ESBUILD = "node_modules/.bin/esbuild page.js index.html --bundle --minify --keep-names"
#: Without a sandbox, because root has none, and without calls home.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium, without a head."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - an extra

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS.split()
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(chromium):  # nothing is installed for a browser that is not there
    """The folder of the page and its script, made anew when one of the sources has changed."""
    made_of = b"".join((HERE / name).read_bytes() for name in SOURCES) + ESBUILD.encode()
    folder = HERE / "node_modules" / f".page-{sha256(made_of).hexdigest()[:16]}"
    if not folder.exists():
        for command in (NPM_INSTALL, f"{ESBUILD} --loader:.html=copy --outdir={folder}"):
            done = subprocess.run(
                command.split(), cwd=HERE, capture_output=True, text=True, timeout=600, check=False
            )
            assert 0 == done.returncode, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def origins(site):
    """Three origins of the page: two that the server lets read it, and a stranger."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site))
            )
            for _ in range(3)
        ]
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
        yield [f"http://127.0.0.1:{server.server_port}" for server in servers]


@pytest.fixture(scope="module")
def environ(origins):
    """Two origins may read `server`, whose one worker tells what they asked in order."""
    return {"ROSTER_CORS_ORIGINS": ",".join(origins[:2]), "WEB_CONCURRENCY": "1"}


@pytest.fixture
def catalogue(server):
    """The server with two models and no others; one of them is for an organization."""

    def put(model_id, **entry):
        # Long enough to be sent compressed in the dialects that tell it.
        entry["description"] = "x" * 2000
        assert 201 == server.admin("PUT", f"/admin/models/{model_id}", entry).status

    def clear():
        for entry in server.admin("GET", "/admin/models").json["data"]:
            assert 204 == server.admin("DELETE", f"/admin/models/{entry['id']}").status

    clear()
    put("acme/coder", name="Coder", permission=[{"organization": "acme"}])
    put("gpt-x", name="X")
    server.put, server.clear = put, clear
    return server


@pytest.fixture
def new_key(server):
    """Return what makes a key, of the organization acme unless another is given."""

    def make(organization="acme"):
        wanted = {"name": "page", "organization": organization}
        return server.admin("POST", "/admin/keys", wanted).json["key"]

    return make


@pytest.fixture
def asked(catalogue):
    """Return what tells the dialect, method and status of what pages have asked by now."""
    before = len(catalogue.access_lines())

    def lines():
        return [
            (line["dialect"], line["method"], line["status"])
            for line in catalogue.access_lines()[before:]
            if line["route"].startswith("/v1")
        ]

    return lines


class Page:
    """A page in a tab, and what it can ask of the server."""

    def __init__(self, tab, url):
        self.tab = tab
        self.url = url

    def ask(self, client, key, *model_id):
        """List models through a client, or retrieve one."""
        return self.tab.evaluate("given => ask(...given)", [client, self.url, key, *model_id])

    def read(self, **options):
        """Fetch the list with the options of the browser's own fetch."""
        return self.tab.evaluate("given => read(...given)", [self.url, options])


@pytest.fixture
def visit(chromium, catalogue):
    """Return what opens the page of an origin; all tabs share one cache, empty at first."""
    context = chromium.new_context()

    def tab(origin, server=catalogue):
        opened = context.new_page()
        opened.goto(origin)
        return Page(opened, server.url)

    yield tab
    context.close()


@pytest.fixture
def page(visit, origins):
    """The page on an origin that may read."""
    return visit(origins[0])
