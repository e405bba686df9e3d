"""The errors of the domain, each with a code for programs.

A table in ``app.api.errors`` has the HTTP status of each code; the dialect encodes the error.

::

    RosterError
    ├── MissingKey            missing_api_key
    ├── InvalidKey            invalid_api_key
    ├── InsufficientScope     insufficient_permissions
    ├── ModelNotFound         model_not_found
    ├── KeyNotFound           key_not_found
    ├── HistoryPruned         history_pruned
    ├── RevisionUnknown       revision_unknown
    ├── KeyEnded              key_ended
    ├── LastAdminKey          last_admin_key
    ├── ModelExists           model_exists
    ├── RevisionMismatch      revision_mismatch
    ├── PlanChanged           plan_changed
    ├── RowsRefused           rows_refused
    ├── InvalidValue          invalid_value
    ├── InvalidJson           invalid_json
    ├── ValidationFailed      validation_error
    └── StoreUnavailable      unavailable
        ├── StoreRefused      unavailable
        ├── ChangeLost        unavailable
        └── ChangeUncertain   unavailable
"""

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from app.catalog.keys import KEY_BEGINNING, KID_LENGTH

#: The reasons to refuse a key. They are in logs and metrics, and in no reply. Of several keys the
#: last of these is the reason.
REFUSALS = ("missing", "malformed", "ambiguous", "unknown", "expired", "revoked")

#: The most characters of a caller's input that a message repeats.
QUOTED_LENGTH = 60


def quote(value: object, length: int = QUOTED_LENGTH) -> str:
    """Return `value` as one short printable line for a message.

    It is cut to `length` characters, and unprintable ones are replaced: input can neither flood a
    message nor forge a line of a log.
    """
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:200])
    return printable if len(printable) <= length else printable[: length - 1] + "…"


class RosterError(Exception):
    """A request that cannot be granted; `str()` of it is the message for the caller."""

    #: For programs, as the message is for people.
    code: ClassVar[str]
    #: The parameter or field at fault, where there is one.
    param: str | None = None


class MissingKey(RosterError):
    """The request has no key, and needs one."""

    code = "missing_api_key"
    reason = "missing"
    kid = None

    def __init__(self) -> None:
        super().__init__("No API key was provided: send it as 'Authorization: Bearer KEY'.")


class InvalidKey(RosterError):
    """The key is unknown, malformed, revoked or expired; the message does not say which."""

    code = "invalid_api_key"

    def __init__(self, shown: str, reason: str, kid: str | None = None, *, hint: str = "") -> None:
        super().__init__(f"Incorrect API key provided: {shown}.")
        #: For the caller: what is wrong with the form of the key, and what to send instead.
        self.hint = hint
        #: For the operator: one of `REFUSALS`.
        self.reason = reason
        #: For the operator: the id of the key, if it is well-formed.
        self.kid = kid


class InsufficientScope(RosterError):
    """The key is valid, and lacks the scope that the route needs."""

    code = "insufficient_permissions"

    def __init__(self) -> None:
        super().__init__("This key may not administer the catalogue: it lacks the scope 'admin'.")


class ModelNotFound(RosterError):
    """No entry with this id or alias is visible to the caller.

    `replacement` is the id or alias of the entry that replaces a retired one; `holder` the id of
    the entry which has `model_id` as an alias, for administrators only.
    """

    code = "model_not_found"
    param = "model"

    def __init__(
        self, model_id: str, replacement: str | None = None, holder: str | None = None
    ) -> None:
        alias = f": it is an alias, use '{quote(holder)}' instead" if holder is not None else ""
        super().__init__(f"The model '{quote(model_id)}' does not exist{alias}")
        self.model_id = model_id
        self.replacement = replacement


class KeyNotFound(RosterError):
    """There is no key with this id, or its state allows no change."""

    code = "key_not_found"
    param = "key"

    def __init__(self, kid: str, state: str = "does not exist") -> None:
        shown = f"The key '{quote(kid)}' {state}."
        if len(kid) != KID_LENGTH:
            shown = f"'{quote(kid)}' is not the id of a key: the list of keys has the ids."
        if key := KEY_BEGINNING.match(kid):
            shown = f"'{key[0]}***' is a key and not the id of one: its id is {key[1]}."
        super().__init__(shown)


class KeyEnded(RosterError):
    """The key is refused for good, and so takes no change."""

    code = "key_ended"
    param = "key"

    def __init__(self, kid: str, reason: str) -> None:
        super().__init__(
            f"The key '{quote(kid)}' {reason}: it cannot be changed. Make another one instead."
        )


class LastAdminKey(RosterError):
    """The key is the last admin key that is accepted: without it nobody may administer by HTTP."""

    code = "last_admin_key"
    param = "last"

    def __init__(self, kid: str) -> None:
        super().__init__(
            f"The key '{quote(kid)}' is the last active admin key: make another one first. To "
            "revoke it nevertheless, send '?last=1' or give '--yes' on the command line."
        )


class ModelExists(RosterError):
    """An entry, `holder`, has `name` already, as its id or as an alias.

    `param` says what `name` was to be: the ``id`` of an entry, or one of its ``aliases``.
    """

    code = "model_exists"

    def __init__(self, name: str, holder: str, param: str) -> None:
        state = "exists" if name == holder else f"is an alias of '{quote(holder)}'"
        super().__init__(f"The model '{quote(name)}' {state} already.")
        self.param = param


class RevisionMismatch(RosterError):
    """The entry does not meet the precondition."""

    code = "revision_mismatch"

    def __init__(self, current: int | None) -> None:
        state = "does not exist."
        if current is not None:
            state = f'is at revision "{current}". Read it again; If-Match has these quotes, too.'
        super().__init__(f"The precondition does not hold: the model {state}")


class HistoryPruned(RosterError):
    """The log no longer has what the catalogue was at a revision.

    It is complete from the revision `oldest` on, which is of `time` (RFC 3339).
    """

    code = "history_pruned"
    param = "revision"

    def __init__(self, oldest: int, time: str) -> None:
        super().__init__(
            f"The history before revision {oldest}, of {time}, was removed from the log."
        )
        self.oldest = oldest
        self.time = time


class RevisionUnknown(RosterError):
    """No line of the log has a revision: a restored backup did not know it.

    `before` and `behind` are the nearest revisions that the log has; None if there is none.
    """

    code = "revision_unknown"
    param = "revision"

    def __init__(self, before: int, behind: int | None) -> None:
        then = "" if behind is None else f", and the next one {behind}"
        super().__init__(
            "The log does not have what the catalogue was then, because a backup was restored: "
            f"the last revision before is {before}{then}."
        )


class PlanChanged(RosterError):
    """An entry that a plan touches has changed since the plan was shown."""

    code = "plan_changed"
    param = "revision"

    def __init__(self, ids: Sequence[str], revision: int) -> None:
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        super().__init__(
            f"'{quote(ids[0])}'{others} changed after revision {revision}: nothing was changed. "
            "Make the plan again, and read it."
        )


class RowsRefused(RosterError):
    """Some rows of a file, or some of many entries, cannot be changed as asked.

    `rows` has what is wrong with each, as a sentence that names it.
    """

    code = "rows_refused"

    def __init__(self, rows: Sequence[str], instead: str) -> None:
        shown = " ".join(rows[:3])
        more = f" And {len(rows) - 3} more." if len(rows) > 3 else ""  # noqa: PLR2004
        super().__init__(f"Nothing was changed, for {len(rows)} refused: {shown}{more} {instead}")


class InvalidValue(RosterError):
    """A query parameter has a value outside its range."""

    code = "invalid_value"

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class InvalidJson(RosterError):
    """A text is not one strict JSON object."""

    code = "invalid_json"


class ValidationFailed(RosterError):
    """Some fields of an object are wrong.

    `errors` has messages by dotted field name, such as ``permission.0.group``.
    """

    code = "validation_error"

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors = {field: list(sentences) for field, sentences in errors.items()}
        self.param, sentences = next(iter(self.errors.items()))
        super().__init__(f"{self.param}: {sentences[0]}")


class StoreUnavailable(RosterError):
    """The store cannot be read or written now. No part of a write is stored.

    Only `ChangeUncertain` does not promise the latter.
    """

    code = "unavailable"
    sentence: ClassVar[str] = "The catalogue cannot be reached just now. Try again."

    def __init__(self, reason: str) -> None:
        super().__init__(self.sentence)
        #: For the operator's log; ``/readyz`` shows it without the paths and hosts in it.
        self.reason = reason


class StoreRefused(StoreUnavailable):
    """The store must not be used until an operator acts."""


class ChangeLost(StoreUnavailable):
    """The database did not confirm a write, and later proved that it had not taken place."""

    sentence = "The database lost the change: nothing was stored. Try again."


class ChangeUncertain(StoreUnavailable):
    """The database did not confirm a write, which may have taken place."""

    sentence = (
        "The change may have happened: the database did not confirm it. "
        "Check before you send it again."
    )
