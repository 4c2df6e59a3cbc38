"""What labelled structures are, in words, and the order in which they are shown."""

from __future__ import annotations

from typing import Final

__all__ = ["DISTORTED", "by_origin", "origin_in_words"]

#: Origin of distorted cells of known crystals.
DISTORTED: Final = "distorted crystal"
#: Origins in words; the others are snapshots, e.g. ``step 5``.
_IN_WORDS: Final = {
    "cell": "random cell",
    "frame": "on the way to a minimum",
    "minimum": "minimum",
    "end": "end of the relaxation",
    "shaken": "shaken copy of an end",
    "crystal": DISTORTED,
    "displaced": "displaced cell",
    "data": "own data",
}


def origin_in_words(origin: str) -> str:
    """Return an origin as stored metrics name it in words."""
    return _IN_WORDS.get(origin, f"relaxation at {origin}")


def by_origin(origin: str) -> tuple[int, int, str]:
    """Return a key that sorts origins from the random cell over the steps to the minimum, known crystals last."""
    ends = (_IN_WORDS["minimum"], _IN_WORDS["end"], _IN_WORDS["shaken"])
    rank = {_IN_WORDS["cell"]: 0, DISTORTED: 3, _IN_WORDS["displaced"]: 4, _IN_WORDS["data"]: 5}.get(
        origin, 2 if origin in ends else 1
    )
    # step 20 comes after step 5
    number = origin.rsplit(" ", 1)[-1]
    return rank, int(number) if number.isdecimal() else 0, origin
