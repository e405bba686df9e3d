"""Every page is true: its commands do what it shows, and its tables have what the code has."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import click
import pytest

from app.api.context import KEY_HEADERS
from app.api.errors import STATUS
from app.catalog.filters import PARAMETERS
from app.catalog.history import LOG_PARAMETERS
from app.catalog.sources import GoodRun
from app.cli.selection import selecting
from app.settings import Settings, short_path
from bench.report import number, short
from tests.dialects.derived import parameters_of
from tests.pages import PAGES, ROOT, anchors, blocks, code, same_everywhere, section, steps, tables
from tests.sdk.environments import PACKAGES

BIN = Path(sys.executable).parent


@pytest.fixture
def run(serve, tmp_path):
    """Return what runs a command on a new service as a person would, and gives its output."""
    server = serve()
    first = server.admin("GET", "/admin/keys").json["data"][0]["created"]
    while time.time() < first + 1:  # keys of one second are listed by their ids
        time.sleep(0.01)

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
        output = done.stdout.replace(str(server.instance), "instance")
        return output.replace(str(tmp_path) + "/", "")

    return in_shell


@pytest.mark.needs("curl", "curl")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if page == "README.md" else [pytest.mark.slow])
        for page in PAGES
        if blocks(page, "console")
    ],
)
def test_every_command_answers_what_is_shown(run, page):
    """Each command of a page, in its order and on a new service, prints what is shown below."""
    for command, shown in steps(page):
        printed = run(command).rstrip("\n")

        assert same_everywhere(shown.rstrip("\n")) == same_everywhere(printed), command


def test_each_prompt_begins_a_step():
    """The pages show commands, and the test above runs each of them."""
    prompts = re.findall(r"^\$ (.*)$", "\n".join(PAGES.values()), re.MULTILINE)

    assert [] != prompts == [command for page in PAGES for command, _ in steps(page)]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    """A link of a page names a file that exists, and a heading that its page has."""
    links = re.findall(r"\]\(([^)]+)\)", PAGES[page])
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page

        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


def test_every_page_can_be_found():
    """The README leads to each page of `docs/`."""
    assert [] == [
        page for page in PAGES if page != "README.md" and f"]({page}" not in PAGES["README.md"]
    ]


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
    [row] = [row for row in tables("docs/clients.md", "Clients") if row[0] == client]
    [lines] = re.findall(
        rf"```{language}\n(.*?)```", section("docs/clients.md", client), re.DOTALL
    )

    def here(text):
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("KEY", key)

    folder, command = ROOT, [sys.executable, "-c"]
    if language == "js":
        node, folder = environments.node()
        command = [node, "--input-type=module", "--eval"]
    variables = dict(text.split("=", 1) for text in code(row[1]))
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


def test_the_settings_are_those_of_the_code():
    """The table has each setting with its default, its values and its meaning, and no other."""
    rows = []
    for setting in fields(Settings):
        about, default = setting.metadata, setting.default
        shown = ",".join(default) if isinstance(default, tuple) else default
        shown = short_path(default) if isinstance(default, Path) else shown
        default_cell = "-" if default in (None, ()) else f"`{shown}`"
        rows.append([f"`{about['variable']}`", default_cell, about["values"], about["help"]])

    assert rows == tables("docs/settings.md", "Settings")


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_setting_that_does_not_exist(page):
    """Each variable of ours that a page names is a setting."""
    known = {setting.metadata["variable"] for setting in fields(Settings)}
    known.add("ROSTER_EXAMPLE")  # of the recipe in CONTRIBUTING.md

    assert set() == set(re.findall(r"ROSTER_[A-Z_]+[A-Z]", PAGES[page])) - known


def test_the_routes_are_those_of_the_application(app):
    """The page has each route with its methods, in the section of its kind, and no other."""
    shown = {}
    for title in ("Reading", "Operation", "Administration"):
        for cells in tables("docs/api.md", title):
            shown |= {tuple(route.split()): title for route in code(cells[0])}
    routes = {}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(path:)?\w+>", "<id>", rule.rule)
        title = {"models": "Reading", "operation": "Operation"}.get(
            rule.endpoint.split(".")[0], "Administration"
        )
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            routes[method, path] = title

    assert routes == shown


def test_a_gateway_gets_each_public_route():
    """The page has the routes of readers, all that a gateway sends to Roster."""
    reading, gateway = (
        [route for row in tables(page, title) for route in code(row[0])]
        for page, title in (("docs/api.md", "Reading"), ("docs/gateway.md", "Behind a gateway"))
    )

    assert reading == gateway


def test_a_gateway_passes_on_what_selects_a_dialect(app):
    """The page names each header that does; those with keys it names together."""
    page = section("docs/gateway.md", "Behind a gateway")
    [named] = re.findall(r"those with keys, (.*?)\.", page, re.DOTALL)

    assert {*app.extensions["roster"].dialects.headers} - {*KEY_HEADERS} == {*code(named)}


def test_the_dialects_are_those_of_the_factory(app):
    """Each has its row, in the order of the checks: what selects it, and its parameters."""
    rows = tables("docs/api.md", "Dialects")
    dialects = list(app.extensions["roster"].dialects)

    assert [type(dialect).__name__ for dialect in dialects] == [row[0] for row in rows]
    for dialect, (_, selects, parameters) in zip(dialects, rows, strict=True):
        signs = [*dialect.headers]
        if dialect.routes is not None:
            signs.append(dialect.routes.prefix)
        if dialect.key_parameter is not None:
            signs.append(f"?{dialect.key_parameter}=")
        assert set(signs) == {x for x in code(selects) if x != "Authorization"}
        assert sorted(parameters_of(dialect)) == sorted(code(parameters))
        assert (ROOT / f"tests/dialects/test_{dialect.name}.py").exists()


def test_the_filters_are_those_of_the_code():
    """Each parameter of an administrator's filter has its row, and no other."""
    rows = tables("docs/api.md", "Filters")

    assert sorted(PARAMETERS) == sorted(name for row in rows for name in code(row[0]))


def test_the_parameters_of_the_log_are_those_of_the_code():
    """Each parameter of a page of the log has its row, and no other."""
    rows = tables("docs/api.md", "History")

    assert sorted((*LOG_PARAMETERS, "limit")) == sorted(n for row in rows for n in code(row[0]))


def test_the_codes_are_those_of_the_code():
    """Each code of an error is in a row with its status, and no other code of the application."""
    shown = set()
    for statuses, codes, _ in tables("docs/api.md", "Errors"):
        shown |= {(name, int(status)) for status in statuses.split(", ") for name in code(codes)}
    from_nginx = {("unavailable", 502), ("unavailable", 504)}
    from_the_parser = {("invalid_request", status) for status in (400, 414, 431)}

    assert {*STATUS.items()} == shown - from_nginx - from_the_parser


#: What the table has instead of the options that several commands share.
FILTERS = "[filters](#filters)"


def shown_option(parameter, context):
    value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
    return f"`{parameter.opts[0]}{value}`"


def test_the_commands_are_those_of_flask(app):
    """The tables have each command with its options, and its own first sentence."""
    shared = click.command()(selecting(lambda: None))
    filters = {x.help: shown_option(x, click.Context(shared)) for x in shared.params}
    rows = []
    for name in ("models", "keys", "db", "config"):
        group = app.cli.commands[name]
        for command in getattr(group, "commands", {"": group}).values():
            context = click.Context(command)
            words = ["flask", name, *([command.name] if command is not group else [])]
            options = []
            for parameter in command.params:
                if isinstance(parameter, click.Argument):
                    words.append(parameter.make_metavar(context))
                elif parameter.help in filters:
                    options += [] if FILTERS in options else [FILTERS]
                elif parameter.name != "as_json":
                    options.append(shown_option(parameter, context))
            assert "as_json" in [parameter.name for parameter in command.params]
            summary = command.help.split("\n\n")[0]
            rows.append([f"`{' '.join(words)}`", ", ".join(options) or "-", summary])

    assert rows == tables("docs/commands.md", "Commands")
    assert [[shown, text] for text, shown in filters.items()] == tables(
        "docs/commands.md", "Filters"
    )
    assert {"models", "keys", "db", "config"} == set(app.cli.commands)


def test_the_metrics_are_those_that_are_exposed(app, client, samples):
    """The operator's page has each metric, and no other."""
    app.extensions["roster"].store.record_run("x", GoodRun(at=0, revision=1))
    client.get("/v1/models", headers={"x-api-key": "wrong"})
    exposed = {
        re.sub(r"_(total|created|bucket|count|sum)$", "", name.partition("{")[0])
        for name in samples(client.get("/metrics").text)
    }
    shown = set()
    for names, _ in tables("docs/operations.md", "What to watch"):
        first, *others = [x.partition("{")[0] for x in code(names)]
        for name in (first, *others):
            if name.startswith("_"):  # the same name with another end
                stem = re.sub(r"_(hits|misses|bytes)?(_total)?$", "", first)
                name = stem + name  # noqa: PLW2901
            if name.startswith("roster_"):
                shown.add(re.sub(r"_total$", "", name))

    assert {name for name in exposed if name.startswith("roster_")} == shown


def test_the_figures_are_the_measured_ones():
    """The page of measurements has the figures of the latest results."""
    latest = json.loads((ROOT / "bench" / "results" / "latest.json").read_text())
    figures = {name: one["median"] for name, one in latest["figures"].items()}
    page = PAGES["docs/measurements.md"]
    rss, more = figures["start.service.rss"], figures["start.over.rss"]
    direct, nginx = (
        f"{figures[f'freshness.{way}.stale']:.0f} of {figures[f'freshness.{way}.reads']:,}"
        for way in ("direct", "nginx")
    )

    assert short(latest) in page
    for text in (
        f"{direct} reads did, and {nginx} through nginx",
        f"| {number(figures['growth.image_seconds'])} s |",
        f"| {number(figures['growth.next_list'])} ms, in the slower",
        f"| {number(figures['writes.one.p50'])} ms, half of them |",
        f"| {number(rss)} MiB, {number(more)} MiB more than",
        f"costs {number(figures['reads.300.200.nginx cached.cpu'])} µs of CPU",
        f"costs {number(figures['reads.300.200.nginx.cpu'])} µs without it",
    ):
        assert text in " ".join(page.split()), text


def test_the_rooms_are_the_real_ones():
    """Each module and package of the application is in the table, once."""
    shown = [x.rstrip("/") for row in tables("docs/design.md", "Rooms") for x in code(row[0])]
    real = [
        path.name
        for path in (ROOT / "app").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    ]

    assert sorted(real) == sorted(shown)


def test_the_import_rule_is_the_enforced_one():
    """The layers on the page are those of `setup.cfg`."""
    from configparser import ConfigParser  # noqa: PLC0415

    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    layers = config["importlinter:contract:layers"]["layers"].strip()

    assert [f"{layers}\n"] == [x for x in blocks("docs/design.md", "text") if "api | cli" in x]


@pytest.mark.needs("nginx", "nginx")
def test_the_nginx_site_serves(serve, tmp_path, site_at):
    """With its ports replaced it serves lists, ids and errors, and neither log has a key."""
    [site] = blocks("docs/gateway.md", "nginx")
    server = serve(WEB_CONCURRENCY="1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = site.replace("listen 80", f"listen 127.0.0.1:{port}")
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    site = site.replace("/var/log/nginx/error.log", f"{tmp_path}/errors")
    conf = tmp_path / "nginx.conf"
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log {tmp_path}/access;\n{folders}{site} }}\n"
    )
    server.admin("PUT", "/admin/models/through%2Fnginx%20x", {})
    with (tmp_path / "stderr").open("w") as stderr:
        nginx = subprocess.Popen(["nginx", "-c", conf, "-p", tmp_path], stderr=stderr)
    try:
        through = site_at(port)
        through.wait()
        direct = server("GET", "/v1/models")
        proxied = through("GET", "/v1/models")

        assert (200, direct.body) == (proxied.status, proxied.body)
        assert direct.headers["ETag"] == proxied.headers["ETag"]
        for path in ("/models", "/openai/v1/models"):
            assert direct.body == through("GET", path).body
        for path in ("through/nginx%20x", "through%2Fnginx%20x"):
            assert 200 == through("GET", f"/v1/models/{path}").status
        assert 404 == through("GET", "/v1//models").status
        assert 401 == through("GET", "/v1/models", key="wrong").status
        for path in ("/admin/models", "/admin", "//admin/models", "/%61dmin/keys", "/metrics"):
            assert 404 == through("GET", path, key=server.admin_key).status
        assert 200 == through("GET", f"/v1beta/models?key={server.admin_key}").status
        server.stop()
        assert 502 == through("GET", f"/v1beta/models?key={server.admin_key}").status
        assert len(site.splitlines()) <= 15
    finally:
        nginx.terminate()
        nginx.wait(30)
    for log in ("access", "errors", "stderr"):
        if (tmp_path / log).exists():
            assert server.admin_key not in (tmp_path / log).read_text()
