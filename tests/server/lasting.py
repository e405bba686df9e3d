"""The application with a path, ``/lasting``, that answers when the file ``held`` is gone."""

import os
import time
from pathlib import Path

from wsgi import app as ours

_held = Path(os.environ["ROSTER_INSTANCE_PATH"], "held")


def app(environ, start_response):
    if environ["PATH_INFO"] != "/lasting":
        return ours(environ, start_response)
    while _held.exists():
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "0")])
    return []


app.app_context = ours.app_context  # for gunicorn.conf.py
