"""PostgreSQL servers of the tests' own, on Unix sockets in temporary folders."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

#: Where Debian keeps what its packages do not put on the path, the newest last.
FOLDERS = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))


def which(program: str) -> str | None:
    """Return where a program is, of PostgreSQL's or of anybody's."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(FOLDERS[::-1]))


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Return as soon as `condition()` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Cluster:
    """A server with databases; it runs as the user postgres where we are root, as it must.

    Its collation is not that of code points, so that a query that relies on it shows. With
    `primary` it is a standby of that server.
    """

    def __init__(self, primary: "Cluster | None" = None, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="roster-"))
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        else:
            self._as = []
        self._numbers = count(1)
        self._options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            **options,
        }
        if primary is not None:
            self.copy(primary)
            return
        icu = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8", "-E", "UTF8"]
        self._run("initdb", "-D", self.data, "-U", "roster", "-A", "trust", "--no-sync", *icu)
        self._set("postgresql.conf", **self._options)
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.folder / ".s.PGSQL.5432"

    @property
    def is_running(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def copy(self, primary: "Cluster") -> None:
        """Replace all data by a copy of those of `primary`, and start as its standby."""
        if self.is_running:
            self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        quick = ["--checkpoint=fast", "--no-sync", "--no-manifest"]
        self._run("pg_basebackup", "-D", self.data, "-d", primary.url("postgres"), *quick)
        self._set("postgresql.conf", **self._options)
        self.follow(primary)
        self.start()

    def follow(self, primary: "Cluster") -> None:
        """Become a standby of `primary` at the next start."""
        (self.data / "standby.signal").touch()
        given = {"primary_conninfo": f"host={primary.folder} user=roster"}
        self._set("postgresql.auto.conf", **given)

    def promote(self) -> None:
        """Make a standby a primary; it takes writes when this returns."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data)

    def start(self) -> None:
        """Start the server; it accepts connections when this returns."""
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.folder / "log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: without a word to anybody, or in the mode ``fast``."""
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode)

    def remove(self) -> None:
        if self.is_running:
            self.stop()
        shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        """The process that listens."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.folder}&user=roster"

    def create(self, template: str = "template0") -> str:
        """Make a database like `template` and return its name."""
        name = f"roster_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def dump(self, database: str) -> Path:
        """Write a backup of a database with the command of docs/operations.md."""
        file = self.folder / f"{database}.dump"
        self._run("pg_dump", "-Fc", "-f", file, self.url(database))
        return file

    def restore(self, database: str, file: Path) -> None:
        """Restore a backup into a database that others have open, with the documented command."""
        self._run("pg_restore", "-c", "-1", "-d", self.url(database), file)

    def connect(self, database: str = "postgres") -> Any:
        """Return a connection; each statement is a transaction."""
        import psycopg  # noqa: PLC0415 - where there is no server, it may be missing, too

        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement)

    def value(self, query: str, database: str = "postgres") -> Any:
        """Return the one value that a query gives."""
        with self.connect(database) as connection:
            return connection.execute(query).fetchone()[0]

    def _set(self, file: str, **given: str) -> None:
        with (self.data / file).open("a") as conf:  # of a name that comes twice, the last holds
            conf.writelines(f"{name} = '{value}'\n" for name, value in given.items())

    def _run(self, program: str, *args: object) -> None:
        command = [*self._as, which(program), *map(str, args)]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


class Pair:
    """A primary and a standby that follows it; which of the two is which can change."""

    def __init__(self) -> None:
        quick = {"fsync": "off", "wal_retrieve_retry_interval": "100ms"}
        self.primary = Cluster(**quick)
        self.standby = Cluster(self.primary, **quick)
        self.standby._numbers = self.primary._numbers  # the databases are the same

    def catch_up(self) -> None:
        """Wait until the standby has replayed all that the primary has written."""
        end = self.primary.value("SELECT pg_current_wal_lsn()")
        wait_until(lambda: self.standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{end}'"))

    def fail_over(self) -> None:
        """Kill the primary, and promote the standby with what it was sent until then."""
        self.primary.stop()
        self.primary, self.standby = self.standby, self.primary
        if not self.primary.is_running:
            self.primary.start()
        self.primary.promote()

    def switch_over(self) -> None:
        """Stop the primary in good order and promote the standby, which the other then follows."""
        self.primary.stop("fast")
        self.primary, self.standby = self.standby, self.primary
        self.primary.promote()
        self.standby.follow(self.primary)
        self.standby.start()

    @contextmanager
    def awaiting_standby(self) -> Iterator[None]:
        """Let each COMMIT wait for the standby, which is stopped until the block ends."""
        self._synchronous("= '*'")
        self.standby.stop("fast")
        try:
            yield
        finally:
            self.standby.start()
            self.catch_up()
            self._synchronous("TO DEFAULT")

    def pause_standby(self) -> None:
        """Let the standby replay nothing newer than what it has now."""
        self.standby.execute("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        wait_until(lambda: self.standby.value(state) == "paused")

    def mend(self) -> None:
        """Start what is down, and copy the primary anew where the standby no longer follows it."""
        if not self.primary.is_running:
            self.primary.start()
        self._synchronous("TO DEFAULT")
        if not self._is_followed():
            self.standby.copy(self.primary)

    def remove(self) -> None:
        self.standby.remove()
        self.primary.remove()

    def _synchronous(self, standbys: str) -> None:
        self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names {standbys}")
        self.primary.execute("SELECT pg_reload_conf()")

    def _is_followed(self) -> bool:
        if not self.standby.is_running or self.standby.value("SELECT pg_is_wal_replay_paused()"):
            return False
        try:
            wait_until(lambda: self.primary.value("SELECT count(*) FROM pg_stat_replication"), 2)
        except AssertionError:
            return False
        return True
