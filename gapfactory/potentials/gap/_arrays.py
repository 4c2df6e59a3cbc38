"""Checks and equality of frozen dataclasses that hold arrays."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayData", "as_array", "check_positive"]


class ArrayData:
    """Equality of dataclasses that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        for item in fields(self):  # type: ignore[arg-type]
            a, b = getattr(self, item.name), getattr(other, item.name)
            if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
                if not np.array_equal(a, b):
                    return False
            elif a != b:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]


def as_array(owner: object, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Make a field a C-contiguous float64 array of the given shape; refuse NaN and infinity."""
    try:
        value = np.ascontiguousarray(getattr(owner, name), dtype=np.float64)
    except (TypeError, ValueError):
        msg = f"{name} is not an array of numbers"
        raise PotentialError(msg) from None
    if value.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, value.shape, strict=True)
    ):
        msg = (
            f"{name} has the shape {value.shape}, expected {tuple('any' if n is None else n for n in shape)}"
        )
        raise PotentialError(msg)
    if not np.isfinite(value).all():
        bad = int(np.argmin(np.isfinite(value).ravel()))
        msg = f"{name} holds {value.ravel()[bad]} at position {bad}: fit the potential again, or fetch an intact copy"
        raise PotentialError(msg)
    object.__setattr__(owner, name, value)
    return value


def check_positive(owner: object, *names: str) -> None:
    for name in names:
        value = float(getattr(owner, name))
        if not (np.isfinite(value) and value > 0.0):
            msg = f"{name} is {value}, it must be a finite number above 0"
            raise PotentialError(msg)
