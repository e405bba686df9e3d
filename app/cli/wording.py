"""Entries in words: who sees them, and what each permission does."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from app.catalog.lifecycle import is_retired, shutdown_time
from app.catalog.model import Grant, Model, Permission
from app.catalog.visibility import effective_grants
from app.cli.terminal import in_utc

_DEFAULT = Permission(id="", created=0)


def readers(grant: Grant) -> str:
    """Return whom a grant matches, such as ``acme/billing``."""
    if grant.organization == "*" and grant.group is None:
        return "everyone"
    return grant.organization + ("" if grant.group is None else f"/{grant.group}")


def seen_by(model: Model, now: float) -> str:
    """Return who sees `model`, and from when on, if that is not yet."""
    if is_retired(model, now):
        return "nobody, retired"
    allowed = sorted({readers(grant) for grant in effective_grants(model.rule)})
    blocked = sorted({f"not {readers(g)}" for g in model.rule if g.is_blocking})
    if not allowed:
        return "nobody"
    if "everyone" in allowed:
        allowed = ["everyone"]
    from_when = model.available_from
    words = ", ".join(allowed + blocked)
    return words if from_when is None or from_when <= now else f"{words} from {in_utc(from_when)}"


def retires(model: Model) -> str:
    """Return when `model` retires, with its replacement."""
    replacement = model.deprecation_replacement_model
    return in_utc(shutdown_time(model)) + (f", then {replacement}" if replacement else "")


def permission(given: Permission) -> str:
    """Return what a permission does."""
    effect = "sees it" if given.allow_view else "no effect"
    if given.is_blocking:
        effect = "never sees it"
    others = [
        f"{name} {str(value).lower()}"
        for name, value in asdict(given).items()
        if name.startswith("allow_") and name != "allow_view" and value != getattr(_DEFAULT, name)
    ]
    return f"{readers(given.grant)}: {effect}" + (f" ({', '.join(others)})" if others else "")


def permissions(given: Iterable[Permission | Mapping[str, Any]]) -> str:
    """Return what all permissions of an entry do; one may be as the log has it."""
    known = (one if isinstance(one, Permission) else Permission(**one) for one in given)
    return ", ".join(map(permission, known)) or "nobody sees it"
