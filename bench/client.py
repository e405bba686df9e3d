"""A keep-alive client so small that its own time does not show, even with eight at once."""

import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

#: How long an answer may take, in seconds.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; times in seconds."""

    status: int
    #: By name in small letters.
    headers: Mapping[str, str]
    body: bytes | bytearray
    #: Until the first byte was there, and the last.
    first_byte: float
    seconds: float

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Connection:
    """One connection to a port of 127.0.0.1, from `source`; replies need a Content-Length."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def abandon(self) -> None:
        """End it, though another thread waits for an answer: that gets a `ConnectionError`."""
        with suppress(OSError):  # the server was first
            self._socket.shutdown(socket.SHUT_RDWR)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET."""
        return self.send("GET", path, headers)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        discard: bool = False,
    ) -> Answer:
        """Send one request; raise `ConnectionError` when nothing comes.

        A `body` that is no bytes is sent as JSON. With `discard` the body of the answer is
        received, and is not kept.
        """
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        started = time.perf_counter()
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        head, rest, first_byte = self._head(started)
        status, *fields = head.split("\r\n")
        pairs = (field.partition(":") for field in fields)
        received = {name.strip().lower(): value.strip() for name, _, value in pairs}
        code = int(status.split()[1])
        empty = method == "HEAD" or code in {204, 304}
        length = 0 if empty else int(received["content-length"])
        reply = self._discarded(length - len(rest)) if discard else self._body(rest, length)
        return Answer(code, received, reply, first_byte, time.perf_counter() - started)

    def _head(self, started: float) -> tuple[str, bytes, float]:
        data = b""
        first_byte = 0.0
        while b"\r\n\r\n" not in data:
            data += self._receive(65_536)
            first_byte = first_byte or time.perf_counter() - started
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest, first_byte

    def _body(self, rest: bytes, length: int) -> bytearray:
        body = bytearray(length)
        body[: len(rest)] = rest
        view = memoryview(body)
        filled = len(rest)
        while filled < length:
            count = self._socket.recv_into(view[filled:])
            if not count:
                raise ConnectionError("the server closed the connection")
            filled += count
        return body  # a copy of 50 MB would be on our account

    def _discarded(self, length: int) -> bytes:
        buffer = bytearray(min(length, 65_536))
        while length > 0:
            count = self._socket.recv_into(buffer, min(length, len(buffer)))
            if not count:
                raise ConnectionError("the server closed the connection")
            length -= count
        return b""

    def _receive(self, most: int) -> bytes:
        data = self._socket.recv(most)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def fetch(port: int, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the answer to one GET, on a connection of its own."""
    with Connection(port) as connection:
        return connection.get(path, headers)
