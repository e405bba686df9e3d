"""A store on a PostgreSQL server, which any number of hosts may share.

Imported only where it is asked for: psycopg is an extra.
"""

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from app.catalog.errors import ChangeLost, ChangeUncertain, StoreRefused, StoreUnavailable
from app.catalog.ports import Position
from app.store.backend import READ_ONLY, WRITE_TIMEOUT, Backend
from app.store.tables import changes

_log = logging.getLogger(__name__)

#: How long the server may take to answer, in seconds: to the revision, and to the test of a
#: connection. A reader gets the last snapshot then.
_REVISION_TIMEOUT = 1.0
#: To what a reader loads after a change: many rows, from a busy disk.
_LOAD_TIMEOUT = 3.0
#: To a write, which waits for other writers.
_WRITE_TIMEOUT = WRITE_TIMEOUT + 3
#: How long no thread connects again after a failure, in seconds.
_PAUSE = 1.0
#: How long a connection is idle before it is tested, in seconds. Within that time the revision is
#: read on another one, before a write and before a load: see `distrust`.
_TESTED = 1.0

#: Parameters that the URL may override. Without them, readers wait minutes for a lost host.
_DEFAULTS = {
    "application_name": "roster",
    "client_encoding": "utf8",
    "connect_timeout": "3",  # seconds
    "keepalives_idle": "5",  # seconds
    "keepalives_interval": "2",  # seconds
    "keepalives_count": "3",
    "tcp_user_timeout": f"{_WRITE_TIMEOUT * 1000:.0f}",  # milliseconds
    "target_session_attrs": "read-write",  # of several hosts the primary, and never a standby
}
# A transaction of a stopped process blocks all writers until the server ends it. One that loads
# is idle, too, while its rows are read: some seconds for 100,000 entries.
_SESSION = (
    "SET synchronous_commit = on;"
    "SET default_transaction_isolation = 'read committed';"  # of writers, which set none
    f"SET lock_timeout = '{WRITE_TIMEOUT:.0f}s';"
    "SET idle_in_transaction_session_timeout = '30s'"
)
#: The number of the advisory lock for preparing a database: the letters "roster".
_PREPARING = int.from_bytes(b"roster")

# Undefined table, undefined column, insufficient privilege.
_NOT_OURS = {"42P01", "42703", "42501"}
#: A parameter of a URL; behind an @ it may be a part of a password.
_PARAMETER = re.compile(r"[?&](\w+)=(?!.*@)", re.ASCII)
#: What libpq says of one of several servers, and where it begins another sentence.
_ATTEMPT = re.compile(r"^- host: .*?, hostaddr: \S+ (.*(?:\n\t.*)*)", re.MULTILINE)
_NEXT_SENTENCE = re.compile(r"(?<=[^\s.:?])\s*\n\s*(?=[A-Z])")
#: How long, and how often, the server is asked about the outcome of a transaction, in seconds. To
#: connect takes 3 of them if the first of two hosts is lost.
_OUTCOME_TIMEOUT = 5.0
_OUTCOME_PAUSE = 0.05
_STATUS = sa.text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
_MARK = sa.select(changes.c.mark).where(changes.c.revision == sa.bindparam("which"))


class PostgreSQL(Backend):
    """The database that `url` names, in libpq's syntax.

    The row of the catalogue is the writers' lock: who has changed the revision holds the lock of
    the row until the commit, so revisions are committed in order. While the server cannot be
    reached, one thread of the process tries to connect once a second; all others fail at once. A
    standby counts as out of reach: it may lack writes that the primary has acknowledged.
    """

    driver_error = (psycopg.Error,)
    transaction_id = sa.cast(sa.func.pg_current_xact_id(), sa.Text)
    moved = "SELECT revision, mark FROM catalogue WHERE revision <> %s OR mark <> %s"

    def __init__(self, url: str) -> None:
        try:
            given = conninfo_to_dict(url)
            missing = {name: value for name, value in _DEFAULTS.items() if name not in given}
            self._parameters = make_conninfo(url, **missing)
            any_server = make_conninfo(self._parameters, target_session_attrs="any")
        except psycopg.ProgrammingError:  # its message has parts of the URL, such as passwords
            known = {option.keyword.decode() for option in Conninfo.get_defaults()}
            for name in _PARAMETER.findall(url):
                if name not in known:
                    raise StoreRefused(
                        f"The URL of the database has the parameter '{name}', which libpq "
                        "does not know: leave it out. A schema is named by "
                        "options=-csearch_path%3DNAME."
                    ) from None
            raise StoreRefused(
                "The URL of the database is none of PostgreSQL. In a password, "
                "characters such as @, :, /, ? and # are written as %40, %3A, %2F, %3F and %23."
            ) from None
        self._connecting = threading.Lock()
        self._lost: str | None = None
        self._closed_until = 0.0
        engine = self._engine(partial(self._connect, WRITE_TIMEOUT))
        self.reading = engine.execution_options(
            isolation_level="REPEATABLE READ", patience=_LOAD_TIMEOUT
        )
        self.writing = engine.execution_options(patience=_WRITE_TIMEOUT)
        self._autocommit = self._engine(
            partial(self._connect, _REVISION_TIMEOUT),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        self._standby = self._engine(
            partial(_Session.connect, any_server),
            poolclass=sa.NullPool,
            isolation_level="REPEATABLE READ",
        ).execution_options(patience=_LOAD_TIMEOUT)

    def identity(self) -> int:
        """Return the process id; the URL names the same database as long as the process runs."""
        return os.getpid()

    @contextmanager
    def preparing(self, deadline: float) -> Iterator[None]:
        """Hold an advisory lock, in a session that ends with it."""
        with self._autocommit.connect() as connection:
            session: Any = connection.connection.driver_connection
            wait = max(1, int(deadline - time.monotonic()))
            session.patience = wait + 1
            connection.exec_driver_sql(f"SET lock_timeout = '{wait}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_PREPARING})")
            yield

    def prepare(self, schema: int | None) -> None:  # noqa: ARG002 - its backups are the server's
        """Refuse a database that cannot hold every text."""
        with self.reading.connect() as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise StoreRefused(
                f"The database has the encoding {encoding}: make one with ENCODING 'UTF8'."
            )

    def writer_lock(self, deadline: float) -> AbstractContextManager[None]:  # noqa: ARG002 - its own
        """Do nothing: the first statement of a writer locks the row of the catalogue."""
        return nullcontext()

    def commit(
        self, connection: sa.Connection, first: Position, transaction_id: str | None
    ) -> None:
        """Commit; if the confirmation is lost, ask on a new connection for the outcome.

        The line in the log proves that it took place, also after a failover; another line with
        its number, that it did not. No line proves nothing: a COMMIT that waits for a standby is
        visible to nobody, and takes place later.
        """
        try:
            connection.commit()
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise  # the server refused it
            reason = self.reason(error)
            took_place = self._took_place(first, transaction_id)
            if took_place is None:
                raise ChangeUncertain(f"A COMMIT was not confirmed: {reason}") from error
            if not took_place:
                raise ChangeLost(f"A COMMIT did not take place: {reason}") from error
            _log.warning("A COMMIT took place although its answer was lost: %s", reason)

    def _took_place(self, first: Position, transaction_id: str | None) -> bool | None:
        """Return whether a transaction took place, None if the database does not know."""
        deadline = time.monotonic() + _OUTCOME_TIMEOUT
        which = {"transaction": transaction_id, "which": first.revision}
        while time.monotonic() < deadline:
            with (
                suppress(sa.exc.DBAPIError, StoreUnavailable),
                self._autocommit.connect() as connection,
            ):
                status: str | None = "in progress"
                while status == "in progress" and time.monotonic() < deadline:
                    status = connection.execute(_STATUS, which).scalar_one()
                    mark = connection.execute(_MARK, which).scalar()
                    if mark is not None:
                        return bool(mark == first.mark)
                    time.sleep(_OUTCOME_PAUSE)
                return False if status == "aborted" else None
            time.sleep(_OUTCOME_PAUSE)
        return None

    def distrust(self) -> None:
        """Close all idle connections."""
        self.reading.dispose()

    def standby(self) -> sa.Connection:
        """Return a connection to any server that can be reached."""
        return self._standby.connect()

    def revision_connection(self) -> sa.Connection:
        """Return a connection that waits for an answer no longer than a reader may."""
        return self._autocommit.connect()

    def size(self, connection: sa.Connection) -> int:
        """Return the size of the whole database, for which the server takes no lock."""
        size = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        return int(size.scalar_one())

    def is_busy(self, error: Exception) -> bool:
        """Return whether the server did not answer in time."""
        return isinstance(error, NoAnswer)

    def is_outage(self, error: Exception) -> bool:
        """Also return True for tables that are missing or may not be read."""
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        return super().is_outage(error) or state in _NOT_OURS

    def reason(self, error: Exception) -> str:
        """Return the sentence of the server, or of libpq about each server that it tried.

        Both have several lines: the statement, with a mark below the place of the mistake; a
        question with a tab before it; the last failure once more before the list of all.
        """
        cause = getattr(error, "orig", error)
        diagnosis = getattr(cause, "diag", None)
        text = getattr(diagnosis, "message_primary", None) or str(cause)
        attempts = dict.fromkeys(_ATTEMPT.findall(text)) or [text]
        sentences = [_NEXT_SENTENCE.sub(". ", attempt.strip()) for attempt in attempts]
        return " ".join("; ".join(sentences).split())

    @staticmethod
    def _engine(connect: Callable[[], Any], **options: Any) -> sa.Engine:
        if "poolclass" not in options:
            options["max_overflow"] = -1  # threads are bounded by the server
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=connect,
            use_native_hstore=False,
            hide_parameters=True,  # errors are logged
            **options,
        )

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            patience = connection.get_execution_options().get("patience")
            if patience is not None:
                session: Any = connection.connection.driver_connection
                session.patience = patience

        @sa.event.listens_for(engine, "checkin")
        def _check_in(session: Any, record: sa.pool.ConnectionPoolEntry) -> None:
            record.info["used"] = time.monotonic()
            if session is not None:
                session.patience = _Session.patience

        @sa.event.listens_for(engine, "checkout")
        def _check_out(session: Any, record: sa.pool.ConnectionPoolEntry, _: object) -> None:
            if time.monotonic() > record.info.get("used", math.inf) + _TESTED:
                try:
                    engine.dialect.do_ping(session)
                except psycopg.Error as error:
                    raise sa.exc.InvalidatePoolError from error  # the pool connects again

        @sa.event.listens_for(engine, "handle_error")
        def _handle(context: sa.engine.ExceptionContext) -> None:
            if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
                context.is_disconnect = True  # the pool drops all its connections

        return engine

    def _connect(self, timeout: float) -> "_Session":
        """Return a new connection; wait at most `timeout` seconds for a thread that makes one."""
        known = self._lost
        if not self._connecting.acquire(timeout=timeout if known is None else 0):
            raise StoreUnavailable(known or "The database takes long to accept a connection.")
        try:
            if self._lost is not None and time.monotonic() < self._closed_until:
                raise StoreUnavailable(self._lost)
            session = None
            try:
                session = _Session.connect(self._parameters, autocommit=True)
                session.execute(_SESSION)
                [(is_standby,)] = session.execute("SELECT pg_is_in_recovery()").fetchall()
                if is_standby:  # the URL may ask for any server
                    raise psycopg.OperationalError("The server is a standby.")
                session.autocommit = False
            except psycopg.Error as error:
                if session is not None:
                    session.close()
                self._lost = self.reason(error)
                self._closed_until = time.monotonic() + _PAUSE
                raise
            self._lost = None
            return session
        finally:
            self._connecting.release()


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time."""


class _Session(psycopg.Connection[Any]):
    """A connection that waits `patience` seconds for an answer of the server.

    libpq waits for ever for a stopped server whose host still acknowledges packets.
    """

    patience = _REVISION_TIMEOUT

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Run one exchange with the server."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    deadline = now + self.patience
                elif now > deadline:
                    self.close()
                    raise NoAnswer(f"The database has not answered for {self.patience:g} s.")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
