"""Named phases that potentials are judged by and never trained on (Bernstein et al. 2019, Figs. 2 and 3).

Every structure is entered from published crystallography, with its source, and checked: multiplicities of the
Wyckoff sites, space group as spglib finds it, density and shortest contact. A phase whose coordinates could
not be checked against a source is left out and listed by `missing_phases`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from gapfactory._spglib import ask_spglib
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.analysis._phase_data import PhaseRecord
    from gapfactory.build.occupation import OccupiedCrystal

__all__ = [
    "NamedPhase",
    "elements_with_phases",
    "missing_phases",
    "named_phase",
    "named_phases",
    "names_of_phases",
    "occupied_phase",
    "primitive_cell",
]

_SYMPREC = 1e-3
#: atomic mass unit per Å^3 in g/cm^3
_DENSITY = 1.66053906660


@dataclass(frozen=True)
class NamedPhase:
    """A known crystal structure of one element.

    Parameters
    ----------
    name
        Unique name, e.g. ``"Si-diamond"``.
    label
        Label for figures, e.g. ``"β-tin"``.
    atoms
        Primitive cell, periodic, without calculator; a fresh copy for each call. Phases measured under
        pressure are scaled to about their volume without it (see the notes), so that curves are centred.
    space_group
        International Tables number.
    source
        Publication and compilation.
    notes
        Conditions and remarks.
    density
        g/cm^3 of the published cell.
    shortest_contact
        Shortest interatomic distance in the published cell, Å.
    """

    name: str
    label: str
    atoms: Atoms
    space_group: int
    source: str
    notes: str
    density: float
    shortest_contact: float


def primitive_cell(atoms: Atoms, symprec: float = _SYMPREC) -> tuple[Atoms, int]:
    """Return the standardised primitive cell and the space group number that spglib finds.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry, e.g. because two atoms coincide.
    """
    from ase import Atoms

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = ask_spglib("get_symmetry_dataset", cell, symprec=symprec)
    found = ask_spglib("standardize_cell", cell, to_primitive=True, no_idealize=False, symprec=symprec)
    if dataset is None or found is None:
        raise EvidenceError(f"no symmetry found for {atoms.symbols!s}; do two atoms coincide?")
    lattice, positions, numbers = found
    return Atoms(numbers, cell=lattice, scaled_positions=positions, pbc=True), int(dataset.number)


def _fresh(phase: NamedPhase) -> NamedPhase:
    """Return the phase with atoms that nobody else has."""
    return replace(phase, atoms=phase.atoms.copy())


@cache
def _build(record: PhaseRecord) -> NamedPhase:
    """Expand a record; refuse it when multiplicities or the space group disagree with what was published."""
    from ase.data import atomic_numbers, covalent_radii
    from ase.spacegroup import crystal
    from ase.spacegroup.spacegroup import SpacegroupError

    name = record.name
    try:
        atoms = crystal(
            [record.element] * len(record.sites),
            basis=[site[1:] for site in record.sites],
            spacegroup=record.space_group,
            setting=record.setting,
            cellpar=record.cell,
            onduplicates="error",
        )
    except SpacegroupError as error:
        raise EvidenceError(f"{name}: the sites cannot be expanded: {error}") from error
    # the expansion tags atoms with their site; a wrong coordinate shows as a wrong multiplicity
    multiplicities = [int((atoms.arrays["spacegroup_kinds"] == k).sum()) for k in range(len(record.sites))]
    published = list(record.multiplicities)
    if multiplicities != published:
        raise EvidenceError(f"{name}: sites expand to {multiplicities} atoms, the source says {published}")
    primitive, number = primitive_cell(atoms)
    if number != record.space_group:
        raise EvidenceError(
            f"{name}: spglib finds space group {number}, the source says {record.space_group}"
        )
    if len(primitive) != record.n_atoms:
        raise EvidenceError(
            f"{name}: {len(primitive)} atoms in the primitive cell, where its sites make {record.n_atoms}"
        )
    contact, radius = _shortest_contact(primitive), covalent_radii[atomic_numbers[record.element]]
    if contact < 1.6 * radius:
        raise EvidenceError(f"{name}: two atoms are {contact:.2f} Å apart, far below a bond of this element")
    density = float(primitive.get_masses().sum() / primitive.get_volume() * _DENSITY)
    primitive.set_cell(primitive.cell * record.start_volume_factor ** (1.0 / 3.0), scale_atoms=True)
    return NamedPhase(
        name=name,
        label=record.label,
        atoms=primitive,
        space_group=number,
        source=record.source,
        notes=record.notes,
        density=density,
        shortest_contact=contact,
    )


def _shortest_contact(atoms: Atoms) -> float:
    from ase.neighborlist import neighbor_list

    cutoff = 1.3 * (atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)
    while not len(distances := neighbor_list("d", atoms, cutoff)):
        cutoff *= 1.5
    return float(distances.min())


def elements_with_phases() -> tuple[str, ...]:
    """Return the symbols of the elements that have named phases, sorted."""
    from gapfactory.analysis._phase_data import RECORDS

    return tuple(sorted({r.element for r in RECORDS}))


def named_phases(element: str) -> tuple[NamedPhase, ...]:
    """Return the named phases of an element, in the order of the papers; empty when there are none.

    Raises
    ------
    EvidenceError
        A stored structure contradicts its own source (this is a defect of the data, not of the input).
    """
    from gapfactory.analysis._phase_data import RECORDS

    return tuple(_fresh(_build(r)) for r in RECORDS if r.element == element)


def given_phase(name: str, crystal: Atoms, source: str) -> NamedPhase:
    """Return a crystal that somebody knows as a phase, in its primitive cell.

    Parameters
    ----------
    name, source
        What it is called, and where it is from.
    crystal
        Any cell of it.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry, e.g. because two atoms coincide.
    """
    primitive, number = primitive_cell(crystal)
    return NamedPhase(
        name=name,
        label=name,
        atoms=primitive,
        space_group=number,
        source=source,
        notes="",
        density=float(primitive.get_masses().sum() / primitive.get_volume() * _DENSITY),
        shortest_contact=_shortest_contact(primitive),
    )


def named_phase(name: str) -> NamedPhase:
    """Return one phase by its full name, e.g. ``"Si-diamond"``; no other one is built.

    Raises
    ------
    EvidenceError
        No phase has this name.
    """
    from gapfactory.analysis._phase_data import RECORDS

    for record in RECORDS:
        if record.name == name:
            return _fresh(_build(record))
    raise EvidenceError(f"no named phase {name!r}; there are: {', '.join(r.name for r in RECORDS)}")


def occupied_phase(name: str) -> OccupiedCrystal:
    """Return a named phase as a crystal with sites, all full, in its published conventional cell.

    Sites are called as in the literature where the record knows it, else by Wyckoff symbol and number.

    Raises
    ------
    EvidenceError
        No phase has this name.
    """
    from gapfactory.analysis._phase_data import RECORDS
    from gapfactory.build.occupation import crystal_from_sites

    record = next((r for r in RECORDS if r.name == name), None)
    if record is None:
        raise EvidenceError(f"no named phase {name!r}; there are: {', '.join(r.name for r in RECORDS)}")
    labels = record.site_labels or ("",) * len(record.sites)
    return crystal_from_sites(
        record.space_group,
        record.cell,
        [
            (label or f"{site[0]}-{i + 1}", record.element, site[1:])
            for i, (label, site) in enumerate(zip(labels, record.sites, strict=True))
        ],
        setting=record.setting,
        source=record.source,
    )


def names_of_phases(element: str, *, most_atoms: int | None = None) -> tuple[str, ...]:
    """Return the names of the named phases of an element, in the same order; none is built.

    Parameters
    ----------
    most_atoms
        Leave out phases with more atoms in their primitive cell.
    """
    from gapfactory.analysis._phase_data import RECORDS

    return tuple(
        r.name for r in RECORDS if r.element == element and (most_atoms is None or r.n_atoms <= most_atoms)
    )


def missing_phases(element: str) -> dict[str, str]:
    """Return the phases the papers name for this element that are not offered, each with the reason."""
    from gapfactory.analysis._phase_data import MISSING

    return dict(MISSING.get(element, {}))
