"""Which viewers see an entry, and how much of it: functions of entry, viewer and now.

Lists and retrievals of every dialect follow this module, and so never disagree. A viewer is shown
the name of another entry, its id or an alias, only if they see that entry. A name that is of no
entry of the catalogue is shown to everyone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from app.catalog.lifecycle import is_live
from app.catalog.model import Access, Grant, Model, Rule


class Viewer(NamedTuple):  # hashed at every request: a dataclass costs five times as much
    """A caller: an organization and groups, both from the row of the key."""

    organization: str | None = None
    groups: frozenset[str] = frozenset()


#: A caller without a key.
ANONYMOUS = Viewer()


class Excerpt(NamedTuple):
    """The part of an entry that a viewer is shown, if that is not all of it."""

    #: The grants that match the viewer: permissions without one of these are hidden.
    grants: Rule
    #: The fields with the name of an entry that the viewer does not see.
    hidden: tuple[str, ...]


def is_visible(model: Model, viewer: Viewer, now: float) -> bool:
    """Return whether `viewer` sees `model` at `now` (Unix seconds)."""
    return is_live(model, now) and is_permitted(model.rule, viewer)


def is_permitted(rule: Rule, viewer: Viewer) -> bool:
    """Return whether the permissions of an entry let `viewer` see it, whatever the date.

    A permission that allows viewing must match, and no matching one may block, whether or not it
    allows viewing. An empty list hides the entry from everyone.
    """
    matching = _matching(rule, viewer)
    return any(g.allow_view for g in matching) and not any(g.is_blocking for g in matching)


def effective_grants(rule: Rule) -> list[Grant]:
    """Return the grants that let somebody see an entry, whatever the date; none if it is hidden.

    Of those whom a grant allows, a viewer without another organization or group is blocked least.
    A viewer of the organization ``*`` matches what one without an organization does.
    """
    return [
        grant
        for grant in rule
        if grant.allow_view
        and is_permitted(rule, Viewer(grant.organization, frozenset({grant.group or ""})))
    ]


def excerpt_of(access: Access, viewer: Viewer) -> Excerpt | None:
    """Return the part of an entry with this `access` that `viewer`, who sees it, is shown.

    None is all of it.
    """
    rule, references = access
    if len(rule) == 1 and not references:  # most entries: the one permission matches
        return None
    grants = frozenset(_matching(rule, viewer))
    hidden = tuple(name for name, other in references if not is_permitted(other, viewer))
    return Excerpt(grants, hidden) if hidden or grants != rule else None


def apply_excerpt(model: Model, excerpt: Excerpt | None) -> Model:
    """Return `model` without what `excerpt` hides; a hidden root becomes its own id."""
    if excerpt is None:
        return model
    fields: dict[str, Any] = {n: model.id if n == "root" else None for n in excerpt.hidden}
    permission = tuple(p for p in model.permission if p.grant in excerpt.grants)
    return replace(model, permission=permission, **fields)


def named_by(models: Iterable[Model]) -> set[tuple[str, str]]:
    """Return each id or alias that one of `models` names, with the id of that one."""
    return {(other, model.id) for model in models for _, other in _named(model)}


def effective_rule(model: Model | None, now: float) -> Rule | None:
    """Return the rule of `model` at `now` (Unix seconds), empty if not live, None for None."""
    if model is None:
        return None
    return model.rule if is_live(model, now) else frozenset()


def with_references(model: Model, find: Callable[[str], Model | None], now: float) -> Model:
    """Return `model` with the `references` of `now`: itself, unless these differ.

    `find` returns the entry with an id or alias.
    """
    rules = ((name, effective_rule(find(other), now)) for name, other in _named(model))
    references = tuple(
        (name, rule) for name, rule in rules if rule is not None and rule != model.rule
    )
    return model if references == model.references else replace(model, references=references)


def _matching(rule: Rule, viewer: Viewer) -> list[Grant]:
    return [
        grant
        for grant in rule
        if grant.organization in ("*", viewer.organization)
        and (grant.group is None or grant.group in viewer.groups)
    ]


def _named(model: Model) -> Iterator[tuple[str, str]]:
    if model.root != model.id:
        yield "root", model.root
    if model.parent is not None and model.parent != model.id:
        yield "parent", model.parent
    replacement = model.deprecation_replacement_model
    if replacement is not None and replacement != model.id:
        yield "deprecation_replacement_model", replacement
