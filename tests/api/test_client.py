"""The client's address in the access line: whose word is taken, and what may stand there."""

import json
import re

import pytest

from app import create_app
from app.api.context import client_address
from app.settings import Settings
from tests.conftest import ROOT

LOOPBACK = Settings().trusted_proxies


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [
        ("192.0.2.1", None, LOOPBACK, "192.0.2.1"),
        ("2001:DB8::1", None, LOOPBACK, "2001:db8::1"),
        ("fe80::1%eth0", "192.0.2.7", LOOPBACK, "fe80::1"),
        ("::ffff:192.0.2.1", None, LOOPBACK, "192.0.2.1"),
        ("", None, LOOPBACK, None),
        ("", "192.0.2.7", (), "192.0.2.7"),
        ("/run/a.sock", "192.0.2.7", LOOPBACK, None),  # a Unix socket's peer may have any name
        ("/run/a.sock", "192.0.2.7", ("*",), "192.0.2.7"),
        ("localhost", "192.0.2.7", LOOPBACK, None),
        ("\0name", "192.0.2.7", LOOPBACK, None),
        (" ", "192.0.2.7", LOOPBACK, None),
        (None, "192.0.2.7", LOOPBACK, None),
        ("127.0.0.1", "192.0.2.7", LOOPBACK, "192.0.2.7"),
        ("::1", "192.0.2.7", LOOPBACK, "192.0.2.7"),
        ("::ffff:127.0.0.1", "192.0.2.7", LOOPBACK, "192.0.2.7"),
        ("127.0.0.2", "192.0.2.7", LOOPBACK, "127.0.0.2"),
        ("192.0.2.1", "192.0.2.7", LOOPBACK, "192.0.2.1"),
        ("10.1.2.3", "192.0.2.7", ("::1", "10.0.0.0/8"), "192.0.2.7"),
        ("2001:db8::1", "192.0.2.7", ("10.0.0.0/8", "2001:db8::/64"), "192.0.2.7"),
        ("192.0.2.1", "192.0.2.7", ("*",), "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7", (), "127.0.0.1"),
        ("", "10.0.0.1, 192.0.2.7", LOOPBACK, "192.0.2.7"),
        ("", "10.0.0.1,\t2001:db8::7 ", LOOPBACK, "2001:db8::7"),
        ("", "x" * 9000 + ", 192.0.2.7", LOOPBACK, "192.0.2.7"),
        ("", "192.0.2.7, ", LOOPBACK, None),
        ("", "", LOOPBACK, None),
        ("", "unix:", LOOPBACK, None),
        ("", "unknown", LOOPBACK, None),
        ("", "192.0.2.7:80", LOOPBACK, None),
        ("", '::1%"}\n', LOOPBACK, "::1"),
        ("", '192.0.2.7", "kid": "x', LOOPBACK, None),
        ("", "ro_AAAAAAAA_" + "0" * 38, LOOPBACK, None),
        ("", "\u0661.2.3.4", LOOPBACK, None),
    ],
)
def test_a_proxy_alone_names_the_client(peer, forwarded, proxies, client):
    """The header's last entry counts from a Unix socket or a proxy, and only as an address."""
    environ = {} if peer is None else {"REMOTE_ADDR": peer}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded

    assert client == client_address(environ, proxies)


def test_every_access_line_has_the_client(settings, access_lines):
    """A granted read, a refused key and a wrong URL all name whose they are."""
    app = create_app(settings)
    app.extensions["roster"].store.open(create=True)
    client = app.test_client()
    for path, key in (("/v1/models", ""), ("/v1/models", "x"), ("/nowhere", ""), ("/healthz", "")):
        headers = {"X-Forwarded-For": "10.0.0.1, 192.0.2.7", "x-api-key": key}
        client.get(path, headers=headers, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    client.get("/v1/models", environ_overrides={"REMOTE_ADDR": "192.0.2.1"})

    assert ["192.0.2.7"] * 4 + ["192.0.2.1"] == [line["client"] for line in access_lines()]


def test_the_operators_page_has_every_field(client, access_lines):
    """The page shows an access line as ours are, and says what each of its fields means."""
    client.get("/v1/models")
    page = (ROOT / "docs" / "operations.md").read_text()
    [shown] = [json.loads(line) for line in page.splitlines() if line.startswith('{"at"')]

    assert list(access_lines()[-1]) == list(shown)
    for field in shown:
        assert re.search(rf"^\|[^|]*`{field}`", page, re.MULTILINE), field
