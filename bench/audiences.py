"""The audiences of many viewers in a fresh process: ``python -m bench.audiences``.

Its arguments are an instance folder, an admin key, and the number of organizations. It prints
JSON: the seconds of CPU for all audiences, at first and after each write to a public entry.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from app import create_app
from app.catalog.visibility import Viewer
from app.settings import Settings
from bench.catalogue import model_id, organization

#: How often an entry is written, and the audiences are computed again.
WRITES = 2


def main() -> None:
    """Compute the audiences, write, and compute them again."""
    instance, key, count = sys.argv[1:]
    app = create_app(Settings(instance_path=Path(instance)))
    catalog = app.extensions["roster"].catalog
    viewers = [Viewer(organization(number)) for number in range(int(count))]
    catalog.current()  # loads the entries
    found = {"first": _seconds(catalog, viewers), "after_write": []}
    for number in range(WRITES):
        written = app.test_client().patch(
            f"/admin/models/{model_id(0)}",
            headers={"Authorization": f"Bearer {key}"},
            json={"name": f"write {number}"},
        )
        if written.status_code != 200:
            sys.exit(f"a PATCH was answered with {written.status_code}")
        found["after_write"].append(_seconds(catalog, viewers))
    print(f"\n{json.dumps(found)}", flush=True)


def _seconds(catalog: Any, viewers: list[Viewer]) -> float:
    """Return the seconds of CPU of this process for the snapshot and all audiences in it."""
    before = time.process_time()
    snapshot = catalog.current()
    for viewer in viewers:
        snapshot.audiences.of_viewer(viewer)
    return time.process_time() - before


if __name__ == "__main__":
    main()
