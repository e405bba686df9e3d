"""The least that anything behind gunicorn can do: a callable that returns bytes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

BODY = [Path(os.environ["BENCH_BODY"]).read_bytes()]
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY[0])))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:  # noqa: ARG001
    """Answer the bytes to whatever is asked."""
    start_response("200 OK", HEADERS)
    return BODY
