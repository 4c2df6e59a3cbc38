"""Radial functions of SOAP as piecewise polynomials.

The expansion of a neighbour at distance r in QUIP's basis is, for radial function n and degree l,

    R_nl(r) = sum_a exp(-alpha (r - r_a)^2) exp(-x) i_l(x) T_an,   x = 2 alpha r r_a,

with Gaussians of width `atom_sigma` at equidistant r_a, modified spherical Bessel functions i_l and the
transformation T to orthonormal functions (Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013)). Evaluating
this for every neighbour takes an exponential and a recursion per a; here it is done once, at Chebyshev nodes of
equal intervals. The cutoff function has a kink in its second derivative, so it is not part of the table but
multiplied where it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError, PotentialError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEGREE", "RadialTable", "radial_table"]

#: of the polynomials; the compiled loops are written out for it
DEGREE = 8
# Of the largest value: what rounding of the transformation leaves of double precision anyway.
_TOLERANCE = 1e-14
_LANES = 8


@dataclass(frozen=True)
class RadialTable:
    """Piecewise polynomials on [0, cutoff].

    Attributes
    ----------
    n_pad
        n_max, rounded up to a multiple of eight; the surplus functions are zero.
    scale
        Intervals per Å: interval k begins at k / scale and has the coordinate t = 2 (r scale - k) - 1.
    coefficients : (intervals, DEGREE + 1, (l_max + 1) * n_pad)
        Of t**p; n fastest.
    central : (n_pad,)
        Coefficients of the central atom (l = 0, Y_00 included), times the central weight.
    error
        Largest difference to the exact functions half-way between nodes, relative to the largest value.
    """

    n_pad: int
    scale: float
    coefficients: NDArray[np.float64]
    central: NDArray[np.float64]
    error: float


def _basis(
    n_max: int, l_max: int, atom_sigma: float, cutoff: float, central_weight: float, error_exponent: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return spacing (Å), transformation and central overlaps, as `average_soap.radial_basis`."""
    from gapfactory.descriptors.average_soap import radial_basis
    from gapfactory.descriptors.settings import SimilaritySettings

    # the cutoff enters the basis through its extent only, which takes an exponent of 10 for granted
    extra = atom_sigma * (math.sqrt(2.0 * error_exponent * math.log(10.0)) - math.sqrt(20.0 * math.log(10.0)))
    try:
        if not cutoff + extra > 0.0:
            msg = f"the basis would end at {cutoff + extra:g} Å; raise cutoff or basis_error_exponent"
            raise InputError(msg)
        settings = SimilaritySettings(
            n_max=n_max,
            l_max=l_max,
            atom_sigma=atom_sigma,
            cutoff=cutoff + extra,
            cutoff_transition_width=min(0.5, cutoff + extra),
            central_weight=central_weight,
        )
        return radial_basis(settings)
    except (InputError, ValueError) as error:
        msg = (
            f"SOAP with n_max = {n_max}, l_max = {l_max}, atom_sigma = {atom_sigma} Å, cutoff = {cutoff} Å, "
            f"central_weight = {central_weight}, basis_error_exponent = {error_exponent} is not supported: "
            f"{error}"
        )
        raise PotentialError(msg) from error


def _exact(
    distances: NDArray[np.float64], l_max: int, alpha: float, spacing: float, transform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return R_nl at distances (k,) as (k, l_max + 1, n_max)."""
    from gapfactory.potentials.gap.engine._radial import radial_values

    n_max = len(transform)
    overlaps = np.empty((len(distances), l_max + 1, n_max))
    radial_values(distances, alpha, spacing, overlaps)
    return np.asarray((overlaps.reshape(-1, n_max) @ transform).reshape(len(distances), l_max + 1, n_max))


def radial_table(
    *,
    n_max: int,
    l_max: int,
    atom_sigma: float,
    cutoff: float,
    central_weight: float,
    basis_error_exponent: float,
) -> RadialTable:
    """Tabulate the radial functions.

    Parameters
    ----------
    n_max, l_max
        Size of the basis.
    atom_sigma, cutoff
        Å.
    central_weight
        Of the Gaussian on the central atom.
    basis_error_exponent
        QUIP's option: Gaussians of the basis reach beyond the cutoff until they fell by this power of ten.

    Raises
    ------
    PotentialError
        If the basis is linearly dependent in double precision or larger than supported.
    """
    spacing, transform, overlaps = _basis(
        n_max, l_max, atom_sigma, cutoff, central_weight, basis_error_exponent
    )
    alpha = 0.5 / atom_sigma**2
    n_pad = -(-n_max // _LANES) * _LANES
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    inverse = np.linalg.inv(np.vander(nodes, increasing=True))
    between = np.cos(np.pi * np.arange(DEGREE + 2) / (DEGREE + 1))
    powers = np.vander(between, DEGREE + 1, increasing=True)
    intervals = max(4, math.ceil(cutoff / (0.2 * atom_sigma)))
    error = math.inf
    while True:
        left = np.arange(intervals)[:, None]
        width = cutoff / intervals
        at_nodes = _exact(
            ((left + 0.5 * (nodes + 1.0)) * width).ravel(), l_max, alpha, spacing, transform
        ).reshape(intervals, DEGREE + 1, -1)
        fitted = np.einsum("pq,kqf->kpf", inverse, at_nodes)
        exact = _exact(
            ((left + 0.5 * (between + 1.0)) * width).ravel(), l_max, alpha, spacing, transform
        ).reshape(intervals, DEGREE + 2, -1)
        previous = error
        error = float(np.abs(np.einsum("qp,kpf->kqf", powers, fitted) - exact).max() / np.abs(exact).max())
        # halving the width divides the error by 2^9 until rounding is all that is left
        if error <= _TOLERANCE or error > 0.25 * previous:
            break
        intervals *= 2
    coefficients = np.zeros((intervals, DEGREE + 1, l_max + 1, n_pad))
    coefficients[..., :n_max] = fitted.reshape(intervals, DEGREE + 1, l_max + 1, n_max)
    central = np.zeros(n_pad)
    central[:n_max] = overlaps @ transform
    return RadialTable(
        n_pad=n_pad,
        scale=intervals / cutoff,
        coefficients=np.ascontiguousarray(coefficients.reshape(intervals, DEGREE + 1, -1)),
        central=central,
        error=error,
    )
