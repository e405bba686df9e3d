"""The application, which makes its first list slowly: files in the instance folder say how."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

from app import replies
from wsgi import app

_folder = Path(os.environ["ROSTER_INSTANCE_PATH"])
_join = app.extensions["roster"].dialects.default.listing


def _pause(_seconds):
    (_folder / "begun").touch()
    time.sleep(600)


if (_folder / "slow").exists():
    replies.time = SimpleNamespace(sleep=_pause)  # between two batches of entries


def _held(*arguments):
    while (_folder / "held").exists():
        (_folder / f"holding-{os.getpid()}").touch()
        time.sleep(0.01)
    return _join(*arguments)


app.extensions["roster"].dialects.default.listing = _held
