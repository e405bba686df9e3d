"""LiteLLM's price file, and what its proxy answers at ``/v1/model/info``.

https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json and
https://docs.litellm.ai/docs/proxy/model_management
"""

from collections.abc import Iterator
from typing import Any

from app.sources import Content, Row, Source
from app.sources.values import VARYING, any_of, flagged, items_of, numbered, prices, renamed

_NAMES = [
    ("type", "mode"),
    ("owned_by", "litellm_provider"),
    ("max_input_tokens", "max_input_tokens"),
    ("max_output_tokens", "max_output_tokens"),
    ("shutdown_date", "deprecation_date"),
    ("architecture.input_modalities", "supported_modalities"),
    ("architecture.output_modalities", "supported_output_modalities"),
]
_PRICES = {
    "input_cost_per_token": "prompt",
    "output_cost_per_token": "completion",
    "input_cost_per_request": "request",
    "input_cost_per_image": "image",
    "cache_read_input_token_cost": "input_cache_read",
    "cache_creation_input_token_cost": "input_cache_write",
    "search_context_cost_per_query": "web_search",
    "output_cost_per_reasoning_token": "internal_reasoning",
}
_PARAMETERS = {
    "supports_function_calling": "tools",
    "supports_tool_choice": "tool_choice",
    "supports_parallel_function_calling": "parallel_tool_calls",
    "supports_response_schema": "structured_outputs",
    "supports_reasoning": "reasoning",
    "supports_web_search": "web_search_options",
}
_INPUTS = {
    "supports_vision": "image",
    "supports_audio_input": "audio",
    "supports_video_input": "video",
    "supports_pdf_input": "file",
}


class LiteLLM(Source):
    """LiteLLM's price file, or the models of its proxy."""

    name = "litellm"
    shape = (
        "a JSON object by id, with 'litellm_provider' in its objects; or the 'data' of /model/info"
    )

    def recognises(self, content: Content) -> bool:
        """Return whether some objects have a member that only LiteLLM has."""
        return any_of(_file(content).values(), {"litellm_provider"}.intersection) or any_of(
            items_of(content), lambda item: {"model_name", "model_info"} <= item.keys()
        )

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each model; the proxy's other deployments of a model are none."""
        for model_id, item in _file(content).items():
            yield _row(model_id, model_id, item)
        seen: set[str] = set()
        for place, item in numbered(items_of(content)):
            name = item.get("model_name")
            yield _row(place, name, item.get("model_info"), is_seen=str(name) in seen)
            seen.add(str(name))


def _file(content: Content) -> dict[str, Any]:
    is_file = isinstance(content.value, dict) and "data" not in content.value
    return content.value if is_file else {}


def _row(place: int | str, model_id: Any, item: Any, *, is_seen: bool = False) -> Row:
    no_model = "It is one more deployment of the same model." if is_seen else None
    if model_id == "sample_spec":
        no_model = "It describes the file."
    elif isinstance(model_id, str) and "*" in model_id:
        no_model = "The '*' in its name matches many models."
    notes: dict[str, str] = {}
    fields = _fields(item, notes)
    return Row(place=place, id=model_id, fields=fields, notes=notes, no_model=no_model)


def _fields(item: Any, notes: dict[str, str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {}
    fields = renamed(item, _NAMES)
    if (accepted := flagged(item, _PARAMETERS)) is not None:
        fields["supported_parameters"] = accepted
    if (inputs := flagged(item, _INPUTS)) is not None:
        fields["architecture"] = {
            "input_modalities": ["text", *inputs],
            **fields.get("architecture", {}),
        }
    if given := {name: item[name] for name in _PRICES if item.get(name) is not None}:
        fields["pricing"] = prices(given, _PRICES, notes)
    if any(item[name] and ("_above_" in name or name == "tiered_pricing") for name in item):
        notes["pricing"] = VARYING
    if item.get("max_tokens") and not {"max_input_tokens", "max_output_tokens"} & fields.keys():
        notes["max_output_tokens"] = "The file has 'max_tokens' alone, of input or of output."
    return fields
