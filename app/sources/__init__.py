"""The formats of whole catalogues: one `Source` for each, in one file each.

A source recognises its format by shape, and gives what each row says under the names of our own
fields. It maps names and converts units; it checks nothing, because the schema does: a value that
the schema refuses is left out with the schema's sentence. Sources import neither each other nor
Flask. ``CONTRIBUTING.md`` has the recipe for one more.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal

from app.catalog.errors import InvalidValue, quote

Kind = Literal["json", "ndjson", "csv", "text"]


@dataclass(frozen=True, slots=True)
class Content:
    """A file that was read, before its format is known.

    `value` is the JSON value of ``json``, a list of JSON values for ``ndjson``, a list of mappings
    from header to cell for ``csv``, and a list of lines for ``text``.
    """

    kind: Kind
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a file says of one model; nothing in it is checked yet."""

    #: Where it is in the file: a number from 1 on, or the key of its object.
    place: int | str
    id: Any
    #: Values by field name, as a body of ``POST /admin/models`` has them, without ``id``.
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: Who serves the model, in a file in which several serve models of the same id.
    provider: str | None = None
    #: Sentences by field: what the file says that no field can hold.
    notes: Mapping[str, str] = field(default_factory=dict)
    #: Why the row is no model, as a sentence; None if it is one.
    no_model: str | None = None
    #: The source that the entry remembers; None is the one of this import.
    source: str | None = None


class Source(ABC):
    """One format."""

    #: As ``--format`` has it, and the name of the source unless another is given.
    name: ClassVar[str]
    #: Its shape in words, for the refusal of a file that has none of the shapes.
    shape: ClassVar[str]
    #: Whether a row is all that is known of the entry: fields that it lacks are then removed.
    is_complete: ClassVar[bool] = False

    @abstractmethod
    def recognises(self, content: Content) -> bool:
        """Return whether `content` has the shape of the format."""

    @abstractmethod
    def rows(self, content: Content) -> Iterator[Row]:
        """Yield the rows of `content`, which has the shape, in its order."""


class Sources(tuple[Source, ...]):
    """All formats, in the order in which they are tried."""

    __slots__ = ()

    def __new__(cls, *sources: Source) -> "Sources":
        """Return all of `sources`."""
        return super().__new__(cls, sources)

    def named(self, name: str) -> list[Source]:
        """Return the format with this name, or all for ``auto``; `InvalidValue` if none has it."""
        if found := [source for source in self if name in ("auto", source.name)]:
            return found
        names = ", ".join(source.name for source in self)
        sentence = f"'format' must be one of: auto, {names}; not '{quote(name)}'."
        raise InvalidValue("format", sentence)

    def choose(self, content: Content, name: str = "auto") -> Source:
        """Return the format with this name, or the first that recognises `content`.

        Raises `InvalidValue` for an unknown name and for content of another shape.
        """
        tried = self.named(name)
        for source in tried:
            if source.recognises(content):
                return source
        shapes = "; ".join(f"{source.name} ({source.shape})" for source in tried)
        wanted = "of no known format" if name == "auto" else "not of the format that is asked for"
        raise InvalidValue(
            "format", f"The file is {wanted}: it is {_described(content)}. Wanted: {shapes}."
        )


def _described(content: Content) -> str:
    value, kind = content.value, content.kind
    if kind == "text":
        first = next((line for line in value if line.strip()), "")
        return f"text that begins with '{quote(first)}'"
    words = {"json": "JSON", "ndjson": "NDJSON", "csv": "CSV"}[kind]
    if isinstance(value, list):
        if not value:
            return f"{words} without a row"
        words, value = f"{words} with rows", value[0]
    if not isinstance(value, dict):
        return f"{words}, the first value being {quote(value)}"
    return f"{words} whose first members are '{quote(', '.join(islice(value, 5)))}'"
