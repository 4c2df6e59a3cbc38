"""Minimisation of the enthalpy of a random cell with a preconditioned L-BFGS."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import PotentialError, RelaxationError
from gapfactory.search.trajectory import Trajectory

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.random import Generator

    from gapfactory.search._optimiser import EnthalpyFilter
    from gapfactory.search.settings import MinimiserSettings, RelaxSettings
    from gapfactory.search.trajectory import RelaxStatus

__all__ = ["draw_pressure", "minimise", "relax"]


def draw_pressure(rng: Generator, settings: RelaxSettings) -> float:
    """Draw an external pressure in GPa: exponential with mean p0 beta (paper, Eq. 5)."""
    return float(settings.pressure_scale_GPa * settings.pressure_beta * rng.exponential(1.0))


def relax(atoms: Atoms, calculator: Any, *, pressure_GPa: float, settings: RelaxSettings) -> Trajectory:
    """Relax positions and cell of `atoms` to a minimum of the enthalpy E + p V.

    The run is deterministic: the same structure, calculator and settings give the same frames to the last
    bit.

    Parameters
    ----------
    atoms
        Structure, periodic in three directions; not changed.
    calculator
        ASE calculator with energy, forces and stress. It is asked once per structure.
    pressure_GPa
        External pressure, in GPa.
    settings
        Optimiser, thresholds, guards and thinning.

    Returns
    -------
    Trajectory
        A relaxation that goes wrong physically (collapse, explosion, NaN, a calculator that raises) is
        returned with status ``failed`` and its reason.

    Raises
    ------
    RelaxationError
        The structure is not periodic, has no volume, or the calculator has no stress.
    """
    return minimise(
        atoms,
        calculator,
        pressure_GPa=pressure_GPa,
        settings=settings,
        keep_first=settings.keep_first_steps,
        thinning_ratio=settings.thinning_ratio,
        symmetry_tolerance=settings.symmetry_tolerance if settings.keep_symmetry else None,
    )


def minimise(
    atoms: Atoms,
    calculator: Any,
    *,
    pressure_GPa: float,
    settings: MinimiserSettings,
    keep_first: int,
    thinning_ratio: float,
    symmetry_tolerance: float | None,
    fixed_volume: bool = False,
) -> Trajectory:
    """Minimise the enthalpy, or at `fixed_volume` the energy over shape and positions.

    Parameters are those of `relax`; `symmetry_tolerance` in Å keeps the space group found within it.

    Raises
    ------
    RelaxationError
        As `relax`.
    """
    from ase.units import GPa

    from gapfactory.search._optimiser import EnthalpyFilter, EnthalpyLBFGS
    from gapfactory.search.evaluator import Evaluator, GuardTrippedError

    start = _bare_copy(atoms)
    pressure = pressure_GPa * GPa
    frames = _Frames(len(start), keep_first, thinning_ratio)
    status: RelaxStatus = "failed"
    steps = 0
    evaluator = Evaluator(calculator, start, settings)
    start.calc = evaluator
    try:
        # numpy's complaints about a diverging cell would repeat what the guards say in plain words
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if symmetry_tolerance is not None:
                from ase.constraints import FixSymmetry

                start.set_constraint(FixSymmetry(start, symprec=symmetry_tolerance))
            filtered = EnthalpyFilter(start, pressure=pressure, fixed_volume=fixed_volume)
            optimiser = EnthalpyLBFGS(filtered, settings)
            for converged in optimiser.irun(steps=settings.max_steps):  # type: ignore[no-untyped-call]
                steps = optimiser.nsteps
                frames.add(steps, filtered)
                status = "converged" if converged else "unconverged"
        reason = (
            "both residuals below their thresholds" if status == "converged" else _why_not(settings, steps)
        )
    except GuardTrippedError as guard:
        status, reason = "failed", str(guard)
    except RelaxationError:
        raise
    except (ArithmeticError, ValueError, RuntimeError, PotentialError) as error:
        # RuntimeError: the line search found no lower enthalpy, or the calculator gave up on this structure, as
        # a fitted potential does with PotentialError
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        status = "unconverged" if "linesearch" in reason else "failed"
    return frames.trajectory(
        status, reason, pressure_GPa, pressure, start.numbers, steps, evaluator.n_evaluations
    )


def _why_not(settings: MinimiserSettings, steps: int) -> str:
    return f"residuals still above their thresholds after {steps} of at most {settings.max_steps} steps"


def _bare_copy(atoms: Atoms) -> Atoms:
    from ase import Atoms as AseAtoms

    if len(atoms) == 0:
        raise RelaxationError("there is no atom to relax: give a structure with at least one atom.")
    if not atoms.pbc.all():
        raise RelaxationError(
            f"pbc is {atoms.pbc.tolist()}: only cells periodic in three directions are relaxed."
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise RelaxationError(
            "a position or cell vector of the starting structure is not finite: build it again."
        )
    if atoms.get_volume() < 1e-6:
        raise RelaxationError(f"the cell {atoms.cell.array.tolist()} has no volume: build it again.")
    return AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


@dataclass
class _Frames:
    """Collects the frames that thinning keeps, and always the last one."""

    n_atoms: int
    keep_first: int
    ratio: float
    kept: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Any] | None = None

    def add(self, step: int, filtered: EnthalpyFilter) -> None:
        if self.last is not None and self.last["step"] == step:
            return
        force, cell_force = filtered.residuals()
        atoms = filtered.structure
        frame = {
            "step": step,
            "positions": atoms.positions.copy(),
            "cell": atoms.cell.array.copy(),
            "energy": float(atoms.get_potential_energy()),
            "volume": float(atoms.get_volume()),
            "force": force,
            "cell_force": cell_force,
        }
        self.last = frame
        if step <= self.keep_first or step >= self.kept[-1]["step"] * self.ratio:
            self.kept.append(frame)

    def trajectory(
        self,
        status: RelaxStatus,
        reason: str,
        pressure_GPa: float,
        pressure: float,
        numbers: Any,
        n_steps: int,
        n_evaluations: int,
    ) -> Trajectory:
        frames = list(self.kept)
        if self.last is not None and frames[-1] is not self.last:
            frames.append(self.last)
        energies = np.array([f["energy"] for f in frames], dtype=float)
        volumes = np.array([f["volume"] for f in frames], dtype=float)
        return Trajectory(
            status=status,
            reason=reason,
            pressure_GPa=float(pressure_GPa),
            numbers=np.array(numbers),
            steps=np.array([f["step"] for f in frames], dtype=int),
            positions=np.array([f["positions"] for f in frames], dtype=float).reshape(-1, self.n_atoms, 3),
            cells=np.array([f["cell"] for f in frames], dtype=float).reshape(-1, 3, 3),
            energies=energies,
            enthalpies=energies + pressure * volumes,
            max_forces=np.array([f["force"] for f in frames], dtype=float),
            cell_forces=np.array([f["cell_force"] for f in frames], dtype=float),
            n_steps=n_steps,
            n_evaluations=n_evaluations,
        )
