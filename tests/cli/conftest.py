"""Fixtures: a terminal."""

import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

BIN = Path(sys.executable).parent


@pytest.fixture
def on_terminal(app: Flask) -> Callable[..., tuple[str, int]]:
    """Run a shell command on a terminal; `answer` returns what is typed at the question."""
    folder = app.extensions["roster"].settings.instance_path

    def run_there(command: str, answer: Callable[[], str], **variables: str) -> tuple[str, int]:
        pid, terminal = pty.fork()
        if pid == 0:
            names = {"ROSTER_INSTANCE_PATH": str(folder), "TERM": "xterm", **variables}
            command = command.replace("flask", f"{BIN}/flask")
            os.execve("/bin/sh", ["sh", "-c", command], {**os.environ, **names})  # noqa: S606
        shown = b""
        while piece := _read(terminal):
            shown += piece
            if shown.endswith(b"[y/N]: "):
                os.write(terminal, answer().encode() + b"\n")
        os.close(terminal)
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run_there


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # of a terminal that no process has open any more
        return b""
