"""A Gaussian approximation potential as plain data: terms, sparse points, free-atom energies, core potential.

Nothing here computes an energy or touches a file. Names and defaults of the descriptors are those of QUIP
(A. P. Bartók and G. Csányi, Int. J. Quantum Chem. 115, 1051 (2015); QUIP's documentation of `distance_2b`,
`angle_3b`, `distance_Nb` and `soap`). Every option that changes a descriptor's value is a field or is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._arrays import ArrayData, as_array, check_positive
from gapfactory.potentials.gap._descriptor_strings import read_descriptor
from gapfactory.potentials.gap._options import Options, split_options
from gapfactory.potentials.gap.core import GlueType, PairCurve, PairTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "CURRENT_VERSION",
    "Descriptor",
    "GapModel",
    "GlueType",
    "PairCurve",
    "PairTable",
    "PairTerm",
    "SoapTerm",
    "Term",
    "TripletTerm",
    "empty_term",
    "parse_descriptor",
    "with_points",
]

#: gap_version written into files of our own: one that quippy 0.10.3 and later accept
CURRENT_VERSION = 1596837814


def _sparse(owner: Any, dimension: int) -> None:
    """Check what every term has: points, coefficients, cutoffs, scale."""
    points = as_array(owner, "points", (None, dimension))
    as_array(owner, "alphas", (len(points),))
    as_array(owner, "sparse_cutoffs", (len(points),))
    check_positive(owner, "cutoff", "transition_width", "delta")
    if not np.isfinite(owner.f0):
        msg = f"f0 is {owner.f0}, it must be finite"
        raise PotentialError(msg)


@dataclass(frozen=True, eq=False)
class PairTerm(ArrayData):
    """Two-body term: `distance_2b`, or `distance_Nb order=2`.

    Attributes
    ----------
    numbers
        The two atomic numbers as the descriptor names them.
    cutoff, transition_width
        Radius at which the cutoff function reaches zero and the width over which it does, A.
    theta
        Length of the squared-exponential kernel, A.
    delta, f0
        Scale and offset of the kernel, eV: k = (delta^2 exp(-d^2 / 2 theta^2) + f0^2) f_cut f_sparse.
    points
        (M, 1) sparse distances, A.
    alphas
        (M,) coefficients, 1/eV (energy = sum alpha k).
    sparse_cutoffs
        (M,) cutoff factor of every sparse point.
    command
        QUIP's descriptor string, verbatim.
    kind
        Which of QUIP's descriptors it is.
    compact_clusters
        Of `distance_Nb`: True if QUIP lists a pair from both sides, False if it lists it once.

    Arrays are C-contiguous float64 and must not be changed in place.
    """

    numbers: tuple[int, int]
    cutoff: float
    transition_width: float
    theta: float
    delta: float
    f0: float
    points: NDArray[np.float64]
    alphas: NDArray[np.float64]
    sparse_cutoffs: NDArray[np.float64]
    command: str
    kind: Literal["distance_2b", "distance_Nb"]
    compact_clusters: bool = True

    def __post_init__(self) -> None:
        _sparse(self, 1)
        check_positive(self, "theta")

    @property
    def dimension(self) -> int:
        """Length of a descriptor: 1."""
        return 1

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""
        return len(self.alphas)

    @property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """QUIP's permutation table (from 0): with two equal atoms the same single distance twice."""
        twice = self.kind == "distance_Nb" and self.numbers[0] == self.numbers[1]
        return ((0,), (0,)) if twice else ((0,),)


@dataclass(frozen=True, eq=False)
class TripletTerm(ArrayData):
    """Three-body term: `angle_3b`, or `distance_Nb order=3`.

    `angle_3b` has a centre and two neighbours; its descriptor is (r_ij + r_ik, (r_ij - r_ik)^2, r_jk).
    `distance_Nb` has three equal partners, sorted by atomic number; its descriptor is (r_12, r_13, r_23) and
    its kernel is summed over `permutations` and normalised.

    Attributes
    ----------
    numbers
        (centre, neighbour 1, neighbour 2) of `angle_3b`; the three sorted atomic numbers of `distance_Nb`.
    cutoff, transition_width
        A.
    theta
        (3,) lengths of the squared-exponential kernel, in the units of the descriptor.
    delta, f0, alphas, sparse_cutoffs, command, kind
        As in `PairTerm`.
    points
        (M, 3) sparse points.
    compact_clusters
        Of `distance_Nb`: True if two of the three distances within the cutoff make a triplet.
    """

    numbers: tuple[int, int, int]
    cutoff: float
    transition_width: float
    theta: NDArray[np.float64]
    delta: float
    f0: float
    points: NDArray[np.float64]
    alphas: NDArray[np.float64]
    sparse_cutoffs: NDArray[np.float64]
    command: str
    kind: Literal["angle_3b", "distance_Nb"]
    compact_clusters: bool = True

    def __post_init__(self) -> None:
        _sparse(self, 3)
        if not (as_array(self, "theta", (3,)) > 0.0).all():
            msg = f"theta is {self.theta.tolist()}, all three lengths must be above 0"
            raise PotentialError(msg)

    @property
    def dimension(self) -> int:
        """Length of a descriptor: 3."""
        return 3

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""
        return len(self.alphas)

    @property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """Orders of the three distances that are the same triplet (from 0), the identity first."""
        if self.kind == "angle_3b":
            return ((0, 1, 2),)
        return _permutations_of_distances(self.numbers)


@dataclass(frozen=True, eq=False)
class SoapTerm(ArrayData):
    """Smooth overlap of atomic positions around one species of centre.

    Attributes
    ----------
    number
        Atomic number of the centre.
    species
        Atomic numbers of the neighbours seen, in the order of the power spectrum's blocks.
    n_max, l_max
        Radial functions and highest degree.
    atom_sigma
        Width of the atoms' Gaussians, A.
    cutoff, transition_width
        A.
    central_weight
        Weight of the centre's own Gaussian.
    zeta
        Exponent of the kernel: k = delta^2 (p . p_sparse)^zeta f_sparse. QUIP leaves f0 out of it.
    normalise
        Whether power spectra have unit length.
    basis_error_exponent
        Fixes the extent of the radial basis: cutoff + atom_sigma sqrt(2 ln(10) basis_error_exponent).
    central_reference_all_species
        Whether the centre's Gaussian is part of every species' density.
    delta, f0
        Scale and offset, eV.
    points
        (M, d) sparse power spectra, d = n (n + 1) / 2 (l_max + 1) + 1 with n = n_max len(species).
    alphas, sparse_cutoffs, command
        As in `PairTerm`.
    """

    number: int
    species: tuple[int, ...]
    n_max: int
    l_max: int
    atom_sigma: float
    cutoff: float
    transition_width: float
    central_weight: float
    zeta: float
    normalise: bool
    basis_error_exponent: float
    central_reference_all_species: bool
    delta: float
    f0: float
    points: NDArray[np.float64]
    alphas: NDArray[np.float64]
    sparse_cutoffs: NDArray[np.float64]
    command: str
    kind: Literal["soap"] = "soap"

    def __post_init__(self) -> None:
        _sparse(self, self.dimension)
        check_positive(self, "atom_sigma", "zeta", "basis_error_exponent")

    @property
    def dimension(self) -> int:
        """Length of a power spectrum."""
        n = self.n_max * len(self.species)
        return n * (n + 1) // 2 * (self.l_max + 1) + 1

    @property
    def n_sparse(self) -> int:
        """Number of sparse points."""
        return len(self.alphas)

    @property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """QUIP's table of a kernel without permutations."""
        return ((0,),)


Term = PairTerm | TripletTerm | SoapTerm
AnyTerm = TypeVar("AnyTerm", bound=PairTerm | TripletTerm | SoapTerm)


@dataclass(frozen=True, eq=False)
class GapModel(ArrayData):
    """A whole potential.

    Attributes
    ----------
    terms
        In the order of the file.
    e0
        Energy of a free atom by atomic number, eV; an element that is not listed has 0.
    baseline
        Core potential that is added to the terms, or None.
    label
        Name of the terms in the file.
    root, potential_label
        Name of the outermost element and of the potential; empty where they are the label.
    attributes
        What the file states about its version besides gap_version (`svn_version` of old ones).
    gap_version
        Version of the program that wrote the file, seconds since 1970; 0 if the file states none.
    command_line
        gap_fit's command line, as stated in the file.
    training_data
        Training set that gap_fit copied into the file (`do_copy_at_file=T`), else empty.
    comments
        Comments of the XML, in order.
    """

    terms: tuple[Term, ...]
    e0: Mapping[int, float] = field(default_factory=dict)
    baseline: PairTable | None = None
    label: str = "GAP_gapfactory"
    root: str = ""
    potential_label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    gap_version: int = CURRENT_VERSION
    command_line: str = ""
    training_data: str = ""
    comments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.terms:
            msg = "a potential needs at least one term"
            raise PotentialError(msg)
        e0 = {int(z): float(energy) for z, energy in self.e0.items()}
        for z, energy in e0.items():
            if not (1 <= z <= 118 and np.isfinite(energy)):
                msg = f"e0 of element {z} is {energy}: give a finite energy (eV) for atomic numbers 1 to 118"
                raise PotentialError(msg)
        object.__setattr__(self, "e0", e0)

    @property
    def cutoff(self) -> float:
        """Longest range of any term and of the core potential, A."""
        longest = max(term.cutoff for term in self.terms)
        return longest if self.baseline is None else max(longest, self.baseline.cutoff)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers that the terms know, ascending."""
        found: set[int] = set()
        for term in self.terms:
            found.update((term.number, *term.species) if isinstance(term, SoapTerm) else term.numbers)
        return tuple(sorted(found))


@dataclass(frozen=True)
class Descriptor:
    """What a descriptor string says.

    Attributes
    ----------
    term
        Class of the term.
    values
        Its fields that the string fixes, by name.
    dimension
        Length of a descriptor.
    """

    term: type[PairTerm] | type[TripletTerm] | type[SoapTerm]
    values: Mapping[str, Any]
    dimension: int


def _permutations_of_distances(numbers: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    """Return the orders of (r_12, r_13, r_23) under exchange of equal atoms, in QUIP's sequence."""
    edges = list(combinations(range(3), 2))
    place = {edge: k for k, edge in enumerate(edges)} | {(b, a): k for k, (a, b) in enumerate(edges)}
    return tuple(
        tuple(place[order[a], order[b]] for a, b in edges)
        for order in permutations(range(3))
        if all(numbers[order[k]] == numbers[k] for k in range(3))
    )


_TERMS: dict[str, type[PairTerm] | type[TripletTerm] | type[SoapTerm]] = {
    "pair": PairTerm,
    "triplet": TripletTerm,
    "soap": SoapTerm,
}


def parse_descriptor(command: str, *, version: int = CURRENT_VERSION) -> Descriptor:
    """Read one of QUIP's descriptor strings.

    gap_fit's own options (`delta`, `n_sparse`, `covariance_type` ...) may stand in it; they are not read here.

    Parameters
    ----------
    command
        For instance `soap l_max=8 n_max=8 atom_sigma=0.75 cutoff=5 Z=14 n_species=1 species_Z={14}`.
    version
        gap_version of the file: two defaults changed over the years.

    Raises
    ------
    PotentialError
        If the descriptor or an option is not known or not supported, or a value makes no sense; it is named.
    """
    found = read_descriptor(command, version)
    return Descriptor(_TERMS[found.family], found.values, found.dimension)


def empty_term(descriptor: str, covariance: str, delta: float, *, f0: float = 0.0) -> Term:
    """Return a term without sparse points: enough to compute descriptors before any are chosen.

    Parameters
    ----------
    descriptor, covariance
        As in `gapfactory.potentials.gap.terms.Term`.
    delta
        Scale of the kernel, eV.
    f0
        Offset, eV.

    Raises
    ------
    PotentialError
        If the descriptor or the kernel is not supported.
    """
    found = parse_descriptor(descriptor)
    options = Options(
        "the kernel",
        split_options(covariance),
        {"lengthscale_uniform": "theta_uniform", "soap_exponent": "zeta"},
    )
    kernel = options.text("covariance_type").lower()
    wanted = ("dot_product",) if found.term is SoapTerm else ("ard_se", "gaussian")
    if kernel not in wanted:
        msg = f"covariance_type={kernel} is not supported for {descriptor.split()[0]}: use {wanted[0]}"
        raise PotentialError(msg)
    extra: dict[str, Any] = {}
    if found.term is SoapTerm:
        extra["zeta"] = options.number("zeta", 1.0, low=0.0, above=True)
    else:
        theta = options.number("theta_uniform", low=0.0, above=True)
        extra["theta"] = theta if found.term is PairTerm else np.full(3, theta)
    options.finish()
    return found.term(
        **found.values,
        **extra,
        delta=float(delta),
        f0=float(f0),
        points=np.empty((0, found.dimension)),
        alphas=np.empty(0),
        sparse_cutoffs=np.empty(0),
        command=f"{descriptor} {covariance} delta={float(delta)!r} f0={float(f0)!r} add_species=F",
    )


def with_points(
    term: AnyTerm,
    points: NDArray[np.float64],
    alphas: NDArray[np.float64],
    sparse_cutoffs: NDArray[np.float64] | None = None,
) -> AnyTerm:
    """Return the term with sparse points (M, d), coefficients (M,) and cutoff factors (M,), ones by default.

    Raises PotentialError if the shapes do not fit or a number is not finite.
    """
    cutoffs = np.ones(len(alphas)) if sparse_cutoffs is None else sparse_cutoffs
    return replace(term, points=points, alphas=alphas, sparse_cutoffs=cutoffs)
