"""Energy against volume: curves, equation of state, and potential against reference.

The comparison is the one of Bernstein et al. (2019), Fig. 3: each method is judged at *its own* minimum
(a-c), and the curves are drawn at fixed volume with the shape of the cell and the atoms relaxed under the
crystal's symmetry (d-f).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from gapfactory.errors import EvidenceError
from gapfactory.search.settings import PhaseRelaxSettings
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EnergyVolumeCurve",
    "EnergyVolumeSettings",
    "EquationOfState",
    "PhaseComparison",
    "compare_phase",
    "energy_volume_curve",
    "fit_equation_of_state",
    "next_volumes",
]

#: share of the lowest point's volume within which points are fitted: a third-order equation describes no more
_FIT_RANGE = 0.15
#: eV/Å^3 in GPa
_GPA = 160.21766208


class EnergyVolumeSettings(Settings):
    """How named phases are turned into energy-volume curves, and when they count as reproduced."""

    volume_factors: tuple[float, ...] = (0.90, 0.94, 0.97, 1.0, 1.03, 1.06, 1.10)
    """Volumes of the curve, as multiples of the phase's published volume; at least five."""
    extra_volumes: int = Field(default=6, ge=0)
    """Volumes that may be added beyond an end of the curve until its minimum is bracketed."""
    relax: PhaseRelaxSettings = PhaseRelaxSettings()
    """How shape and positions are relaxed at each volume, by potential and reference alike."""
    energy_tolerance_meV: float = Field(default=20.0, gt=0)
    """A phase passes when potential and reference agree on the energy of the minimum to this, in meV/atom."""
    volume_tolerance_percent: float = Field(default=3.0, gt=0)
    """A phase passes when potential and reference agree on the volume of the minimum to this, in percent."""

    @field_validator("volume_factors")
    @classmethod
    def _enough_volumes(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) != len(value) or len(value) < 5 or min(value) <= 0:
            msg = (
                "an equation of state needs at least five volumes; give five or more different positive numbers "
                "around 1, e.g. [0.90, 0.94, 0.97, 1.0, 1.03, 1.06, 1.10]"
            )
            raise ValueError(msg)
        return value


@dataclass(frozen=True)
class EnergyVolumeCurve:
    """Energies of one phase by one method, in ascending order of volume.

    Parameters
    ----------
    phase
        Name of the phase, e.g. ``"Si-diamond"``.
    method
        What computed it, e.g. ``"potential"`` or ``"reference"``.
    volumes, energies
        Shape (M,), Å^3/atom and eV/atom.
    failures
        Volumes (Å^3/atom) that have no energy, each with the reason in words.
    """

    phase: str
    method: str
    volumes: NDArray[np.float64]
    energies: NDArray[np.float64]
    failures: tuple[tuple[float, str], ...] = ()

    def __post_init__(self) -> None:
        volumes = np.asarray(self.volumes, dtype=float)
        energies = np.asarray(self.energies, dtype=float)
        if volumes.ndim != 1 or volumes.shape != energies.shape:
            raise EvidenceError(
                f"curve of {self.phase!r} by {self.method}: volumes of shape {volumes.shape} and energies of "
                f"shape {energies.shape} do not pair up; give one energy per volume"
            )
        if not (np.isfinite(volumes).all() and np.isfinite(energies).all() and (volumes > 0).all()):
            raise EvidenceError(
                f"curve of {self.phase!r} by {self.method} contains NaN, infinite or non-positive values; "
                "list such points under failures instead"
            )
        order = np.argsort(volumes, kind="stable")
        object.__setattr__(self, "volumes", volumes[order])
        object.__setattr__(self, "energies", energies[order])


@dataclass(frozen=True)
class EquationOfState:
    """Third-order Birch-Murnaghan equation of state, per atom.

    Parameters
    ----------
    volume
        Volume of the minimum, Å^3/atom.
    energy
        Energy of the minimum, eV/atom.
    bulk_modulus
        eV/Å^3 (see `bulk_modulus_GPa`).
    bulk_modulus_derivative
        Derivative of the bulk modulus with respect to pressure, dimensionless.
    residual
        Root mean square deviation of the fitted points, eV/atom.
    fitted_between
        Smallest and largest volume that was fitted, Å^3/atom.
    """

    volume: float
    energy: float
    bulk_modulus: float
    bulk_modulus_derivative: float
    residual: float
    fitted_between: tuple[float, float]
    _coefficients: tuple[float, float, float, float] = field(repr=False, default=(0.0, 0.0, 0.0, 0.0))

    @property
    def bulk_modulus_GPa(self) -> float:  # noqa: N802 - the unit keeps its spelling
        """Bulk modulus in GPa."""
        return self.bulk_modulus * _GPA

    def energies(self, volumes: ArrayLike) -> NDArray[np.float64]:
        """Return the fitted energies (eV/atom) at these volumes (Å^3/atom), same shape."""
        v = np.asarray(volumes, dtype=float)
        return np.asarray(np.polyval(self._coefficients, (v / self.volume) ** (-2.0 / 3.0)), dtype=float)


def fit_equation_of_state(curve: EnergyVolumeCurve) -> EquationOfState:
    """Fit the third-order Birch-Murnaghan equation of state to a curve.

    Points further than 15 % in volume from the lowest one are left out where at least five remain.
    In x = V^(-2/3) this equation is a cubic polynomial (Birch, Phys. Rev. 71, 809 (1947), Eq. 24
    integrated), so the fit is linear and needs no starting values.

    Raises
    ------
    EvidenceError
        Fewer than five points; the lowest point is the first or the last one, or the fitted minimum lies
        outside the volumes computed, so that the minimum is not bracketed.
    """
    volumes, energies = curve.volumes, curve.energies
    who = f"curve of {curve.phase!r} by {curve.method}"
    if len(volumes) < 5:
        raise EvidenceError(
            f"{who} has {len(volumes)} usable points; an equation of state needs at least 5"
            + (f" ({len(curve.failures)} volumes failed)" if curve.failures else "")
        )
    lowest = int(np.argmin(energies))
    if lowest in (0, len(volumes) - 1):
        side = "smaller" if lowest == 0 else "larger"
        raise EvidenceError(
            f"{who}: the minimum is not bracketed, the lowest of {len(volumes)} energies is at the end of "
            f"the volumes ({volumes[lowest]:.3f} Å^3/atom); add {side} volumes"
        )
    # scaled by the lowest point's volume: conditioning does not depend on the size of the atom
    scale = volumes[lowest]
    ratio = volumes / scale
    near = (ratio > 1 - _FIT_RANGE) & (ratio < 1 + _FIT_RANGE)
    if near.sum() >= 5:
        volumes, energies = volumes[near], energies[near]
    x = (volumes / scale) ** (-2.0 / 3.0)
    poly = np.polyfit(x, energies, 3)
    slope, curvature = np.polyder(poly), np.polyder(poly, 2)
    roots = np.roots(slope)
    minima = [
        float(r.real)
        for r in roots
        if abs(r.imag) < 1e-9 and r.real > 0 and np.polyval(curvature, r.real) > 0
    ]
    if not minima or not x.min() <= minima[0] <= x.max():
        raise EvidenceError(
            f"{who}: the fitted equation of state has no minimum between {volumes[0]:.3f} and "
            f"{volumes[-1]:.3f} Å^3/atom; the points are too noisy or too few around the minimum"
        )
    x0 = minima[0]
    v0 = scale * x0**-1.5
    # derivatives with respect to V at the minimum, by the chain rule with x = (V/scale)^(-2/3)
    p2, p3 = float(np.polyval(curvature, x0)), float(np.polyval(np.polyder(poly, 3), x0))
    e2 = (4.0 / 9.0) * x0**5 * p2 / scale**2
    e3 = (-(20.0 / 9.0) * x0**6.5 * p2 - (8.0 / 27.0) * x0**7.5 * p3) / scale**3
    # the same polynomial with the volume scaled by v0, for evaluation
    rescaled = tuple(float(c) for c in poly * x0 ** np.arange(3, -1, -1))
    return EquationOfState(
        volume=float(v0),
        energy=float(np.polyval(poly, x0)),
        bulk_modulus=float(v0 * e2),
        bulk_modulus_derivative=float(-1.0 - v0 * e3 / e2),
        residual=float(np.sqrt(np.mean((np.polyval(poly, x) - energies) ** 2))),
        fitted_between=(float(volumes[0]), float(volumes[-1])),
        _coefficients=(rescaled[0], rescaled[1], rescaled[2], rescaled[3]),
    )


def _relaxed_energy(
    atoms: Atoms, calculator: Calculator, volume: float, settings: EnergyVolumeSettings
) -> float:
    """Return the energy per atom (eV) of a phase at a volume per atom (Å^3), shape and positions relaxed.

    Raises
    ------
    EvidenceError
        The relaxation failed or did not converge, or the structure became another phase.
    """
    from gapfactory.search.phases import left_phase, relax_at_fixed_volume

    found = relax_at_fixed_volume(atoms, calculator, volume_per_atom=volume, settings=settings.relax)
    if found.status != "converged":
        raise EvidenceError(f"not relaxed at {volume:.3f} Å^3/atom: {found.reason}")
    gone = left_phase(atoms, found.frame(-1), tolerance=settings.relax.symmetry_tolerance)
    if gone:
        raise EvidenceError(gone)
    return float(found.energies[-1] / len(atoms))


def energy_volume_curve(
    atoms: Atoms,
    calculator: Calculator,
    volume_factors: Sequence[float] | None = None,
    *,
    phase: str,
    method: str = "potential",
    settings: EnergyVolumeSettings | None = None,
) -> EnergyVolumeCurve:
    """Return the curve of a phase: scaled to each volume, then relaxed at fixed volume with symmetry kept.

    Each volume starts from the scaled published structure, so points do not depend on each other, and a
    volume that fails is recorded with its reason while the others stand.

    Parameters
    ----------
    atoms
        The phase, e.g. `gapfactory.analysis.phases.NamedPhase.atoms`.
    volume_factors
        Multiples of its volume; default from the settings.
    """
    settings = settings or EnergyVolumeSettings()
    published = float(atoms.get_volume()) / len(atoms)
    wanted = [published * f for f in (settings.volume_factors if volume_factors is None else volume_factors)]
    points: dict[float, float] = {}
    failures: list[tuple[float, str]] = []
    while wanted:
        for volume in sorted(wanted):
            try:
                points[volume] = _relaxed_energy(atoms, calculator, volume, settings)
            except EvidenceError as error:
                failures.append((volume, str(error)))
        curve = EnergyVolumeCurve(
            phase, method, np.array(list(points)), np.array(list(points.values())), tuple(sorted(failures))
        )
        wanted = next_volumes(curve, settings)
    return curve


def next_volumes(curve: EnergyVolumeCurve, settings: EnergyVolumeSettings | None = None) -> list[float]:
    """Return the volumes (Å^3/atom) to add so that the minimum becomes bracketed; empty when done.

    One volume at a time is added beyond the end that holds the lowest energy, by the ratio of the last two
    volumes of the first curve, until the minimum lies inside, a volume fails, or `extra_volumes` have been
    spent. A pure function of the points so far, so that potential and reference follow one rule and a
    stopped curve can go on.

    Parameters
    ----------
    curve
        The points so far.
    settings
        Of the curve; its `volume_factors` tell how many points there were at first.
    """
    settings = settings or EnergyVolumeSettings()
    volumes, energies = curve.volumes, curve.energies
    attempted = len(volumes) + len(curve.failures)
    if len(volumes) < 2 or attempted >= len(settings.volume_factors) + settings.extra_volumes:
        return []
    lowest = int(np.argmin(energies))
    failed = [v for v, _ in curve.failures]
    if lowest == len(volumes) - 1 and not any(v > volumes[-1] for v in failed):
        return [float(volumes[-1] ** 2 / volumes[-2])]
    if lowest == 0 and not any(v < volumes[0] for v in failed):
        return [float(volumes[0] ** 2 / volumes[1])]
    return []


@dataclass(frozen=True)
class PhaseComparison:
    """One named phase, by potential and by reference, each at its own minimum (Fig. 3a-c).

    Parameters
    ----------
    phase
        Name of the phase.
    energy_error
        Potential minus reference, eV/atom.
    volume_error
        Potential minus reference in percent of the reference volume.
    bulk_modulus_error
        Potential minus reference in percent of the reference bulk modulus.
    energy_tolerance, volume_tolerance
        What was asked for: eV/atom and percent.
    potential, reference
        The two equations of state.
    """

    phase: str
    energy_error: float
    volume_error: float
    bulk_modulus_error: float
    energy_tolerance: float
    volume_tolerance: float
    potential: EquationOfState
    reference: EquationOfState

    @property
    def passes(self) -> bool:
        """Whether both errors are within the tolerances."""
        return (
            abs(self.energy_error) <= self.energy_tolerance
            and abs(self.volume_error) <= self.volume_tolerance
        )

    def drawn_energy_error(self, floor: float = 0.001) -> float:
        """Return the absolute energy error as Fig. 3 draws it: never below the floor (eV/atom)."""
        return max(abs(self.energy_error), floor)

    def sentence(self, label_noise: float | None = None) -> str:
        """Return the verdict in words, with the noise floor of the labels (eV/atom) where it is known."""
        text = (
            f"{self.phase} {'passes' if self.passes else 'fails'}: energy minimum "
            f"{abs(self.energy_error) * 1000:.1f} meV/atom {'above' if self.energy_error >= 0 else 'below'} "
            f"the reference (allowed {self.energy_tolerance * 1000:g}), volume {self.volume_error:+.2f} % "
            f"(allowed {self.volume_tolerance:g})"
        )
        if label_noise is not None:
            text += f"; label noise {label_noise * 1000:.1f} meV/atom"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able numbers with the units in the keys."""
        return {
            "phase": self.phase,
            "passes": self.passes,
            "energy_error_meV_per_atom": self.energy_error * 1000,
            "volume_error_percent": self.volume_error,
            "bulk_modulus_error_percent": self.bulk_modulus_error,
            "energy_tolerance_meV_per_atom": self.energy_tolerance * 1000,
            "volume_tolerance_percent": self.volume_tolerance,
            **{
                f"{who}_{key}": value
                for who, eos in (("potential", self.potential), ("reference", self.reference))
                for key, value in (
                    ("energy_eV_per_atom", eos.energy),
                    ("volume_A3_per_atom", eos.volume),
                    ("bulk_modulus_GPa", eos.bulk_modulus_GPa),
                    ("fit_residual_meV_per_atom", eos.residual * 1000),
                )
            },
        }


def compare_phase(
    potential: EnergyVolumeCurve, reference: EnergyVolumeCurve, settings: EnergyVolumeSettings | None = None
) -> PhaseComparison:
    """Compare the minima of two curves of one phase.

    Raises
    ------
    EvidenceError
        The curves are of different phases, or one of them has no bracketed minimum.
    """
    settings = settings or EnergyVolumeSettings()
    if potential.phase != reference.phase:
        raise EvidenceError(f"curves of different phases: {potential.phase!r} and {reference.phase!r}")
    ours, theirs = fit_equation_of_state(potential), fit_equation_of_state(reference)
    return PhaseComparison(
        phase=potential.phase,
        energy_error=ours.energy - theirs.energy,
        volume_error=100.0 * (ours.volume / theirs.volume - 1.0),
        bulk_modulus_error=100.0 * (ours.bulk_modulus / theirs.bulk_modulus - 1.0),
        energy_tolerance=settings.energy_tolerance_meV / 1000.0,
        volume_tolerance=settings.volume_tolerance_percent,
        potential=ours,
        reference=theirs,
    )
