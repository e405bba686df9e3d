"""Preconditions of a write: the revision that the entry must have (RFC 9110, section 13)."""

from dataclasses import dataclass

from app.catalog.errors import RevisionMismatch
from app.catalog.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """The headers If-Match and If-None-Match, as revisions in decimal digits.

    ``…_any`` is the value ``*``. Without If-Match, `if_match` is None; without a revision of ours
    in it, it is an empty set, which nothing matches.
    """

    if_match: frozenset[str] | None = None
    if_match_any: bool = False
    if_none_match: frozenset[str] = frozenset()
    if_none_match_any: bool = False

    def check(self, current: Model | None) -> None:
        """Raise `RevisionMismatch` unless `current`, None if absent, meets the precondition."""
        if current is None:
            if self.if_match_any or self.if_match is not None:
                raise RevisionMismatch(None)
            return
        revision = str(current.revision)
        if (
            (self.if_match is not None and revision not in self.if_match)
            or self.if_none_match_any
            or revision in self.if_none_match
        ):
            raise RevisionMismatch(current.revision)


#: Any state meets it.
UNCONDITIONAL = Precondition()
