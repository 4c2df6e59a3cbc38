"""What goes into a fit and what comes out: labelled structures, stages, errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import FitError
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.sigmas import Sigmas

__all__ = ["Diagnostics", "GapFit", "LabelledStructure", "StageFit", "TrainErrors", "checked", "pool"]

#: two labels of one structure may differ by this much (eV/atom) before the data count as contradictory
CONTRADICTION = 1e-3


@dataclass(frozen=True)
class LabelledStructure:
    """One structure with its reference energy, forces and stress.

    Attributes
    ----------
    id
        Unique name; the order of the data is the order of the ids, whatever the order they are given in.
    atoms
        The structure.
    energy
        Total energy, eV.
    forces
        (N, 3) eV/A, or None.
    stress
        (6,) eV/A^3 in ASE's sign and order (xx, yy, zz, yz, xz, xy), or None.
    kind
        `isolated` (one free atom, the zero of energy), `dimer` or `crystal`.
    """

    id: str
    atoms: Atoms
    energy: float
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    kind: Literal["isolated", "dimer", "crystal"] = "crystal"


@dataclass(frozen=True)
class Diagnostics:
    """How well the linear system was posed.

    Attributes
    ----------
    rows, unknowns
        Targets and sparse points.
    condition
        Estimate of the condition number of the whole system (1-norm); digits beyond 1e16 over it are noise.
    effective_parameters
        How many of the unknowns the data determine, rather than the prior: the trace of the matrix that maps
        targets to predictions.
    residual
        Root-mean-square of (label - fit) / expected error over all targets; around 1 if the expected errors
        describe what the terms cannot represent.
    prior
        Root-mean-square size of the coefficients in units of their prior; far above 1 says that the data want
        more than delta allows.
    """

    rows: int
    unknowns: int
    condition: float
    effective_parameters: float
    residual: float
    prior: float


@dataclass(frozen=True)
class TrainErrors:
    """Errors on the training set.

    Attributes
    ----------
    n_structures
        Crystals that were compared.
    energy_rmse, energy_mae
        eV/atom.
    force_rmse, force_mae
        eV/A, per component; None without forces.
    virial_rmse, virial_mae
        eV/atom, per component; None without stresses.
    """

    n_structures: int
    energy_rmse: float
    energy_mae: float
    force_rmse: float | None = None
    force_mae: float | None = None
    virial_rmse: float | None = None
    virial_mae: float | None = None


@dataclass(frozen=True)
class StageFit:
    """One of the staged fits.

    Attributes
    ----------
    name
        `2b`, `2b+3b` or `2b+3b+soap`.
    delta
        Energy scale of the term that this stage adds, eV.
    n_sparse
        Sparse points of every descriptor.
    targets
        Energies, forces and virials that were fitted, as the backend counted them.
    wall_s
        Seconds of the fit, and of everything else the stage needed.
    errors
        Errors on the training set.
    diagnostics
        How well the linear system was posed; None where the backend does not say.
    """

    name: str
    delta: float
    n_sparse: tuple[int, ...]
    targets: Mapping[str, int]
    wall_s: Mapping[str, float]
    errors: TrainErrors
    diagnostics: Diagnostics | None = None


@dataclass(frozen=True)
class GapFit:
    """A fitted potential and everything that is worth knowing about it.

    Attributes
    ----------
    directory
        Where the files are.
    files
        `gap.xml` first, then its sparse-point files, then `manifest.json`.
    sha256
        Content hash of every file, by name.
    digest
        Hash of the numbers only (`potential_digest`).
    deltas
        Energy scale of each term, eV.
    sigmas
        Absolute errors by structure id.
    targets
        Energies, forces and virials in the final fit, as counted by the backend.
    train_errors
        Errors of the final potential on the crystals of the training set.
    residuals
        By id: error of the energy (eV/atom), and root-mean-square error of the forces (eV/A, None without
        forces).
    energies
        By id: energy by the final potential, eV; any of them can serve as a sentinel later.
    stages
        The staged fits in order.
    wall_s
        Seconds by step: `sparse points`; of each stage (`2b rows`, `2b solve`, `2b evaluate`, or `2b fit` of the
        program); `prove`; `total`.
    e0
        Energy of the free atoms by symbol, eV.
    descriptors
        Descriptor strings of the final potential.
    skipped
        Descriptors left out because nothing in the data shows them.
    duplicates
        Ids left out because another id holds the same structure.
    discarded
        Ids left out because they lie too far above the hull.
    pool
        Structures that sparse points could come from, labelled or not.
    versions
        Versions of the programs and libraries.
    backend
        What solved the fit.
    threads
        Threads it used.
    peak_memory
        Highest resident memory so far of this process, or of the program where that was more, bytes.
    """

    directory: Path
    files: tuple[Path, ...]
    sha256: Mapping[str, str]
    digest: str
    deltas: Mapping[str, float]
    sigmas: Mapping[str, Sigmas]
    targets: Mapping[str, int]
    train_errors: TrainErrors
    residuals: Mapping[str, tuple[float, float | None]]
    energies: Mapping[str, float]
    stages: tuple[StageFit, ...]
    wall_s: Mapping[str, float]
    e0: Mapping[str, float]
    descriptors: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    backend: str = "native"
    threads: int = 1
    peak_memory: int = 0
    pool: int = 0


def _check_atoms(where: str, atoms: Atoms, symbols: set[str]) -> None:
    if len(atoms) == 0:
        msg = f"{where} has no atoms: remove it"
        raise FitError(msg)
    strange = sorted(set(atoms.symbols) - symbols)
    if strange:
        msg = (
            f"{where} contains {', '.join(strange)}, which the fit's species "
            f"({', '.join(sorted(symbols))}) do not"
        )
        raise FitError(msg)
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        msg = f"{where} has positions or a cell that are not finite: quarantine it"
        raise FitError(msg)


def _check_one(item: LabelledStructure, symbols: set[str]) -> None:
    n = len(item.atoms)
    where = f"structure {item.id!r}"
    _check_atoms(where, item.atoms, symbols)
    if not np.isfinite(item.energy):
        msg = f"the energy of {where} is {item.energy}: quarantine the label"
        raise FitError(msg)
    for name, array, shape in (("forces", item.forces, (n, 3)), ("stress", item.stress, (6,))):
        if array is None:
            continue
        if np.shape(array) != shape:
            msg = f"the {name} of {where} have shape {np.shape(array)}, expected {shape}"
            raise FitError(msg)
        if not np.isfinite(array).all():
            msg = f"the {name} of {where} are not finite: quarantine the label"
            raise FitError(msg)
    if item.kind == "isolated" and n != 1:
        msg = f"{where} is called isolated but has {n} atoms"
        raise FitError(msg)
    if item.kind == "dimer" and n != 2:
        msg = f"{where} is called a dimer but has {n} atoms"
        raise FitError(msg)
    if item.kind == "crystal" and not (item.atoms.pbc.all() and item.atoms.cell.rank == 3):
        msg = f"{where} is called a crystal but is not periodic in three directions"
        raise FitError(msg)
    if item.kind == "crystal" and item.atoms.get_volume() < 1e-3:
        msg = f"{where} has a cell of volume {item.atoms.get_volume():.2g} A^3"
        raise FitError(msg)
    if item.kind != "crystal" and item.atoms.pbc.any():
        msg = f"{where} is called {item.kind} but is periodic: set pbc to False"
        raise FitError(msg)


def checked(
    data: Sequence[LabelledStructure], symbols: Sequence[str]
) -> tuple[list[LabelledStructure], tuple[str, ...], dict[str, float]]:
    """Return the data sorted by id without duplicates, the ids left out, and the energy of each free atom.

    Raises
    ------
    FitError
        If a label is not finite or has the wrong shape, an id occurs twice, labels contradict each other,
        there is not exactly one isolated atom per species, or there is nothing but isolated atoms.
    """
    items = sorted(data, key=lambda item: item.id)
    wanted = set(symbols)
    kept: list[LabelledStructure] = []
    duplicates: list[str] = []
    seen: dict[str, LabelledStructure] = {}
    for previous, item in zip([None, *items], items, strict=False):
        if previous is not None and previous.id == item.id:
            msg = f"the id {item.id!r} occurs more than once in the training data: ids must be unique"
            raise FitError(msg)
        _check_one(item, wanted)
        if item.kind == "isolated":
            kept.append(item)
            continue
        key = structure_hash(item.atoms)
        twin = seen.get(key)
        if twin is None:
            seen[key] = item
            kept.append(item)
        elif abs(twin.energy - item.energy) > CONTRADICTION * len(item.atoms):
            msg = (
                f"{twin.id!r} and {item.id!r} are the same structure, but their energies differ by "
                f"{abs(twin.energy - item.energy):.4g} eV: they were labelled with different settings"
            )
            raise FitError(msg)
        else:
            duplicates.append(item.id)
    e0: dict[str, float] = {}
    for item in kept:
        if item.kind == "isolated":
            symbol = item.atoms.get_chemical_symbols()[0]
            if symbol in e0:
                msg = (
                    f"there are two isolated atoms of {symbol} in the training data (the second is "
                    f"{item.id!r})"
                )
                raise FitError(msg)
            e0[symbol] = float(item.energy)
    missing = sorted(wanted - set(e0))
    if missing:
        msg = (
            f"no isolated atom of {', '.join(missing)} in the training data: label one, it is the zero of "
            "energy"
        )
        raise FitError(msg)
    if len(kept) == len(e0):
        msg = "the training data hold only isolated atoms: label dimers or crystals first"
        raise FitError(msg)
    return kept, tuple(duplicates), e0


def pool(
    data: Sequence[LabelledStructure], unlabelled: Sequence[Atoms], symbols: Sequence[str]
) -> tuple[list[str], list[Atoms]]:
    """Return the structures that sparse points are chosen from, with names for messages.

    Without `unlabelled` these are the data in their order. Else they are in an order that depends neither on who has a
    label nor on how they are given, and every structure is there once: the same structures give the same sparse
    points, whichever of them are labelled (Allen and Bartók 2022, Fig. 4a).

    Raises
    ------
    FitError
        If a structure without label is empty, not finite or has a species that the fit has not.
    """
    if not unlabelled:
        return [item.id for item in data], [item.atoms for item in data]
    found = {structure_hash(item.atoms): (item.id, item.atoms) for item in data}
    for number, atoms in enumerate(unlabelled, 1):
        name = f"{number} of those without label"
        _check_atoms(f"structure {name}", atoms, set(symbols))
        found.setdefault(structure_hash(atoms), (name, atoms))
    ordered = [found[key] for key in sorted(found)]
    return [name for name, _ in ordered], [atoms for _, atoms in ordered]
