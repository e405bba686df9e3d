"""The entries of the catalogue: `Model`, with its list of `Permission`, and their ids.

Field names are those of the reference reply, from the database to the wire. ``visibility`` decides
which viewers see an entry, and ``lifecycle`` when it is live.
"""

import itertools
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from dataclasses import fields as fields_of
from typing import Any, NamedTuple, Self, TypeVar, cast
from weakref import WeakValueDictionary

#: The alphabet of base 62, least digit first.
BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

#: What a model makes, or does.
TYPES = (
    "language",
    "embedding",
    "image",
    "video",
    "speech",
    "transcription",
    "rerank",
    "moderation",
)

#: The parameters of a request that only models which reason accept.
_REASONING = frozenset({"reasoning", "include_reasoning", "reasoning_effort"})

_PRINTABLE = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?", re.ASCII)
_UNFETCHABLE = re.compile(r"[?#%\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A permission to see an entry, with the fields and defaults of the reference.

    Only `allow_view`, `organization`, `group` and `is_blocking` have an effect here; the others
    are for the gateway that serves the model.
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
    #: ``*`` is every organization, and callers without one.
    organization: str = "*"
    #: None is every group of the organization.
    group: str | None = None
    is_blocking: bool = False
    #: See `Model`.
    unknown_members: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def grant(self) -> "Grant":
        """Return the fields that decide who sees the entry."""
        return Grant(self.organization, self.group, self.allow_view, self.is_blocking)


class Grant(NamedTuple):
    """The fields of a permission that decide who sees the entry."""

    organization: str
    group: str | None
    allow_view: bool
    is_blocking: bool


#: The grants of an entry. They decide who sees it while it is live; many entries have equal ones.
Rule = frozenset[Grant]


class Access(NamedTuple):
    """What decides who sees an entry while it is live, and which parts of it they are shown."""

    rule: Rule
    #: See `Model.references`.
    references: tuple[tuple[str, Rule], ...] = ()


#: Equal rules are one object, because searches compare them.
_rules: WeakValueDictionary[Rule, Rule] = WeakValueDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry. None means unknown, except in `parent`; times are Unix seconds."""

    id: str
    created: int
    owned_by: str
    permission: tuple[Permission, ...]
    root: str
    parent: str | None = None

    name: str | None = None
    description: str | None = None
    #: Other ids of the entry; no other entry has one of them as its id or alias.
    aliases: Sequence[str] | None = None
    #: Whether lists show each alias as an entry of its own.
    list_aliases: bool | None = None
    #: One of `TYPES`.
    type: str | None = None
    tags: Sequence[str] | None = None
    #: Tokens, input and output together.
    context_length: int | None = None
    #: Tokens; at most the context length. It does not follow from the other two lengths.
    max_input_tokens: int | None = None
    #: Tokens.
    max_output_tokens: int | None = None
    #: ``input_modalities`` and ``output_modalities``, lists of strings.
    architecture: Mapping[str, Sequence[str]] | None = None
    supported_parameters: Sequence[str] | None = None
    #: The APIs that serve the model, such as ``openai`` and ``anthropic``.
    supported_endpoint_types: Sequence[str] | None = None
    #: ``supported_efforts``, a list of strings, ``default_effort`` and ``mandatory``.
    reasoning: Mapping[str, Any] | None = None
    #: ``YYYY-MM-DD``, ``YYYY-MM`` or ``YYYY``.
    knowledge_cutoff: str | None = None
    #: USD for each token, request, image or search, as decimal strings: a float would change
    #: 0.0000025.
    pricing: Mapping[str, str] | None = None
    #: ``YYYY-MM-DD``; the entry is retired from 00:00 UTC of this day on.
    shutdown_date: str | None = None
    #: RFC 3339; the moment from which the entry is deprecated. It stays listed.
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

    #: Unix seconds; the entry is hidden before that.
    available_from: int | None = None
    #: The name of the source whose import has added the entry; None if a person has.
    source: str | None = None
    #: The revision of the catalogue at which the entry last changed; the store sets it. It makes
    #: no difference to equality.
    revision: int = field(default=0, compare=False)
    #: Stored members that only a newer program knows. A write preserves them; no reply has them.
    unknown_members: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    #: Whether the moment of `deprecation` is past; the snapshot sets it.
    is_deprecated: bool = field(default=False, compare=False)
    #: The fields that name another entry, each with the rule of that entry, which is empty while
    #: that is not live. Names of no entry are left out, and so are entries with the rule of this
    #: one, since the same viewers see them. The snapshot sets it.
    references: tuple[tuple[str, Rule], ...] = field(default=(), compare=False, repr=False)

    #: The text that ``q`` searches: id, name and aliases, casefolded, with line breaks in between.
    search_text: str = field(init=False, compare=False, repr=False)
    #: The grants of `permission`.
    rule: Rule = field(init=False, compare=False, repr=False)
    #: A number unique in this process, for caches to compare without a reference to the entry.
    identity: int = field(
        init=False, compare=False, repr=False, default_factory=itertools.count().__next__
    )

    def __post_init__(self) -> None:
        text = self.id
        if self.name or self.aliases:
            text = "\n".join(filter(None, (text, self.name, *(self.aliases or ()))))
        object.__setattr__(self, "search_text", text.casefold())
        rule = frozenset([permission.grant for permission in self.permission])
        object.__setattr__(self, "rule", _rules.setdefault(rule, rule))

    @property
    def capabilities(self) -> Mapping[str, bool] | None:
        """Return what the model can do, as far as it follows from the other fields."""
        inputs = (self.architecture or {}).get("input_modalities")
        accepted = self.supported_parameters
        reasons = None if accepted is None else not _REASONING.isdisjoint(accepted)
        known = {
            "vision": None if inputs is None else "image" in inputs,
            "audio_input": None if inputs is None else "audio" in inputs,
            "tools": None if accepted is None else "tools" in accepted,
            "reasoning": True if self.reasoning is not None else reasons,
            "structured_outputs": None if accepted is None else "structured_outputs" in accepted,
        }
        return {name: can for name, can in known.items() if can is not None} or None

    @property
    def makes_embeddings(self) -> bool:
        """Return whether the model is known to make embeddings, and no text."""
        outputs = (self.architecture or {}).get("output_modalities", ())
        return self.type == "embedding" or "embeddings" in outputs

    @property
    def makes_text(self) -> bool:
        """Return whether the model makes text, as is assumed of one of an unknown type."""
        return self.type in (None, "language") and not self.makes_embeddings

    @property
    def access(self) -> Access:
        """Return the rule and the references of the entry."""
        return Access(self.rule, self.references)

    @property
    def ids(self) -> Sequence[str]:
        """Return the id and the aliases."""
        return [self.id, *(self.aliases or ())]

    def under(self, alias: str) -> Self:
        """Return the item that lists show for an alias; its root is the entry."""
        return replace(
            self,
            id=alias,
            root=self.id,
            aliases=None,
            list_aliases=None,
            # Each viewer of the item is one of the entry.
            references=tuple(r for r in self.references if r[0] != "root"),
        )

    @classmethod
    def compose(cls, fields: Mapping[str, Any], *, now: int, stored: "Self | None" = None) -> Self:
        """Return the entry with these `fields`, and with defaults for the others.

        `fields` are checked values by field name; only ``id`` is required. From `stored`, the
        entry that it replaces, it takes ``created`` and the ids of permissions that are otherwise
        equal and given without one: so the same PUT twice changes nothing.
        """
        created = fields.get("created", now if stored is None else stored.created)
        permission = _compose_permissions(
            fields.get("permission", [{}]), created, () if stored is None else stored.permission
        )
        defaults = {"owned_by": "custom", "root": fields["id"]}
        # An object without members is unknown, and left out of replies.
        known = {name: value for name, value in fields.items() if value != {}}
        unknown = None if stored is None else stored.unknown_members
        source = fields.get("source", None if stored is None else stored.source)
        known |= {"source": source, "unknown_members": unknown}
        return cls(**{**defaults, **known, "created": created, "permission": permission})

    def updated(self, fields: Mapping[str, Any]) -> Self:
        """Return the entry with these checked `fields` instead of its own; None is unknown."""
        changed: dict[str, Any] = {n: None if v == {} else v for n, v in fields.items()}
        if "permission" in changed:
            created = changed.get("created", self.created)
            changed["permission"] = _compose_permissions(
                changed["permission"], created, self.permission
            )
        return replace(self, **changed)


def _draft_of(kind: type[Any]) -> Any:
    """Return the dataclass `kind` without `frozen`: each object of it can become one of `kind`."""
    same = [(known.name, known.type, known) for known in fields_of(kind)]
    own = {name: found for name, found in vars(kind).items() if name == "__post_init__"}
    return make_dataclass(kind.__name__, same, namespace=own, kw_only=True, slots=True)


_DRAFTS = {kind: _draft_of(kind) for kind in (Permission, Model)}
_Kind = TypeVar("_Kind", Permission, Model)


def new(kind: type[_Kind], known: Mapping[str, Any]) -> _Kind:
    """Return ``kind(**known)`` in a third of the time, for 100,000 entries at a time.

    A frozen dataclass sets each field by a call. So a draft is made, and then becomes frozen.
    """
    draft = _DRAFTS[kind](**known)
    draft.__class__ = kind
    return cast("_Kind", draft)


def random_base62(length: int) -> str:
    """Return `length` random characters, from the operating system's generator."""
    number = secrets.randbelow(len(BASE62) ** length)  # asked once: an import makes many
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(characters)


def problem_with_id(model_id: str) -> str | None:
    """Return the reason why `model_id` cannot be the id of a model, as a sentence, or None."""
    if not _PRINTABLE.fullmatch(model_id):
        letter = next((c for c in model_id if not c.isascii() and c.isprintable()), None)
        return (
            "Must be 1 to 256 printable ASCII characters, with no space at either end."
            if letter is None
            else f"Must have ASCII characters alone, not '{letter}': 'name' takes all letters."
        )
    if _UNFETCHABLE.search(model_id):
        return "Must not contain any of ? # % \\: not every client could fetch it."
    if model_id.startswith("/"):
        return "Must not begin with a slash: leave it out, and write a path for people in 'name'."
    if not {"", ".", ".."}.isdisjoint(model_id.split("/")):
        return "Must not have an empty, '.' or '..' segment between slashes."
    if model_id.startswith("models/"):
        return "Must not begin with 'models/': Gemini clients add and strip that prefix."
    return None


def _compose_permissions(
    given: Sequence[Mapping[str, Any]], created: int, stored: Sequence[Permission]
) -> tuple[Permission, ...]:
    given_ids = {fields.get("id") for fields in given}
    unused = [permission for permission in stored if permission.id not in given_ids]
    composed = []
    for fields in given:
        permission = Permission(**{"id": "", "created": created, **fields})
        if "id" not in fields:
            same = next((p for p in unused if _without_id(p) == _without_id(permission)), None)
            if same is not None:
                unused.remove(same)
            permission_id = f"modelperm-{random_base62(24)}" if same is None else same.id
            permission = replace(permission, id=permission_id)
        unknown = next((p.unknown_members for p in stored if p.id == permission.id), None)
        composed.append(replace(permission, unknown_members=unknown) if unknown else permission)
    return tuple(composed)


def _without_id(permission: Permission) -> Permission:
    return replace(permission, id="")
