"""The configuration of gunicorn, with forks that last: in a reload, until the child gets a signal.

What the child waits in, ``fork`` calls: no code of Python has run in it yet.
"""

import ctypes
import runpy
from pathlib import Path

_ours = runpy.run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py"))
globals().update({name: value for name, value in _ours.items() if not name.startswith("__")})


def on_reload(server):
    """Reload; `pause` runs in each process that is forked from now on."""
    _ours["on_reload"](server)
    libc = ctypes.CDLL(None)
    libc["__register_atfork"](None, None, libc.pause, None)  # what pthread_atfork calls
