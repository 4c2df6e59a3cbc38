"""Types of build settings: a number or a range, and a choice of integers."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

__all__ = ["LARGEST_INTEGER", "Integers", "Interval"]

#: Numbers of atoms, units and operations go no further.
LARGEST_INTEGER = 1000


def _interval(value: Any) -> Any:
    """Return (low, high) of a number or of a pair."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if not 0 < low <= high:
        raise ValueError(f"[{low}, {high}]: give a positive number, or [low, high] with 0 < low <= high")
    return value


def _integers(value: Any) -> Any:
    """Return the integers, ascending and each once, of 4, "2-8", or a list of these."""
    found: set[int] = set()
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, bool) or not isinstance(item, int | str):
            raise ValueError(f"{item!r}: give an integer, a range such as '2-8', or a list of these")
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(item))
        if match is None:
            raise ValueError(f"{item!r}: give a positive integer, a range such as '2-8', or a list of these")
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high <= LARGEST_INTEGER:
            raise ValueError(f"{item!r}: give integers from 1 to {LARGEST_INTEGER}, the smaller one first")
        found.update(range(low, high + 1))
    if not found:
        raise ValueError("the list is empty: give at least one integer, or leave the key out")
    return tuple(sorted(found))


# the text in an annotation is what the reference of the campaign file calls the type
#: A positive number, kept as (v, v), or [low, high].
Interval = Annotated[
    tuple[float, float], "number or [low, high]", BeforeValidator(_interval), AfterValidator(_ordered)
]
#: Positive integers: 4, "2-8", or a list of these; kept ascending.
Integers = Annotated[tuple[int, ...], "integer, range or list", BeforeValidator(_integers)]
