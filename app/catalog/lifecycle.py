"""When an entry is live: from ``available_from`` until 00:00 UTC of its ``shutdown_date``.

From its ``deprecation`` on, lists show it as deprecated.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from time import gmtime, strftime

from app.catalog.model import Model

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?",
    re.ASCII | re.IGNORECASE,
)
# With fewer digits, 2027 and 20270131 would be moments of 1970.
_SECONDS = re.compile(r"[0-9]{9,10}", re.ASCII)


def read_moment(text: str) -> float | None:
    """Return the moment (Unix seconds) that somebody has typed, None if it is none.

    It is a day, which begins at 00:00 UTC, an RFC 3339 time or Unix seconds.
    """
    if _SECONDS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text.upper()) if _MOMENT.fullmatch(text) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rfc3339(seconds: float) -> str:
    """Return Unix seconds as a time such as 2021-07-20T10:40:00Z."""
    moment = gmtime(seconds)
    return f"{moment.tm_year:04}" + strftime("-%m-%dT%H:%M:%SZ", moment)  # %Y pads no year


def shutdown_time(model: Model) -> float | None:
    """Return the moment from which `model` is retired (Unix seconds), if it has one."""
    if model.shutdown_date is None:
        return None
    day = date.fromisoformat(model.shutdown_date)
    return datetime.combine(day, time.min, tzinfo=UTC).timestamp()


def deprecation_time(model: Model) -> float | None:
    """Return the moment from which `model` is deprecated (Unix seconds), if it has one."""
    if model.deprecation is None:
        return None
    return datetime.fromisoformat(model.deprecation.upper()).timestamp()


def deprecation_before(model: Model, end: float, now: float) -> str | None:
    """Return the `deprecation` of `model` if it retires at `end`: its own, or from `now` on."""
    moment = deprecation_time(model)
    return rfc3339(min(now, end)) if moment is None or moment > end else model.deprecation


def problem_with_dates(begin: int | None, day: str | None, stored: Model | None) -> str | None:
    """Return why nobody would ever see an entry with these dates, None if somebody might.

    Those that `stored`, the entry before, has are no problem: any other write would be refused.
    """
    end = None if day is None else read_moment(day)
    is_old = stored is not None and (begin, day) == (stored.available_from, stored.shutdown_date)
    if begin is None or end is None or begin < end or is_old:
        return None
    return (
        f"Must be after available_from, which is {rfc3339(begin)}, not {day} (00:00 UTC): change "
        "one of them, or remove the entry."
    )


def boundaries_of(model: Model) -> Iterator[float]:
    """Yield the moments (Unix seconds) at which `model` appears, changes or disappears."""
    if model.available_from is not None:
        yield model.available_from
    if (deprecation := deprecation_time(model)) is not None:
        yield deprecation
    if (shutdown := shutdown_time(model)) is not None:
        yield shutdown


def with_deprecation(model: Model, now: float) -> Model:
    """Return `model` with the `is_deprecated` of `now`: itself, unless that differs."""
    is_deprecated = _is_deprecated(model, now)
    if is_deprecated == model.is_deprecated:
        return model
    return replace(model, is_deprecated=is_deprecated)


def stage_of(model: Model, now: float) -> str:
    """Return what `model` is at `now`: ``upcoming``, ``active``, ``deprecated`` or ``retired``."""
    if is_retired(model, now):
        return "retired"
    if not is_live(model, now):
        return "upcoming"
    return "deprecated" if _is_deprecated(model, now) else "active"


def is_retired(model: Model, now: float) -> bool:
    """Return whether the shutdown date of `model` has begun."""
    shutdown = shutdown_time(model)
    return shutdown is not None and shutdown <= now


def is_live(model: Model, now: float) -> bool:
    """Return whether `model` is available by `now` and not retired."""
    return (model.available_from is None or model.available_from <= now) and not is_retired(
        model, now
    )


def _is_deprecated(model: Model, now: float) -> bool:
    moment = deprecation_time(model)
    return moment is not None and moment <= now
