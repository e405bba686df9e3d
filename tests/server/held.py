"""The application as new code that is slow, or wrong: files in the instance folder say which."""

import os
import time
from pathlib import Path

_folder = Path(os.environ["ROSTER_INSTANCE_PATH"])
if (_folder / "wrong").exists():
    raise RuntimeError("this code is wrong")
while (_folder / "held").exists():
    time.sleep(0.01)

from wsgi import app  # noqa: E402, F401 - gunicorn finds it here
