"""The query parameters that several dialects have: a page size, and the id of a model."""

import re
from collections.abc import Mapping

from app.catalog.errors import InvalidValue, quote
from app.catalog.model import problem_with_id
from app.catalog.paging import MAX_LIMIT


def read_limit(name: str, query: Mapping[str, str]) -> int | None:
    """Return the parameter `name`, a whole number from 1 to `MAX_LIMIT`; None if it is absent."""
    text = query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidValue(
            name, f"'{name}' must be a whole number from 1 to {MAX_LIMIT}, not '{quote(text)}'."
        )
    return int(text)


def read_id(name: str, query: Mapping[str, str]) -> str | None:
    """Return the parameter `name`, which no entry needs to have as its id; None if absent."""
    text = query.get(name)
    if text is not None and problem_with_id(text):
        raise InvalidValue(name, f"'{name}' must be the id of a model.")
    return text
