"""What a reference calculation is asked for and what it answers, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gapfactory.errors import ReferenceCalculationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "CalculationFailedError",
    "Engine",
    "EngineInfo",
    "Label",
    "LabelOutcome",
    "Raw",
    "StructureKind",
    "kind_of",
]

StructureKind = Literal["isolated", "dimer", "crystal"]


@dataclass(frozen=True)
class Label:
    """One single point.

    Attributes
    ----------
    energy
        Energy of the cell consistent with the forces (the free energy where occupations are smeared), in eV.
    forces
        (N, 3) in eV/Å.
    stress
        (6,) in eV/Å^3, ASE's sign and Voigt order (xx, yy, zz, yz, xz, xy); None without periodicity.
    walltime_s
        Seconds the successful calculation took.
    engine, version
        Name and version of the code.
    details
        JSON-able: k-point grid, energy extrapolated to zero width, magnetic moment, recovery steps, hashes
        ...
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    walltime_s: float
    engine: str
    version: str
    details: dict[str, Any]


@dataclass(frozen=True)
class LabelOutcome:
    """The end of one structure's labelling.

    Attributes
    ----------
    id
        The caller's name of the structure.
    label
        The label, or None when the structure is quarantined.
    reason
        Empty with a label; else why there is none.
    attempts
        Calculations started for it.
    history
        One line per failed attempt: what went wrong and what was changed.
    """

    id: str
    label: Label | None
    reason: str
    attempts: int
    history: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineInfo:
    """What is installed: name, version, and sha256 of the data sets per species, where there are any."""

    engine: str
    version: str
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """What an engine hands back from one calculation, before validation; units as in `Label`."""

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    details: dict[str, Any]


class CalculationFailedError(ReferenceCalculationError):
    """One attempt at one structure failed for a reason of its own.

    Parameters
    ----------
    message
        What happened.
    hopeless
        No recovery step can help.
    """

    code = "calculation-failed"

    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


class Engine(Protocol):
    """What a code must offer; one instance lives in the child process and labels many structures."""

    def info(self) -> EngineInfo:
        """Return version and hashes.

        Raises
        ------
        MissingEngineError
            The code or its data are not installed.
        """

    def require(self, symbols: Sequence[str]) -> None:
        """Make sure that the code can treat these species.

        Raises
        ------
        MissingEngineError
            Data of one of them are not installed.
        """

    def calculate(self, atoms: Atoms, *, rung: int, directory: Path) -> Raw:
        """Calculate one structure with the numerics of recovery step `rung` (0 is the plain calculation).

        Raises
        ------
        CalculationFailedError
            This structure failed.
        """

    def rungs(self) -> tuple[str, ...]:
        """Return a description of every recovery step, rung 0 first; none of them may change the energy."""


def kind_of(atoms: Atoms) -> StructureKind:
    """Return how a structure is calculated.

    Without any periodicity it is an isolated atom or, from two atoms on, a dimer; else a crystal.
    """
    if atoms.pbc.any():
        return "crystal"
    return "isolated" if len(atoms) == 1 else "dimer"
