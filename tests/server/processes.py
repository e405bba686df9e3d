"""Processes that are stopped, and not ended."""

import os
import signal
from pathlib import Path

from tests.postgresql import wait_until


def stop(pid):
    """Stop a process, as Ctrl+Z does, and return when all its threads stand."""
    os.kill(pid, signal.SIGSTOP)
    stats = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    wait_until(lambda: all(") T " in stat.read_text() for stat in stats))
