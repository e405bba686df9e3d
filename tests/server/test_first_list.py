"""The first list of a worker: nothing else waits for it, and after a reload nobody does."""

import time

import pytest

from app.catalog.model import Model
from app.catalog.ports import Actor
from app.replies import BATCH
from app.store.store import Store
from tests.server.test_reloads import Reloads, until
from tests.writing import write

#: An application whose first list can be held.
SLOW = "tests.server.slow_list:app"


@pytest.fixture
def slow(serve, settings):
    """Start a server that has made a part of its first list, which takes ten minutes."""
    store = Store(settings, time.time)
    store.open(create=True)
    with store.transaction(actor=Actor("test"), now=0) as transaction:
        for number in range(3 * BATCH):
            write(transaction, Model.compose({"id": f"m{number:03}"}, now=0))
    store.close()
    (settings.instance_path / "slow").touch()
    server = serve("instance", application=(SLOW,), WEB_CONCURRENCY="1")
    until((settings.instance_path / "begun").exists)
    return server


def test_single_models_and_pages_are_answered_before_the_list(slow):
    """They wait for the snapshot alone; so does /readyz."""
    assert "m299" == slow("GET", "/v1/models/m299").json["id"]
    page = slow("GET", f"/v1/models?limit={BATCH}&after=m149").json["data"]
    assert [f"m{number}" for number in range(150, 250)] == [entry["id"] for entry in page]
    assert "ready" == slow("GET", "/readyz").json["status"]


@pytest.mark.slow
def test_a_worker_ends_while_it_makes_the_list(slow):
    """A stop does not wait for the list, and nothing has to be killed."""
    slow.stop()

    assert 0 == slow.process.returncode
    assert "Worker exiting" in slow.err.read_text()


@pytest.mark.slow
def test_the_workers_of_a_reload_make_the_list_first(serve):
    """The old ones serve until they have it."""
    reloads = Reloads(serve(application=(SLOW,)))
    until(lambda: reloads.answering() == reloads.workers)
    old = reloads.workers
    reloads.held.touch()
    new = reloads.begin()
    until(lambda: all((reloads.server.instance / f"holding-{pid}").exists() for pid in new))

    assert reloads.answering() <= old
    assert old | new == reloads.workers
    reloads.end(old)
    assert new == reloads.workers
