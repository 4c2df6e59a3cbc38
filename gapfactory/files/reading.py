"""Structures of several files, with their labels where they have any."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapfactory.io.labelled import read_partly_labelled
from gapfactory.io.structures import read_structures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.io.extxyz import LabelledFrame

__all__ = ["NamedStructure", "read_named", "unique_names"]


@dataclass(frozen=True)
class NamedStructure:
    """One structure of a file.

    Attributes
    ----------
    name
        Its name in the file, or its number there; with the file's name before it where that is needed to be unique.
    atoms
        The structure.
    label
        Energy, forces, stress that the file gives, or None.
    """

    name: str
    atoms: Atoms
    label: LabelledFrame | None


def unique_names(files: Sequence[Path], names: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of structures by file as one list in which none is twice.

    A name that is there twice gets its file's before it, and its place in the file where that does not help.
    """
    seen = Counter(name for of_file in names for name in of_file)
    longer = [
        [name if seen[name] == 1 else f"{file.stem}:{name}" for name in of_file]
        for file, of_file in zip(files, names, strict=True)
    ]
    seen = Counter(name for of_file in longer for name in of_file)
    return [
        name if seen[name] == 1 else f"{number}:{place}:{name}"
        for number, of_file in enumerate(longer, 1)
        for place, name in enumerate(of_file, 1)
    ]


def read_named(files: Sequence[Path], prefix: str | None = None) -> list[NamedStructure]:
    """Read the structures of files, in their order.

    Parameters
    ----------
    files
        What `read_labelled` reads; also CIF, SHELX ``.res`` and directories of these, which have no labels.
    prefix
        As for `read_labelled`.

    Raises
    ------
    InputError
        A file cannot be read, or no structure has a label with the prefix that is given.
    """
    read: list[list[tuple[str, Atoms, LabelledFrame | None]]] = []
    for path in files:
        bare = path.is_dir() or path.suffix in {".res", ".cif"}
        if bare:
            read.append([(one.id, one.atoms, None) for one in read_structures(path)])
        else:
            read.append(read_partly_labelled(path, prefix))
    names = iter(unique_names(files, [[name for name, _, _ in part] for part in read]))
    return [NamedStructure(next(names), atoms, label) for part in read for _, atoms, label in part]
