"""Who sees an entry: one function of entry, viewer and now.

List and retrieval, in every dialect, ask this module and nothing else; that is why they never
disagree.
"""

from collections.abc import Iterable
from typing import NamedTuple

from app.catalog.lifecycle import is_live
from app.catalog.model import Model, Permission


class Viewer(NamedTuple):  # hashed at every request: a dataclass costs five times as much
    """Whoever asks: an organization and groups, both from the key's row."""

    organization: str | None = None
    groups: frozenset[str] = frozenset()


#: A caller without a key.
ANONYMOUS = Viewer()


class Grant(NamedTuple):
    """What of a permission decides who sees the entry."""

    organization: str
    group: str | None
    allow_view: bool
    is_blocking: bool


#: All that decides who sees an entry while it is live; many entries have the same rule.
Rule = frozenset[Grant]


def rule_of(model: Model) -> Rule:
    """Return the rule by which `model` is seen."""
    return frozenset(
        Grant(p.organization, p.group, p.allow_view, p.is_blocking) for p in model.permission
    )


def is_visible(model: Model, viewer: Viewer, now: float) -> bool:
    """Tell whether `viewer` sees `model` at `now` (Unix seconds)."""
    return is_live(model, now) and is_permitted(model, viewer)


def is_permitted(model: Model, viewer: Viewer) -> bool:
    """Tell whether the permissions of `model` let `viewer` see it, whatever the date."""
    return permits(model.permission, viewer)


def permits(grants: Iterable[Permission | Grant], viewer: Viewer) -> bool:
    """Tell whether the permissions of an entry, or its rule, let `viewer` see it.

    Some permission that allows viewing must match and none that matches may block, whether or
    not the blocking one allows viewing. An empty list hides the entry from everyone.
    """
    matching = [grant for grant in grants if _matches(grant, viewer)]
    return any(g.allow_view for g in matching) and not any(g.is_blocking for g in matching)


def _matches(grant: Permission | Grant, viewer: Viewer) -> bool:
    return grant.organization in ("*", viewer.organization) and (
        grant.group is None or grant.group in viewer.groups
    )
