"""Which workers accept connections, as master and workers read it in shared memory."""

from app.generations import Generations, new_connections, new_memory


def test_nobody_serves_at_first():
    """Neither in new memory, nor with a worker that starts."""
    generations = Generations(new_memory(), new_connections())
    slot = generations.take()

    assert not generations.serves(slot)
    assert not generations.any_serves(generations.newest)
    assert not generations.is_replaced(generations.newest)


def test_a_worker_serves_until_it_stops_or_ends():
    """Others see it in the same memory; the slot of one that has ended is taken again."""
    shared = new_memory(), new_connections()
    generations, others = Generations(*shared), Generations(*shared)
    slots = [generations.take(), generations.take()]
    generations.serve(slots[0], generations.newest)

    assert [True, False] == [others.serves(slot) for slot in slots]
    assert [True, False] == [others.any_serves(others.newest - older) for older in (0, 1)]
    generations.stop(slots[0])
    assert not others.any_serves(others.newest)
    generations.serve(slots[0], generations.newest)
    generations.free(slots[0])
    assert not others.any_serves(others.newest)
    assert slots[0] == generations.take()


def test_a_generation_is_replaced_when_enough_newer_workers_serve():
    """Those of its own do not count, nor those that a third generation has replaced itself."""
    generations = Generations(new_memory(), new_connections())
    first = generations.newest
    for _ in range(2):
        generations.serve(generations.take(), first)
    generations.begin(2)
    second = generations.newest
    slots = [generations.take(), generations.take()]
    for slot in slots:
        assert not generations.is_replaced(first)
        generations.serve(slot, second)

    assert generations.is_replaced(first)
    assert not generations.is_replaced(second)
    generations.begin(1)
    assert not generations.is_replaced(first)
    generations.serve(generations.take(), generations.newest)
    assert generations.is_replaced(first)
    assert generations.is_replaced(second)


def test_a_worker_sees_what_others_hold():
    """Only of those that serve, and that receive events: others take no connection."""
    generations = Generations(new_memory(), new_connections())
    own, other, idle, stuck = (generations.take() for _ in range(4))
    for slot in (own, other, stuck):
        generations.serve(slot, generations.newest)
    for slot, connections, now in ((own, 5, 99.9), (other, 7, 99.9), (stuck, 2, 90.0)):
        generations.hold(slot, connections, now)
    generations.hold(idle, 0, 99.9)

    assert [7] == generations.others(own, 100.0)
    assert [5] == generations.others(other, 100.0)
    generations.free(other)
    assert generations.take() == other
    generations.serve(other, generations.newest)
    generations.hold(other, 0, 100.0)
    assert [0] == generations.others(own, 100.0)
