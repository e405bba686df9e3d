"""When an entry is live: from ``available_from`` until 00:00 UTC of its ``shutdown_date``."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time

from app.catalog.model import Model


def shutdown_time(model: Model) -> float | None:
    """Return the moment from which `model` is retired (Unix seconds), if it has one."""
    if model.shutdown_date is None:
        return None
    day = date.fromisoformat(model.shutdown_date)
    return datetime.combine(day, time.min, tzinfo=UTC).timestamp()


def boundaries(model: Model) -> Iterator[float]:
    """Yield the moments (Unix seconds) at which `model` appears or disappears."""
    if model.available_from is not None:
        yield model.available_from
    if (shutdown := shutdown_time(model)) is not None:
        yield shutdown


def is_retired(model: Model, now: float) -> bool:
    """Tell whether the shutdown date of `model` has come."""
    shutdown = shutdown_time(model)
    return shutdown is not None and shutdown <= now


def is_live(model: Model, now: float) -> bool:
    """Tell whether `model` is neither ahead of its time nor retired."""
    return (model.available_from is None or model.available_from <= now) and not is_retired(
        model, now
    )
