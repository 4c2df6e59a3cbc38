"""What a reference calculation is asked for and what it answers, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "EngineInfo",
    "Label",
    "LabelOutcome",
    "PythonEngine",
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
    fault
        Kind of the last fault (see `Fault`), when there is no label.
    altered
        Settings that the recovery changed, with their values; empty unless that was allowed. The label is then one at
        the settings with these changes.
    custodian
        Custodian's own record of the calculation.
    files
        Ends of the files that tell what happened, by name, when there is no label.
    """

    id: str
    label: Label | None
    reason: str
    attempts: int
    history: tuple[str, ...] = ()
    fault: str = ""
    altered: dict[str, Any] = field(default_factory=dict)
    custodian: tuple[dict[str, Any], ...] = ()
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineInfo:
    """What is installed: name, version, and sha256 of the data sets per species, where there are any."""

    engine: str
    version: str
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """What an engine hands back from one calculation, before validation; units as in `Label`.

    Attributes
    ----------
    energy, forces, details
        As in `Label`.
    stress
        As in `Label`, or as a (3, 3) tensor, whose symmetry is then checked.
    echo
        The structure as the output has it, compared with what was sent; None when the output has none.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    details: dict[str, Any]
    echo: Atoms | None = None


class PythonEngine(Protocol):
    """An engine that calculates inside the child process: one instance labels many structures."""

    name: ClassVar[str]

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

    def calculate(self, atoms: Atoms) -> Raw:
        """Calculate one structure.

        Raises
        ------
        CalculationFailedError
            This structure failed.
        """


def kind_of(atoms: Atoms) -> StructureKind:
    """Return how a structure is calculated.

    Without any periodicity it is an isolated atom or, from two atoms on, a dimer; else a crystal.
    """
    if atoms.pbc.any():
        return "crystal"
    return "isolated" if len(atoms) == 1 else "dimer"
