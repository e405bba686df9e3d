"""What an entry of the catalogue is: `Model` and its `Permission` list.

Field names are those of the reference reply, so that one name runs from the database to the
wire. Which viewer sees an entry is in ``visibility``, when it is live in ``lifecycle``.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self
from weakref import WeakValueDictionary

from app.catalog.ids import random_base62


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Who may see an entry, in the reference's terms; the defaults are the reference's.

    Only `allow_view`, `organization`, `group` and `is_blocking` decide anything here; the
    others are for the gateway that serves the model.
    """

    id: str
    #: Unix seconds.
    created: int
    allow_create_engine: bool = True
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    #: ``*`` is everybody.
    organization: str = "*"
    #: None is every group of the organization.
    group: str | None = None
    is_blocking: bool = False
    #: See `Model`.
    unknown_members: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def grant(self) -> "Grant":
        """Return what of it decides who sees the entry."""
        return Grant(self.organization, self.group, self.allow_view, self.is_blocking)


class Grant(NamedTuple):
    """What of a permission decides who sees the entry."""

    organization: str
    group: str | None
    allow_view: bool
    is_blocking: bool


#: All that decides who sees an entry while it is live; many entries have the same rule.
Rule = frozenset[Grant]


class Access(NamedTuple):
    """All that decides who sees an entry while it is live, and what of it is shown to them."""

    rule: Rule
    #: By field, the rules of the entries that it refers to: see `Model.references`.
    references: tuple[tuple[str, Rule], ...] = ()


#: One object for all entries that have the same rule: these are compared in all searches.
_rules: WeakValueDictionary[Rule, Rule] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry. None means unknown, save in `parent`; times are Unix seconds."""

    id: str
    created: int
    owned_by: str
    permission: tuple[Permission, ...]
    root: str
    parent: str | None = None

    name: str | None = None
    description: str | None = None
    #: Tokens, input and output together.
    context_length: int | None = None
    #: Tokens.
    max_output_tokens: int | None = None
    #: ``input_modalities`` and ``output_modalities``, lists of strings.
    architecture: Mapping[str, Sequence[str]] | None = None
    supported_parameters: Sequence[str] | None = None
    #: USD for each token, as decimal strings: a float would change 0.0000025.
    pricing: Mapping[str, str] | None = None
    #: ``YYYY-MM-DD``; the entry is gone from 00:00 UTC of this day on.
    shutdown_date: str | None = None
    #: RFC 3339; when the entry became, or becomes, deprecated. It stays listed.
    deprecation: str | None = None
    deprecation_replacement_model: str | None = None
    metadata: Mapping[str, str] | None = None

    # The task fields of the reference's "response schema".
    work_name: str | None = None
    work_video_path: str | None = None
    wm_work_video_path: str | None = None
    no_wm_work_video_path: str | None = None
    work_webp_path: str | None = None
    web_work_status: float | None = None
    create_time: float | None = None

    #: Unix seconds; the entry is hidden before.
    available_from: int | None = None
    #: Revision of the catalogue at which the entry last changed; the store sets it. Two
    #: states of an entry are equal whatever their revision.
    revision: int = field(default=0, compare=False)
    #: What a newer program has stored with the entry. It stays with it, and nobody is shown it.
    unknown_members: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    #: Whether the moment of `deprecation` has come; the snapshot sets it.
    is_deprecated: bool = field(default=False, compare=False)
    #: The fields that name another entry, each with the rule of that entry, or with the empty
    #: rule while it is not live. Left out are names of no entry, and entries that have the rule
    #: of this one: whoever sees this one sees them. The snapshot sets it.
    references: tuple[tuple[str, Rule], ...] = field(default=(), compare=False, repr=False)

    #: What ``q`` is looked for in: the folded id and name, with a line break in between.
    search_text: str = field(init=False, compare=False, repr=False)
    #: By what it is seen.
    rule: Rule = field(init=False, compare=False, repr=False)
    #: A number unique in this process. Caches compare it and hold no entry.
    identity: int = field(
        init=False, compare=False, repr=False, default_factory=itertools.count().__next__
    )

    def __post_init__(self) -> None:
        text = self.id if self.name is None else f"{self.id}\n{self.name}"
        object.__setattr__(self, "search_text", text.casefold())
        rule = frozenset(permission.grant for permission in self.permission)
        object.__setattr__(self, "rule", _rules.setdefault(rule, rule))

    @property
    def access(self) -> Access:
        """Return who sees the entry, and what of it."""
        return Access(self.rule, self.references)

    @classmethod
    def compose(cls, fields: Mapping[str, Any], *, now: int, stored: "Self | None" = None) -> Self:
        """Return the entry that `fields` describe, with every default filled in.

        `fields` are checked values by field name; only ``id`` is required. With the `stored`
        entry that this one replaces, ``created`` stays, and a permission that left out its id
        keeps the id of the stored one that is otherwise equal: so the same PUT twice changes
        nothing.
        """
        created = fields.get("created", now if stored is None else stored.created)
        permission = _compose_permissions(
            fields.get("permission", [{}]), created, () if stored is None else stored.permission
        )
        defaults = {"owned_by": "custom", "root": fields["id"]}
        # An object without members says nothing: it is unknown, and left out of replies.
        known = {name: value for name, value in fields.items() if value != {}}
        unknown = None if stored is None else stored.unknown_members
        return cls(
            **{**defaults, **known, "created": created, "permission": permission},
            unknown_members=unknown,
        )


def _compose_permissions(
    given: Sequence[Mapping[str, Any]], created: int, stored: Sequence[Permission]
) -> tuple[Permission, ...]:
    given_ids = {fields.get("id") for fields in given}
    kept = [permission for permission in stored if permission.id not in given_ids]
    composed = []
    for fields in given:
        permission = Permission(**{"id": "", "created": created, **fields})
        if "id" not in fields:
            same = next((p for p in kept if _without_id(p) == _without_id(permission)), None)
            if same is not None:
                kept.remove(same)
            permission_id = f"modelperm-{random_base62(24)}" if same is None else same.id
            permission = replace(permission, id=permission_id)
        unknown = next((p.unknown_members for p in stored if p.id == permission.id), None)
        composed.append(replace(permission, unknown_members=unknown) if unknown else permission)
    return tuple(composed)


def _without_id(permission: Permission) -> Permission:
    return replace(permission, id="")
