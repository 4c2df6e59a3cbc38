"""Dates in aggregation expressions. BSON dates are naive UTC with milliseconds."""

from __future__ import annotations

import datetime as dt
from typing import Any

from bson import ObjectId

from launchpad.embedded.errors import CommandError
from launchpad.embedded.values import MISSING, is_number, type_name

__all__ = ["date_from_string", "date_to_string", "now", "to_date"]

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - BSON dates are naive UTC


def _milliseconds(moment: dt.datetime) -> dt.datetime:
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now(scope: dict[str, Any]) -> dt.datetime:
    """Return the time of the command, the same wherever one document's expressions ask for it."""
    moment: dt.datetime = scope.setdefault("NOW", _milliseconds(dt.datetime.now(dt.UTC)))
    return moment


def date_from_string(text: Any, layout: str | None) -> dt.datetime:
    """Parse an ISO 8601 string, or one in a strptime-like format.

    Raises
    ------
    CommandError
        When the text is not such a date.
    """
    if not isinstance(text, str):
        raise CommandError(241, f"$dateFromString requires a string, not {type_name(text)}")
    try:
        if layout is not None:
            return _milliseconds(dt.datetime.strptime(text, layout.replace("%L", "%f")))  # noqa: DTZ007
        return _milliseconds(dt.datetime.fromisoformat(text.strip()))
    except ValueError as error:
        raise CommandError(241, f"error parsing date string '{text}': {error}") from error


def date_to_string(moment: dt.datetime, layout: str | None) -> str:
    """Format a date; the default is ISO 8601 with milliseconds and Z."""
    layout = layout or "%Y-%m-%dT%H:%M:%S.%LZ"
    layout = layout.replace("%L", f"{moment.microsecond // 1000:03d}")
    return moment.strftime(layout)


def to_date(value: Any) -> Any:
    """Convert a number of milliseconds, an ObjectId or a string to a date."""
    if value is None or value is MISSING:
        return None
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, ObjectId):
        return _milliseconds(value.generation_time)
    if is_number(value):
        return _EPOCH + dt.timedelta(milliseconds=int(value))
    return date_from_string(value, None)
