"""Expected errors (regularisation) of every label: by its distance to a hull, or each component by its own magnitude.

Bernstein, Csányi and Deringer (2019), Methods, "Interatomic potential fitting": the errors are piecewise
linear in dE, the energy per atom above the convex hull that bounds the points (V, E) from below, at the
same volume. With several species the points are (V, x_2 .. x_n, E) and the hull is taken at the same volume
and composition.

Allen and Bartók (2022), Section 3.3: the energy has one error; that of every component of a force or virial is a
fraction of its magnitude, but at least a floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from gapfactory.errors import InputError
from gapfactory.potentials.gap._arrays import ArrayData
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "AdaptiveSettings",
    "SigmaSettings",
    "Sigmas",
    "adaptive_sigmas",
    "crystal_sigmas",
    "distance_to_hull",
]

Positive = Annotated[float, Field(gt=0)]


class AdaptiveSettings(Settings):
    """Expected errors by magnitude, component by component; the defaults are those of Allen and Bartók (2022), Table 2.

    Fractions of 0 make them static: every component then has its floor.
    """

    energy: Positive = 1e-3
    """Energy error in eV, the same for all crystals."""
    energy_per: Literal["cell", "root-atoms", "atom"] = "cell"
    """What that is an error of: the total energy of a `cell` (the paper's table), the same times sqrt(N)
    (`root-atoms`, what gap_fit makes of its `default_sigma`), or the energy per `atom`."""
    force_fraction: Annotated[float, Field(ge=0)] = 0.01
    """Error of a force component as a fraction of its magnitude."""
    force_floor: Positive = 1e-3
    """Smallest error of a force component in eV/A."""
    virial_fraction: Annotated[float, Field(ge=0)] = 0.01
    """Error of a virial component as a fraction of its magnitude (Al: 0.005)."""
    virial_floor: Positive = 1e-3
    """Smallest error of a component of the total virial of a cell in eV (Al: 0.0005)."""


class SigmaSettings(Settings):
    """Expected errors of energies, forces and virials; the defaults are the paper's."""

    rule: Literal["hull", "adaptive"] = "hull"
    """Where the errors of crystals come from: `hull`, the distance to the convex hull of volume and energy
    (Bernstein 2019), or `adaptive`, for each component of forces and virials its magnitude (Allen 2022)."""
    adaptive: AdaptiveSettings = AdaptiveSettings()
    """`adaptive`: the errors; the keys of `hull` (window, low, high, scaling) have no effect then."""
    window_low: Annotated[float, Field(ge=0)] = 0.1
    """Up to this distance above the hull (eV/atom) the `low` errors apply."""
    window_high: Positive = 1.0
    """From this distance above the hull (eV/atom) the `high` errors apply; linear in between."""
    energy_low: Positive = 0.001
    """Energy error in eV/atom close to the hull."""
    energy_high: Positive = 0.1
    """Energy error in eV/atom far above the hull."""
    force_low: Positive = 0.0316
    """Force error in eV/A close to the hull."""
    force_high: Positive = 0.316
    """Force error in eV/A far above the hull."""
    virial_low: Positive = 0.0632
    """Virial error in eV/atom close to the hull."""
    virial_high: Positive = 0.632
    """Virial error in eV/atom far above the hull."""
    energy_noise_floor: Annotated[float, Field(ge=0)] = 0.0
    """Numerical noise of the labels in eV/atom (k-points): no energy error is smaller than this."""
    force_noise_floor: Annotated[float, Field(ge=0)] = 0.0
    """Numerical noise of the labels in eV/A: no force error is smaller than this."""
    scaling: Literal["atoms", "program"] = "atoms"
    """How an error per atom becomes one on the total: `atoms` multiplies by N; `program` (the published
    program) multiplies energies by sqrt(N/16) and virials by (N/16)^(1/4)."""
    isolated_energy: Positive = 1e-4
    """Energy error of isolated atoms in eV."""
    dimer_energy: Positive = 0.1
    """Energy error of dimers in eV, on the total."""
    dimer_force: Positive = 0.5
    """Force error of dimers in eV/A."""
    discard_above: Positive | None = None
    """Crystals farther above the hull than this (eV/atom) are left out with all their properties (None:
    keep all)."""

    @model_validator(mode="after")
    def _window_is_ordered(self) -> Self:
        if self.window_high <= self.window_low:
            msg = (
                f"window_high ({self.window_high}) must be larger than window_low ({self.window_low}) eV/atom"
            )
            raise ValueError(msg)
        return self


@dataclass(frozen=True, eq=False)
class Sigmas(ArrayData):
    """Expected errors of one structure as the fit needs them: absolute, on the totals.

    Attributes
    ----------
    energy
        eV, on the total energy.
    force
        eV/A, on each component; where components have their own errors, the root-mean-square of these.
    virial
        eV, on each component of the total virial; or the root-mean-square.
    above_hull
        Distance above the hull, eV/atom (0 for isolated atoms and dimers).
    force_components
        (N, 3) eV/A, errors of the single components, or None: all have `force`.
    virial_components
        (6,) eV, the same of the virial, xx yy zz yz xz xy.
    """

    energy: float
    force: float
    virial: float
    above_hull: float
    force_components: NDArray[np.float64] | None = None
    virial_components: NDArray[np.float64] | None = None

    @property
    def least(self) -> float:
        """The smallest of all errors, whatever its unit: positive if all are, NaN if one is."""
        arrays = [a.ravel() for a in (self.force_components, self.virial_components) if a is not None]
        return float(np.min(np.concatenate([(self.energy, self.force, self.virial), *arrays])))

    def summary(self) -> dict[str, float]:
        """Return the errors without those of single components, as plain data."""
        return {name: getattr(self, name) for name in ("energy", "force", "virial", "above_hull")}


def crystal_sigmas(above_hull: float, n_atoms: int, settings: SigmaSettings) -> Sigmas:
    """Return the absolute errors of a crystal `above_hull` eV/atom above the hull.

    Errors per configuration are absolute in `gap_fit`: the paper's 1 meV/atom is N x 1 meV on the total
    energy, and likewise for the virial; errors of forces need no conversion.

    Raises
    ------
    InputError
        If `above_hull` is not finite or `n_atoms` is not positive.
    """
    if not np.isfinite(above_hull) or n_atoms < 1:
        msg = (
            f"no expected error for dE = {above_hull} eV/atom and {n_atoms} atoms: both must be finite, N "
            ">= 1"
        )
        raise InputError(msg)
    s = settings
    d_e = max(0.0, float(above_hull))

    def rule(low: float, high: float) -> float:
        return float(np.interp(d_e, (s.window_low, s.window_high), (low, high)))

    energy = max(rule(s.energy_low, s.energy_high), s.energy_noise_floor)
    force = max(rule(s.force_low, s.force_high), s.force_noise_floor)
    virial = rule(s.virial_low, s.virial_high)
    if s.scaling == "atoms":
        return Sigmas(energy * n_atoms, force, virial * n_atoms, d_e)
    return Sigmas(energy * (n_atoms / 16) ** 0.5, force, virial * (n_atoms / 16) ** 0.25, d_e)


def adaptive_sigmas(
    forces: NDArray[np.float64] | None,
    virial: NDArray[np.float64] | None,
    n_atoms: int,
    settings: SigmaSettings,
    *,
    above_hull: float = 0.0,
) -> Sigmas:
    """Return the absolute errors of a crystal, those of force and virial components by their magnitude.

    Allen and Bartók (2022), Section 3.3: ``sigma = max(Delta |x|, sigma_min)``. The table writes the force as a
    vector, but text and published script take each Cartesian component; so does this. Noise of the labels raises
    the floors.

    Parameters
    ----------
    forces
        (N, 3) labels, eV/A, or None.
    virial
        (6,) label of the total virial, eV, xx yy zz yz xz xy, or None.
    n_atoms
        Atoms of the crystal.
    settings
        `adaptive`, and the noise floors.
    above_hull
        Distance above the hull, eV/atom; kept, not used.

    Raises
    ------
    InputError
        If a shape is wrong, a label is not finite or `n_atoms` is not positive.
    """
    if n_atoms < 1:
        msg = f"no expected error for {n_atoms} atoms: there must be at least one"
        raise InputError(msg)
    s = settings.adaptive
    per = {"cell": 1.0, "root-atoms": n_atoms**0.5, "atom": float(n_atoms)}[s.energy_per]
    energy = max(s.energy * per, settings.energy_noise_floor * n_atoms)

    def rule(
        label: NDArray[np.float64] | None, shape: tuple[int, ...], fraction: float, floor: float
    ) -> tuple[float, NDArray[np.float64] | None]:
        if label is None:
            return floor, None
        if np.shape(label) != shape or not np.isfinite(label).all():
            msg = (
                f"labels of shape {np.shape(label)} have no expected errors: expected {shape} finite numbers"
            )
            raise InputError(msg)
        errors = np.maximum(fraction * np.abs(label), floor)
        return float(np.sqrt(np.mean(errors**2))), errors

    force_floor = max(s.force_floor, settings.force_noise_floor)
    force, forces_errors = rule(forces, (n_atoms, 3), s.force_fraction, force_floor)
    virial_error, virial_errors = rule(virial, (6,), s.virial_fraction, s.virial_floor)
    return Sigmas(energy, force, virial_error, max(0.0, float(above_hull)), forces_errors, virial_errors)


def distance_to_hull(
    volumes: ArrayLike, energies: ArrayLike, compositions: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the energy of each point above the lower convex hull at its own volume and composition.

    Parameters
    ----------
    volumes
        (n,) volume per atom, A^3.
    energies
        (n,) energy per atom, eV.
    compositions
        (n, n_species - 1) atomic fractions of all species but the first, or None for an element.

    Returns
    -------
    NDArray
        (n,) distances in eV/atom, never negative; 0 for the points that span the hull. A point that is
        alone at its volume and composition is 0.

    Raises
    ------
    InputError
        If shapes disagree or a value is not finite.
    """
    v = np.asarray(volumes, dtype=float)
    e = np.asarray(energies, dtype=float)
    x = np.empty((len(v), 0)) if compositions is None else np.asarray(compositions, dtype=float)
    if v.ndim != 1 or e.shape != v.shape or x.ndim != 2 or len(x) != len(v):
        msg = (
            f"volumes {v.shape}, energies {e.shape} and compositions {x.shape} must describe the same points"
        )
        raise InputError(msg)
    if not (np.isfinite(v).all() and np.isfinite(e).all() and np.isfinite(x).all()):
        msg = "volumes, energies and compositions must be finite: remove the failed labels first"
        raise InputError(msg)
    if len(v) == 0:
        return np.zeros(0)
    # Axes along which nothing varies carry no information and would make the problem degenerate.
    axes = np.column_stack([v, x])
    axes = axes[:, np.ptp(axes, axis=0) > 1e-9]
    if axes.shape[1] == 0:
        return e - e.min()
    lower = _hull_1d(axes[:, 0], e) if axes.shape[1] == 1 else _hull_nd(axes, e)
    return np.maximum(0.0, e - lower)


def _hull_1d(v: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower hull of (v, e) at each v (Andrew's monotone chain)."""
    order = np.lexsort((e, v))
    chain: list[int] = []
    for i in order:
        if chain and v[i] == v[chain[-1]]:
            continue  # same volume, higher energy
        while len(chain) >= 2:
            a, b = chain[-2], chain[-1]
            if (e[b] - e[a]) * (v[i] - v[a]) < (e[i] - e[a]) * (v[b] - v[a]):
                break
            chain.pop()
        chain.append(int(i))
    return np.interp(v, v[chain], e[chain])


def _hull_nd(axes: NDArray[np.float64], e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower hull at each point by linear programming.

    The hull at a point q is the least energy of any mixture of points with mean coordinates q. Its dual is
    solved, max a.q + b subject to a.p_i + b <= e_i for all i: few variables, and no degeneracy of coplanar
    points matters.
    """
    from scipy.optimize import linprog

    scaled = (axes - axes.mean(axis=0)) / np.ptp(axes, axis=0)
    matrix = np.column_stack([scaled, np.ones(len(e))])
    # Points in a lower-dimensional affine space leave the multipliers free along the missing directions.
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    basis = u[:, s > 1e-10 * s[0]] * np.sqrt(len(e))
    depth = e - e.min()
    lower = np.empty(len(e))
    # Only the hull's corners matter as constraints: they are collected as they are found, so each program
    # stays small.
    corners: list[int] = [int(np.argmin(e))]
    for i, q in enumerate(basis):
        while True:
            rows = [*corners, i]
            solution = linprog(-q, A_ub=basis[rows], b_ub=depth[rows], bounds=(None, None), method="highs")
            if solution.status != 0:
                msg = f"the convex hull of {len(e)} points could not be found: {solution.message}"
                raise InputError(msg)
            slack = depth - basis @ solution.x
            worst = int(np.argmin(slack))
            if slack[worst] > -1e-9 or worst in rows:
                break
            corners.append(worst)
        lower[i] = e.min() - solution.fun
    return lower
