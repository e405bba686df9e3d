"""How gunicorn serves a yardstick: one worker, and otherwise as it serves Roster.

With ``BENCH_WORKER=roster`` the worker is Roster's own, and so is how requests are parsed; the
application stays the yardstick.
"""

import os
import runpy
from pathlib import Path
from typing import Any

accesslog = None
worker_class = "gthread"
workers = 1
threads = 4
keepalive = 75  # seconds
timeout = 120  # seconds; a naive reply of 100,000 entries takes its time
graceful_timeout = 1  # second
forwarder_headers = ""
header_map = "refuse"
control_socket_disable = True

if os.environ.get("BENCH_WORKER") == "roster":
    _roster = runpy.run_path(str(Path(__file__).parents[2] / "gunicorn.conf.py"))
    worker_class = _roster["worker_class"]
    worker_connections = _roster["worker_connections"]
    header_map = _roster["header_map"]
    pre_fork = _roster["pre_fork"]
    child_exit = _roster["child_exit"]

    def on_starting(server: Any) -> None:
        """Do what `pre_fork` relies on; there is no store to prepare."""
        server.roster_memory = _roster["_shared_pages"]["new_memory"]()
        server.roster_generations = _roster["_generations"]["new_memory"]()
        os.register_at_fork(after_in_parent=_roster["_unblock"])
