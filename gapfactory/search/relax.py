"""Minimisation of the enthalpy of one cell: a batch of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.random import Generator

    from gapfactory.search.settings import MinimiserSettings, RelaxSettings
    from gapfactory.search.trajectory import Trajectory

__all__ = ["draw_pressure", "minimise", "relax"]


def draw_pressure(rng: Generator, settings: RelaxSettings) -> float:
    """Draw an external pressure in GPa: exponential with mean p0 beta (paper, Eq. 5), or uniform within a range."""
    if settings.pressure_range_GPa is not None:
        return float(rng.uniform(*settings.pressure_range_GPa))
    return float(settings.pressure_scale_GPa * settings.pressure_beta * rng.exponential(1.0))


def relax(atoms: Atoms, calculator: Any, *, pressure_GPa: float, settings: RelaxSettings) -> Trajectory:
    """Relax positions and cell of `atoms` to a minimum of the enthalpy E + p V; without an anneal, see `search_each`.

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
        max_uncertainty=settings.stopping_uncertainty,
        fixed_cell=settings.cell == "fixed",
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
    max_uncertainty: float | None = None,
    fixed_cell: bool = False,
) -> Trajectory:
    """Minimise the enthalpy, or at `fixed_volume` the energy over shape and positions.

    Parameters are those of `relax`; `symmetry_tolerance` in Å keeps the space group found within it.

    Raises
    ------
    RelaxationError
        As `relax`.
    """
    from gapfactory.search.batch import minimise_each
    from gapfactory.search.descent import Minimisation
    from gapfactory.search.evaluator import batch_evaluator

    task = Minimisation(
        start=atoms,
        pressure_GPa=pressure_GPa,
        settings=settings,
        keep_first=keep_first,
        thinning_ratio=thinning_ratio,
        symmetry_tolerance=symmetry_tolerance,
        fixed_volume=fixed_volume,
        max_uncertainty=max_uncertainty,
        fixed_cell=fixed_cell,
    )
    (done,) = minimise_each(
        [task], batch_evaluator(calculator, uncertainty=max_uncertainty is not None), width=1
    )
    return done.trajectory
