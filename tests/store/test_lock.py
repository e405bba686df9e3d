"""The writers' lock: who waits first has it first, also of another process."""

import fcntl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from app.store.sqlite.locks import WriterLock, try_lock

PATIENCE = 30.0  # seconds


def wait_for_next(path):
    """Return when somebody is next in line for the lock at `path`."""
    deadline = time.monotonic() + PATIENCE
    with path.with_name(f"{path.name}.next").open("ab") as file:
        while try_lock(file.fileno(), fcntl.LOCK_EX):
            fcntl.flock(file, fcntl.LOCK_UN)
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_another_process_that_waits_comes_before_our_next_writer(tmp_path):
    """A process that releases the lock does not take it again before another that waited."""
    path = tmp_path / "lock"
    ours, theirs = (
        WriterLock(path),
        WriterLock(path),
    )  # locks of one process do not share descriptors
    order = []
    queued = threading.Event()

    def hold(lock, name):
        queued.set()
        with lock.held(time.monotonic() + PATIENCE):
            order.append(name)

    with ThreadPoolExecutor(2) as pool:
        with ours.held(time.monotonic() + PATIENCE):
            other = pool.submit(hold, theirs, "theirs")
            wait_for_next(path)
            queued.clear()
            own = pool.submit(hold, ours, "ours")
            assert queued.wait(PATIENCE)
            time.sleep(0.05)  # it is about to wait at the lock of our threads
        other.result(PATIENCE)
        own.result(PATIENCE)

    assert ["theirs", "ours"] == order
