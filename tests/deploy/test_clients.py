"""What the official clients make of an outage and of nginx's limit, through the shipped site."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from app.catalog.keys import mint
from tests.sdk.test_sdks import RAISES

PATIENCE = 30.0  # seconds

pytestmark = pytest.mark.needs("nginx", "nginx")


@pytest.fixture
def outage(own_gunicorn, at_socket):
    """Return the socket of an application whose workers never saw the database."""
    master = (own_gunicorn / "pid").read_text()
    children = Path(f"/proc/{master}/task/{master}/children")
    old = set(children.read_text().split())
    (own_gunicorn / "roster.db").rename(own_gunicorn / "elsewhere")
    os.kill(int(master), signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while old & set(children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return own_gunicorn / "s"


@pytest.mark.parametrize("vendor", RAISES)
def test_a_client_knows_an_outage_and_a_limit(nginx, outage, environments, vendor):
    """Each is its own exception with our sentence: the application's 503, and nginx's 429."""
    one_a_minute = {"rate=300r/s": "rate=1r/m", "burst=600 ": ""}
    site = nginx(outage, changes=one_a_minute)
    step = {"url": site.url, "key": mint(), "retries": 0}
    done = subprocess.run(
        environments.driver(vendor, "newest"),
        input=json.dumps([step, step]),
        env={name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    down, limited = json.loads(done.stdout)

    assert [RAISES[vendor][3], RAISES[vendor][2]] == [down["error"], limited["error"]]
    assert "The catalogue cannot be reached just now. Try again." in down["says"]
    assert "Too many requests from this address: try again in a second." in limited["says"]
