"""Which workers accept connections, and how many they hold, in memory that they all share.

The first workers of a server are one generation, and each reload starts another. Workers of an
older generation accept connections until all workers of the newest one do.

Standard library only, and no import of the rest of the application: ``gunicorn.conf.py`` runs
this file by itself, in a process that must not hold the application's code (see there).
"""

import mmap

#: More than there can be workers: at most 64 are configured, as many serve on in a reload, and
#: the others end.
SLOTS = 1000
#: Bytes of a number. It is written in one step, so that nobody reads half of it.
_NUMBER = 4
#: Indexes of the newest generation, of the number of workers that it needs, of the first slot.
_NEWEST, _NEEDED, _FIRST = range(3)
#: Indexes in a memory of its own: of the end of the slots that were ever taken; at a slot, of the
#: number of connections of its worker; and, so many numbers after that, of the second of the
#: monotonic clock when the worker last received events.
_END, _SEEN = 0, _FIRST + SLOTS
#: After how many seconds without events a worker counts as stuck.
_STUCK = 3
#: Values of a slot: no worker has it, or its worker accepts no connections. Any other value is the
#: generation of a worker that accepts them.
_FREE, _IDLE = range(2)


def new_memory() -> mmap.mmap:
    """Return memory that this process and its children will share, with the first generation."""
    memory = mmap.mmap(-1, _NUMBER * (_FIRST + SLOTS))
    memoryview(memory).cast("I")[_NEWEST] = _IDLE + 1
    return memory


def new_connections() -> mmap.mmap:
    """Return memory in which workers note how many connections they hold.

    It is no part of the other memory: a master that an older program has started has only that.
    """
    return mmap.mmap(-1, _NUMBER * 2 * _SEEN)


class Generations:
    """The slots in `memory`, and their numbers of connections.

    Only the master begins generations, takes slots and frees them.
    """

    def __init__(self, memory: mmap.mmap, connections: mmap.mmap) -> None:
        self._numbers = memoryview(memory).cast("I")
        self._held = memoryview(connections).cast("I")

    @property
    def newest(self) -> int:
        """Return the number of the newest generation."""
        return self._numbers[_NEWEST]

    def begin(self, needed: int) -> None:
        """Begin a generation; older workers stop when `needed` of its workers serve."""
        self._numbers[_NEEDED] = needed
        self._numbers[_NEWEST] += 1

    def take(self) -> int:
        """Return a free slot for a worker that is about to start."""
        slot = _FIRST + self._numbers[_FIRST:].tolist().index(_FREE)
        self._numbers[slot] = _IDLE
        self._held[slot] = self._held[slot + _SEEN] = 0
        self._held[_END] = max(self._held[_END], slot + 1)
        return slot

    def free(self, slot: int) -> None:
        """Free the slot of a worker that has ended."""
        self._numbers[slot] = _FREE

    def serve(self, slot: int, generation: int) -> None:
        """Note that the worker with this slot accepts connections."""
        self._numbers[slot] = generation

    def stop(self, slot: int) -> None:
        """Note that the worker with this slot accepts no more connections."""
        self._numbers[slot] = _IDLE

    def serves(self, slot: int) -> bool:
        """Return whether the worker with this slot accepts connections."""
        return self._numbers[slot] > _IDLE

    def any_serves(self, up_to: int) -> bool:
        """Return whether any worker of the generation `up_to`, or of an older one, serves."""
        return any(_IDLE < number <= up_to for number in self._numbers[_FIRST:])

    def hold(self, slot: int, connections: int, now: float) -> None:
        """Note that the worker with this slot receives events `now`, and how many it holds."""
        self._held[slot] = connections
        self._held[slot + _SEEN] = int(now)

    def others(self, slot: int, now: float) -> list[int]:
        """Return how many connections each other worker holds that serves and is not stuck."""
        held = self._held
        return [
            held[other]
            for other in range(_FIRST, held[_END])
            if other != slot and self.serves(other) and held[other + _SEEN] >= now - _STUCK
        ]

    def is_replaced(self, generation: int) -> bool:
        """Return whether enough workers of a newer generation serve."""
        newest = self.newest
        if newest == generation:
            return False
        serving = self._numbers[_FIRST:].tolist().count(newest)
        return serving >= self._numbers[_NEEDED]
