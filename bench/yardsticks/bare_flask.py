"""The least that a Flask view can do: return bytes that stand ready."""

import os
from pathlib import Path

from flask import Flask, Response

BODY = Path(os.environ["BENCH_BODY"]).read_bytes()
ENCODING = os.environ.get("BENCH_ENCODING")

app = Flask(__name__, static_folder=None)


if ENCODING is None:

    @app.get("/v1/models")
    def list_models() -> Response:
        """Answer the bytes."""
        return Response(BODY, mimetype="application/json")

else:

    @app.get("/v1/models")
    def list_compressed() -> Response:
        """Answer the bytes, and say how they are compressed."""
        return Response(BODY, mimetype="application/json", headers={"Content-Encoding": ENCODING})
