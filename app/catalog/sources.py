"""The sources of imports: their names, and how the imports from each last ended."""

import re
from dataclasses import dataclass

from app.catalog.errors import quote

#: A name is in the log as ``import:NAME``, and in labels, file names and options.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GoodRun:
    """An import that was applied, or that found nothing to change: when, and to how many ids."""

    #: Unix seconds.
    at: int
    #: The revision of its last change; if it changed nothing, the one that it was planned at.
    revision: int
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: int = 0
    refused: int = 0
    #: Fields that a person has changed, and that the import has left.
    kept: int = 0


@dataclass(frozen=True, slots=True)
class FailedRun:
    """An import that changed nothing, because it was refused or could not be done."""

    #: Unix seconds.
    at: int
    #: What was wrong, for the operator.
    message: str


@dataclass(frozen=True, slots=True)
class SourceState:
    """The last good and the last failed import from a source, None if there was none."""

    name: str
    #: The format of the last run whose format was known.
    format: str | None
    last_good: GoodRun | None
    last_failed: FailedRun | None

    @property
    def is_failing(self) -> bool:
        """Whether an import has failed since the last good one."""
        if self.last_failed is None:
            return False
        return self.last_good is None or self.last_failed.at > self.last_good.at


def problem_with_source(name: str) -> str | None:
    """Return what is wrong with the name of a source, as a sentence, or None."""
    if _NAME.fullmatch(name):
        return None
    return (
        "Must be 1 to 64 letters, digits, '.', '_', '-' and '/', and begin with a letter or a "
        f"digit, not '{quote(name, 30)}'."
    )
