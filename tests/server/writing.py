"""Clients that write while something happens to the database, and what must be true after it."""

import http.client
import threading
from contextlib import contextmanager, suppress

from app.store.documents import read_model
from tests.sql import run_sql


class Writers:
    """Four clients that write as fast as they can, and remember what was answered."""

    def __init__(self, key):
        self._key = key
        #: How often each client has written.
        self.steps = [0] * 4
        #: By id, each step that was sent, and the last that was answered with success.
        self.sent = {}
        self.acknowledged = {}
        #: Id and step of each that was.
        self.answered = set()
        self.refused = 0

    @property
    def count(self):
        return len(self.answered)

    @contextmanager
    def writing_to(self, *servers):
        """Write, each client to another of `servers`, while the block runs."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._write, args=(servers[n % len(servers)], n, stop))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _write(self, server, number, stop):
        while not stop.is_set():
            self.steps[number] = step = self.steps[number] + 1
            model_id = f"{number}-{step % 20}"
            self.sent.setdefault(model_id, set()).add(step)
            with suppress(OSError, http.client.HTTPException):
                answer = server(
                    "PUT", f"/admin/models/{model_id}", {"context_length": step}, self._key
                )
                if answer.status in (200, 201):
                    self.acknowledged[model_id] = step
                    self.answered.add((model_id, step))
                else:
                    assert 503 == answer.status, answer.body
                    self.refused += 1
                    stop.wait(0.02)

    def check(self, stored, acknowledged):
        """Fail unless `stored` has each write of `acknowledged`, or one that was sent later."""
        for model_id, step in acknowledged.items():
            later = {sent for sent in self.sent[model_id] if sent >= step}
            assert stored[model_id].context_length in later


def check_log(store, settings):
    """Fail unless the log has each revision once and its replay gives what is stored.

    Returns the log, and by id each state in which it has an entry.
    """
    log = run_sql(settings, "SELECT * FROM changes ORDER BY revision")
    assert list(range(1, len(log) + 1)) == [line.revision for line in log]
    assert store.position().revision == len(log)
    replayed, states = {}, {}
    for line in log:
        if line.model_id is not None:
            before = None if line.before is None else read_model(line.before, 0)
            assert before == replayed.get(line.model_id)
            replayed[line.model_id] = read_model(line.after, line.revision)
            states.setdefault(line.model_id, []).append(replayed[line.model_id])
    stored = {model.id: model for model in store.load().models}
    assert replayed == stored
    assert {i: m.revision for i, m in replayed.items()} == {
        i: m.revision for i, m in stored.items()
    }
    return log, states
