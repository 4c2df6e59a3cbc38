"""Descriptors of a batch of structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Descriptors"]


@dataclass(frozen=True)
class Descriptors:
    """Every instance of one term's descriptor in a batch, in QUIP's element order.

    Attributes
    ----------
    values : (D, d)
        Descriptors.
    centre : (D,)
        Index in the batch of the (first) atom an instance belongs to.
    cutoff : (D,)
        Factor of the cutoff function; one for SOAP.
    """

    values: NDArray[np.float64]
    centre: NDArray[np.int64]
    cutoff: NDArray[np.float64]
