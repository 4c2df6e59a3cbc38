"""Compiled part of the radial table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gapfactory.compiled import compiled
from gapfactory.descriptors._kernels import scaled_bessel

if TYPE_CHECKING:
    import numpy as np

__all__ = ["radial_values"]


@compiled
def radial_values(distances: np.ndarray, alpha: float, spacing: float, out: np.ndarray) -> None:
    """Write exp(-alpha (r - r_a)^2) exp(-x) i_l(x), x = 2 alpha r r_a, to out (distances, l_max + 1, n_max)."""
    n_l = out.shape[1]
    bessel = out[0, :, 0].copy()
    for k in range(distances.shape[0]):
        r = distances[k]
        for a in range(out.shape[2]):
            centre = a * spacing
            scaled_bessel(2.0 * alpha * r * centre, n_l - 1, bessel)
            gauss = math.exp(-alpha * (r - centre) ** 2)
            for l in range(n_l):  # noqa: E741 - the degree is called l everywhere in the field
                out[k, l, a] = gauss * bessel[l]
