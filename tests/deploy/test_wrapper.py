"""`sudo roster`: it runs as the owner of the data, so that all it makes is the service's."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from app.store.sqlite.connection import sqlite

ROOT = Path(__file__).parents[2]
WRAPPER = ROOT / "deploy" / "systemd" / "roster"
#: A user and a group that this machine need not know.
OWNER = 61234

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("setpriv", "util-linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else"),
]


@pytest.fixture(scope="module")
def python():
    """Return a command that runs this version of Python as any user."""
    path = f"PYTHONPATH={ROOT}:{sysconfig.get_path('purelib')}"
    code = f"import sys, flask; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for interpreter in (sys.executable, "/usr/bin/python3"):
        command = ["env", path, interpreter]
        become = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]
        tried = subprocess.run([*become, *command, "-c", code], cwd="/", check=False)
        if tried.returncode == 0:
            return " ".join(command)
    pytest.skip("no interpreter here can be run by every user")


class Host:
    """A host with its folders below one that each user may enter; root's are root's alone."""

    def __init__(self, root, python):
        self.root = root
        root.chmod(0o755)
        for folder in ("etc/roster", "home", "opt/roster/current/.venv/bin", "var/lib/roster"):
            (root / folder).mkdir(parents=True)
        self.data, self.backups = root / "var/lib/roster", root / "backups"
        for folder in (self.data, self.backups):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, OWNER, OWNER)
        for folder in ("etc/roster", "home"):
            (root / folder).chmod(0o700)
        (root / "opt/roster/current/wsgi.py").symlink_to(ROOT / "wsgi.py")
        # The service got its key as a credential, and made none.
        (root / "etc/roster/roster.env").write_text("unset ROSTER_ADMIN_KEY_FILE\n")
        self.program("opt/roster/current/.venv/bin/flask", f'exec {python} -m flask "$@"\n')
        text = WRAPPER.read_text()
        for folder in ("etc", "opt", "var"):
            text = text.replace(f"/{folder}/", f"{root}/{folder}/")
        self.program("roster", text)

    def program(self, name, text):
        (self.root / name).write_text(f"#!/bin/sh\n{text}")
        (self.root / name).chmod(0o755)

    def __call__(self, *arguments):
        return subprocess.run(
            [self.root / "roster", *arguments],
            cwd=self.root / "home",
            capture_output=True,
            text=True,
            check=False,
        )

    def do(self, *arguments):
        """Run a command that succeeds, and return what it prints."""
        done = self(*arguments)
        assert 0 == done.returncode, done.stderr
        return done.stdout


@pytest.fixture
def host(python):
    with tempfile.TemporaryDirectory() as folder:
        yield Host(Path(folder), python)


def test_what_root_does_is_the_services(host):
    """All that a command makes belongs to the owner of the folder, backups too."""
    host.do("db", "upgrade")
    backup = host.backups / "today.db"
    host.do("db", "backup", str(backup))

    assert f" from {backup}: revision 1, 0 entries." in host.do("db", "restore", str(backup))
    assert {OWNER} == {path.lstat().st_uid for path in [*host.data.iterdir(), backup]}


def test_the_log_has_who_typed_it(host, monkeypatch):
    """The command runs as the owner of the folder, and the log names the person behind sudo."""
    monkeypatch.setenv("SUDO_USER", "anna")  # as sudo sets it
    host.do("db", "upgrade")
    host.do("keys", "create", "billing")
    with closing(sqlite.connect(host.data / "roster.db")) as connection:
        actors = connection.execute("SELECT actor FROM changes ORDER BY revision").fetchall()

    assert [("start",), ("cli:anna",)] == actors


def test_a_file_that_the_owner_cannot_reach_is_refused(host):
    """The sentence names the user and says how to make a folder; nothing is made or changed."""
    host.do("db", "upgrade")
    there = host.root / "home/there.db"
    there.write_text("mine")
    for command, done in {"backup": "written", "restore": "read"}.items():
        refused = host("db", command, "there.db")

        assert (1, "") == (refused.returncode, refused.stdout)
        assert f"there.db cannot be {done} by user {OWNER}: Permission denied." in refused.stderr
        assert f"; {there.parent} may not be one. As root, 'install -d -o {OWNER} -m 0700 " in (
            refused.stderr
        )
    assert ["there.db"] == [path.name for path in there.parent.iterdir()]
    assert "mine" == there.read_text()


def test_the_first_key_stays_roots(host):
    """Where the settings name the key of the service, a database without keys waits for it."""
    (host.root / "etc/roster/roster.env").unlink()
    (host.root / "etc/roster/admin-key").touch()
    refused = host("db", "upgrade")

    assert 1 == refused.returncode
    assert "etc/roster/admin-key cannot be opened or made by user" in refused.stderr


def test_a_link_in_the_folder_leads_root_nowhere(host):
    """A link that the service's user has planted changes no file of root's, nor who reads it."""
    secrets = []
    for name in ("roster.db.lock", "roster.db.lock.next", "roster.db.users", "roster.db.writes"):
        secrets.append(host.root / "home" / name)
        secrets[-1].write_text("x" * 64)
        secrets[-1].chmod(0o600)
        (host.data / name).symlink_to(secrets[-1])
    done = host("db", "upgrade")

    assert 1 == done.returncode
    for secret in secrets:
        assert ("x" * 64, 0o100600) == (secret.read_text(), secret.stat().st_mode)


def test_the_owner_stays_who_they_are(host):
    """In a folder of root's own, root runs the command."""
    os.chown(host.data, 0, 0)
    host.do("db", "upgrade")

    assert {0} == {path.lstat().st_uid for path in host.data.iterdir()}


def test_without_a_folder_nothing_is_made(host):
    """The service makes the folder, for its user."""
    host.data.rmdir()
    done = host("db", "upgrade")

    assert (1, False) == (done.returncode, host.data.exists())
    assert "'sudo systemctl start roster' makes it" in done.stderr
