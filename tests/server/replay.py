"""The log told again from its first line: it must end in the entries that are stored."""

import sqlalchemy as sa

from app.store.documents import read_model


def check_log(store):
    """Fail unless the log has each revision once and its replay gives what is stored.

    Returns, by id, each state in which the log has an entry.
    """
    with store._engine.connect() as connection:
        log = connection.execute(sa.text("SELECT * FROM changes ORDER BY revision")).all()
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
    return states
