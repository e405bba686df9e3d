"""Backups of a server that is being written to."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.catalog.ports import Actor
from app.settings import Settings
from app.store.store import Store
from tests.server.writing import Writers, check_log

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_twenty_backups_under_load_are_prefixes(serve, tmp_path, clock):
    """Each restores to the log's first lines, and to no less than was answered before it."""
    server = serve()
    writers = Writers(server.admin_key)
    backups = []
    with writers.writing_to(server):
        for number in range(20):
            before = dict(writers.acknowledged)
            file = tmp_path / f"{number}.db"
            subprocess.run(
                [Path(sys.executable).with_name("flask"), "db", "backup", file],
                cwd=ROOT,
                env={"ROSTER_INSTANCE_PATH": str(server.instance)},
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=60,
            )
            backups.append((file, before))
    settings = Settings(instance_path=server.instance)
    served = Store(settings, clock)
    log, _ = check_log(served, settings)
    served.close()
    lengths = []
    for file, before in backups:
        settings = Settings(instance_path=tmp_path / file.stem)
        restored = Store(settings, clock)
        restored.restore(file, actor=Actor("test"))
        prefix, _ = check_log(restored, settings)
        lengths.append(len(prefix))

        assert log[: len(prefix)] == prefix
        writers.check({model.id: model for model in restored.load().models}, before)
        restored.close()
    assert sorted(set(lengths)) == lengths
    assert lengths[-1] > 20
