"""The application as new code that starts slowly: a file in the instance folder holds it."""

import os
import time
from pathlib import Path

_folder = Path(os.environ["ROSTER_INSTANCE_PATH"])
while (_folder / "held").exists():
    time.sleep(0.01)

from wsgi import app  # noqa: E402, F401 - gunicorn finds it here
