"""Relaxation of named phases with a reference engine as the calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import Calculator, all_changes

from gapfactory.reference.checks import voigt
from gapfactory.reference.faults import CalculationFailedError, Fault
from gapfactory.search.phases import relax_at_fixed_volume, relax_phase
from gapfactory.search.settings import PhaseRelaxSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    from gapfactory.reference.base import Raw

__all__ = ["EngineCalculator", "relax_with_reference"]


class EngineCalculator(Calculator):
    """ASE calculator that asks a reference engine; `last` is its last answer.

    Parameters
    ----------
    single_point
        Calculates one structure; raises `CalculationFailedError`.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "forces",
        "stress",
    ]

    def __init__(self, single_point: Callable[[Atoms], Raw]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._single_point = single_point
        self.last: Raw | None = None

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Calculate energy, forces and stress at once.

        Raises
        ------
        CalculationFailedError
            As the engine.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        raw = self._single_point(structure)
        self.last = raw
        self.results = {
            "energy": raw.energy,
            "free_energy": raw.energy,
            "forces": raw.forces,
            "stress": voigt(raw.stress),
        }


def relax_with_reference(
    single_point: Callable[[Atoms], Raw], atoms: Atoms, task: dict[str, Any]
) -> tuple[Raw, dict[str, Any]]:
    """Relax `atoms` as `task` says and return the last calculation and the relaxed structure.

    Parameters
    ----------
    single_point
        Calculates one structure.
    atoms
        Periodic phase.
    task
        ``{"settings": PhaseRelaxSettings, "volume_per_atom": Å^3 or None, "keep_symmetry": bool}``; with a
        volume the relaxation is at fixed volume. Of a task with ``pressure_GPa`` the whole path is returned, and one
        that has not converged is no failure.

    Raises
    ------
    CalculationFailedError
        The relaxation failed or did not converge.
    """
    settings = PhaseRelaxSettings.model_validate(task["settings"])
    calculator = EngineCalculator(single_point)
    keep, pressure = bool(task["keep_symmetry"]), task.get("pressure_GPa")
    if task["volume_per_atom"] is None:
        path = relax_phase(
            atoms, calculator, settings=settings, pressure_GPa=pressure or 0.0, keep_symmetry=keep
        )
    else:
        path = relax_at_fixed_volume(
            atoms,
            calculator,
            volume_per_atom=float(task["volume_per_atom"]),
            settings=settings,
            keep_symmetry=keep,
        )
    sound = {"converged"} if pressure is None else {"converged", "unconverged"}
    if path.status not in sound or calculator.last is None:
        raise CalculationFailedError(f"relaxation {path.status}: {path.reason}", fault=Fault.UNSOUND)
    return calculator.last, {
        "positions": path.positions[-1].tolist(),
        "cell": path.cells[-1].tolist(),
        "n_steps": path.n_steps,
        "n_evaluations": path.n_evaluations,
        **({} if pressure is None else {"path": path.as_json()}),
    }
