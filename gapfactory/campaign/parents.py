"""The crystals whose vibrations a campaign learns: what is known of them before anything was calculated."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod
from typing import TYPE_CHECKING, Final

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.build.nondiagonal import NondiagonalSet
    from gapfactory.build.vibration_frames import FrameSettings
    from gapfactory.campaign.model import Campaign

__all__ = ["FramePlan", "given_parent", "idealised", "place_on_path", "planned_frames", "require_parents"]


@dataclass(frozen=True)
class FramePlan:
    """Frames of one crystal.

    Attributes
    ----------
    labels
        How many are labelled for training, at most: a minimum is not known before the search is over.
    held_out
        How many are labelled for testing.
    sizes
        (frames, atoms of each, Å^3 per atom) of the training labels, by size; of a minimum as for its largest cell.
    """

    labels: int
    held_out: int
    sizes: tuple[tuple[int, int, float], ...]


#: Å: a relaxed cell has its atoms off their places by about a hundredth of an Å
_OFF_PLACE: Final = 0.03


def idealised(atoms: Atoms) -> Atoms | None:
    """Return the primitive cell of a relaxed structure with the symmetry that it nearly has; None where none is found.

    The orientation is the standard one.
    """
    import spglib
    from ase import Atoms as NewAtoms

    from gapfactory._spglib import quiet_spglib

    with quiet_spglib():
        found = spglib.standardize_cell(
            (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers),
            to_primitive=True,
            no_idealize=False,
            symprec=_OFF_PLACE,
        )
    if found is None:
        return None
    lattice, positions, numbers = found
    return NewAtoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)


def place_on_path(other: Atoms, eta: float) -> Atoms:
    """Return the cell on Bain's path that has the volume per atom of another crystal.

    Raises
    ------
    InputError
        The other crystal has several elements.
    """
    from gapfactory.build.bain import bain_cell

    symbols = set(other.get_chemical_symbols())
    if len(symbols) != 1:
        msg = f"Bain's path is that of an element, not of {', '.join(sorted(symbols))}"
        raise InputError(msg)
    return bain_cell(symbols.pop(), float(2.0 * other.get_volume() / len(other)) ** (1.0 / 3.0), eta)


def given_parent(campaign: Campaign, name: str) -> Atoms | None:
    """Return the primitive cell of a crystal as it is before the reference relaxes it; None for a minimum.

    Raises
    ------
    InputError
        Its structure cannot be read or used.
    EvidenceError
        It has no symmetry that can be found.
    """
    from gapfactory.analysis.force_constants import oriented_primitive_cell
    from gapfactory.analysis.phases import named_phase
    from gapfactory.build.prototypes import prototype_crystal
    from gapfactory.io.structure_text import given_crystals

    settings = campaign.vibration_settings
    parent = settings.parent(name)
    if parent is None:
        return None
    if parent.bain is not None:
        other = given_parent(campaign, parent.bain.of)
        if other is None:
            msg = f"{parent.bain.of} is a minimum of a search, which has no place on Bain's path before it is known"
            raise InputError(msg)
        return place_on_path(other, parent.bain.eta)
    if parent.structures is not None:
        given = given_crystals(parent.structures)
        if len(given) != 1:
            msg = f"{len(given)} structures, but a crystal is one: give a file for each"
            raise InputError(msg)
        found = _exact(given[0], settings.relax.symmetry_tolerance)
    elif parent.prototype is not None:
        if campaign.element is None:
            msg = f"prototype {parent.prototype} is that of an element: give a file where there is a composition"
            raise InputError(msg)
        found = prototype_crystal(campaign.element, parent.prototype)
    elif parent.phase is not None:
        found = named_phase(campaign.known_phase(parent.phase)).atoms
    else:
        msg = f"the structure of {parent.file} was not read with the campaign file"
        raise InputError(msg)
    return oriented_primitive_cell(found, settings.phonons.symmetry_tolerance)


def _exact(given: Atoms, tolerance: float) -> Atoms:
    """Return the primitive cell of a crystal with its symmetry exactly, where it lies: files round 1/3 to 0.3333.

    What obeys its symmetry but for rounding has several times the cells to be labelled, at the tolerance of phonons.
    """
    from ase.spacegroup.symmetrize import refine_symmetry

    from gapfactory._spglib import quiet_spglib
    from gapfactory.analysis.force_constants import oriented_primitive_cell

    found = oriented_primitive_cell(given, tolerance)
    with quiet_spglib():
        refine_symmetry(found, symprec=tolerance)
    return found


def planned_frames(campaign: Campaign, name: str) -> FramePlan:
    """Return how many frames of a crystal are labelled, and how large they are."""
    from gapfactory.build.nondiagonal import nondiagonal_cells
    from gapfactory.build.vibration_frames import frame_count

    settings = campaign.vibration_settings
    frames = settings.frames_of(name)
    crystal = given_parent(campaign, name)
    if crystal is None:
        # nothing is known of it: as many as are ever made
        most = min(settings.most_frames, 1 + frames.primitives + frames.variants * _most_cells(frames))
        atoms = settings.largest_minimum * lcm(*frames.supercells.divisions)
        return FramePlan(most, settings.held_out, ((most, atoms, 20.0),))
    cells = nondiagonal_cells(crystal, frames.supercells)
    labels = min(settings.most_frames, frame_count(cells, frames))
    return FramePlan(labels, settings.held_out, _sizes(crystal, cells, frames, labels))


def _sizes(
    crystal: Atoms, cells: NondiagonalSet, frames: FrameSettings, labels: int
) -> tuple[tuple[int, int, float], ...]:
    volume = float(crystal.get_volume()) / len(crystal)
    small = min(labels, 1 + frames.primitives)
    found = {len(crystal): small}
    rounds, rest = divmod(labels - small, len(cells.cells))
    for number, cell in enumerate(cells.cells):
        atoms = cell.size * len(crystal)
        found[atoms] = found.get(atoms, 0) + rounds + (number < rest)
    return tuple((n, atoms, volume) for atoms, n in sorted(found.items()) if n)


def _most_cells(frames: FrameSettings) -> int:
    """Return how many supercells a crystal without symmetry has, at most: one for each pair of q and -q."""
    a, b, c = frames.supercells.divisions
    # at the faces of the zone, and at Gamma, the two are one
    single = prod(2 - n % 2 for n in (a, b, c))
    return (a * b * c + single) // 2


def require_parents(campaign: Campaign) -> None:
    """Refuse crystals that cannot be used; each message names the key.

    Raises
    ------
    ValueError
        As said.
    """
    from gapfactory.analysis.vibrations import require_symmetric_grid
    from gapfactory.errors import GapFactoryError

    settings = campaign.vibration_settings
    _require_grids(campaign)
    if not settings.trained():
        msg = "vibrations needs a crystal to train on: give vibrations.parents, or vibrations.minima in a search"
        raise ValueError(msg)
    for name, parent in settings.parents.items():
        where = f"vibrations.parents.{name}"
        if name.startswith("minimum-"):
            msg = f"{where}: names that begin with 'minimum-' are those of the minima; take another"
            raise ValueError(msg)
        if parent.bain is not None:
            other = settings.parents.get(parent.bain.of)
            if other is None or other.bain is not None:
                known = sorted(n for n, p in settings.parents.items() if p.bain is None)
                msg = (
                    f"{where}.bain.of is {parent.bain.of!r}, which is none of {', '.join(known) or '(none)'}"
                )
                raise ValueError(msg)
        try:
            crystal = given_parent(campaign, name)
            if crystal is not None:
                require_symmetric_grid(crystal, settings.phonons)
        except (GapFactoryError, ValueError) as error:
            msg = f"{where}: {error}"
            raise ValueError(msg) from error
        foreign = set() if crystal is None else {*crystal.get_chemical_symbols()} - {*campaign.species_table}
        if foreign:
            msg = f"{where} holds {', '.join(sorted(foreign))}, the campaign {', '.join(campaign.species_table)}"
            raise ValueError(msg)


def _require_grids(campaign: Campaign) -> None:
    """Refuse grids of wave vectors that do not suit the k-points, or crystals that are not known yet."""
    settings, kpoints = campaign.vibration_settings, getattr(campaign.reference, "kpoint_grid", None)
    grid = settings.phonons.grid
    if settings.minima and settings.phonons.supercells == "non-diagonal" and len(set(grid)) > 1:
        msg = (
            f"vibrations.phonons.grid is {list(grid)}, but the symmetry of vibrations.minima is not known before: give "
            "three equal divisions, or set vibrations.phonons.supercells to diagonal"
        )
        raise ValueError(msg)
    if kpoints is None:
        return
    for name in settings.names():
        wanted = settings.divisions_of(name)
        if any(k % n for k, n in zip(kpoints, wanted, strict=True)):
            msg = (
                f"reference.kpoint_grid is {list(kpoints)}, but the cells of {name} share it only if it is a multiple "
                f"of {list(wanted)}, their grids of wave vectors: change it, or give reference.kpoint_density"
            )
            raise ValueError(msg)
