"""Engine `ase`: any calculator object that lives in this Python, admitted by an allow-list."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue, field_validator

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference.base import EngineInfo, Raw, kind_of
from gapfactory.reference.engines._ase_quip import QUIP, refuse_programs
from gapfactory.reference.faults import CalculationFailedError
from gapfactory.reference.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.reference.site import ProgramSite

__all__ = [
    "ALLOWED_MODULES",
    "ENGINE",
    "EXTRA_MODULES_VARIABLE",
    "NAMED_CALCULATORS",
    "AseEngine",
    "AseSettings",
]

#: Short names of calculators.
NAMED_CALCULATORS = {
    "emt": "ase.calculators.emt.EMT",
    "lj": "ase.calculators.lj.LennardJones",
    "morse": "ase.calculators.morse.MorsePotential",
    "stillinger-weber": "gapfactory.reference.analytic.StillingerWeberSilicon",
    "second-moment": "gapfactory.reference.analytic.SecondMomentTitanium",
}

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


class AseSettings(EngineSettings):
    """Any calculator of ASE, QUIP or this package, to stand in for a quantum-mechanical code."""

    engine: Literal["ase"] = "ase"
    """Name of the engine."""
    calculator: str = "stillinger-weber"
    """Short name (emt, lj, morse, stillinger-weber, second-moment) or dotted path of a class, such as
    quippy.potential.Potential. Which modules it may come from is decided where it runs."""
    arguments: tuple[JsonValue, ...] = ()
    """Positional arguments of the calculator."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the calculator."""
    time_limit_s: float = Field(default=300.0, gt=0)
    """Seconds one attempt at one structure may take before it is killed."""
    max_attempts: int = Field(default=2, ge=1)
    """Attempts per structure, the plain calculation included, before it is quarantined."""

    @field_validator("calculator")
    @classmethod
    def _named_or_dotted(cls, value: str) -> str:
        parts = NAMED_CALCULATORS.get(value, value).split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise ValueError(
                f"calculator {value!r} is neither a short name ({', '.join(NAMED_CALCULATORS)}) nor the "
                "dotted path of a class"
            )
        return value

    @property
    def path(self) -> str:
        """Dotted path of the calculator class."""
        return NAMED_CALCULATORS.get(self.calculator, self.calculator)


class AseEngine:
    """Calculates with one calculator object; there are no numerics to vary, so a retry only repeats."""

    name: ClassVar[str] = "ase"
    settings_class: ClassVar[type[AseSettings]] = AseSettings

    def __init__(self, settings: AseSettings, site: ProgramSite | None = None) -> None:
        del site  # it runs no program
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

    def calculate(self, atoms: Atoms) -> Raw:
        """Calculate one structure.

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

    def calculator(self) -> Any:
        """Return the calculator itself, to relax with it in this process.

        Raises
        ------
        InputError, MissingEngineError
            As `info`.
        """
        return self._build()

    def _build(self) -> Any:
        if self._calculator is None:
            s = self._settings
            if s.path == QUIP:
                refuse_programs(s.arguments, s.parameters)
            self._calculator = self._imported()(*s.arguments, **s.parameters)
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


#: The engine of this module.
ENGINE = AseEngine
