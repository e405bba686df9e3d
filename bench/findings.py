"""What a section found: tables for people, data for targets and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.figures import Spread


@dataclass(slots=True)
class Table:
    """Rows of text under a title; the first columns are words, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    words: int = 1


@dataclass(slots=True)
class Findings:
    """Everything that one section found."""

    name: str
    tables: list[Table] = field(default_factory=list)
    #: Numbers by dotted names, such as ``reads.300.200.service.cpu``.
    data: dict[str, Spread] = field(default_factory=dict)
    #: Sentences: what was left out and why, how to read a number.
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def gathered(findings: Sequence[Findings]) -> Mapping[str, Spread]:
    """Return the data of all sections."""
    return {name: value for found in findings for name, value in found.data.items()}
