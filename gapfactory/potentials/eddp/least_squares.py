"""Levenberg-Marquardt with reweighting for other norms, and early stopping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from gapfactory.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.settings import TrainingSettings

__all__ = ["Minimum", "Residuals", "cost", "levenberg_marquardt"]

# A step shorter than this part of the parameters changes nothing.
_STILL = 1e-14


class Residuals(Protocol):
    """Residuals (R,) of parameters (P,), and their derivatives (R, P) if wanted."""

    def __call__(
        self, parameters: NDArray[np.float64], wanted: bool, /
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both; the second is not looked at unless it is wanted."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes
    ----------
    parameters : (P,)
        Those with the lowest watched value, or the last ones where nothing is watched.
    cost
        At the last parameters.
    watched
        Lowest value of what was watched; NaN where nothing is.
    steps
        Accepted steps, and the number of the one that `parameters` are from.
    best_step
        Number of accepted steps that lead to `parameters`.
    reason
        `patience`: the watched value fell no more; `converged`: no step lowers the cost; `steps`: out of steps.
    """

    parameters: NDArray[np.float64]
    cost: float
    watched: float
    steps: int
    best_step: int
    reason: Literal["patience", "converged", "steps"]


def cost(residuals: NDArray[np.float64], norm: float, floor: float) -> float:
    """Return sum_i of the integral from 0 to |r_i| of x (x + floor)^(norm - 2) dx.

    For norm 2 that is half the sum of squares; otherwise about sum |r|^norm / norm, with a rounded tip. Reweighted
    least squares with weights (|r| + floor)^(norm - 2) have the same stationary points.
    """
    if norm == 2.0:
        return 0.5 * float(residuals @ residuals)
    u = np.abs(residuals) + floor
    if norm == 1.0:
        return float((u - floor - floor * np.log(u / floor)).sum())
    first = (u**norm - floor**norm) / norm
    second = floor * (u ** (norm - 1.0) - floor ** (norm - 1.0)) / (norm - 1.0)
    return float((first - second).sum())


def levenberg_marquardt(
    residuals: Residuals,
    start: NDArray[np.float64],
    settings: TrainingSettings,
    watch: Callable[[NDArray[np.float64]], float] | None = None,
) -> Minimum:
    """Minimise the `cost` of residuals r(w) by damped least squares.

    A step d solves (J^T W J + lambda diag(max(J^T W J, floor))) d = -J^T W r; lambda falls after a step that lowers
    the cost and rises after one that does not, which is not taken.

    Parameters
    ----------
    residuals
        Residuals and their derivatives.
    start
        First parameters.
    settings
        Norm, damping, patience.
    watch
        Error on other data; minimisation stops when it has not fallen for `patience` accepted steps, and its lowest
        value decides which parameters are returned.

    Raises
    ------
    FitError
        If the residuals are not finite at the start.
    """
    w = start.copy()
    r, jacobian = residuals(w, True)
    now = cost(r, settings.norm, settings.norm_floor)
    if not np.isfinite(now):
        msg = "the residuals of the first parameters are not finite: check the training data"
        raise FitError(msg)
    best, lowest = w.copy(), np.nan if watch is None else watch(w)
    damping, steps, best_step, tried = settings.damping, 0, 0, 0
    normal, gradient = _normal_equations(r, jacobian, settings)
    while tried < settings.max_steps:
        tried += 1
        step = _step(normal, gradient, damping, settings.curvature_floor)
        if step is not None:
            if np.linalg.norm(step) <= _STILL * (1.0 + np.linalg.norm(w)):
                return Minimum(best if watch else w, now, lowest, steps, best_step, "converged")
            trial, _ = residuals(w + step, False)
            then = cost(trial, settings.norm, settings.norm_floor)
        if step is None or not then < now:
            damping *= settings.damping_raise
            if damping > settings.damping_most:
                return Minimum(best if watch else w, now, lowest, steps, best_step, "converged")
            continue
        w, now = w + step, then
        damping = max(damping * settings.damping_lower, settings.damping_least)
        steps += 1
        if watch is not None:
            value = watch(w)
            if value < lowest:
                best, lowest, best_step = w.copy(), value, steps
            elif steps - best_step >= settings.patience:
                return Minimum(best, now, lowest, steps, best_step, "patience")
        r, jacobian = residuals(w, True)
        normal, gradient = _normal_equations(r, jacobian, settings)
    return Minimum(best if watch else w, now, lowest, steps, best_step if watch else steps, "steps")


def _normal_equations(
    residuals: NDArray[np.float64], jacobian: NDArray[np.float64], settings: TrainingSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return J^T W J (P, P) and J^T W r (P,)."""
    if settings.norm != 2.0:
        root = (np.abs(residuals) + settings.norm_floor) ** (0.5 * settings.norm - 1.0)
        residuals, jacobian = root * residuals, root[:, None] * jacobian
    return jacobian.T @ jacobian, jacobian.T @ residuals


def _step(
    normal: NDArray[np.float64], gradient: NDArray[np.float64], damping: float, floor: float
) -> NDArray[np.float64] | None:
    """Return a step, or None where rounding leaves the damped matrix indefinite: more damping mends that."""
    # not at the top: every process reads the settings of potentials, few of them train
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    diagonal = np.diagonal(normal)
    damped = normal.copy()
    damped[np.diag_indices_from(damped)] += damping * np.maximum(
        diagonal, floor * max(diagonal.max(), 1e-300)
    )
    try:
        step: NDArray[np.float64] = -cho_solve(cho_factor(damped, lower=True, overwrite_a=True), gradient)
    except LinAlgError:
        return None
    return step if np.isfinite(step).all() else None
