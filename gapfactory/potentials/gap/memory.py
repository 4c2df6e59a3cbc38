"""Peak memory and time of a `gap_fit` run before it starts, from counts alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

from gapfactory.errors import InputError
from gapfactory.potentials.gap.terms import SpeciesLike, Term, terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.potentials.gap.settings import GapSettings

__all__ = ["LARGEST_CROSS", "MemoryEstimate", "estimate_memory"]

#: the program counts derivatives in 32-bit integers
LARGEST_CROSS = 2**31 - 1
#: measured on one core with the quippy 0.10.3 wheel: seconds per multiply-add of the covariance loop, and per
#: pair of a derivative and a sparse point, which dominates the two-body and three-body terms
PER_OPERATION = 0.8e-9
PER_PAIR = 2.3e-8


@dataclass(frozen=True)
class MemoryEstimate:
    """What a fit will need.

    Attributes
    ----------
    peak_bytes
        Peak memory of the program.
    descriptor_bytes
        Of that, descriptors and their derivatives.
    covariance_bytes
        Of that, the linear system.
    n_targets
        Energies, force components and virial components.
    n_cross
        Derivatives of each term, by its name.
    cpu_s
        CPU seconds of the covariance loop, which is nearly all of the fit.
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

    Open structures such as diamond have fewer neighbours within the three-body cutoff than that.

    Every descriptor is stored with 3 derivatives per atom it depends on for forces and 6 more for virials;
    the linear system with its factorisation is held twice. Species are taken in equal shares.

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
    share = 1.0 / len(species)
    per_cross = 3 * forces + 6 * virials
    n_targets = round(n_structures + 3 * n_atoms * forces + 6 * n_structures * virials)
    descriptor_bytes = 0.0
    cpu_s = 0.0
    n_sparse = 0
    n_cross: dict[str, float] = {}
    for term in terms(species, settings):
        # Minus one: around an atom the volume of one atom holds no other.
        neighbours = max(0.0, 4.0 / 3.0 * pi * term.cutoff**3 / volume_per_atom - 1.0)
        d = _dimensions(term, len(species), settings)
        if term.stage == 0:
            same = term.numbers[0] == term.numbers[1]
            count, depends = n_atoms * neighbours * share**2 * (1 if same else 2), 2.0
            points = settings.two_body.n_sparse
        elif term.stage == 1:
            same = term.numbers[1] == term.numbers[2]
            # The program stores every pair of neighbours twice.
            pairs = neighbours * max(0.0, neighbours - 1.0) * share**2 * (1 if same else 2)
            count, depends = n_atoms * share * pairs, 3.0
            points = settings.three_body.n_sparse
        else:
            count, depends = n_atoms * share, neighbours + 1.0
            points = settings.soap.n_sparse
        n_cross[term.name] = count * depends * per_cross
        descriptor_bytes += 8.0 * d * (count + n_cross[term.name])
        cpu_s += points * (count + n_cross[term.name]) * (d * PER_OPERATION + PER_PAIR)
        n_sparse += points
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
