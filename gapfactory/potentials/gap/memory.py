"""Peak memory and time of a fit, and time of an evaluation, before anything runs: from counts alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2, pi
from typing import TYPE_CHECKING

from gapfactory.errors import InputError
from gapfactory.potentials.gap.backends import usable_cores
from gapfactory.potentials.gap.solve.design import BLOCK_ROWS
from gapfactory.potentials.gap.terms import SpeciesLike, Term, terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.potentials.gap.settings import GapSettings

__all__ = ["LARGEST_CROSS", "MemoryEstimate", "estimate_memory", "evaluation_time", "load_time"]

#: gap_fit counts derivatives in 32-bit integers
LARGEST_CROSS = 2**31 - 1
#: measured on one core with the quippy 0.10.3 wheel: seconds per multiply-add of the covariance loop, and per
#: pair of a derivative and a sparse point, which dominates the two-body and three-body terms
PER_OPERATION = 0.8e-9
PER_PAIR = 2.3e-8
#: all below: the built-in engine, CPU seconds of a core with AVX-512 that multiplies matrices at 60 to 80 GFlop/s.
#: A floating-point operation of QR, merges included, and the solution of one system by the cube of its size
QR_OPERATION = 3.2e-11
SOLVE_OPERATION = 1.0e-10
#: SOAP rows: a centre; and of each of its rows, an element of the descriptor and that times a sparse point
ROWS_CENTRE, ROWS_ELEMENT, ROWS_OPERATION = 2.0e-5, 3.5e-9, 2.8e-11
#: an entry of the two-body and three-body rows
PAIR_ENTRY = 2.0e-9
#: evaluation: a pair in the neighbour list and in the two-body term; a triplet, and that times a sparse point
LIST_PAIR, PAIR, TRIPLET, TRIPLET_POINT = 1.5e-8, 1.0e-8, 3.0e-8, 3.8e-10
#: evaluation, SOAP: a neighbour, and that times an expansion coefficient; a point times an element of the descriptor
NEIGHBOUR, COEFFICIENT, KERNEL = 1.6e-7, 3.0e-10, 5.7e-11
#: the variance: a pair of sparse points
VARIANCE = 3.1e-11
#: a number in the files of a potential, read and checked
READ = 6.5e-7
#: memory of the process itself with everything imported and compiled, bytes
PROCESS = 0.3e9


@dataclass(frozen=True)
class MemoryEstimate:
    """What a fit will need.

    Attributes
    ----------
    peak_bytes
        Peak memory of the process that fits.
    descriptor_bytes
        Of that, descriptors: with their derivatives in `gap_fit`, for the choice of SOAP's sparse points else.
    covariance_bytes
        Of that, the linear system.
    n_targets
        Energies, force components and virial components.
    n_cross
        Derivatives of each term, by its name; the native backend stores none and states none.
    cpu_s
        CPU seconds of the rows and of all solutions, which are nearly all of the fit.
    """

    peak_bytes: float
    descriptor_bytes: float
    covariance_bytes: float
    n_targets: int
    n_cross: Mapping[str, float]
    cpu_s: float

    @property
    def too_many_derivatives(self) -> tuple[str, ...]:
        """Names of the terms whose derivatives overflow the program's counters."""
        return tuple(name for name, count in self.n_cross.items() if count > LARGEST_CROSS)


def _dimensions(term: Term, n_species: int, settings: GapSettings) -> int:
    if term.stage < 2:
        return (1, 3)[term.stage]
    channels = n_species * settings.soap.n_max
    return channels * (channels + 1) // 2 * (settings.soap.l_max + 1) + 1


def estimate_memory(
    *,
    n_structures: int,
    atoms_per_structure: float,
    volume_per_atom: float,
    species: Sequence[SpeciesLike],
    settings: GapSettings,
    forces: bool = True,
    virials: bool = True,
) -> MemoryEstimate:
    """Return the memory and time that a fit of crystals needs, assuming a uniform density.

    Open structures such as diamond have fewer neighbours within the three-body cutoff than that. Species are
    taken in equal shares.

    `gap_fit` stores every descriptor with 3 derivatives per atom it depends on for forces and 6 more for virials,
    and holds the linear system with its factorisation twice. The native backend holds a few triangles of
    (sparse points)^2 numbers and one block of rows for each thread; the SOAP vectors of all atoms, from which
    sparse points are chosen, are all that grows with the data.

    Parameters
    ----------
    atoms_per_structure
        Mean number of atoms.
    volume_per_atom
        Mean, A^3.

    Raises
    ------
    InputError
        If a number is not positive.
    """
    if min(n_structures, atoms_per_structure, volume_per_atom) <= 0:
        msg = (
            f"need positive numbers, got {n_structures} structures of {atoms_per_structure} atoms, "
            f"{volume_per_atom} A^3"
        )
        raise InputError(msg)
    n_atoms = n_structures * atoms_per_structure
    n_targets = round(n_structures + 3 * n_atoms * forces + 6 * n_structures * virials)
    counts = [
        # A small set has fewer environments than points are asked for.
        replace(c, points=min(c.points, max(1, round(c.instances))))
        for c in _counts(n_atoms, volume_per_atom, species, settings)
    ]
    if settings.backend == "native":
        return _native(counts, n_targets, atoms_per_structure, settings)
    per_cross = 3 * forces + 6 * virials
    descriptor_bytes = 0.0
    cpu_s = 0.0
    n_cross: dict[str, float] = {}
    for c in counts:
        n_cross[c.name] = c.instances * c.atoms * per_cross
        descriptor_bytes += 8.0 * c.dimension * (c.instances + n_cross[c.name])
        cpu_s += c.points * (c.instances + n_cross[c.name]) * (c.dimension * PER_OPERATION + PER_PAIR)
    n_sparse = sum(c.points for c in counts)
    target_by_sparse = 8.0 * n_sparse * n_targets
    first = descriptor_bytes + target_by_sparse
    second = 4 * target_by_sparse + 3 * 8.0 * n_sparse**2
    return MemoryEstimate(
        peak_bytes=max(first, second),
        descriptor_bytes=descriptor_bytes,
        covariance_bytes=second,
        n_targets=n_targets,
        n_cross=n_cross,
        cpu_s=cpu_s,
    )


def evaluation_time(
    *,
    volume_per_atom: float,
    species: Sequence[SpeciesLike],
    settings: GapSettings,
    uncertainty: bool = False,
) -> float:
    """Return the CPU seconds per atom of one energy, forces and stress by the built-in engine.

    Parameters
    ----------
    volume_per_atom
        Mean, A^3.
    uncertainty
        Whether the potential also says how well it knows each atom.
    """
    counts = _counts(1.0, volume_per_atom, species, settings)
    pairs = _neighbours(max(c.cutoff for c in counts), volume_per_atom)
    seconds = soap = LIST_PAIR * pairs
    for c in counts:
        if c.stage == 0:
            seconds += c.instances * PAIR
        elif c.stage == 1:
            seconds += c.instances * (TRIPLET + c.points * TRIPLET_POINT)
        else:
            coefficients = settings.soap.n_max * (settings.soap.l_max + 1) ** 2
            centre = (c.atoms - 1.0) * (NEIGHBOUR + coefficients * COEFFICIENT)
            centre += c.points * c.dimension * KERNEL
            seconds += c.instances * centre
            soap += c.instances * (centre + c.points**2 * VARIANCE)
    return seconds + soap * uncertainty


def load_time(species: Sequence[SpeciesLike], settings: GapSettings) -> float:
    """Return the CPU seconds of reading a potential from its files."""
    return READ * sum(c.points * c.dimension for c in _counts(1.0, 10.0, species, settings))


@dataclass(frozen=True)
class _Count:
    """Of one term: instances of its descriptor, atoms each depends on, and sparse points."""

    name: str
    stage: int
    instances: float
    atoms: float
    dimension: int
    points: int
    cutoff: float


def _counts(
    n_atoms: float, volume_per_atom: float, species: Sequence[SpeciesLike], settings: GapSettings
) -> list[_Count]:
    return [
        _count(term, n_atoms, volume_per_atom, len(species), settings) for term in terms(species, settings)
    ]


def _neighbours(cutoff: float, volume_per_atom: float) -> float:
    # Minus one: around an atom the volume of one atom holds no other.
    return max(0.0, 4.0 / 3.0 * pi * cutoff**3 / volume_per_atom - 1.0)


def _count(
    term: Term, n_atoms: float, volume_per_atom: float, n_species: int, settings: GapSettings
) -> _Count:
    neighbours = _neighbours(term.cutoff, volume_per_atom)
    share = 1.0 / n_species
    if term.stage == 0:
        same = term.numbers[0] == term.numbers[1]
        instances, depends = n_atoms * neighbours * share**2 * (1 if same else 2), 2.0
        points = settings.two_body.n_sparse
    elif term.stage == 1:
        same = term.numbers[1] == term.numbers[2]
        # Every pair of neighbours twice, as the program counts them.
        pairs = neighbours * max(0.0, neighbours - 1.0) * share**2 * (1 if same else 2)
        instances, depends = n_atoms * share * pairs, 3.0
        points = settings.three_body.n_sparse
    else:
        instances, depends = n_atoms * share, neighbours + 1.0
        points = settings.soap.n_sparse
    dimension = _dimensions(term, n_species, settings)
    return _Count(term.name, term.stage, instances, depends, dimension, points, term.cutoff)


def _native(
    counts: Sequence[_Count], n_targets: int, atoms_per_structure: float, settings: GapSettings
) -> MemoryEstimate:
    threads = settings.program.fit_threads or usable_cores()
    n = sum(c.points for c in counts) + 1
    triangle = 8.0 * n**2
    leaves = max(1.0, n_targets / max(BLOCK_ROWS, n))
    # A block exists as rows of the engine, scaled, and column-major; a thread works on one and on its triangle.
    busy = threads * (triangle + 3 * 8.0 * n * BLOCK_ROWS)
    waiting = (threads + 2 + log2(leaves)) * triangle
    covariance_bytes = max(busy + waiting, 8 * triangle)
    descriptor_bytes = sum(8.0 * c.dimension * c.instances for c in counts if c.stage == 2)
    cpu_s = 2.0 * n**2 * n_targets * QR_OPERATION + n**3 * SOLVE_OPERATION
    for c in counts:
        if c.stage == 2:
            # Images of one atom are summed before they meet the sparse points; six rows more are virials.
            rows = 3.0 * min(atoms_per_structure, c.atoms) + 7.0
            cpu_s += c.instances * (
                ROWS_CENTRE + rows * c.dimension * (ROWS_ELEMENT + c.points * ROWS_OPERATION)
            )
        else:
            cpu_s += c.instances * c.points * PAIR_ENTRY
    return MemoryEstimate(
        peak_bytes=PROCESS + max(descriptor_bytes, covariance_bytes),
        descriptor_bytes=descriptor_bytes,
        covariance_bytes=covariance_bytes,
        n_targets=n_targets,
        n_cross={},
        cpu_s=cpu_s,
    )
