"""A PostgreSQL server of the tests' own, on a Unix socket in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

#: Where Debian keeps what its packages do not put on the path, the newest last.
FOLDERS = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))


def which(program: str) -> str | None:
    """Return where a program is, of PostgreSQL's or of anybody's."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(FOLDERS[::-1]))


class Cluster:
    """A server with databases; it runs as the user postgres where we are root, as it must.

    Its collation is not that of code points, so that a query that relies on it shows.
    """

    def __init__(self, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="roster-"))
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        else:
            self._as = []
        self._numbers = count(1)
        icu = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8", "-E", "UTF8"]
        self._run("initdb", "-D", self.data, "-U", "roster", "-A", "trust", "--no-sync", *icu)
        given = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            **options,
        }
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in given.items())
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start the server; it accepts connections when this returns."""
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.folder / "log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: without a word to anybody, or in the mode ``fast``."""
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode)

    def remove(self) -> None:
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

    def execute(self, statement: str) -> None:
        import psycopg  # noqa: PLC0415 - where there is no server, it may be missing, too

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

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
