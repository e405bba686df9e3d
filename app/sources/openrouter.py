"""OpenRouter's list: https://openrouter.ai/docs/api-reference/list-available-models."""

from collections.abc import Iterator

from app.sources import Content, Row, Source
from app.sources.values import OURS, any_of, items_of, numbered, prices, renamed

_NAMES = [
    ("root", "canonical_slug"),
    *OURS,
    ("max_output_tokens", "top_provider.max_completion_tokens"),
    ("shutdown_date", "expiration_date"),
]


class OpenRouter(Source):
    """OpenRouter's list."""

    name = "openrouter"
    shape = "the 'data' of a JSON object, with 'canonical_slug' or 'top_provider' in its objects"

    def recognises(self, content: Content) -> bool:
        """Return whether some objects have a member that only OpenRouter has."""
        return any_of(items_of(content), {"canonical_slug", "top_provider"}.intersection)

    def rows(self, content: Content) -> Iterator[Row]:
        """Yield a row for each item."""
        for place, item in numbered(items_of(content)):
            notes: dict[str, str] = {}
            fields = renamed(item, _NAMES)
            given = item.get("pricing")
            if isinstance(given, dict):
                given = {name: price for name, price in given.items() if name != "discount"}
            if given is not None:
                fields["pricing"] = prices(given, {}, notes)
            if isinstance(item.get("id"), str) and "/" in item["id"]:
                fields["owned_by"] = item["id"].partition("/")[0].removeprefix("~")
            yield Row(place=place, id=item.get("id"), fields=fields, notes=notes)
