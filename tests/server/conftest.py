"""What the hostile tests share: one server, a few connections, every key ever sent."""

import pytest

from tests.server.hostile import Target, Wire, check_logs


@pytest.fixture(scope="module")
def keys(server):
    """Every key that was ever sent; the logs are read once more when the server has stopped."""
    sent = set()
    yield sent
    server.stop()
    check_logs(server, sent)
    assert 0 == server.process.returncode


@pytest.fixture(scope="module")
def front(server):
    """What the hostile tests talk to: the server, or what stands in front of it."""
    return server


@pytest.fixture(scope="module")
def wires(front):
    """The few connections over which everything goes."""
    made = [Wire(front.port) for _ in range(4)]
    yield made
    for wire in made:
        wire.close()


@pytest.fixture
def target(server, wires, keys):
    return Target(server, wires, keys)
