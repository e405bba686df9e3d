"""What tests of a store's connections share."""

import pytest


@pytest.fixture
def revision_connections(store, monkeypatch):
    """The connections that threads have made for the revision, from now on."""
    made = []
    connect = store.backend.revision_connection

    def noted():
        made.append(connect())
        return made[-1]

    monkeypatch.setattr(store.backend, "revision_connection", noted)
    return made
