"""The operator's page: every command on it is run, on a host that lies in a folder."""

import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.catalog.keys import parse_kid

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Commands that came after this page, and are run from when they are there.


pytestmark = [
    pytest.mark.needs("nginx", "nginx"),
    pytest.mark.needs("git", "git"),
    pytest.mark.needs("curl", "curl"),
    pytest.mark.needs("systemd-sysusers", "systemd"),
]


class Host:
    """A host of which /etc, /opt, /run, /usr/local and /var lie below a folder.

    Commands run in bash for real, but for those that want root or a service manager: `systemctl`
    writes down what it was told, and waits until that is carried out here.
    """

    def __init__(self, root, nginx, serve):
        self.root = root
        self.start_nginx = nginx
        self.serve = serve
        #: Where nginx answers, once it was reloaded.
        self.url = None
        self.environ = {"PATH": f"{root}/bin:{root}/usr/local/sbin:{os.environ['PATH']}"}
        folders = "bin etc/nginx/sites-enabled etc/systemd/system usr/local/sbin var/backups"
        folders += " etc/logrotate.d etc/nginx/modules-enabled var/log/nginx"
        for folder in (*folders.split(), "var/lib/roster"):
            (root / folder).mkdir(parents=True)
        self.shim("sudo", 'exec "$@"')
        self.shim("apt-get", "true")
        self.shim("systemd-sysusers", f'exec /usr/bin/systemd-sysusers --root={root} "$@"')
        # The user is in the files of this host alone.
        self.shim("install", 'exec /usr/bin/install $(echo "$@" | sed "s/-o roster -g roster//")')
        told = root / "systemctl"
        self.shim("systemctl", f'echo "$@" > {told}\nwhile [ -e {told} ]; do sleep 0.02; done')
        self.shim("nginx", "true")
        self.shim("nft", "true")
        shutil.copy("/etc/nginx/nginx.conf", root / "etc/nginx")

    def shim(self, name, script):
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def here(self, text):
        """Return a text with the paths and the port of this host."""
        text = re.sub(r"(?<![\w.}])/(?=(etc|opt|run|usr/local|var)/)", f"{self.root}/", text)
        return text.replace("http://127.0.0.1/", f"{self.url}/")

    def run(self, block, **words):
        """Run a block of the page, with `words` in place of those that it leaves open."""
        for word, value in words.items():
            block = block.replace(word, value)
        # What is tested is the tree as it is, committed or not.
        block = re.sub(
            r"git archive --prefix=(\S+) HEAD",
            r"git ls-files -co --exclude-standard | tar -cT- --transform 's,^,\1,'",
            block,
        )
        output, told = self.root / "output", self.root / "systemctl"
        with output.open("wb") as file:
            bash = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.here(block)],
                cwd=ROOT,
                env={**os.environ, **self.environ, "PIP_NO_COMPILE": "1"},
                stdout=file,
                stderr=file,
            )
            try:
                while bash.poll() is None:
                    if told.exists() and (line := told.read_text()).endswith("\n"):
                        self.carry_out(line.strip())
                        told.unlink()
                    time.sleep(0.01)
            finally:
                told.unlink(missing_ok=True)
                bash.wait()
        assert 0 == bash.returncode, f"{block}\n{output.read_text()}"
        return output.read_text()

    def carry_out(self, line):
        """Do what `systemctl` was told."""
        command = self.root / "usr/local/sbin/roster"
        if command.exists() and str(self.root) not in command.read_text():
            command.write_text(self.here(command.read_text()))
        if "roster-import@" in line:  # its source is on no network of this host
            assert (self.root / "etc/systemd/system/roster-import@.timer").exists()
        elif line.startswith(("enable --now roster", "start roster", "restart roster")):
            self.serve(self.root / "opt/roster/current")
        elif line.startswith("stop roster"):
            self.serve(None)
        elif line == "reload nginx":
            site = self.root / "etc/nginx/sites-enabled/roster.conf"
            self.url = self.start_nginx(site.read_text()).url
        else:
            assert line in ("daemon-reload", "restart logrotate.timer")


@pytest.fixture
def host(tmp_path, activated, nginx):
    """A host on which nothing is installed yet."""
    root = tmp_path / "host"
    root.mkdir()
    with ExitStack() as service, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve(release):
            service.close()
            if release is not None:
                key = str(root / "etc/roster/admin-key")
                data = root / "var/lib/roster"
                current = activated(listener, data, release.resolve(), ROSTER_ADMIN_KEY_FILE=key)
                service.enter_context(current)

        yield Host(root, lambda text: nginx(tmp_path / "s", text=text), serve)


def test_every_command_does_what_it_should(host):
    """From an empty host to one that was upgraded, backed up and given new keys."""
    shell = [block for language, block in BLOCKS if language == "sh"]
    words, outputs = {}, {}
    for block in shell:
        if "10.0.0.5" in block:  # there is no such server
            continue
        outputs[block] = output = host.run(block, **words)
        if created := re.search(r"ro_\w{8}_\w{38}", output):
            words.setdefault("KEY_ID", parse_kid(created[0]))
        if "restart" not in block and (key := host.root / "etc/roster/admin-key").exists():
            words.setdefault("OLD_ID", parse_kid(key.read_text().strip()))
    joined = "".join(outputs.values())

    assert '"id":"first-model"' in joined
    assert "Wrote " in joined
    listed = host.run("sudo roster keys list")
    states = re.findall(r"(active|revoked)$", listed, re.MULTILINE)
    assert ["active", "active", "revoked", "revoked"] == sorted(states)
    answer = host.run("curl -sf http://127.0.0.1/v1/models")
    assert '"id":"first-model"' in answer
    assert len(outputs) >= 8


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "sh"])
def test_every_block_is_a_shells(block):
    """Also those that a test cannot run."""
    done = subprocess.run(["bash", "-n"], input=block, text=True, check=False)

    assert 0 == done.returncode


@pytest.mark.parametrize("replaces", ["keys rotate", "> /etc/roster/admin-key"])
def test_no_block_replaces_a_key_and_revokes_it(replaces):
    """Whoever pastes a block that makes a successor has not ended the old key with it."""
    blocks = [block for language, block in BLOCKS if language == "sh" and replaces in block]

    assert blocks
    assert [] == [block for block in blocks if "keys revoke" in block]


def test_every_command_of_ours_is_there(app):
    """Each `roster` command is one of flask's, and each file of `deploy/` exists."""
    for group, name in re.findall(r"sudo roster (\w+) ([\w-]+)", PAGE):
        assert name in app.cli.commands[group].commands
    for name in re.findall(r"deploy/[\w./]+", PAGE):
        assert (ROOT / name).exists(), name


def test_the_metrics_are_open_on_this_host_alone(nginx, gunicorn, heard, site_at):
    """The lines of the page lead to the application, which knows no other way in."""
    [lines] = [block for language, block in BLOCKS if language == "nginx"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (ROOT / "deploy/nginx/roster.conf").read_text()
    site = nginx(gunicorn / "s", text=text + lines.replace("9180", str(port)))
    asked = len(heard())
    site("GET", "/metrics")
    assert asked == len(heard())

    site_at(port)("GET", "/metrics")
    assert asked + 1 == len(heard())
