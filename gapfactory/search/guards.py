"""What stops a relaxation or an anneal that went wrong physically; a guard that trips is a recorded failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import covalent_radii

from gapfactory.errors import RelaxationError
from gapfactory.search._batch_lbfgs import closest_pair
from gapfactory.search.evaluator import Evaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.search.evaluator import Answer
    from gapfactory.search.settings import MinimiserSettings

__all__ = ["GuardTrippedError", "Guards", "sound", "uncertainty_limit"]


class GuardTrippedError(Exception):
    """A guard stopped the machine; never leaves `gapfactory.search`."""


class Guards:
    """The guards of one cell.

    Parameters
    ----------
    settings
        The limits.
    numbers
        (N,) atomic numbers.
    start_volume
        Volume that fractions are counted of, in Å^3.
    """

    def __init__(self, settings: MinimiserSettings, numbers: NDArray[np.int_], start_volume: float) -> None:
        self._settings = settings
        self._start_volume = start_volume
        self._reach = settings.closest_approach * covalent_radii[numbers]

    def check(self, volume: float, positions: NDArray[np.float64], cell: NDArray[np.float64]) -> None:
        """Look at a geometry: positions (N, 3) and cell (3, 3) in Å.

        Raises
        ------
        GuardTrippedError
            It is not finite, collapsed or exploded.
        """
        settings = self._settings
        if not (np.isfinite(volume) and np.isfinite(positions).all()):
            raise GuardTrippedError("a position or cell vector is not finite")
        fraction = volume / self._start_volume
        if fraction < settings.min_volume_fraction:
            limit = settings.min_volume_fraction
            raise GuardTrippedError(f"volume collapsed to {fraction:.2f} of the start (guard {limit})")
        if fraction > settings.max_volume_fraction:
            limit = settings.max_volume_fraction
            raise GuardTrippedError(f"cell exploded to {fraction:.2f} times its volume (guard {limit})")
        if settings.closest_approach > 0:
            closest = closest_pair(positions, cell, self._reach)
            if np.isfinite(closest):
                raise GuardTrippedError(
                    f"atoms {closest:.2f} Å apart (guard {settings.closest_approach} of the "
                    "sum of their covalent radii)"
                )


def sound(answer: Answer, n_atoms: int) -> Evaluation:
    """Return an answer whose numbers can be used.

    Raises
    ------
    GuardTrippedError
        It is a refusal, or not finite.
    RelaxationError
        It has other shapes.
    """
    if not isinstance(answer, Evaluation):
        raise GuardTrippedError(answer.reason)
    energy = float(answer.energy)
    forces = np.ascontiguousarray(answer.forces, dtype=float)
    stress = np.ascontiguousarray(answer.stress, dtype=float)
    if forces.shape != (n_atoms, 3) or stress.shape != (6,):
        raise RelaxationError(
            f"forces of shape {forces.shape} and stress of shape {stress.shape} for {n_atoms} atoms: "
            f"expected ({n_atoms}, 3) and (6,)."
        )
    for name, value in (("energy", energy), ("forces", forces), ("stress", stress)):
        if not np.isfinite(value).all():
            raise GuardTrippedError(f"{name} is not finite")
    return Evaluation(energy, forces, stress, answer.uncertainty)


def uncertainty_limit(allowed: float | None, start: float | None) -> float:
    """Return the uncertainty beyond which a relaxation or anneal has left known space.

    A random cell may begin in less known space than the settings allow: then it must not go farther out.

    Parameters
    ----------
    allowed
        `RelaxSettings.max_uncertainty`.
    start
        Of the starting structure.

    Raises
    ------
    RelaxationError
        A limit is set and the evaluator gives no uncertainty.
    """
    if allowed is None:
        return np.inf
    if start is None:
        raise RelaxationError(
            "max_uncertainty is set, but the evaluator gives no uncertainty: make it with "
            "batch_evaluator(calculator, uncertainty=True)."
        )
    return max(allowed, start)
