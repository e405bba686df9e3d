"""The changes an administrator makes, for the HTTP routes and the command line alike.

Each method takes fields as they were sent, checks their shape, applies the rule inside one
transaction and returns what is stored now. They raise the errors of ``app.catalog.errors``,
in the order in which the contract lists them: `ValidationFailed`, then `InvalidKey`, then
`ModelNotFound`, `KeyNotFound`, `ModelExists`, `KeyEnded` or `LastAdminKey`, then
`RevisionMismatch`, then `ValidationFailed` for a circle of replacements; `StoreUnavailable` at any
time.
"""

from app.administration.entries import EntryChanges
from app.administration.keys import KeyChanges


class Administration(EntryChanges, KeyChanges):
    """Every change to the catalogue."""

    __slots__ = ()
