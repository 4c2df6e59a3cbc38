"""Self-test of a reference engine: what its labels say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.reference.base import Label, LabelOutcome
    from gapfactory.reference.selfcheck import DerivativePlan, Ladder

__all__ = [
    "DerivativeResult",
    "DrillResult",
    "LadderResult",
    "LevelResult",
    "Tolerances",
    "judge_derivatives",
    "judge_drill",
    "judge_ladder",
]

#: eV/Å^3 in GPa
GPA = 160.21766208


@dataclass(frozen=True)
class Tolerances:
    """What is good enough.

    Attributes
    ----------
    derivative_force, derivative_stress_GPa
        Largest difference from finite differences, in eV/Å and GPa. A plane-wave code's stress is that of a fixed set
        of plane waves, finite differences have a fixed cutoff: they differ by the Pulay stress, a few tenths of a GPa
        at working cutoffs.
    noise_energy_meV, noise_force, noise_stress_GPa
        Noise of labels that a level of convergence may have, in meV/atom (relative energies), eV/Å and GPa. 1 GPa is a
        virial of about 0.1 eV/atom, which a fit grants random cells anyway.
    drill_energy_meV, drill_force
        Largest difference of a label made after a kill from an undisturbed one, in meV/atom and eV/Å.
    """

    derivative_force: float = 0.02
    derivative_stress_GPa: float = 0.5
    noise_energy_meV: float = 5.0
    noise_force: float = 0.05
    noise_stress_GPa: float = 1.0
    drill_energy_meV: float = 1.0
    drill_force: float = 0.005

    def twice(self) -> Tolerances:
        """Return the same with twice the noise."""
        return replace(
            self,
            noise_energy_meV=2 * self.noise_energy_meV,
            noise_force=2 * self.noise_force,
            noise_stress_GPa=2 * self.noise_stress_GPa,
        )


@dataclass(frozen=True)
class DerivativeResult:
    """One directional derivative: from the label and from differences of energies, in eV/Å or GPa."""

    symbol: str
    direction: str
    label: float
    finite_difference: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Label minus finite difference."""
        return self.label - self.finite_difference

    @property
    def passed(self) -> bool:
        """Whether they agree."""
        return abs(self.difference) <= self.tolerance


@dataclass(frozen=True)
class LevelResult:
    """One level of a ladder against the highest one.

    Attributes
    ----------
    value
        Of the setting.
    n_structures
        Labelled both here and at the highest level.
    energy_noise_meV, energy_largest_meV
        Standard deviation and largest of the differences of energies per atom, their mean over the structures of one
        composition taken out: only relative energies matter. In meV/atom; None when no composition has two structures.
    energy_shift_meV
        That mean, in meV/atom.
    force_noise
        Root mean square of the differences of force components, in eV/Å.
    stress_noise_GPa
        Likewise of stress components, in GPa.
    seconds
        Mean wall time of a label.
    differences_meV
        Relative energy difference of each structure, in meV/atom, by its id.
    """

    value: float
    n_structures: int
    energy_noise_meV: float | None
    energy_largest_meV: float | None
    energy_shift_meV: float
    force_noise: float
    stress_noise_GPa: float
    seconds: float
    differences_meV: dict[str, float]

    def within(self, tolerances: Tolerances) -> bool:
        """Whether labels at this level are good enough."""
        return (
            (self.energy_noise_meV is None or self.energy_noise_meV <= tolerances.noise_energy_meV)
            and self.force_noise <= tolerances.noise_force
            and self.stress_noise_GPa <= tolerances.noise_stress_GPa
        )


@dataclass(frozen=True)
class LadderResult:
    """All levels of a ladder.

    Attributes
    ----------
    key, current
        As in `Ladder`.
    levels
        Ascending; the last is the reference.
    recommended
        The lowest level from which on all are good enough; None when only the highest one would be left.
    failed
        Structures without label at some level, with the reason.
    """

    key: str
    current: float
    levels: tuple[LevelResult, ...]
    recommended: float | None
    failed: dict[str, str]

    def level(self, value: float) -> LevelResult | None:
        """Return the level of a value, if it is one."""
        return next((level for level in self.levels if level.value == value), None)


@dataclass(frozen=True)
class DrillResult:
    """A label whose program was killed at its first attempt, against the undisturbed one.

    Attributes
    ----------
    attempts
        Starts of the program.
    history
        What went wrong and what was done.
    energy_difference_meV, force_difference
        In meV/atom and eV/Å (largest component); None without a label.
    passed
        Whether it was killed, came back, and the labels agree.
    reason
        Why not.
    """

    attempts: int
    history: tuple[str, ...]
    energy_difference_meV: float | None
    force_difference: float | None
    passed: bool
    reason: str


def judge_derivatives(
    plan: DerivativePlan, outcomes: Mapping[str, LabelOutcome], tolerances: Tolerances
) -> tuple[tuple[DerivativeResult, ...], dict[str, str]]:
    """Compare forces and stress with finite differences.

    Parameters
    ----------
    plan
        What was calculated.
    outcomes
        Of its batch, by id.
    tolerances
        What is good enough.

    Returns
    -------
    tuple
        Results of the directions that could be judged, and reasons for the structures without label.
    """
    settings = plan.batch.settings
    failed = {name: out.reason for name, out in outcomes.items() if out.label is None}
    base = outcomes["base"].label
    results = []
    volume = dict(plan.batch.items)["base"].get_volume()
    for name, direction in plan.directions.items():
        plus, minus = outcomes[f"{name}+"].label, outcomes[f"{name}-"].label
        if base is None or plus is None or minus is None:
            continue
        if name.startswith("force"):
            slope = -(plus.energy - minus.energy) / (2 * settings.force_step)
            value, tolerance = float((base.forces * direction).sum()), tolerances.derivative_force
        else:
            slope = GPA * (plus.energy - minus.energy) / (2 * settings.strain_step * volume)
            value = GPA * float((_tensor(_stress(base)) * direction).sum())
            tolerance = tolerances.derivative_stress_GPa
        results.append(DerivativeResult(plan.symbol, name, value, slope, tolerance))
    return tuple(results), failed


def _tensor(voigt: NDArray[np.float64]) -> NDArray[np.float64]:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def judge_ladder(
    ladder: Ladder, outcomes: Mapping[str, Mapping[str, LabelOutcome]], tolerances: Tolerances
) -> LadderResult:
    """Compare every level with the highest one and recommend the cheapest that is good enough.

    Parameters
    ----------
    ladder
        What was calculated.
    outcomes
        By the batch's name, then by id.
    tolerances
        What is good enough.

    Raises
    ------
    InputError
        The highest level has no label at all.
    """
    failed: dict[str, str] = {}
    labels: list[dict[str, Label]] = []
    for batch in ladder.batches:
        found: dict[str, Label] = {}
        for name, outcome in outcomes[batch.name].items():
            if outcome.label is None:
                failed[f"{batch.name}: {name}"] = outcome.reason
            else:
                found[name] = outcome.label
        labels.append(found)
    if not labels[-1]:
        reasons = "; ".join(dict.fromkeys(out.reason for out in outcomes[ladder.batches[-1].name].values()))
        raise InputError(
            f"no structure could be labelled at {ladder.key} = {ladder.values[-1]:g} ({reasons}): nothing can be said "
            "of convergence."
        )
    atoms = dict(ladder.batches[-1].items)
    levels = tuple(
        _compare(value, found, labels[-1], atoms) for value, found in zip(ladder.values, labels, strict=True)
    )
    recommended: float | None = None
    for level in reversed(levels[:-1]):
        if not level.n_structures or not level.within(tolerances):
            break
        recommended = level.value
    return LadderResult(ladder.key, ladder.current, levels, recommended, failed)


def _compare(
    value: float, found: Mapping[str, Label], highest: Mapping[str, Label], atoms: Mapping[str, Atoms]
) -> LevelResult:
    from gapfactory.structures import composition_of

    names = [name for name in found if name in highest]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(composition_of(atoms[name]), []).append(name)
    relative: dict[str, float] = {}
    shifts, degrees = [], 0
    for members in groups.values():
        by_name = {
            name: 1000.0 * (found[name].energy - highest[name].energy) / len(atoms[name]) for name in members
        }
        mean = float(np.mean(list(by_name.values())))
        shifts.append(mean)
        if len(members) > 1:
            relative |= {name: difference - mean for name, difference in by_name.items()}
            degrees += len(members) - 1
    errors = np.array(list(relative.values()))
    forces = [(found[name].forces - highest[name].forces).ravel() for name in names]
    stresses = [GPA * (_stress(found[name]) - _stress(highest[name])) for name in names]
    return LevelResult(
        value=value,
        n_structures=len(names),
        energy_noise_meV=float(np.sqrt((errors**2).sum() / degrees)) if degrees else None,
        energy_largest_meV=float(np.abs(errors).max()) if degrees else None,
        energy_shift_meV=float(np.mean(shifts)) if shifts else 0.0,
        force_noise=_rms(forces),
        stress_noise_GPa=_rms(stresses),
        seconds=float(np.mean([label.walltime_s for label in found.values()])) if found else 0.0,
        differences_meV=relative,
    )


def _stress(label: Label) -> NDArray[np.float64]:
    """Return the stress of a crystal, which every sound label of one has."""
    if label.stress is None:
        raise InputError("a label of a crystal has no stress: the engine does not keep its contract.")
    return label.stress


def _rms(values: Sequence[NDArray[np.float64]]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2))) if values else 0.0


def judge_drill(undisturbed: LabelOutcome, drilled: LabelOutcome, tolerances: Tolerances) -> DrillResult:
    """Compare the label of a calculation that was killed once with that of an undisturbed one."""
    told: dict[str, Any] = {"attempts": drilled.attempts, "history": drilled.history}
    if drilled.label is None or undisturbed.label is None:
        which = "undisturbed" if undisturbed.label is None else "killed"
        reason = undisturbed.reason if undisturbed.label is None else drilled.reason
        return DrillResult(
            **told,
            energy_difference_meV=None,
            force_difference=None,
            passed=False,
            reason=f"the {which} calculation gave no label: {reason}",
        )
    energy = 1000.0 * abs(drilled.label.energy - undisturbed.label.energy) / len(drilled.label.forces)
    force = float(np.abs(drilled.label.forces - undisturbed.label.forces).max())
    reason = ""
    if drilled.attempts < 2:
        reason = "the program was not killed: it ended before"
    elif energy > tolerances.drill_energy_meV or force > tolerances.drill_force:
        reason = (
            f"the label after the kill differs by {energy:.3g} meV/atom and {force:.3g} eV/Å "
            f"(allowed: {tolerances.drill_energy_meV:g} and {tolerances.drill_force:g})"
        )
    return DrillResult(
        **told, energy_difference_meV=energy, force_difference=force, passed=not reason, reason=reason
    )
