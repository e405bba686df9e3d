"""Our own export."""

import json

import pytest

from app.sources.roster import Roster
from tests.sources.reports import rows_of

ENTRY = {
    "id": "x",
    "created": 1,
    "parent": None,
    "permission": [{"id": "modelperm-1", "created": 2}],
    "available_from": 0,
    "source": "litellm",
    # These are of the reply of a server, and in no export.
    "object": "model",
    "revision": 5,
    "capabilities": {},
    "max_model_len": 8,
    "meta": {"n_ctx": 8},
}
HEAD = {"object": "roster.export"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**HEAD, "data": [ENTRY, {"source": 5}, 5]}),
        "\n".join(map(json.dumps, [HEAD, ENTRY, {"source": 5}, 5])),
    ],
    ids=["json", "ndjson"],
)
def test_an_entry_is_complete(body):
    """Each field is as it was, null too, and so is the source; nothing derived is read."""
    name, [row, *odd] = rows_of(body.encode())

    assert ("roster", True) == (name, Roster.is_complete)
    assert (1, "x", "litellm") == (row.place, row.id, row.source)
    assert {
        name: ENTRY[name] for name in ("created", "parent", "permission", "available_from")
    } == row.fields
    assert [(2, None, None, {}), (3, None, None, {})] == [
        (row.place, row.id, row.source, row.fields) for row in odd
    ]
