"""Labels of files as fits take them: free atoms, dimers, crystals; clusters and slabs in a periodic box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from gapfactory.errors import InputError
from gapfactory.files.reading import unique_names
from gapfactory.potentials.gap.data import CONTRADICTION, LabelledStructure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ase import Atoms

    from gapfactory.io.extxyz import LabelledFrame
    from gapfactory.io.labelled import LabelledData

__all__ = ["TrainingFiles", "boxed", "kind_of_frame", "training_structures"]

#: What ``config_type`` calls a free atom, in small letters without anything but letters.
_FREE: Final = frozenset({"isolated", "isolatedatom", "freeatom", "atom"})


@dataclass(frozen=True)
class TrainingFiles:
    """Labels of files, ready for a fit.

    Attributes
    ----------
    structures
        As `fit_gap` takes them; their ids are unique.
    free_atoms
        Energy of the free atom of each element, eV.
    notes
        What a person should know.
    """

    structures: tuple[LabelledStructure, ...]
    free_atoms: dict[str, float]
    notes: tuple[str, ...]


def training_structures(
    data: Mapping[Path, LabelledData],
    *,
    cutoff: float,
    free_atoms: Mapping[str, float] | Literal["fitted"] | None = None,
) -> TrainingFiles:
    """Return the labels of files as a fit takes them.

    A single atom that is not periodic, or that ``config_type`` calls isolated, is a free atom; two that are not
    periodic are a dimer. What else is not periodic in a direction gets a box there that is wider than the potential
    reaches, which changes neither energy nor forces.

    Parameters
    ----------
    data
        What was read, by file.
    cutoff
        How far the potential reaches, Å.
    free_atoms
        Energies of free atoms, eV, by element, which come before those of the files; or ``"fitted"``: those that
        explain the energies of the other structures best, by least squares over their compositions.

    Raises
    ------
    InputError
        An element has no free atom, or two of different energy; or there is nothing else.
    """
    files = list(data)
    names = unique_names(files, [[frame.id for frame in data[file].frames] for file in files])
    frames = [frame for file in files for frame in data[file].frames]
    symbols = sorted({symbol for frame in frames for symbol in frame.atoms.get_chemical_symbols()})
    others: list[LabelledStructure] = []
    found: dict[str, float] = {}
    loose_ones = 0
    for name, frame in zip(names, frames, strict=True):
        kind = kind_of_frame(frame)
        if kind == "isolated":
            symbol = frame.atoms.get_chemical_symbols()[0]
            if abs(found.setdefault(symbol, frame.energy) - frame.energy) > CONTRADICTION:
                raise InputError(
                    f"{name}: the free atom of {symbol} has {frame.energy:.6g} eV here and {found[symbol]:.6g} eV "
                    "before: take one out"
                )
            continue
        loose = not frame.atoms.pbc.all()
        atoms = frame.atoms if kind == "dimer" or not loose else boxed(frame.atoms, cutoff)
        if kind == "dimer":
            atoms = atoms.copy()
            atoms.pbc = False
        loose_ones += kind == "crystal" and loose
        stress = None if loose or kind == "dimer" else frame.stress
        others.append(LabelledStructure(name, atoms, frame.energy, frame.forces, stress, kind))
    if not others:
        raise InputError("there are only free atoms: give structures with labels too")
    if free_atoms == "fitted":
        found = _least_squares(others, symbols)
    elif free_atoms is not None:
        found |= free_atoms
    missing = [symbol for symbol in symbols if symbol not in found]
    if missing:
        raise InputError(
            f"no free atom of {', '.join(missing)} is among the structures: it is the zero of energy. Add one "
            f"(config_type isolated_atom), name its energy (--free-atom {missing[0]}=...), or have it fitted "
            "(--free-atom fitted)"
        )
    free = [_free_atom(symbol, found[symbol]) for symbol in symbols]
    notes = [f"{loose_ones} structures that are not periodic were put into boxes"] if loose_ones else []
    return TrainingFiles((*free, *others), {symbol: found[symbol] for symbol in symbols}, tuple(notes))


def kind_of_frame(frame: LabelledFrame) -> Literal["isolated", "dimer", "crystal"]:
    """Return what a labelled structure is: a free atom, a dimer, or anything else."""
    word = "".join(c for c in frame.config_type.lower() if c.isalpha())
    free = not frame.atoms.pbc.any()
    if len(frame.atoms) == 1 and (free or word in _FREE):
        return "isolated"
    if len(frame.atoms) == 2 and (free or word == "dimer"):
        return "dimer"
    return "crystal"


def boxed(atoms: Atoms, cutoff: float) -> Atoms:
    """Return atoms in a cell whose images in the directions that were not periodic are beyond the cutoff."""
    result = atoms.copy()
    loose = [axis for axis in range(3) if not atoms.pbc[axis]]
    # two vacua of half the cutoff and a margin lie between images
    result.center(vacuum=0.5 * cutoff + 0.5, axis=loose)
    result.pbc = True
    return result


def _free_atom(symbol: str, energy: float) -> LabelledStructure:
    from ase import Atoms

    return LabelledStructure(f"free atom {symbol}", Atoms(symbol), energy, None, None, "isolated")


def _least_squares(structures: list[LabelledStructure], symbols: list[str]) -> dict[str, float]:
    """Return the energies of the elements whose sums are nearest to the energies per atom of structures, eV."""
    fractions = np.array(
        [
            [item.atoms.get_chemical_symbols().count(symbol) / len(item.atoms) for symbol in symbols]
            for item in structures
        ]
    )
    energies = np.array([item.energy / len(item.atoms) for item in structures])
    values = np.linalg.lstsq(fractions, energies, rcond=None)[0]
    return dict(zip(symbols, values.tolist(), strict=True))
