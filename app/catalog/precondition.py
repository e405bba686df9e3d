"""What a writer may require of an entry before changing it (RFC 9110, section 13)."""

from dataclasses import dataclass

from app.catalog.errors import RevisionMismatch
from app.catalog.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """The headers If-Match and If-None-Match, as revisions in decimal digits.

    ``…_any`` stands for the value ``*``. Without If-Match, `if_match` is None; one that names
    no revision of ours is an empty set, which nothing matches.
    """

    if_match: frozenset[str] | None = None
    if_match_any: bool = False
    if_none_match: frozenset[str] = frozenset()
    if_none_match_any: bool = False

    def check(self, current: Model | None) -> None:
        """Raise `RevisionMismatch` unless the entry, None when absent, is in the state asked."""
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


#: Whatever the state.
UNCONDITIONAL = Precondition()
