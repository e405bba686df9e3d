"""Slow clients cost nginx a connection each, and the others nothing."""

import contextlib
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

#: Seconds for which the others are answered beside them.
LASTS = 5.0
#: No answer of the others may take longer, however busy the machine is; in seconds. On a quiet
#: one the slowest took 0.04.
BOUND = 5.0
ROOT = Path(__file__).parents[2]
#: A program that prints how many of 6 connections it gets from one address, from another one, with
#: 6 more from the first when one was closed, and from an IPv6 network.
CONNECTING = """
import fcntl, socket, struct, subprocess, sys
probe = socket.socket()
fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
for _ in range(2):  # loading it again is no error, and does not double the rules
    subprocess.run(["nft", "-f", sys.argv[1]], check=True)
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
got = {}
def connect(source, host="127.0.0.1"):
    for _ in range(6):
        try:
            got.setdefault(source, []).append(
                socket.create_connection((host, 80), 5, (source, 0))
            )
        except ConnectionRefusedError:
            pass
    return len(got[source])
first, other = connect("127.0.0.1"), connect("127.0.0.2")
reset = struct.pack("ii", 1, 0)  # the other side is gone, too
got["127.0.0.1"][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
got["127.0.0.1"][0].close()
print(first, other, connect("127.0.0.1"), connect("::1", "::1"))
"""
HEAD = b"GET /v1/models HTTP/1.1\r\nHost: slow\r\n"

pytestmark = pytest.mark.needs("nginx", "nginx")


class SlowClients:
    """200 connections of four kinds that do next to nothing, twice a second."""

    def __init__(self, port, admin_key):
        self.port = port
        posted = (
            "POST /admin/models HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {admin_key}\r\nContent-Length: 1000\r\n\r\n"
        ).encode()
        #: Each with the bytes that it sends at once and the one that it sends again and again.
        self.senders = [
            *(self.connect(HEAD + b"X: ", b"x") for _ in range(50)),
            *(self.connect(posted, b"{") for _ in range(50)),
        ]
        self.idle = [self.connect(b"", b"") for _ in range(50)]
        self.readers = [self.connect(HEAD + b"\r\n", b"") for _ in range(50)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._dribble)

    def connect(self, first, piece):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(first)
        return connection, piece

    def _dribble(self):
        while not self._over.wait(0.5):
            for connection, piece in self.senders:
                connection.sendall(piece)
            for connection, _ in self.readers:
                assert connection.recv(1)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        for connection, _ in (*self.senders, *self.idle, *self.readers):
            connection.close()


def test_what_a_slow_reader_keeps_on_disk_is_bounded(nginx, tmp_path):
    """Of an answer that nobody reads, nginx takes 64 MiB and what its buffers hold, not all."""
    longest, taken = 100 << 20, 0
    with socket.socket(socket.AF_UNIX) as application, socket.socket() as reader:
        application.bind(str(tmp_path / "s"))
        application.listen()
        site = nginx(tmp_path / "s")
        reader.connect(("127.0.0.1", site.port))
        reader.sendall(HEAD + b"\r\n")
        connection, _ = application.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {longest}\r\n\r\n".encode())
            connection.settimeout(1)  # seconds without a byte: nginx reads no more
            with contextlib.suppress(TimeoutError):
                while taken < longest:
                    taken += connection.send(bytes(65536))

    assert 60 << 20 < taken < 80 << 20


def test_half_open_connections_of_one_address_keep_nobody_out(nginx, gunicorn):
    """Beside as many as the kernel lets one address have, others are answered."""
    rules = (ROOT / "deploy" / "nginx" / "roster.nft").read_text()
    [most] = {int(number) for number in re.findall(r"ct count over (\d+)", rules)}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, most + 500), hard))
    site = nginx(gunicorn / "s")
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(most):
            connection = socket.create_connection(("127.0.0.1", site.port), BOUND)
            stack.enter_context(connection).sendall(HEAD)

        assert 200 == site("GET", "/v1/models").status


@pytest.mark.needs("nft", "nftables")
def test_the_kernel_bounds_the_connections_of_one_address(tmp_path):
    """Those beyond the number are refused until one is closed; another address has its own."""
    rules = (ROOT / "deploy" / "nginx" / "roster.nft").read_text()
    (tmp_path / "rules").write_text(rules.replace("ct count over 2048", "ct count over 4"))
    isolated = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a network of its own")
    done = subprocess.run(
        [*isolated, sys.executable, "-c", CONNECTING, tmp_path / "rules"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "4 4 5 4\n" == done.stdout


def test_two_hundred_slow_clients_keep_nobody_waiting(nginx, gunicorn, direct):
    """Slow headers, slow bodies, slow reading, idle; lists, models and writes go on."""
    for number in range(500):  # over 4 MB, more than the buffers of nginx and of the sockets
        entry = {"id": f"long-{number}", "description": "x" * 4_000}
        entry["metadata"] = {f"{key}": "x" * 250 for key in range(16)}
        assert 201 == direct("POST", "/admin/models", entry, direct.admin_key).status
    site = nginx(gunicorn / "s")
    connection = site.connect()
    asked, worst = 0, 0.0
    with SlowClients(site.port, direct.admin_key):
        until = time.monotonic() + LASTS
        while (began := time.monotonic()) < until:
            requests = [
                ("GET", "/v1/models?limit=5"),
                ("GET", "/v1/models/a"),
                ("PUT", "/admin/models/b", {"created": asked}, direct.admin_key),
            ]
            answer = site(*requests[asked % 3], connection=connection)
            worst = max(worst, time.monotonic() - began)
            asked += 1

            assert 200 == answer.status, answer.body
    connection.close()
    print(f"200 slow clients: {asked} others, the slowest in {worst:.3f} s")  # noqa: T201

    assert worst < BOUND
