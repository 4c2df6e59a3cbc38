"""Labelled structures of a group: extended XYZ with the keys of any community, ASE's databases, outputs of codes.

Three conventions are in use for extended XYZ, told apart by what stands before the names: ``REF_energy``,
``REF_forces``, ``REF_stress`` or ``REF_virial`` (MACE, and what gapfactory writes), ``dft_energy``, ``dft_force``,
``dft_virial`` (published GAP sets), and bare ``energy``, ``forces``, ``stress``, ``virial`` (ASE, NequIP, QUIP). The
first that all structures have is read, because bare names are where programs also write predictions.

Where a code gives a free energy (smeared occupations), it is the energy that forces and stress are derivatives of, and
is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.extxyz import CONFIG_TYPE_KEY, ID_KEY, LabelledFrame
from gapfactory.io.foreign import finite_structure, read_extended_xyz, readable, refuse_long_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["LabelledData", "read_labelled", "read_partly_labelled"]

#: What may stand before the names, in the order in which they are looked for.
_PREFIXES: Final = ("REF_", "dft_", "")
_ENERGY: Final = ("free_energy", "energy")
_FORCES: Final = ("forces", "force")
_STRESS: Final = ("stress",)
_VIRIAL: Final = ("virial", "virials")
#: Keys of a structure that say how it was labelled.
_METHOD_KEYS: Final = ("functional", "xc", "method", "level_of_theory", "theory", "code", "calculator")
#: In outputs of codes: what says functional, cutoff and data sets, by the name it gets here.
_METHOD_LINES: Final = (
    ("functional", re.compile(r"using functional\s*:\s*(.+)")),  # CASTEP
    ("cutoff", re.compile(r"plane wave basis set cut-off\s*:\s*(.+)")),
    ("functional", re.compile(r"Exchange-correlation\s*=\s*(.+)")),  # Quantum ESPRESSO
    ("cutoff", re.compile(r"kinetic-energy cutoff\s*=\s*(.+)")),
    ("cutoff", re.compile(r"^\s*ENCUT\s*=\s*([\d.]+)", re.MULTILINE)),  # VASP, OUTCAR
    ("data", re.compile(r"TITEL\s*=\s*(.+)")),
    ("cutoff", re.compile(r'name="(?:ENCUT|ENMAX)">\s*([\d.]+)')),  # VASP, vasprun.xml
    ("data", re.compile(r"<c>\s*(PAW.+?)\s*</c>")),
    # "--" is the functional of the data sets
    ("functional", re.compile(r'type="string" name="GGA">\s*([^\s<-]+)')),
    ("functional", re.compile(r"^\s*xc:\s*(.+)", re.MULTILINE)),  # GPAW, to version 25
    ("functional", re.compile(r"^\s*xc=XC\(name='([^']+)'", re.MULTILINE)),  # from 26 on
    ("cutoff", re.compile(r"^Cutoff:\s*(.+)", re.MULTILINE)),
    ("functional", re.compile(r"^\s+ixc\s+(\S+)", re.MULTILINE)),  # ABINIT
    ("cutoff", re.compile(r"^\s+ecut\s+(\S+ Hartree)", re.MULTILINE)),
)
#: In a log of GPAW from version 26 on, of which ASE gives the extrapolated energy alone.
_FREE_ENERGY: Final = re.compile(r"^\s*Free energy:\s*(-?[\d.]+)", re.MULTILINE)
#: Formats of ASE that hold labels.
_FORMATS: Final = frozenset(
    {
        "extxyz",
        "vasp-xml",
        "vasp-out",
        "castep-castep",
        "espresso-out",
        "gpaw-out",
        "gpaw-log",
        "abinit-out",
        "aims-output",
        "traj",
    }
)
#: The settings stand near the start of an output, which may be gigabytes long.
_HEAD: Final = 2_000_000


@dataclass(frozen=True)
class LabelledData:
    """What was read.

    Attributes
    ----------
    frames
        Structures with energies (eV), forces (eV/Å) and stresses (eV/Å^3, ASE's sign).
    keys
        By quantity, the key it was read from.
    methods : (len(frames),)
        What the data say of how each was labelled; empty where they say nothing.
    notes
        What a person should know.
    """

    frames: tuple[LabelledFrame, ...]
    keys: dict[str, str]
    methods: tuple[str, ...]
    notes: tuple[str, ...]


def read_labelled(path: Path | str, prefix: str | None = None) -> LabelledData:
    """Read labelled structures: ``.xyz``, ``.extxyz``, ASE's ``.db``, or an output that ASE reads.

    Parameters
    ----------
    path
        The file.
    prefix
        What stands before the names of the labels, e.g. ``"REF_"``, ``"PBE_"``, or ``""`` for none. None: the first of
        the usual ones that every structure has.

    Raises
    ------
    InputError
        There is no file, it cannot be read, a structure has no energy, or a label has the wrong shape.
    """
    path = Path(path)
    images = _images(path)
    values = [_values(atoms) for atoms in images]
    chosen = _prefix(path, values, prefix)
    notes: list[str] = []
    keys: dict[str, str] = {}
    frames = []
    for number, (atoms, known) in enumerate(zip(images, values, strict=True), 1):
        frames.append(_frame(path, number, atoms, known, chosen, keys))
    other = [
        p or "bare names" for p in _PREFIXES if p != chosen and any(_find(v, p, _ENERGY) for v in values)
    ]
    if other:
        notes.append(f"energies under {' and '.join(other)} were passed over; name a prefix to take them")
    for what in ("forces", "stress"):
        without = sum(getattr(frame, what) is None for frame in frames)
        if without:
            notes.append(f"{without} of {len(frames)} structures have no {what}")
    output = "" if path.suffix in {".xyz", ".extxyz", ".db"} else _method_of_output(path)
    methods = tuple(output or _method_of(atoms) for atoms in images)
    return LabelledData(tuple(frames), keys, methods, tuple(notes))


def read_partly_labelled(
    path: Path, prefix: str | None = None
) -> list[tuple[str, Atoms, LabelledFrame | None]]:
    """Return name, structure and label, or None, of the structures of a file that `read_labelled` reads.

    Raises
    ------
    InputError
        As `read_labelled`, but for structures without energies, unless a prefix is given that none has.
    """
    from ase import Atoms as AseAtoms

    images = _images(path)
    values = [_values(atoms) for atoms in images]
    candidates = _PREFIXES if prefix is None else (prefix,)
    counts = {p: sum(_find(v, p, _ENERGY) is not None for v in values) for p in candidates}
    chosen = max(counts, key=lambda p: counts[p])
    if prefix is not None and not counts[prefix]:
        _prefix(path, values, prefix)
    found: list[tuple[str, Atoms, LabelledFrame | None]] = []
    for number, (atoms, known) in enumerate(zip(images, values, strict=True), 1):
        frame = None
        if _find(known, chosen, _ENERGY) is not None:
            frame = _frame(path, number, atoms, known, chosen, {})
        bare = AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        found.append((_name(atoms, number), bare, frame))
    return found


def _images(path: Path) -> list[Atoms]:
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    with readable(path):
        if path.suffix == ".db":
            images = list(_rows(path))
        elif path.suffix in {".xyz", ".extxyz"}:
            with path.open(encoding="utf-8") as stream:
                images = read_extended_xyz(stream, path)
        else:
            try:
                kind = _format(path)
            except UnknownFileTypeError:
                kind = ""
            if kind not in _FORMATS:
                raise InputError(
                    f"{path}: labels are read from extended XYZ (.xyz, .extxyz), databases of ASE (.db) and outputs "
                    "that ASE reads (VASP's vasprun.xml and OUTCAR, CASTEP, pw.x, GPAW, ABINIT, FHI-aims)"
                )
            if kind == "castep-castep":
                refuse_long_lines(path)
            images = list(iread(path, index=":", format=kind))
            if kind == "gpaw-log":
                _set_free_energies(path, images)
    if not images:
        raise InputError(f"{path} holds no structure")
    return [finite_structure(image, f"{path}: structure {number}") for number, image in enumerate(images, 1)]


def _format(path: Path) -> str:
    """Return ASE's name of a file's format, by what it holds."""
    from ase.io.formats import filetype

    with path.open("rb") as stream:
        # ASE goes by the name first, and ABINIT's own is that of an input there
        if b" of ABINIT" in stream.read(200):
            return "abinit-out"
    return str(filetype(str(path)))


def _set_free_energies(path: Path, images: Sequence[Atoms]) -> None:
    """Add the energies that forces are derivatives of to what ASE reads of a log of GPAW."""
    energies = _FREE_ENERGY.findall(path.read_text(encoding="utf-8"))
    if len(energies) != len(images):
        raise InputError(
            f"{path} has {len(energies)} free energies for {len(images)} structures: is it cut off?"
        )
    for atoms, energy in zip(images, energies, strict=True):
        atoms.calc.results["free_energy"] = float(energy)


def _rows(path: Path) -> Iterator[Atoms]:
    from ase.db import connect

    with connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            yield atoms


def _values(atoms: Atoms) -> dict[str, tuple[str, Any]]:
    """Return everything that may be a label, by its name in small letters, with the name as it is written."""
    results: Mapping[str, Any] = getattr(atoms.calc, "results", {}) or {}
    found: dict[str, Any] = {**atoms.info, **atoms.arrays, **results}
    return {key.lower(): (key, value) for key, value in found.items() if value is not None}


def _find(values: Mapping[str, tuple[str, Any]], prefix: str, names: Sequence[str]) -> tuple[str, Any] | None:
    return next((values[key] for name in names if (key := (prefix + name).lower()) in values), None)


def _prefix(path: Path, values: Sequence[Mapping[str, tuple[str, Any]]], given: str | None) -> str:
    """Return what stands before the names."""
    candidates = _PREFIXES if given is None else (given,)
    counts = {p: sum(_find(v, p, _ENERGY) is not None for v in values) for p in candidates}
    for p, count in counts.items():
        if count == len(values):
            return p
    best = max(counts, key=lambda p: counts[p])
    if counts[best] == 0:
        seen = sorted({key for v in values for key, _ in v.values() if "energy" in key.lower()})
        raise InputError(
            f"{path}: no structure has {' or '.join(f'{p}energy' for p in candidates)}; "
            + (f"name the prefix of one of {', '.join(seen)}" if seen else "is this a labelled set?")
        )
    missing = next(i for i, v in enumerate(values, 1) if _find(v, best, _ENERGY) is None)
    raise InputError(
        f"{path}: structure {missing} has no {best}energy, as {len(values) - counts[best]} of {len(values)}: label "
        "it or take it out"
    )


def _frame(
    path: Path,
    number: int,
    atoms: Atoms,
    values: Mapping[str, tuple[str, Any]],
    prefix: str,
    keys: dict[str, str],
) -> LabelledFrame:
    from ase import Atoms as AseAtoms

    where = f"{path}: structure {number}"

    def label(
        what: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> NDArray[np.float64] | None:
        found = _find(values, prefix, names)
        if found is None:
            return None
        keys.setdefault(what, found[0])
        try:
            value = np.asarray(found[1], dtype=float)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {found[0]} is not made of numbers: {error}") from error
        if value.shape not in shapes or not np.isfinite(value).all():
            wanted = " or ".join(map(str, shapes))
            raise InputError(f"{where}: {found[0]} of shape {value.shape} must be finite, of shape {wanted}")
        return value

    energy = label("energy", _ENERGY, [(), (1,)])
    if energy is None:
        raise InputError(f"{where} has no {prefix}energy")
    forces = label("forces", _FORCES, [(len(atoms), 3)])
    tensors = [(3, 3), (9,), (6,)]
    stress = label("stress", _STRESS, tensors)
    virial = label("virial", _VIRIAL, [(3, 3), (9,)]) if stress is None else None
    periodic = bool(atoms.pbc.all())
    if periodic and atoms.cell.rank != 3:
        raise InputError(
            f"{where} is periodic in three directions and has no cell of three vectors: give it one"
        )
    if virial is not None and periodic:
        stress = -virial / atoms.get_volume()
    return LabelledFrame(
        id=_name(atoms, number),
        atoms=AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        energy=float(energy.reshape(-1)[0]),
        forces=forces,
        # of a cluster or a slab nothing is a stress that a fit could use
        stress=None if stress is None or not periodic else _voigt(where, stress),
        config_type=str(atoms.info.get(CONFIG_TYPE_KEY, "crystal")),
    )


def _name(atoms: Atoms, number: int) -> str:
    return str(atoms.info.get(ID_KEY, atoms.info.get("name", number)))


def _voigt(where: str, stress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the six components in ASE's order of a tensor in any shape."""
    if stress.shape == (6,):
        return stress
    matrix = stress.reshape(3, 3)
    largest = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > 1e-3 * max(largest, 1e-6):
        raise InputError(
            f"{where}: its stress or virial is not symmetric, {matrix.tolist()}: are these nine numbers one?"
        )
    even = 0.5 * (matrix + matrix.T)
    return even[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]


def _method_of(atoms: Atoms) -> str:
    known = {str(key).lower(): value for key, value in atoms.info.items()}
    return ", ".join(f"{key} {known[key]}" for key in _METHOD_KEYS if key in known)


def _method_of_output(path: Path) -> str:
    """Return what an output says of functional and cutoff; empty where nothing that is known here."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD).decode("utf-8", "replace")
    found = [
        (name, " ".join(match.group(1).split("!")[0].split()))
        for name, line in _METHOD_LINES
        if (match := line.search(head))
    ]
    return ", ".join(f"{name} {text}" for name, text in found)
