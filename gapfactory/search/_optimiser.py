"""ASE's preconditioned L-BFGS on positions and cell, with our stopping rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.filters import Filter
from ase.optimize.precon import PreconLBFGS
from ase.optimize.precon.precon import Exp

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.settings import MinimiserSettings

__all__ = ["EnthalpyFilter", "EnthalpyLBFGS"]


class EnthalpyFilter(Filter):
    """Positions and cell of a structure as one vector, with the enthalpy and its gradient.

    The variables are those of ASE's ``FrechetCellFilter``: positions in the undeformed cell (N rows), and N times the
    logarithm U of the deformation exp(U) (3 rows), so the gradient is exact and a traceless step keeps the volume.
    What is done differently is the cost: U is remembered instead of recovered by a matrix logarithm, the gradient
    with respect to it takes one Frechet derivative (the adjoint, L(U^T, G)) instead of nine, and both are computed
    once per structure. ASE's filter took longer than a cheap potential.

    Parameters
    ----------
    atoms
        Periodic structure with a calculator; it is moved.
    pressure
        External pressure, in eV/Å^3.
    fixed_volume
        Move along traceless U only.
    """

    def __init__(self, atoms: Atoms, *, pressure: float, fixed_volume: bool) -> None:
        super().__init__(atoms, indices=range(len(atoms)))  # type: ignore[no-untyped-call]
        self.structure = atoms
        self.pressure = pressure
        self.fixed_volume = fixed_volume
        self._start = atoms.cell.array.copy()
        self._log = np.zeros((3, 3))
        self._deformation = np.eye(3)
        self._forces: NDArray[np.float64] | None = None
        self._residuals = (np.inf, np.inf)

    def __len__(self) -> int:
        return len(self.structure) + 3

    def get_positions(self) -> NDArray[np.float64]:
        """Return the variables, (N + 3, 3) in Å."""
        n = len(self.structure)
        inside = np.linalg.solve(self._deformation, self.structure.positions.T).T
        return np.concatenate([inside, n * self._log])

    def set_positions(self, positions: NDArray[np.float64], **kwargs: Any) -> None:
        """Move to the variables `positions`, (N + 3, 3) in Å."""
        from scipy.linalg import expm, logm

        n = len(self.structure)
        self._forces = None
        log = positions[n:] / n
        deformation = expm(log)
        self.structure.set_cell(self._start @ deformation.T, scale_atoms=True)
        self.structure.set_positions(positions[:n] @ deformation.T)
        # a constraint may have moved the cell a little further
        actual = np.linalg.solve(self._start, self.structure.cell.array).T
        if np.abs(actual - deformation).max() > 1e-12:
            deformation, log = actual, np.real(logm(actual))
        self._log, self._deformation = log, deformation

    def get_potential_energy(self, **kwargs: Any) -> float:
        """Return the enthalpy E + p V in eV, with the energy that the forces belong to."""
        energy = self.structure.get_potential_energy(force_consistent=True)
        return float(energy + self.pressure * self.structure.get_volume())

    def get_forces(self, **kwargs: Any) -> NDArray[np.float64]:
        """Return minus the gradient of the enthalpy with respect to the variables, (N + 3, 3) in eV/Å."""
        if self._forces is None:
            self._forces = self._evaluate()
        return self._forces.copy()

    def residuals(self) -> tuple[float, float]:
        """Return the largest force on an atom in eV/Å and the largest row norm of V (stress + p) / N in eV.

        At fixed volume the trace of the stress is left out.
        """
        self.get_forces()
        return self._residuals

    def _evaluate(self) -> NDArray[np.float64]:
        from scipy.linalg import expm_frechet

        n = len(self.structure)
        forces = self.structure.get_forces()
        excess = self.structure.get_stress(voigt=False) + self.pressure * np.eye(3)
        if self.fixed_volume:
            excess = excess - np.trace(excess) / 3 * np.eye(3)
        virial = -self.structure.get_volume() * excess
        by_deformation = virial @ np.linalg.inv(self._deformation.T)
        by_log = expm_frechet(self._log.T, by_deformation, compute_expm=False)
        if self.fixed_volume:
            by_log = by_log - np.trace(by_log) / 3 * np.eye(3)
        self._residuals = (
            float(np.sqrt((forces**2).sum(axis=1).max())),
            float(np.sqrt((virial**2).sum(axis=1).max())) / n,
        )
        return np.concatenate([forces @ self._deformation, by_log / n])


class EnthalpyLBFGS(PreconLBFGS):
    """`PreconLBFGS`, converged by both residuals against their thresholds, and silent."""

    def __init__(self, filtered: EnthalpyFilter, settings: MinimiserSettings) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            filtered,
            logfile=None,
            maxstep=settings.max_step,
            alpha=settings.initial_hessian,
            precon=_preconditioner(filtered.structure, settings),
        )
        self._thresholds = (settings.force_threshold, settings.cell_force_threshold)

    def gradient_converged(self, gradient: Any) -> bool:
        """Tell whether both residuals are below their thresholds."""
        residuals = self._actual_atoms.residuals()
        return all(value < limit for value, limit in zip(residuals, self._thresholds, strict=True))

    def update(self, r: Any, f: Any, r0: Any, f0: Any) -> None:
        """Learn from the last step, unless the enthalpy curves downwards along it.

        The Armijo rule alone does not promise positive curvature. A pair without it makes the next direction point
        uphill, which costs a reset of everything learnt and a step that does not move.
        """
        if not self._just_reset_hessian and float(np.vdot(f0 - f, r - r0)) <= 0.0:
            return
        super().update(r, f, r0, f0)  # type: ignore[no-untyped-call]

    def log(self, gradient: Any) -> None:
        """Print nothing: the frames are the log."""


def _preconditioner(atoms: Atoms, settings: MinimiserSettings) -> Any:
    if settings.preconditioner == "none":
        return None
    # Exp's own estimates of its scales walk outwards over neighbour shells and displace the atoms: on dense random
    # cells that takes long or never ends, so both are given. The length is that of a close-packed cell.
    nearest = (np.sqrt(2.0) * atoms.get_volume() / len(atoms)) ** (1 / 3)
    return Exp(r_cut=2.0 * nearest, r_NN=nearest, mu=settings.initial_hessian / 12, mu_c=1.0)
