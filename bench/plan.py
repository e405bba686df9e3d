"""How much is measured: rounds, seconds, sizes, and where files may lie."""

from dataclasses import dataclass
from pathlib import Path

#: The folder of the project.
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of the bench, as it was asked for."""

    #: A temporary folder of this run, on a real disk where writes are measured.
    folder: Path
    rounds: int = 5
    #: Of one measured load; wrk knows whole seconds only.
    seconds: int = 3
    #: Before each measured load; 0 is none.
    warm_up: int = 1
    connections: int = 16
    #: Entries of the catalogues whose list is read.
    sizes: tuple[int, ...] = (1, 300, 2_500, 100_000)
    #: Names to keep to; empty is all.
    subjects: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    peers: bool = False
    #: Another checkout of the project, with an environment of its own, to compare with.
    tree: Path | None = None
    quick: bool = False

    @property
    def largest(self) -> int:
        """Return the entries of the catalogue that growth is measured on."""
        return 10_000 if self.quick else 100_000

    def times(self, number: int) -> int:
        """Return how often a thing is done: `number`, or a tenth of it in a quick run."""
        return max(1, number // 10) if self.quick else number

    def rounds_at(self, size: int) -> int:
        """Return the rounds for a catalogue of `size`: two are enough for the largest."""
        return self.rounds if size < 10_000 else min(self.rounds, 2)

    def connections_at(self, size: int) -> int:
        """Return wrk's connections: few where a reply has 50 MB."""
        return self.connections if size < 10_000 else min(self.connections, 4)
