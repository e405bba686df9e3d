"""What Roster overrides or uses of its libraries beyond what they promise, and in which versions.

`USES` is the list. An entry fails when a library is no longer what our code relies on, and the
message names the lines of ours to look at. `setup.cfg` excludes the versions of
`FIRST_UNSUPPORTED`, which nobody has tried yet. To allow one: install it, run this file with
``-W ignore::DeprecationWarning``, adapt the lines that are named, run all tests without that
option, and raise both bounds.
"""

import ast
import importlib
import inspect
import logging
import pkgutil
import runpy
import textwrap
import warnings
from collections.abc import Callable
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import NamedTuple

import gunicorn.util
import pytest
from flask import Flask
from flask.cli import run_command
from gunicorn.config import Config
from gunicorn.workers.workertmp import WorkerTmp
from marshmallow import ValidationError, fields
from packaging.requirements import Requirement
from werkzeug.datastructures import Accept
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule

import app
from app.api.application import Application

ROOT = Path(__file__).parent.parent
#: By library, the first version that `setup.cfg` must exclude.
FIRST_UNSUPPORTED = {
    "click": "9",
    "flask": "3.2",
    "gunicorn": "28",
    "marshmallow": "5",
    "prometheus-client": "0.27",
    "psycopg": "3.4",
    "werkzeug": "3.2",
}
#: By library, the last version with a vulnerability that we know of, and which one that is; also
#: of those that only Flask and Alembic bring.
VULNERABLE = {
    "click": ("8.3.2", "CVE-2026-7246"),
    "flask": ("3.1.2", "CVE-2026-27205"),
    "gunicorn": ("22.0.0", "CVE-2024-6827"),
    "jinja2": ("3.1.5", "CVE-2025-27516"),
    "mako": ("1.3.11", "CVE-2026-44307"),
    "marshmallow": ("4.1.1", "CVE-2025-68480"),
    # The binary wheels bring a libpq: 18.0, and 17.6 in the last 3.2.
    "psycopg": ("3.3.4", "CVE-2025-12818"),
    "pytest": ("9.0.2", "CVE-2025-71176"),
    "werkzeug": ("3.1.5", "CVE-2026-27199"),
}


def signature(name):
    """Return the parameters of a function, without their types."""
    found = inspect.signature(resolve_name(name))
    untyped = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=untyped, return_annotation=found.empty))


def first_two_parameters(name):
    """Return the names of two parameters of a function; our code passes others on, or none."""
    return ", ".join([*inspect.signature(resolve_name(name)).parameters][:2])


def assigned(attribute):
    """Return a look at whether a method gives its object this attribute."""

    def look(name):
        tree = ast.parse(textwrap.dedent(inspect.getsource(resolve_name(name))))
        stored = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }
        return attribute if attribute in stored else f"only {sorted(stored)}"

    return look


def value(name):
    """Return an attribute itself."""
    return resolve_name(name)


def ancestors(name):
    """Return the names of a class and of those that it inherits from."""
    return [cls.__name__ for cls in resolve_name(name).__mro__]


def parts_of(name):
    """Return the names of the attributes that a new object of a class has of its own."""
    return sorted(vars(resolve_name(name)()))


def call_of_match(_):
    """Return how Flask calls the `match` of a URL adapter when a request begins."""
    calls = []

    class Recording(Flask):
        def create_url_adapter(self, request):
            return self

        def match(self, *args, **kwargs):
            calls.append((args, kwargs))
            raise NotFound

    with Recording("x").test_request_context():
        return calls


def arguments_of_rule(_):
    """Return the `arguments` of a rule for URLs that has one."""
    [rule] = Map([Rule("/<x>", endpoint="x")]).iter_rules()
    return rule.arguments


def quality_of_gzip(name):
    """Return the weight of a coding in a header; a warning of deprecation counts as an error."""
    with warnings.catch_warnings(action="error"):
        return resolve_name(name)("br, gzip;q=0.5", Accept).quality("gzip")


def options_of_run(_):
    """Return those of the options of ``flask run`` that we read."""
    return sorted({"host", "port", "reload"} & {option.name for option in run_command.params})


def in_order(*steps):
    """Return a look at the order in which a function has some pieces of text; all are in it."""

    def look(name):
        source = inspect.getsource(resolve_name(name))
        return sorted(steps, key=source.index)

    return look


def ended_by_timeout(name):
    """Return the workers that gunicorn ends of one that has never called `notify`."""
    ended = []
    worker = SimpleNamespace(tmp=WorkerTmp(Config()), aborted=False)
    arbiter = SimpleNamespace(
        timeout=1e-9,  # seconds
        WORKERS={1: worker},
        log=logging.root,
        kill_worker=lambda pid, _: ended.append(pid),
    )
    resolve_name(name)(arbiter)
    worker.tmp.close()
    return ended


def callers(name):
    """Return the names of the files of a library that call a function of one of its modules."""
    library, call = name.split(".", 1)
    files = Path(importlib.import_module(library).__file__).parent.rglob("*.py")
    return [path.name for path in files if f"{call}(" in path.read_text()]


def errors_of_pairs(_):
    """Return how marshmallow reports what is wrong with a name and with a value of an object."""
    pairs = fields.Dict(keys=fields.Integer(), values=fields.Integer())
    try:
        return pairs.deserialize({"x": 1, "2": "y"})
    except ValidationError as error:
        return {name: [*inner] for name, inner in error.messages.items()}


class Use(NamedTuple):
    """Something of a library that must be as it is, and the code of ours that needs it."""

    #: Where the library has it.
    name: str
    #: What `look` must find there.
    expected: object
    #: Our file, and a piece of each line in it that relies on this.
    file: str
    code: str
    look: Callable[[str], object] = signature

    @property
    def library(self):
        return self.name.partition(".")[0].replace("_", "-")


APPLICATION, HTTP, CONF = "app/api/application.py", "app/api/http.py", "gunicorn.conf.py"
WORKER, GTHREAD = "app/worker.py", "gunicorn.workers.gthread.ThreadWorker"
POSTGRESQL, FIELDS, SCHEMAS = "app/store/postgresql.py", "app/fields.py", "app/schemas.py"
EXPOSITION, TERMINAL = "app/metrics/exposition.py", "app/cli/terminal.py"

PARTS = ["_on_close", "_status", "_status_code", "direct_passthrough", "headers", "response"]
LISTENING = '"Can\'t connect to %s"'
MATCH = "(self, path_info=None, method=None, return_rule=False, query_args=None, websocket=None)"
STARTING = [
    "self.init_signals()",
    "self.load_wsgi()",
    "post_worker_init(self)",
    "self.booted = True",
    "self.run()",
]
ACCEPTING = ["self.set_accept_enabled(True)", "while self.alive:", "self.notify()"]
SERVING = [
    "self.wait_for_and_dispatch_events(timeout=1.0)",
    "self.murder_keepalived()",
    "self.murder_pending()",
    "while self.nr_conns > 0:",
    "self.tpool.shutdown(wait=False)",
]
RESPONDING = ["response_class = Response", "resp = response_class(req, sock, cfg"]
ERRORS = ['"wsgi.errors": WSGIErrorsWrapper(cfg)']
FORKING = ["self.cfg.pre_fork(self, worker)", "os.fork()", "worker.init_process()"]
ENDING = ["sorted(workers, key=lambda w: w[1].age)", "workers.pop(0)", "self.kill_worker("]
REAPING = ["self.WORKERS.pop(", "self.cfg.child_exit(self, worker)"]
HALTING = ["self.stop()", "self.cfg.on_exit(self)"]
RELOADING = [
    "self.setup(",
    "on_reload(self)",
    "last_worker_age = self.worker_age",
    "self.spawn_worker()",
    "self.manage_workers()",
    "if oldest > last_worker_age:",
]
CONTEXT, FIELD = "flask.ctx.RequestContext", "(self, value, attr, data, **kwargs)"
USES = [
    # Flask 3.2 passes the context to the methods that take part in a request.
    Use("flask.app.Flask.create_url_adapter", "(self, request)", APPLICATION,
        "def create_url_adapter("),
    Use("flask.app.Flask.handle_exception", "(self, e)", APPLICATION, "def handle_exception("),
    Use("flask.app.Flask.log_exception", "(self, exc_info)", APPLICATION, "def log_exception("),
    Use(f"{CONTEXT}.match_request", [((), {"return_rule": True})], APPLICATION,
        "method is None and return_rule", call_of_match),
    Use(f"{CONTEXT}.__init__", "url_adapter", "app/api/cors.py", "request_ctx.url_adapter",
        assigned("url_adapter")),
    Use("flask.cli.run_command", ["host", "port", "reload"], "app/cli/server.py",
        "context.params[", options_of_run),
    # Werkzeug has no class for a response that is built later; 3.2 deprecates parse_accept_header.
    Use("werkzeug.wrappers.response.Response.__call__", "(self, environ, start_response)", HTTP,
        "def __call__("),
    Use("flask.wrappers.Response", PARTS, HTTP, "frozenset(vars(Response()))", parts_of),
    Use("werkzeug.routing.MapAdapter.match", MATCH, APPLICATION, "def match("),
    Use("werkzeug.routing.Rule.arguments", {"x"}, APPLICATION, "found[0].arguments",
        arguments_of_rule),
    Use("werkzeug.http.parse_accept_header", 0.5, HTTP, "parse_accept_header(accept_encoding",
        quality_of_gzip),
    # Of its workers and loggers, gunicorn documents only the settings that name another class.
    Use("gunicorn.workers.gthread.ThreadWorker.handle_quit", "(self, sig, frame)", CONF,
        "def handle_quit("),
    Use(f"{GTHREAD}.murder_keepalived", "(self, force=False)", WORKER, "def murder_keepalived("),
    Use(f"{GTHREAD}.run", SERVING, WORKER, "def wait_for_and_dispatch_events(",
        in_order(*SERVING)),
    *(
        Use(f"{GTHREAD}.{name}", signature, WORKER, used)
        for name, signature, used in [
            ("wait_for_and_dispatch_events", "(self, timeout)", "def wait_for_and_dispatch_ev"),
            ("accept", "(self, listener)", "def accept(self, listener"),
            ("enqueue_req", "(self, conn)", "def enqueue_req(self, conn"),
            ("handle", "(self, conn)", "self.handle(conn)"),
            ("finish_request", "(self, conn, fs)", "def finish_request(self, conn"),
            ("on_client_socket_readable", "(self, conn, client)", "def on_client_socket_re"),
            ("on_pending_socket_readable", "(self, conn, client)", "self.on_pending_socket_"),
            ("murder_pending", "(self)", "def murder_pending("),
            ("set_accept_enabled", "(self, enabled)", "self.set_accept_enabled("),
        ]
    ),
    *(
        Use(f"{GTHREAD}.__init__", name, WORKER, f"self.{name}", assigned(name))
        for name in ("tpool", "poller", "method_queue", "keepalived_conns", "pending_conns",
                     "nr_conns", "worker_connections", "max_keepalived")
    ),
    *(
        Use("gunicorn.workers.gthread.TConn.__init__", name, WORKER, f"conn.{name}",
            assigned(name))
        for name in ("sock", "timeout", "parser", "initialized", "data_ready")
    ),
    Use("gunicorn.workers.base.Worker.PIPE", [], WORKER, "self.PIPE[", value),
    Use("gunicorn.workers.gthread.PollableMethodQueue.defer", "self, callback", WORKER,
        "self.method_queue.defer(", first_two_parameters),
    Use("gunicorn.http.wsgi.create", RESPONDING, WORKER, "wsgi.Response = Response",
        in_order(*RESPONDING)),
    Use("gunicorn.http.wsgi.base_environ", ERRORS, WORKER, "cache(wsgi.WSGIErrorsWrapper)",
        in_order(*ERRORS)),
    Use("gunicorn.http.wsgi.Response.write", "(self, arg)", WORKER, "def write("),
    Use("gunicorn.http.wsgi.Response.__init__", "headers_sent", WORKER, "self.headers_sent",
        assigned("headers_sent")),
    Use("gunicorn.util.write", ["sock.sendall(data)"], WORKER, "sendall = list.append",
        in_order("sock.sendall(data)")),
    Use("gunicorn.config.Config.__getattr__", "(self, name)", WORKER,
        "self.cfg.__dict__.update("),
    Use("gunicorn.workers.base.Worker.__init__", "alive", CONF, "self.alive", assigned("alive")),
    Use("gunicorn.workers.base.Worker.__init__", "log", CONF, "self.log.", assigned("log")),
    Use("gunicorn.workers.base.Worker.load_wsgi", "wsgi", CONF, "worker.wsgi.", assigned("wsgi")),
    Use("gunicorn.workers.gthread.ThreadWorker.init_process", "(self)", CONF,
        "def init_process("),
    Use("gunicorn.workers.gthread.ThreadWorker.handle_exit", "(self, sig, frame)", CONF,
        "def handle_exit("),
    Use("gunicorn.workers.gthread.ThreadWorker.run", ACCEPTING, CONF, "def notify(",
        in_order(*ACCEPTING)),
    Use("gunicorn.workers.base.Worker.init_signals", "(self)", CONF, "def init_signals("),
    Use("gunicorn.workers.base.Worker.handle_error", "(self, req, client, addr, exc)", CONF,
        "def handle_error("),
    Use("gunicorn.workers.base.Worker.notify", "(self)", CONF, "def notify("),
    Use("gunicorn.workers.base.Worker.init_process", STARTING, CONF, "self.booted",
        in_order(*STARTING)),
    Use("gunicorn.workers.base.Worker.__init__", "ppid", CONF, "worker.ppid", assigned("ppid")),
    Use("gunicorn.arbiter.Arbiter.reload", RELOADING, CONF, "worker.age =", in_order(*RELOADING)),
    Use("gunicorn.arbiter.Arbiter.spawn_worker", FORKING, CONF, "pthread_sigmask(signal.SIG_BLOCK",
        in_order(*FORKING)),
    Use("gunicorn.arbiter.Arbiter.setup", "num_workers", CONF, "server.num_workers",
        assigned("num_workers")),
    Use("gunicorn.arbiter.Arbiter.spawn_worker", "worker_age", CONF, "server.worker_age",
        assigned("worker_age")),
    Use("gunicorn.arbiter.Arbiter.WORKERS", {}, CONF, "server.WORKERS", value),
    Use("gunicorn.arbiter.Arbiter.manage_workers", ENDING, CONF, "worker.age =",
        in_order(*ENDING)),
    Use("gunicorn.arbiter.Arbiter.reap_workers", REAPING, CONF, "def child_exit(",
        in_order(*REAPING)),
    Use("gunicorn.arbiter.Arbiter.halt", HALTING, CONF, "def on_exit(", in_order(*HALTING)),
    Use("gunicorn.arbiter.Arbiter.murder_workers", [], "docs/operations.md",
        "No timeout ends a new worker", ended_by_timeout),
    Use("gunicorn.arbiter.Arbiter.kill_worker", "(self, pid, sig)", CONF, "server.kill_worker("),
    Use("gunicorn.arbiter.Arbiter.WORKER_BOOT_ERROR", 3, CONF, "sys.exit(1)", value),
    Use("gunicorn.arbiter.Arbiter.APP_LOAD_ERROR", 4, CONF, "sys.exit(1)", value),
    Use("gunicorn.glogging.Logger.setup", "(self, cfg)", CONF, "def setup("),
    Use("gunicorn.glogging.Logger.error", "self, msg", CONF, "def error(self, msg",
        first_two_parameters),
    Use("gunicorn.sock.create_sockets", [LISTENING], CONF, LISTENING, in_order(LISTENING)),
    Use("gunicorn.glogging.Logger.__init__", "error_log", CONF, "self.error_log.",
        assigned("error_log")),
    Use("gunicorn.util.write_error", "(sock, status_int, reason, mesg)", CONF, "def _refuse("),
    Use("gunicorn.util.write_error", ["base.py"], CONF, "{_refused.request_id}", callers),
    Use("gunicorn.util.write_nonblock", "sock, data", CONF, "util.write_nonblock(",
        first_two_parameters),
    Use("gunicorn.arbiter.Arbiter.LISTENERS", [], CONF, "server.LISTENERS", value),
    Use("gunicorn.http.message.Message.parse_headers", "(self, data, from_trailer=False)", CONF,
        "def parse_headers("),
    Use("gunicorn.http.parser.RequestParser.mesg_class", "HeaderPolicy", CONF,
        "RequestParser.mesg_class", lambda name: resolve_name(name).__mro__[-2].__name__),
    Use("gunicorn.http.parser.Parser.finish_body", "(self, deadline=None, max_bytes=None)", CONF,
        "Parser.finish_body("),
    Use("gunicorn.http.body.Body.__init__", "failed", CONF, "body.failed", assigned("failed")),
    Use("gunicorn.http.body.LengthReader.__init__", "length", CONF, '"length"',
        assigned("length")),
    Use("gunicorn.http.message.HeaderPolicy._peer_is_trusted_proxy", "(self)", CONF,
        "def _peer_is_trusted_proxy("),
    Use("gunicorn.util.http_date", "(timestamp=None)", CONF, "def _http_date("),
    Use("gunicorn.http.errors.ParseException",
        ["ParseException", "Exception", "BaseException", "object"], HTTP,
        "except (ParseException", ancestors),
    # psycopg does not document that a connection waits for a generator, nor what it sends to it.
    Use("psycopg.Connection.wait", "self, gen", POSTGRESQL, "def wait(", first_two_parameters),
    Use("psycopg.waiting.READY_NONE", 0, POSTGRESQL, "if ready:", value),
    # prometheus_client does not export choose_encoder.
    Use("prometheus_client.exposition.choose_encoder", "(accept_header)", EXPOSITION,
        "choose_encoder(accept)"),
    Use("prometheus_client.registry.Collector.collect", "(self)", EXPOSITION, "def collect("),
    # These are documented for overriding: a new major version may change them.
    Use("marshmallow.fields.Field._deserialize", FIELD, FIELDS, "def _deserialize(self, value"),
    Use("marshmallow.fields.Constant._deserialize", "(self, value, *args, **kwargs)", FIELDS,
        "def _deserialize(self, value"),
    Use("marshmallow.fields.Constant.__init__", "constant", FIELDS, "self.constant",
        assigned("constant")),
    Use("marshmallow.fields.List._deserialize", FIELD, FIELDS, "class StrictList("),
    Use("marshmallow.validate.OneOf.__call__", "(self, value)", FIELDS, "def __call__("),
    Use("marshmallow.fields.Mapping._deserialize", FIELD, FIELDS, "super()._deserialize("),
    Use("marshmallow.fields.Dict", {"x": ["key"], "2": ["value"]}, FIELDS, "inner.values()",
        errors_of_pairs),
    Use("marshmallow.schema.Schema._serialize", "(self, obj, *, many=False)", SCHEMAS,
        "def _serialize("),
    Use("marshmallow.schema.Schema.handle_error", "(self, error, data, *, many, **kwargs)",
        SCHEMAS, "def handle_error("),
    Use("click.core.Group.invoke", "(self, ctx)", TERMINAL, "def invoke("),
    Use("click.core.Group.resolve_command", "(self, ctx, args)", TERMINAL, "def resolve_command("),
    Use("click.types.ParamType.convert", "(self, value, param, ctx)", TERMINAL, "def convert("),
]  # fmt: skip


def problem(use):
    """Return how a library differs from `use`, and which lines to look at; None if it does not."""
    try:
        found = use.look(use.name)
    except Exception as error:  # noqa: BLE001 - whatever it is, the message names our lines
        found = error
    if found == use.expected:
        return None
    return (
        f"{use.library} {version(use.library)}: {use.name} is {found!r}, and Roster needs "
        f"{use.expected!r}: look at {', '.join(lines(use))}"
    )


def lines(use):
    """Return where our code relies on `use`, as ``file:line``."""
    text = (ROOT / use.file).read_text().splitlines()
    return [f"{use.file}:{number}" for number, line in enumerate(text, 1) if use.code in line]


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.name}-{use.code}")
def test_a_library_is_what_our_code_relies_on(use):
    """Each is found as the list says, and our file has the line that needs it."""
    assert None is problem(use)
    assert [] != lines(use)


def handle_exception(self, ctx, e):
    """Stand for a method of Flask that takes another parameter, as it does from 3.2 on."""


@pytest.mark.parametrize("changed", [handle_exception, None], ids=["changed", "removed"])
def test_a_change_is_reported_with_our_line(monkeypatch, changed):
    """The message has the version, what is found there, what we need, and where we need it."""
    [use] = [use for use in USES if use.name.endswith(".handle_exception")]
    if changed is None:
        monkeypatch.delattr(Flask, "handle_exception")
    else:
        monkeypatch.setattr(Flask, "handle_exception", changed)
    found = "AttributeError(" if changed is None else "'(self, ctx, e)'"
    line = inspect.getsourcelines(Application.handle_exception)[1]
    message = problem(use)

    assert message.startswith(f"flask {version('flask')}: {use.name} is {found}")
    assert message.endswith(f", and Roster needs '(self, e)': look at {APPLICATION}:{line}")


def test_an_attribute_that_is_not_assigned_is_reported():
    """The message has those that are."""
    name = "gunicorn.workers.base.Worker.load_wsgi"
    message = problem(Use(name, "_wsgi", CONF, "worker.wsgi.", assigned("_wsgi")))

    assert f"{name} is \"only ['wsgi']\", and Roster needs '_wsgi': look at {CONF}" in message


def overrides(classes):
    """Yield the methods of libraries that `classes` override; of special methods, calls alone."""
    libraries = {"alembic", "sqlalchemy", *(use.name.partition(".")[0] for use in USES)}
    for cls in classes:
        for name, member in vars(cls).items():
            if not inspect.isfunction(member) or (name[:2] == "__" and name != "__call__"):
                continue
            base = next((base for base in cls.__mro__[1:] if name in vars(base)), object)
            if base.__module__.partition(".")[0] in libraries:
                yield vars(base)[name]


@pytest.fixture
def our_classes(monkeypatch):
    """Every class of the application and of gunicorn's settings."""
    monkeypatch.setattr(gunicorn.util, "write_error", gunicorn.util.write_error)  # is put back
    names = [module.name for module in pkgutil.walk_packages(app.__path__, "app.")]
    modules = [
        vars(importlib.import_module(name))
        for name in names
        if not name.startswith("app.store.migrations")  # only Alembic can run these
    ]
    values = {id(v): v for m in (*modules, runpy.run_path(str(ROOT / CONF))) for v in m.values()}
    return [
        value
        for value in values.values()
        if inspect.isclass(value) and value.__module__.partition(".")[0] in ("app", "<run_path>")
    ]


def test_every_method_that_we_override_is_in_the_list(our_classes):
    """What a class of ours has in place of a library's is found by name in the list."""
    looks = (signature, first_two_parameters)
    listed = [resolve_name(use.name) for use in USES if use.look in looks]
    missing = {method.__qualname__ for method in overrides(our_classes) if method not in listed}

    assert set() == missing
    assert len([*overrides(our_classes)]) >= 15


def test_no_private_name_is_used():
    """The linter excuses no line for one."""
    files = (*ROOT.glob("app/**/*.py"), ROOT / CONF)

    assert [] == [path for path in files if "SLF001" in path.read_text()]
    assert len(files) > 50


def requirements():
    """Return what `setup.cfg` requires: for everybody, then for each extra."""
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    texts = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    return [Requirement(line) for text in texts for line in text.split("\n") if line]


@pytest.mark.parametrize("library", FIRST_UNSUPPORTED)
def test_a_range_ends_below_the_first_unsupported_version(library):
    """With its pre-releases and all later ones; it includes the version that is tested here."""
    first, tested = FIRST_UNSUPPORTED[library], version(library)
    ranges = [required.specifier for required in requirements() if required.name == library]
    candidates = (tested, f"{first}.dev1", f"{first}rc1", first, f"{first}.1", "9999")

    assert [] != ranges
    for allowed in ranges:
        assert [tested] == [*allowed.filter(candidates, prereleases=True)]


@pytest.mark.parametrize("library", VULNERABLE)
def test_a_range_begins_after_the_last_vulnerable_version(library):
    """Also that of a library that only another one brings."""
    last, identifier = VULNERABLE[library]
    ranges = [required.specifier for required in requirements() if required.name == library]

    assert [] != ranges
    for allowed in ranges:
        assert [version(library)] == [*allowed.filter((last, version(library)))], identifier


def test_every_library_of_the_list_has_a_first_unsupported_version():
    """No library is overridden whose next version would be taken untried."""
    assert set(FIRST_UNSUPPORTED) == {use.library for use in USES}
