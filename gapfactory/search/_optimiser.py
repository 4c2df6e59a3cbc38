"""ASE's preconditioned L-BFGS with our stopping rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.optimize.precon import PreconLBFGS
from ase.optimize.precon.precon import Exp

if TYPE_CHECKING:
    from ase import Atoms
    from ase.filters import FrechetCellFilter

    from gapfactory.search.settings import MinimiserSettings

__all__ = ["EnthalpyLBFGS", "residuals"]


def residuals(atoms: Atoms, *, pressure: float, fixed_volume: bool) -> tuple[float, float]:
    """Return (largest force on an atom in eV/Å, largest row norm of V (stress + p) / N in eV).

    Parameters
    ----------
    atoms
        Periodic structure with a calculator that holds its results; constraints are applied.
    pressure
        In eV/Å^3.
    fixed_volume
        Leave the trace of the stress out.
    """
    force = float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max()))
    excess = atoms.get_stress(voigt=False) + pressure * np.eye(3)
    if fixed_volume:
        excess = excess - np.trace(excess) / 3 * np.eye(3)
    rows = atoms.get_volume() / len(atoms) * np.sqrt((excess**2).sum(axis=1))
    return force, float(rows.max())


class EnthalpyLBFGS(PreconLBFGS):
    """`PreconLBFGS` on a cell filter, converged by `residuals` against both thresholds, and silent."""

    def __init__(
        self, filtered: FrechetCellFilter, settings: MinimiserSettings, *, pressure: float, fixed_volume: bool
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            filtered,
            logfile=None,
            maxstep=settings.max_step,
            alpha=settings.initial_hessian,
            precon=_preconditioner(filtered.atoms, settings),
        )
        self._thresholds = (settings.force_threshold, settings.cell_force_threshold)
        self._pressure = pressure
        self._fixed_volume = fixed_volume

    def residuals(self) -> tuple[float, float]:
        """Return the two residuals of the current structure."""
        return residuals(self._actual_atoms.atoms, pressure=self._pressure, fixed_volume=self._fixed_volume)

    def gradient_converged(self, gradient: Any) -> bool:
        """Tell whether both residuals are below their thresholds."""
        return all(value < limit for value, limit in zip(self.residuals(), self._thresholds, strict=True))

    def log(self, gradient: Any) -> None:
        """Print nothing: the frames are the log."""


def _preconditioner(atoms: Atoms, settings: MinimiserSettings) -> Any:
    if settings.preconditioner == "none":
        return None
    # Exp's own estimates of its scales walk outwards over neighbour shells and displace the atoms: on dense
    # random cells that takes long or never ends, so both are given. The length is that of a close-packed
    # cell.
    nearest = (np.sqrt(2.0) * atoms.get_volume() / len(atoms)) ** (1 / 3)
    return Exp(r_cut=2.0 * nearest, r_NN=nearest, mu=settings.initial_hessian / 12, mu_c=1.0)
