"""What the numbers were measured on and with; no path and no name of the machine."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from app.store.sqlite.connection import journal_mode, sqlite

_PACKAGES = ("roster", "flask", "gunicorn", "marshmallow", "sqlalchemy")


def describe(folder: Path) -> dict[str, str]:
    """Return facts by name; `folder` is where the databases lay."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "kernel": f"Linux {platform.release()}",
        "file system": _file_system(folder),
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "SQLite": f"{sqlite.sqlite_version}, {journal_mode()}",
        "nginx": _first(r"nginx/(\S+)", "nginx", "-v"),
        "wrk": _first(r"wrk (\S+)", "wrk", "-v"),
    }


def _first(pattern: str, *command: str) -> str:
    if shutil.which(command[0]) is None:
        return "none"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "unknown"


def _file_system(folder: Path) -> str:
    """Return the type of the file system that `folder` is on."""
    device = os.stat(folder).st_dev  # noqa: PTH116 - beside os.major
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[2] == number:
            return line.partition(" - ")[2].split()[0]
    return "unknown"
