"""Who sees an entry, and what of it: functions of entry, viewer and now.

List and retrieval, in every dialect, ask this module and nothing else; that is why they never
disagree.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from app.catalog.lifecycle import is_live
from app.catalog.model import Access, Grant, Model, Rule


class Viewer(NamedTuple):  # hashed at every request: a dataclass costs five times as much
    """Whoever asks: an organization and groups, both from the key's row."""

    organization: str | None = None
    groups: frozenset[str] = frozenset()


#: A caller without a key.
ANONYMOUS = Viewer()


class Excerpt(NamedTuple):
    """What a viewer is shown of an entry, where that is not all of it."""

    #: Shown are the permissions with one of these grants, those that match the viewer.
    grants: Rule
    #: The fields that name an entry which the viewer does not see.
    hidden: tuple[str, ...]


def is_visible(model: Model, viewer: Viewer, now: float) -> bool:
    """Tell whether `viewer` sees `model` at `now` (Unix seconds)."""
    return is_live(model, now) and is_permitted(model.rule, viewer)


def is_permitted(rule: Rule, viewer: Viewer) -> bool:
    """Tell whether the permissions of an entry let `viewer` see it, whatever the date.

    Some permission that allows viewing must match and none that matches may block, whether or
    not the blocking one allows viewing. An empty list hides the entry from everyone.
    """
    matching = _matching(rule, viewer)
    return any(g.allow_view for g in matching) and not any(g.is_blocking for g in matching)


def excerpt_of(access: Access, viewer: Viewer) -> Excerpt | None:
    """Return what `viewer`, who sees an entry with this `access`, is shown of it; None for all."""
    rule, references = access
    if len(rule) == 1 and not references:  # most are so: the one permission matches
        return None
    grants = frozenset(_matching(rule, viewer))
    hidden = tuple(name for name, other in references if not is_permitted(other, viewer))
    return Excerpt(grants, hidden) if hidden or grants != rule else None


def shown(model: Model, excerpt: Excerpt | None) -> Model:
    """Return `model` with what `excerpt` has of it: for a hidden root, its own id."""
    if excerpt is None:
        return model
    fields: dict[str, Any] = {n: model.id if n == "root" else None for n in excerpt.hidden}
    permission = tuple(p for p in model.permission if p.grant in excerpt.grants)
    return replace(model, permission=permission, **fields)


def _matching(rule: Rule, viewer: Viewer) -> list[Grant]:
    return [
        grant
        for grant in rule
        if grant.organization in ("*", viewer.organization)
        and (grant.group is None or grant.group in viewer.groups)
    ]
