"""The README is true: its commands do what it says, and nothing that exists is missing in it."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from app.api.errors import STATUS
from app.services import VERSION
from app.settings import Settings, short_path
from bench.report import short
from tests.sdk.environments import PACKAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def steps():
    """Yield each command of the console blocks with the output that the README shows."""
    for block in blocks("console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def same_everywhere(text):
    """Replace what differs from run to run, and nothing else."""
    text = re.sub(r"ro_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", "KEY", text)
    text = re.sub(r"modelperm-[0-9A-Za-z]{24}", "PERMISSION", text)
    text = re.sub(r'"created":\d{10}', '"created":TIME', text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", text)
    text = re.sub(
        r"^[0-9A-Za-z]{8}(?=  )|(?<=Key )[0-9A-Za-z]{8}", "KID", text, flags=re.MULTILINE
    )
    return re.sub(r"\d+ bytes", "SIZE", text)


@pytest.fixture
def run(server, tmp_path):
    """Return what runs a command of the README as a person would, and gives its output."""

    def in_shell(command):
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        command = command.replace("instance/admin-key", str(server.instance / "admin-key"))
        command = command.replace("roster-backup.db", str(tmp_path / "roster-backup.db"))
        done = subprocess.run(
            ["bash", "-c", command.replace(".venv/bin/", f"{BIN}/")],
            cwd=ROOT,
            env={**os.environ, "ROSTER_INSTANCE_PATH": str(server.instance)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.replace(str(tmp_path) + "/", "")

    return in_shell


@pytest.mark.needs("curl", "curl")
def test_every_command_answers_what_is_shown(run, server):
    """Each command, in the README's order, prints the output that stands below it."""
    first = server.admin("GET", "/admin/keys").json["data"][0]["created"]
    while time.time() < first + 1:  # keys of one second are listed by their ids
        time.sleep(0.01)
    run_steps = list(steps())
    for command, shown in run_steps:
        assert same_everywhere(shown) == same_everywhere(run(command)).rstrip("\n") + "\n", command

    assert len(run_steps) >= 10


@pytest.mark.parametrize(
    ("client", "language"),
    [
        pytest.param(client, language, marks=mark)
        for client in ("OpenAI", "Anthropic", "Gemini", "Ollama")
        for language, mark in (
            ("python", pytest.mark.imports(PACKAGES[client.lower()])),
            ("js", pytest.mark.needs("npm", "npm")),
        )
    ],
)
def test_the_lines_for_a_client_run(server, environments, client, language):
    """With the variables of its row, the lines of a client's section print what its key sees."""
    key = server.admin("POST", "/admin/keys", {"name": "x", "organization": "acme"}).json["key"]
    server.admin("PUT", "/admin/models/for-acme", {"permission": [{"organization": "acme"}]})
    [clients] = re.findall(r"^## Clients\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    [row] = re.findall(rf"^\| {client} \|.*$", clients, re.MULTILINE)
    [section] = re.findall(rf"^### {client}\n(.*?)(?=^### |\Z)", clients, re.DOTALL | re.MULTILINE)
    [lines] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)

    def here(text):
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("KEY", key)

    folder, command = ROOT, [sys.executable, "-c"]
    if language == "js":
        node, folder = environments.node()
        command = [node, "--input-type=module", "--eval"]
    variables = dict(re.findall(r"`([A-Z_]+)=(.*?)`", row))
    done = subprocess.run(
        [*command, here(lines)],
        cwd=folder,
        env={name: here(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.search(r"^(models/)?for-acme\b", done.stdout, re.MULTILINE), done.stdout


def test_the_start_block_is_the_real_one(server):
    """What gunicorn prints at its start is what the README shows."""
    printed = re.sub(r"^\{.*\n", "", server.out.read_text(), flags=re.MULTILINE)
    printed = printed.replace(f"127.0.0.1:{server.port}", "127.0.0.1:8000")
    printed = printed.replace(str(server.instance), "instance")
    shown = [block for block in blocks("text") if block.startswith("Roster")]

    assert [printed] == shown
    assert f"Roster {VERSION} " in printed


def test_the_set_up_commands_are_those_of_the_project():
    """The commands that set everything up stand there, each in one line."""
    venv = "python3 -m venv .venv && .venv/bin/pip install -e"

    assert [
        f"{venv} . && .venv/bin/gunicorn\n",
        f"{venv} '.[test]' && .venv/bin/pytest\n",
        ".venv/bin/pip install -e '.[test-all]' && .venv/bin/pytest --all\n",
    ] == blocks("sh")


def test_the_figures_are_the_measured_ones():
    """The short form of the measurements is that of the results that are kept."""
    kept = json.loads((ROOT / "bench" / "results" / "latest.json").read_text())

    assert short(kept) in README


def test_every_setting_has_its_row():
    """The table has each setting with its default, its values and its meaning."""
    rows = []
    for setting in fields(Settings):
        about, default = setting.metadata, setting.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        shown = short_path(default) if isinstance(default, Path) else shown
        default_cell = "-" if default in (None, ()) else f"`{shown}`"
        rows.append(
            f"| `{about['variable']}` | {default_cell} | {about['values']} | {about['help']} |"
        )

    assert rows == [
        line for line in README.splitlines() if re.match(r"\| `(ROSTER|WEB|FORWARDED)_", line)
    ]


def test_every_route_is_named(app):
    """Each route of the application stands in a table, with its method."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(path:)?\w+>", "<id>", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            assert f"`{method} {path}`" in README


def test_every_dialect_has_its_row_and_its_golden_test(app):
    """Each dialect stands in the table, and has a test of its bodies."""
    for dialect in app.extensions["roster"].dialects:
        assert f"\n| {type(dialect).__name__} |" in README
        assert (ROOT / f"tests/dialects/test_{dialect.name}.py").exists()


def test_every_error_code_is_named_with_its_status():
    """Each code stands in the row of its status."""
    for code, status in STATUS.items():
        assert re.search(rf"^\|[^|]*\b{status}\b[^|]*\|[^|]*`{code}`", README, re.MULTILINE), code


def test_every_command_is_named(app):
    """Each command of ours stands in the table of commands."""
    for group in ("models", "keys", "db"):
        [row] = [line for line in README.splitlines() if line.startswith(f"| `flask {group} ")]
        named = set(re.findall(r"`(?:flask \w+ )?(\w+)`", row.split("|")[1]))

        assert set(app.cli.commands[group].commands) == named
    assert "| `flask config` |" in README
    assert {"models", "keys", "db", "config"} == set(app.cli.commands)


def test_the_layout_is_the_real_one():
    """Each module and package of the application stands in the layout, once."""
    [layout] = [block for block in blocks("text") if block.startswith("wsgi.py")]
    for path in (ROOT / "app").iterdir():
        if path.suffix == ".py" or (path / "__init__.py").exists():
            assert re.search(rf"\b{path.name}\b", layout), path.name


@pytest.mark.needs("nginx", "nginx")
def test_the_nginx_site_serves(server, tmp_path, site_at):
    """The site of the README, with its ports replaced, serves lists, ids and errors."""
    [site] = blocks("nginx")
    port = free_port()
    site = site.replace("listen 80", f"listen 127.0.0.1:{port}")
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    conf = tmp_path / "nginx.conf"
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{folders}{site} }}\n"
    )
    server.admin("PUT", "/admin/models/through%2Fnginx%20x", {})
    nginx = subprocess.Popen(["nginx", "-c", conf, "-p", tmp_path], stderr=subprocess.DEVNULL)
    try:
        through = site_at(port)
        through.wait()
        direct = server("GET", "/v1/models")
        proxied = through("GET", "/v1/models")

        assert (200, direct.body) == (proxied.status, proxied.body)
        assert direct.headers["ETag"] == proxied.headers["ETag"]
        for path in ("through/nginx%20x", "through%2Fnginx%20x"):
            assert 200 == through("GET", f"/v1/models/{path}").status
        assert 404 == through("GET", "/v1//models").status
        assert 401 == through("GET", "/v1/models", key="wrong").status
        assert 201 == through("POST", "/admin/models", {"id": "new"}, server.admin_key).status
        assert len(site.splitlines()) <= 14
    finally:
        nginx.terminate()
        nginx.wait(30)


def free_port():
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
