"""Learning curves with their forecast, and the decision to stop.

The paper stops at a fixed number of labels and leaves "other quality criteria" open; ours looks only at
structures that the potential was not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import Field, model_validator

from gapfactory.errors import EvidenceError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from gapfactory.analysis.energy_distribution import EnergyBox
    from gapfactory.analysis.errors import ErrorRecord

__all__ = [
    "ConvergenceSettings",
    "Evidence",
    "LearningPoint",
    "PowerLaw",
    "StopDecision",
    "decide_stop",
    "fit_power_law",
    "low_energy_rmse",
]


#: Sizes that a forecast needs, and labels beyond which it says nothing.
_POINTS: Final = 4
_FAR: Final = 1e6


@dataclass(frozen=True)
class LearningPoint:
    """Errors of one generation's potential.

    Parameters
    ----------
    generation, n_labels
        Generation of the potential and number of labels it was fitted to.
    series
        What the error is of, e.g. ``"held-out energy"`` or the name of a phase.
    error
        RMSE or absolute error, in the unit of the series.
    unit
        ``"eV/atom"`` or ``"eV/Å"``.
    low, high
        Bounds of the error, NaN where unknown.
    """

    generation: int
    n_labels: int
    series: str
    error: float
    unit: str = "eV/atom"
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class PowerLaw:
    """error = prefactor * n^(-exponent), fitted in logarithms.

    `scatter` is the standard deviation of ln(error) about the line.
    """

    prefactor: float
    exponent: float
    scatter: float

    def predict(self, n: ArrayLike) -> NDArray[np.float64]:
        """Return the error expected at n labels, same shape as n."""
        return np.asarray(self.prefactor * np.asarray(n, dtype=float) ** -self.exponent)

    def labels_for(self, error: float) -> float | None:
        """Return the labels at which this error is expected, or None when the curve does not fall."""
        if self.exponent <= 0 or error <= 0:
            return None
        return float((self.prefactor / error) ** (1.0 / self.exponent))


def fit_power_law(n: ArrayLike, errors: ArrayLike) -> PowerLaw:
    """Fit a power law to errors against the number of labels, both shape (M,).

    Raises
    ------
    EvidenceError
        Fewer than three points with different n, or values that are not positive.
    """
    x, y = np.asarray(n, dtype=float), np.asarray(errors, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or len(np.unique(x)) < 3:
        raise EvidenceError(
            f"a learning curve needs at least 3 sizes to be extrapolated, got {len(np.unique(x))}"
        )
    if not (np.isfinite(y).all() and (y > 0).all() and (x > 0).all()):
        raise EvidenceError("a learning curve needs positive, finite errors and label counts")
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    rest = np.log(y) - (slope * np.log(x) + intercept)
    return PowerLaw(
        prefactor=float(np.exp(intercept)),
        exponent=float(-slope),
        scatter=float(np.sqrt(np.sum(rest**2) / max(len(x) - 2, 1))),
    )


class ConvergenceSettings(Settings):
    """When a campaign may end before its label budget is spent."""

    energy_error_in_eV: float | None = Field(default=None, gt=0)
    """Stop when the energy error (RMSE, eV/atom) of held-out structures stays at or below this; None: never."""
    energy_window_in_eV: float = Field(default=1.0, gt=0)
    """Held-out structures are judged up to this far (eV/atom) above the lowest energy known."""
    plateau_improvement: float | None = Field(default=None, ge=0, lt=1)
    """Stop when the error fell by less than this fraction over the generations judged; None: never."""
    out_of_reach: float | None = Field(default=None, gt=0)
    """Stop when the learning curve, a power law through the errors of at least four generations, says that so many
    times `label_budget` are not enough for `energy_error_in_eV`, by more than twice its scatter; None: never."""
    generations: int = Field(default=3, ge=1)
    """Number of consecutive generations that must fulfil a criterion."""
    minimum_structures: int = Field(default=10, ge=1)
    """Held-out structures a generation needs for its error to count."""

    @model_validator(mode="after")
    def _comparable(self) -> ConvergenceSettings:
        if self.plateau_improvement is not None and self.generations < 2:
            msg = (
                f"plateau_improvement compares generations, but generations is {self.generations}; set it to 2 "
                "or more, or leave plateau_improvement out"
            )
            raise ValueError(msg)
        if self.out_of_reach is not None and self.energy_error_in_eV is None:
            msg = "out_of_reach needs an error to reach: set energy_error_in_eV, or leave out_of_reach out"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class Evidence:
    """What one generation's potential was measured on, none of it in its own training set.

    Parameters
    ----------
    generation, n_labels
        Generation, and labels up to it, those that the campaign was given among them.
    n_structures
        Held-out structures within the energy window.
    energy_rmse
        eV/atom on these, NaN when there are none.
    phase_errors
        Absolute energy error (eV/atom) per named phase, where known; reported, never a criterion: a
        campaign does not know which phases exist.
    ends
        Energies of the structures that this generation's relaxations ended in, by the reference; None where all
        ends are not labelled.
    """

    generation: int
    n_labels: int
    n_structures: int
    energy_rmse: float
    phase_errors: tuple[tuple[str, float], ...] = ()
    ends: EnergyBox | None = None


def low_energy_rmse(records: Sequence[ErrorRecord], lowest_energy: float, window: float) -> tuple[int, float]:
    """Return how many structures lie within the energy window, and the energy RMSE (eV/atom) on them.

    Parameters
    ----------
    records
        Held-out structures, by reference and by potential, in any order.
    lowest_energy
        Lowest reference energy known, eV/atom: over all labels, those trained on included, so that the window
        does not move with the choice of held-out structures.
    window
        Structures up to this far (eV/atom) above `lowest_energy` count.

    Returns
    -------
    tuple
        Number of structures, and their RMSE: NaN when there are none.

    Raises
    ------
    EvidenceError
        `lowest_energy` is not finite.
    """
    if not np.isfinite(lowest_energy):
        raise EvidenceError(f"the lowest energy known is {lowest_energy}: give that of a label, in eV/atom")
    near = [
        record
        for record in sorted(records, key=lambda r: r.id)
        if record.energy_reference / record.n_atoms - lowest_energy <= window
    ]
    if not near:
        return 0, float("nan")
    residuals = np.concatenate([record.residuals("energy") for record in near])
    return len(near), float(np.sqrt(np.mean(np.square(residuals))))


@dataclass(frozen=True)
class StopDecision:
    """Whether to stop, and why, in words that go into the report."""

    stop: bool
    reason: str


def decide_stop(
    history: Sequence[Evidence], *, label_budget: int, labels_spent: int, settings: ConvergenceSettings
) -> StopDecision:
    """Decide whether a campaign ends, from its label budget and from evidence that was not trained on.

    Parameters
    ----------
    history
        One entry per generation, any order.
    label_budget, labels_spent
        Labels allowed and labels made so far (training and held-out, both count).
    settings
        The criterion.

    Returns
    -------
    StopDecision
        The same history always gives the same decision.
    """
    if labels_spent >= label_budget:
        return StopDecision(True, f"label budget reached: {labels_spent} of {label_budget}")
    ordered = sorted(history, key=lambda e: e.generation)
    usable = [
        e for e in ordered if e.n_structures >= settings.minimum_structures and np.isfinite(e.energy_rmse)
    ]
    window = usable[-settings.generations :]
    if settings.energy_error_in_eV is None and settings.plateau_improvement is None:
        return StopDecision(
            False, f"no convergence criterion set; {labels_spent} of {label_budget} labels made"
        )
    if len(window) < settings.generations:
        return StopDecision(
            False,
            f"{len(usable)} generations have at least {settings.minimum_structures} held-out structures; "
            f"{settings.generations} are needed to judge convergence",
        )
    # the last generations must be consecutive and current: a gap is missing evidence, not good evidence
    span = [e.generation for e in window]
    if span != list(range(span[0], span[0] + len(span))) or span[-1] != ordered[-1].generation:
        return StopDecision(False, "evidence of the last generations is incomplete")
    errors = [e.energy_rmse for e in window]
    shown = ", ".join(f"{1000 * e:.1f}" for e in errors)
    target = settings.energy_error_in_eV
    if target is not None and max(errors) <= target:
        return StopDecision(
            True,
            f"held-out energy errors of the last {len(errors)} generations ({shown} meV/atom) are at most "
            f"{1000 * target:g} meV/atom",
        )
    if settings.plateau_improvement is not None:
        improvement = 1.0 - errors[-1] / errors[0]
        if improvement < settings.plateau_improvement:
            return StopDecision(
                True,
                f"held-out energy error no longer falls: {shown} meV/atom, {100 * improvement:.0f} % better "
                f"over {len(errors)} generations (asked for {100 * settings.plateau_improvement:g} %)",
            )
    law = _law(usable)
    if target is not None and law is not None and settings.out_of_reach is not None:
        # what a campaign was given is no part of its budget
        most = settings.out_of_reach * label_budget + max(e.n_labels for e in usable) - labels_spent
        best = float(law.predict(most)) * math.exp(-2.0 * law.scatter)
        if best > target:
            return StopDecision(
                True,
                f"{1000 * target:g} meV/atom is out of reach: after {most:g} labels the learning curve expects "
                f"{1000 * float(law.predict(most)):.1f} meV/atom, {1000 * best:.1f} at the best",
            )
    newest = max(e.n_labels for e in usable)
    forecast = "" if target is None or law is None else f"; {_expected(law, target, newest)}"
    return StopDecision(False, f"held-out energy errors {shown} meV/atom: not converged yet{forecast}")


def _law(usable: Sequence[Evidence]) -> PowerLaw | None:
    """Return the power law through the errors, or None of fewer than four sizes, which say little of a scatter."""
    points = [(e.n_labels, e.energy_rmse) for e in usable if e.n_labels > 0 and e.energy_rmse > 0]
    if len({n for n, _ in points}) < _POINTS:
        return None
    return fit_power_law(*zip(*points, strict=True))


def _expected(law: PowerLaw, target: float, newest: int) -> str:
    """Say how many more labels an error is expected to take."""
    likely, few, many = (law.labels_for(target * math.exp(k * law.scatter)) for k in (0.0, 1.0, -1.0))
    goal = f"{1000 * target:g} meV/atom"
    if likely is None or few is None or many is None or likely > _FAR:
        return f"{goal} is not expected from more labels of this kind"
    left = [max(n - newest, 0.0) for n in (likely, few, many)]
    return f"{goal} is expected after {left[0]:.2g} labels more ({left[1]:.2g} to {left[2]:.2g})"
