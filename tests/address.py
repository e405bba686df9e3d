"""One address of a database, whichever server it leads to, and connections that are cut."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgresql import Cluster

#: The end of the message that asks for a COMMIT; no isolation level ends like this.
_COMMIT = b"COMMIT\0"


class Address:
    """A port of 127.0.0.1 that leads to `target`, and to another server when that is changed.

    A connection stays with the server that it was made to, as it does where the address is a
    name, or that of a balancer. One thread passes all bytes on.
    """

    def __init__(self, target: Cluster) -> None:
        self.target = target
        self._delivered: bool | None = None
        self._refusals = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended, self._end = socket.socketpair()
        for each in (self._listener, self._ended):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="address")
        self._thread.start()

    def url(self, database: str) -> str:
        return f"postgresql://roster@127.0.0.1:{self._listener.getsockname()[1]}/{database}"

    @contextmanager
    def cutting_commit(self, *, delivered: bool, refusals: int = 0) -> Iterator[None]:
        """Cut the connection of the next COMMIT: when it is done, or before it is delivered.

        When the client notices, the server has done with the transaction. So many attempts to
        connect fail then.
        """
        self._delivered, self._refusals = delivered, refusals
        yield
        assert (None, 0) == (self._delivered, self._refusals), "there was no COMMIT, or no attempt"

    def close(self) -> None:
        self._end.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ended:
                    registered = list(self._selector.get_map().values())
                    self._close(*(each.fileobj for each in registered))
                    self._selector.close()
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj.fileno() >= 0:  # else closed with its other end, just now
                    self._pass_on(key.fileobj, key.data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._delivered is None and self._refusals:
            self._refusals -= 1
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self.target.socket))
        except OSError:  # nobody listens there
            client.close()
            server.close()
            return
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(65_536)
            # The server confirms a COMMIT with the same bytes.
            to_server = sink.family == socket.AF_UNIX
            if to_server and self._delivered is not None and _COMMIT in data:
                self._cut(data, sink)
                data = b""
            sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(source, sink)

    def _cut(self, data: bytes, server: socket.socket) -> None:
        delivered, self._delivered = self._delivered, None
        if delivered:
            server.sendall(data)
            server.recv(65_536)
        server.shutdown(socket.SHUT_WR)
        while server.recv(65_536):  # until its process ends
            pass

    def _close(self, *sockets: socket.socket) -> None:
        for each in sockets:
            self._selector.unregister(each)
            each.close()
