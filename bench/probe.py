"""A fresh process that loads an image: ``python -m bench.probe INSTANCE`` prints JSON."""

import gc
import json
import os
import sys
import time
from pathlib import Path

from bench.processes import memory


def main() -> None:
    """Import the service, load the image, make the first list; time and MiB of each."""
    settled = _memory()
    started = time.perf_counter()
    from app import create_app  # noqa: PLC0415 - what it costs is measured
    from app.settings import Settings  # noqa: PLC0415

    app = create_app(Settings(instance_path=Path(sys.argv[1])))
    found = {"import_seconds": time.perf_counter() - started, "import_mib": _memory() - settled}
    services = app.extensions["roster"]

    settled = _memory()
    started = time.perf_counter()
    services.store.open()
    services.catalog.current()
    found["image_seconds"] = time.perf_counter() - started
    found["image_mib"] = _memory() - settled

    settled = _memory()
    client = app.test_client()
    started = time.perf_counter()
    length = len(client.get("/v1/models").data)
    found["list_seconds"] = time.perf_counter() - started
    found["list_mib"] = _memory() - settled
    found["list_bytes_mib"] = length / 2**20
    services.store.close()
    print(f"\n{json.dumps(found)}", flush=True)


def _memory() -> float:
    gc.collect()
    return memory(os.getpid())["uss"]


if __name__ == "__main__":
    main()
