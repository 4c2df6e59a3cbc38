"""Peak memory and time of a fit before it starts, from counts alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, pi
from typing import TYPE_CHECKING

from gapfactory.errors import InputError
from gapfactory.potentials.gap.backends import usable_cores
from gapfactory.potentials.gap.solve.design import BLOCK_ROWS
from gapfactory.potentials.gap.terms import SpeciesLike, Term, terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.potentials.gap.settings import GapSettings

__all__ = ["LARGEST_CROSS", "MemoryEstimate", "estimate_memory"]

#: gap_fit counts derivatives in 32-bit integers
LARGEST_CROSS = 2**31 - 1
#: measured on one core with the quippy 0.10.3 wheel: seconds per multiply-add of the covariance loop, and per
#: pair of a derivative and a sparse point, which dominates the two-body and three-body terms
PER_OPERATION = 0.8e-9
PER_PAIR = 2.3e-8
#: the built-in engine, measured likewise on a core of 50 GFlop/s: seconds per floating-point operation of QR, per
#: multiply-add of the SOAP rows, and per row entry of the two-body and three-body terms
QR_OPERATION = 2.2e-11
SOAP_OPERATION = 1.5e-11
PAIR_ENTRY = 2.0e-9
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
        CPU seconds of one pass over the data, which is nearly all of the fit.
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
        _count(term, n_atoms, volume_per_atom, len(species), settings) for term in terms(species, settings)
    ]
    if settings.backend == "native":
        return _native(counts, n_targets, settings)
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


@dataclass(frozen=True)
class _Count:
    """Of one term: instances of its descriptor, atoms each depends on, and sparse points."""

    name: str
    stage: int
    instances: float
    atoms: float
    dimension: int
    points: int


def _count(
    term: Term, n_atoms: float, volume_per_atom: float, n_species: int, settings: GapSettings
) -> _Count:
    # Minus one: around an atom the volume of one atom holds no other.
    neighbours = max(0.0, 4.0 / 3.0 * pi * term.cutoff**3 / volume_per_atom - 1.0)
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
    return _Count(term.name, term.stage, instances, depends, _dimensions(term, n_species, settings), points)


def _native(counts: Sequence[_Count], n_targets: int, settings: GapSettings) -> MemoryEstimate:
    threads = settings.program.fit_threads or usable_cores()
    n = sum(c.points for c in counts) + 1
    triangle = 8.0 * n**2
    leaves = max(1.0, n_targets / max(BLOCK_ROWS, n))
    # A block exists as rows of the engine, scaled, and column-major; a thread works on one and on its triangle.
    busy = threads * (triangle + 3 * 8.0 * n * BLOCK_ROWS)
    waiting = (threads + 2 + log2(leaves)) * triangle
    covariance_bytes = max(busy + waiting, 8 * triangle)
    descriptor_bytes = sum(8.0 * c.dimension * c.instances for c in counts if c.stage == 2)
    cpu_s = 2.0 * n**2 * n_targets * 4 / 3 * QR_OPERATION
    for c in counts:
        if c.stage == 2:
            cpu_s += 3 * c.instances * c.atoms * c.dimension * c.points * SOAP_OPERATION
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
