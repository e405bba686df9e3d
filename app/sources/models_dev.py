"""The catalogue of https://models.dev, as ``https://models.dev/api.json`` has it."""

from collections.abc import Iterator
from typing import Any

from app.catalog.lifecycle import read_moment
from app.fields import got
from app.sources import Content, Row, Source
from app.sources.values import any_of, flagged, prices, renamed

_NAMES = [
    ("name", "name"),
    ("context_length", "limit.context"),
    ("max_input_tokens", "limit.input"),
    ("max_output_tokens", "limit.output"),
    ("architecture.input_modalities", "modalities.input"),
    ("architecture.output_modalities", "modalities.output"),
    ("knowledge_cutoff", "knowledge"),
]
_PRICES = {
    "input": "prompt",
    "output": "completion",
    "cache_read": "input_cache_read",
    "cache_write": "input_cache_write",
    "reasoning": "internal_reasoning",
}
_PARAMETERS = {
    "temperature": "temperature",
    "tool_call": "tools",
    "structured_output": "structured_outputs",
    "reasoning": "reasoning",
}
_MILLION = 6


class ModelsDev(Source):
    """The catalogue of models.dev, by provider; several have models of the same id."""

    name = "models.dev"
    shape = "a JSON object by provider, with an object 'models' by id in its objects"

    def recognises(self, content: Content) -> bool:
        """Return whether some providers have models."""
        return any_of(
            _providers(content).values(), lambda item: isinstance(item.get("models"), dict)
        )

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each model of each provider."""
        for provider, about in _providers(content).items():
            models = about.get("models") if isinstance(about, dict) else None
            for model_id, item in models.items() if isinstance(models, dict) else ():
                notes: dict[str, str] = {}
                yield Row(
                    place=f"{provider}/{model_id}",
                    id=model_id,
                    fields={"owned_by": provider, **_fields(item, notes)},
                    provider=provider,
                    notes=notes,
                )


def _providers(content: Content) -> dict[str, Any]:
    return content.value if content.kind == "json" and isinstance(content.value, dict) else {}


def _fields(item: Any, notes: dict[str, str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {}
    fields = renamed(item, _NAMES)
    for name, words in fields.get("architecture", {}).items():
        if isinstance(words, list):
            fields["architecture"][name] = ["file" if word == "pdf" else word for word in words]
    if (accepted := flagged(item, _PARAMETERS)) is not None:
        fields["supported_parameters"] = accepted
    if item.get("cost") is not None:
        fields["pricing"] = prices(item["cost"], _PRICES, notes, _MILLION)
    if (day := item.get("release_date")) is not None:
        moment = read_moment(day) if isinstance(day, str) else None
        if moment is None:
            notes["created"] = (
                f"The date of the release must be a day like 2026-01-31, not {got(day)}."
            )
        else:
            fields["created"] = int(moment)
    if item.get("status") == "deprecated":
        notes["deprecation"] = "The model is deprecated, and the file has no date of that."
    return fields
