"""Who sees an entry: one function of entry, viewer and now.

List and retrieval, in every dialect, ask this module and nothing else; that is why they never
disagree.
"""

from typing import NamedTuple

from app.catalog.lifecycle import is_live
from app.catalog.model import Grant, Model


class Viewer(NamedTuple):  # hashed at every request: a dataclass costs five times as much
    """Whoever asks: an organization and groups, both from the key's row."""

    organization: str | None = None
    groups: frozenset[str] = frozenset()


#: A caller without a key.
ANONYMOUS = Viewer()


def is_visible(model: Model, viewer: Viewer, now: float) -> bool:
    """Tell whether `viewer` sees `model` at `now` (Unix seconds)."""
    return is_live(model, now) and is_permitted(model, viewer)


def is_permitted(model: Model, viewer: Viewer) -> bool:
    """Tell whether the permissions of `model` let `viewer` see it, whatever the date.

    Some permission that allows viewing must match and none that matches may block, whether or
    not the blocking one allows viewing. An empty list hides the entry from everyone.
    """
    matching = [grant for grant in model.rule if _matches(grant, viewer)]
    return any(g.allow_view for g in matching) and not any(g.is_blocking for g in matching)


def _matches(grant: Grant, viewer: Viewer) -> bool:
    return grant.organization in ("*", viewer.organization) and (
        grant.group is None or grant.group in viewer.groups
    )
