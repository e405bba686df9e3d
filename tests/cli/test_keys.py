"""``flask keys``: who may read and administer, from the terminal."""

import getpass
import json
import os
import pwd
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient

from app.catalog.keys import describe, mint, parse_kid
from app.catalog.ports import Actor

NOW = 1_800_000_000
DAY = 86_400
UNKNOWN = "00000000"


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    """Run ``flask keys`` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *args: runner.invoke(args=["keys", *args])


@pytest.fixture
def create(run: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Make a key and return what is told of it."""
    return lambda *args: json.loads(run("create", "billing", *args, "--json").stdout)


def status(client: FlaskClient, key: str) -> int:
    return client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


def test_create(run: Callable[..., Result], client: FlaskClient) -> None:
    """The new key is all of standard output, and it works at once."""
    done = run("create", "billing")

    key = done.stdout.strip()
    kid = parse_kid(key)
    assert 0 == done.exit_code
    assert kid is not None
    assert (
        f"Key {kid} for billing, expires: -. It is not shown again: store it now.\n" == done.stderr
    )
    assert 200 == status(client, key)
    assert 401 == status(client, mint())


def test_create_json(create: Callable[..., dict[str, Any]]) -> None:
    """With --json, create prints the id, the key and its facts, as the route does."""
    made = create("--organization=acme", "--group=red, blue", "--group=green", "--expires-in=90d")

    assert ["id", "key", "name", "state", "scopes", "organization", "groups", "created"] == [
        *made
    ][:8]
    assert parse_kid(made.pop("key")) == made.pop("id")
    assert {
        "name": "billing",
        "state": "active",
        "scopes": ["read"],
        "organization": "acme",
        "groups": ["red", "blue", "green"],
        "created": NOW,
        "expires_at": NOW + 90 * DAY,
        "retires_at": None,
        "revoked_at": None,
    } == made


def test_create_admin(create: Callable[..., dict[str, Any]], client: FlaskClient) -> None:
    """A key made with --admin administers, one made without does not."""
    answers = [
        client.get("/admin/models", headers={"Authorization": f"Bearer {made['key']}"})
        for made in (create("--admin"), create())
    ]

    assert [200, 403] == [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    ("span", "seconds"), [("45s", 45), ("30m", 1800), ("24h", DAY), ("2d", 2 * DAY)]
)
def test_time_spans(create: Callable[..., dict[str, Any]], span: str, seconds: int) -> None:
    """A time span is a number with s, m, h or d."""
    assert NOW + seconds == create("--expires-in", span)["expires_at"]


def test_a_time_span_is_rounded_up(
    create: Callable[..., dict[str, Any]], run: Callable[..., Result], clock: Any
) -> None:
    """A key lives for its time span at least, and none is made that would be refused at once."""
    clock.now += 0.25

    assert NOW + 46 == create("--expires-in=45s")["expires_at"]
    done = run("create", "billing", "--expires-in=0s")
    assert (1, "") == (done.exit_code, done.stdout)
    assert "Error: expires_at: Must be in the future" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-31", 1_801_353_600),
        ("2027-01-31T08:00:00Z", 1_801_382_400),
        ("2027-01-31t08:00:00z", 1_801_382_400),
        ("2027-01-31T08:00:00+02:00", 1_801_375_200),
        ("2027-01-31T07:59:59.5Z", 1_801_382_400),
        ("1801382400", 1_801_382_400),
        ("90d", NOW + 90 * DAY),
    ],
)
def test_times(create: Callable[..., dict[str, Any]], text: str, seconds: int) -> None:
    """An end is a day, an RFC 3339 time, Unix seconds or a span, by either name of the option."""
    made = [create(option, text)["expires_at"] for option in ("--expires", "--expires-in")]

    assert [seconds, seconds] == made


def test_list(
    run: Callable[..., Result], create: Callable[..., dict[str, Any]], clock: Any
) -> None:
    """The list shows every key, oldest first, and its state, but no secret."""
    clock.now += 1
    active = create("--organization=acme", "--group=red", "--group=blue")
    clock.now += 1
    expired = create("--expires-in=60s")
    clock.now += 1
    revoked = create("--admin")
    run("revoke", revoked["id"])
    clock.now += 60

    text = run("list").stdout
    rows = [" ".join(line.split()) for line in text.splitlines()]
    data = json.loads(run("list", "--json").stdout)["data"]

    assert [
        "ID NAME SCOPES ORGANIZATION GROUPS EXPIRES STATE",
        f"{active['id']} billing read acme red blue - active",
        f"{expired['id']} billing read - - 2027-01-15T08:01:02Z expired",
        f"{revoked['id']} billing read admin - - - revoked",
    ] == [rows[0], *rows[2:]]
    assert [row[:8] for row in rows[1:]] == [key["id"] for key in data]
    assert ["admin"] == data[0]["scopes"]
    assert all("key" not in key and "digest" not in key for key in data)
    assert active["key"] not in text


def test_show(
    run: Callable[..., Result], create: Callable[..., dict[str, Any]], clock: Any
) -> None:
    """One key is shown field by field; its grace and its end are in the list, too."""
    kid = create("--organization=acme", "--group=red", "--expires=2027-03-01")["id"]
    run("rotate", kid, "--grace=1h")
    clock.now += 1

    rows = [line.split(maxsplit=1) for line in run("show", kid).stdout.splitlines()]
    [listed] = [line for line in run("list").stdout.splitlines() if line.startswith(kid)]

    assert [
        ["FIELD", "VALUE"],
        ["id", kid],
        ["name", "billing"],
        ["state", "grace"],
        ["scopes", '["read"]'],
        ["organization", "acme"],
        ["groups", '["red"]'],
        ["created", "2027-01-15T08:00:00Z"],
        ["expires_at", "2027-03-01T00:00:00Z"],
        ["retires_at", "2027-01-15T09:00:00Z"],
        ["revoked_at", "-"],
    ] == rows
    assert ["2027-01-15T09:00:00Z", "grace"] == listed.split()[-2:]
    data = json.loads(run("list", "--json").stdout)["data"]
    assert json.loads(run("show", kid, "--json").stdout) in data
    assert "grace" == next(key["state"] for key in data if key["id"] == kid)


def test_edit(run: Callable[..., Result], create: Callable[..., dict[str, Any]]) -> None:
    """An edit changes the given fields, shows what is stored then, and leaves the others."""
    made = create("--organization=acme", "--group=red")
    kid = made["id"]

    options = ["--name=Billing", "--group=blue,green", "--expires=90d"]
    edited = json.loads(run("edit", kid, *options, "--json").stdout)
    shown = run("edit", kid, "--unset=groups", "--unset=expires_at").stdout

    changes = {
        "name": "Billing",
        "groups": ["blue", "green"],
        "expires_at": NOW + 90 * DAY,
    }
    made.pop("key")
    assert {**made, **changes} == edited
    assert run("show", kid).stdout == shown
    last = json.loads(run("show", kid, "--json").stdout)
    assert {**edited, "groups": [], "expires_at": None} == last


def test_list_some(run: Callable[..., Result], create: Callable[..., dict[str, Any]]) -> None:
    """--state and --q restrict the list as the parameters of HTTP do."""
    one, other = create("--organization=acme")["id"], create("--organization=acme")["id"]
    run("rotate", one)
    run("revoke", other)

    def ids(*args: str) -> list[str]:
        return [key["id"] for key in json.loads(run("list", "--json", *args).stdout)["data"]]

    assert [one] == ids("--state=grace", "--q=ACME")
    assert [other] == ids(f"--q={other}")
    assert 2 == len(ids("--state=active"))  # the successor and the first key
    assert other not in run("list", "--state=grace").stdout


def test_revoke(
    run: Callable[..., Result],
    create: Callable[..., Any],
    client: FlaskClient,
    log: Callable[[], list[Any]],
) -> None:
    """A revoked key is refused at the next request; to revoke it again changes nothing."""
    made = create()
    assert 200 == status(client, made["key"])

    done = run("revoke", made["id"])
    before = log()

    assert (0, f"Revoked {made['id']}.\n") == (done.exit_code, done.stdout)
    assert 401 == status(client, made["key"])
    assert 0 == run("revoke", made["id"]).exit_code
    assert before == log()


def test_revoke_the_last_admin_key(app: Flask, run: Callable[..., Result]) -> None:
    """The last active admin key is revoked with --yes alone."""
    [first] = app.extensions["roster"].catalog.current().keys

    refused = run("revoke", first.kid)
    done = run("revoke", first.kid, "--yes")

    assert (1, "") == (refused.exit_code, refused.stdout)
    assert f"Error: The key '{first.kid}' is the last active admin key: " in refused.stderr
    assert (0, f"Revoked {first.kid}.\n") == (done.exit_code, done.stdout)


@pytest.mark.parametrize(
    ("args", "grace"), [([], DAY), (["--grace=1h"], 3600), (["--grace=0s"], 0)]
)
def test_rotate(
    run: Callable[..., Result],
    create: Callable[..., dict[str, Any]],
    client: FlaskClient,
    clock: Any,
    *,
    args: list[str],
    grace: int,
) -> None:
    """A rotated key has a successor like itself, and lives until the grace is over."""
    old = create("--organization=acme", "--group=red", "--admin")

    done = run("rotate", old["id"], *args)

    new = done.stdout.strip()
    assert 0 == done.exit_code
    assert parse_kid(new) not in (None, old["id"])
    clock.now += grace - 0.001
    assert [200, 200] == [status(client, old["key"]), status(client, new)]
    clock.now += 0.001
    assert [401, 200] == [status(client, old["key"]), status(client, new)]


def test_rotate_json(
    run: Callable[..., Result], create: Callable[..., dict[str, Any]], clock: Any
) -> None:
    """The successor has the old key's facts; a grace never makes the old one live longer."""
    old = create("--organization=acme", "--group=red", "--expires-in=60s")
    clock.now += 1

    new = json.loads(run("rotate", old["id"], "--json").stdout)

    fresh = {"id", "key", "created"}
    assert {k: v for k, v in old.items() if k not in fresh} == {
        k: v for k, v in new.items() if k not in fresh
    }
    assert NOW + 1 == new["created"]
    data = {key["id"]: key for key in json.loads(run("list", "--json").stdout)["data"]}
    assert NOW + 60 == data[old["id"]]["expires_at"]


def test_actor(
    run: Callable[..., Result],
    create: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    log: Callable[[], list[Any]],
) -> None:
    """The log says who at the terminal changed which key."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("DOAS_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "ada")

    old = create()["id"]
    new = json.loads(run("rotate", old, "--json").stdout)["id"]
    run("revoke", new)

    assert [
        ("cli:ada", "key.create", old),
        ("cli:ada", "key.create", new),
        ("cli:ada", "key.rotate", old),
        ("cli:ada", "key.revoke", new),
    ] == [(line.actor, line.action, line.kid) for line in log()[1:]]


@pytest.mark.parametrize(
    ("variables", "actor"),
    [
        ({"SUDO_USER": "anna"}, "cli:anna"),
        ({"DOAS_USER": "anna"}, "cli:anna"),
        ({"SUDO_USER": "root"}, "cli:root"),
        ({"SUDO_USER": ""}, "cli:roster"),
        ({"SUDO_USER": "a\nb\x1b"}, "cli:a\ufffdb\ufffd"),
        ({"LOGNAME": "a\nb"}, "cli:a\ufffdb"),
    ],
)
def test_actor_behind_sudo(
    create: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    log: Callable[[], list[Any]],
    variables: dict[str, str],
    actor: str,
) -> None:
    """A command that somebody runs as another user is that somebody's, whatever they are named."""
    for name in ("SUDO_USER", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"LOGNAME": "roster", **variables}.items():
        monkeypatch.setenv(name, value)

    create()

    assert actor == log()[-1].actor


def test_nameless_actor(
    create: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    log: Callable[[], list[Any]],
) -> None:
    """A user without a name, as in a container, is logged by number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()

    kid = create()["id"]

    line = log()[-1]
    assert (f"cli:{os.getuid()}", "key.create", kid) == (line.actor, line.action, line.kid)


#: What is typed, the exit code and what is said.
MISTAKES = [
    (["create"], 2, "Error: Missing argument 'NAME'."),
    (["create", ""], 1, "Error: name: Must be 1 to 256 characters long, not 0."),
    (
        ["create", "x", "--group=a,"],
        1,
        "Error: groups.1: Must be 1 to 256 characters long, not 0.",
    ),
    (["create", "x", "--group="], 1, "Error: groups.0: Must be 1 to 256 characters long, not 0."),
    (["create", "x", "--expires-in=0s"], 1, "Error: expires_at: Must be in the future"),
    (["create", "x", "--expires-in=999999999d"], 1, "Error: expires_at: Must be between 0 and"),
    (["create", "x", "--expires=-1d"], 2, "'-1d' is no time: give a day like 2027-01-31"),
    (["create", "x", "--expires=45"], 2, "'45' is no time: give a day like 2027-01-31"),
    (["create", "x", "--expires=2027-01-31T08:00:00"], 2, ", an RFC 3339 time like 2027-01-31T"),
    (["create", "x", "--expires=2027-02-29"], 2, "'2027-02-29' is no time: give a day like"),
    (["create", "x", "--expires=never"], 2, "'never' is no time: give a day like 2027-01-31"),
    (["create", "x", "--expires=1w"], 2, "'1w' is no time: give a day like 2027-01-31"),
    (["show", UNKNOWN], 1, "Error: The key '00000000' does not exist."),
    (["edit", UNKNOWN, "--name=x"], 1, "Error: The key '00000000' does not exist."),
    (["edit", UNKNOWN], 2, "Error: Nothing to change: give --name, --group, --expires or --unset"),
    (["edit", UNKNOWN, "--expires=9d", "--unset=expires_at"], 2, "'expires_at' is both given and"),
    (["edit", UNKNOWN, "--unset=name"], 2, "'name' is not one of 'groups', 'expires_at'"),
    (["edit", UNKNOWN, "--expires=45"], 2, "'45' is no time: give a day like 2027-01-31"),
    (["list", "--state=dead"], 1, "Error: --state must be one of active, grace, expired, revoked"),
    (["revoke", UNKNOWN], 1, "Error: The key '00000000' does not exist."),
    (["revoke", "\udcff"], 1, "Error: An argument is not valid UTF-8."),
    (["rotate", UNKNOWN], 1, "Error: The key '00000000' does not exist."),
    (["rotate", "\udcff"], 1, "Error: An argument is not valid UTF-8."),
    (
        ["rotate", UNKNOWN, "--grace=91d"],
        1,
        "Error: grace: Must be between 0 and 7776000 seconds, not 7862400.",
    ),
    (["rotate", UNKNOWN, "--grace=0"], 2, "'0' is no time span such as 90d, 24h, 30m"),
]


def test_a_name_from_before(app: Flask, run: Callable[..., Result]) -> None:
    """Names that an older version stored cannot turn, break or colour the lines of a table."""
    key = describe(
        mint(),
        name="a\u202eb\u2028c\x1b[31m",
        scopes=("read",),
        organization="\u2067",
        groups=(),
        created=NOW,
        expires_at=None,
    )
    with app.extensions["roster"].store.transaction(actor=Actor("test"), now=NOW) as transaction:
        transaction.put_key(key, None, "key.create")
    done = run("list")

    assert 0 == done.exit_code
    [line] = [line for line in done.stdout.splitlines() if key.kid in line]
    assert [key.kid, "a\ufffdb\ufffdc\ufffd[31m", "read", "\ufffd"] == line.split()[:4]


@pytest.mark.parametrize(("args", "code", "sentence"), MISTAKES)
def test_mistake(
    run: Callable[..., Result],
    args: list[str],
    code: int,
    sentence: str,
    log: Callable[[], list[Any]],
) -> None:
    """A mistake is told in a sentence, gives an exit code and changes nothing."""
    before = log()

    done = run(*args)

    assert sentence in done.stderr
    assert (code, "") == (done.exit_code, done.stdout)
    assert before == log()


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_rotate_dead_key(
    run: Callable[..., Result], create: Callable[..., dict[str, Any]], clock: Any, end: str
) -> None:
    """A key that is refused has no successor."""
    kid = create("--expires-in=60s")["id"]
    if end == "revoked":
        run("revoke", kid)
    else:
        clock.now += 60

    done = run("rotate", kid)

    sentence = f"Error: The key '{kid}' is {end} and cannot be rotated; create a new one.\n"
    assert (1, "", sentence) == (done.exit_code, done.stdout, done.stderr)
