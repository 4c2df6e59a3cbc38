"""Engine `ase`: any calculator object that lives in this Python, admitted by an allow-list."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference.base import CalculationFailedError, EngineInfo, Raw, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.settings import AseSettings

__all__ = ["ALLOWED_MODULES", "EXTRA_MODULES_VARIABLE", "AseEngine"]

#: Modules whose classes a campaign may name. Calculators that start programs are not among them: a campaign
#: file or a database entry must not be able to run a command.
ALLOWED_MODULES = frozenset(
    {
        "ase.calculators.eam",
        "ase.calculators.emt",
        "ase.calculators.lj",
        "ase.calculators.morse",
        "ase.calculators.tersoff",
        "gapfactory.reference.analytic",
        "quippy.potential",
    }
)

#: Environment variable with further modules (comma-separated). Whoever runs the worker sets it; no file can.
EXTRA_MODULES_VARIABLE = "GAPFACTORY_CALCULATOR_MODULES"


class AseEngine:
    """Calculates with one calculator object; there are no numerics to vary, so a retry only repeats."""

    def __init__(self, settings: AseSettings) -> None:
        self._settings = settings
        self._calculator: Any = None

    def info(self) -> EngineInfo:
        """Import the calculator and return the version of the package it comes from.

        Raises
        ------
        InputError
            The module is not on the allow-list, or the arguments do not suit the calculator.
        MissingEngineError
            The module or class cannot be imported.
        """
        self._build()
        package = self._settings.path.split(".")[0]
        version = getattr(importlib.import_module(package), "__version__", "unknown")
        return EngineInfo(engine="ase", version=f"{self._settings.path} ({package} {version})")

    def require(self, symbols: Sequence[str]) -> None:
        """Accept any species: a calculator that does not know one says so at the first structure."""
        del symbols

    def rungs(self) -> tuple[str, ...]:
        """Return the recovery steps: the calculation, and the same once more."""
        return ("plain", "repeated")

    def calculate(self, atoms: Atoms, *, rung: int, directory: Path) -> Raw:
        """Calculate one structure; `rung` and `directory` do not matter here.

        Raises
        ------
        CalculationFailedError
            The calculator raised.
        """
        calculator = self._build()
        kind = kind_of(atoms)
        wanted = ["energy", "forces"] + (["stress"] if kind == "crystal" else [])
        try:
            calculator.calculate(atoms, wanted, ["positions", "numbers", "cell", "pbc"])
        except (ArithmeticError, ValueError, RuntimeError, NotImplementedError) as error:
            raise CalculationFailedError(f"{type(error).__name__}: {error}") from error
        results = calculator.results
        energy = results["energy"] if results.get("free_energy") is None else results["free_energy"]
        stress = np.array(results["stress"], dtype=float) if kind == "crystal" else None
        if stress is not None and stress.shape == (3, 3):
            stress = stress.ravel()[[0, 4, 8, 5, 2, 1]]
        return Raw(
            energy=float(energy),
            forces=np.array(results["forces"], dtype=float),
            stress=stress,
            details={"calculator": self._settings.path},
        )

    def _build(self) -> Any:
        if self._calculator is None:
            self._calculator = self._imported()(*self._settings.arguments, **self._settings.parameters)
        return self._calculator

    def _imported(self) -> Any:
        module_name, _, class_name = self._settings.path.rpartition(".")
        extra = {name.strip() for name in os.environ.get(EXTRA_MODULES_VARIABLE, "").split(",")}
        if module_name not in ALLOWED_MODULES | extra:
            raise InputError(
                f"calculator {self._settings.calculator!r} comes from module {module_name!r}, which is not "
                f"allowed: use one of {', '.join(sorted(ALLOWED_MODULES))}, or let the worker's operator add "
                f"the module to {EXTRA_MODULES_VARIABLE}."
            )
        try:
            return getattr(importlib.import_module(module_name), class_name)
        except ImportError as error:
            raise MissingEngineError(
                f"calculator {self._settings.calculator!r} cannot be imported ({error}): install "
                f"{module_name.split('.', maxsplit=1)[0]} where the reference calculations run."
            ) from error
        except AttributeError as error:
            raise InputError(
                f"module {module_name!r} has no class {class_name!r}: check `calculator`."
            ) from error
