"""The other entries that an entry names, with the rules that decide who sees them.

A viewer is shown the name of another entry only if they see that entry. A name that is no entry
of the catalogue is shown to everyone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from app.catalog.lifecycle import is_live
from app.catalog.model import Model, Rule


def named_by(models: Iterable[Model]) -> set[tuple[str, str]]:
    """Return each id that one of `models` names, with the id of the entry that names it."""
    return {(other, model.id) for model in models for _, other in _names(model)}


def effective_rule(model: Model | None, now: float) -> Rule | None:
    """Return the rule of `model` at `now` (Unix seconds): none of it matches if it is not live.

    It is None if there is no entry.
    """
    if model is None:
        return None
    return model.rule if is_live(model, now) else frozenset()


def resolve(model: Model, find: Callable[[str], Model | None], now: float) -> Model:
    """Return `model` with the `references` of `now`: itself, unless these differ.

    `find` returns the entry with an id.
    """
    rules = ((name, effective_rule(find(other), now)) for name, other in _names(model))
    references = tuple(
        (name, rule) for name, rule in rules if rule is not None and rule != model.rule
    )
    return model if references == model.references else replace(model, references=references)


def _names(model: Model) -> Iterator[tuple[str, str]]:
    if model.root != model.id:
        yield "root", model.root
    if model.parent is not None and model.parent != model.id:
        yield "parent", model.parent
    replacement = model.deprecation_replacement_model
    if replacement is not None and replacement != model.id:
        yield "deprecation_replacement_model", replacement
