"""Settings of a GAP fit; the defaults follow Bernstein, Csányi and Deringer (2019), Table 1 and Methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from gapfactory.errors import InputError
from gapfactory.potentials.gap.sigmas import SigmaSettings
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "DeltaSettings",
    "GapSettings",
    "ProgramSettings",
    "SoapSettings",
    "ThreeBodySettings",
    "TwoBodySettings",
    "UnlabelledSettings",
]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class TwoBodySettings(Settings):
    """The two-body term: a squared-exponential kernel of the distance, one per pair of species."""

    enabled: bool = True
    """Whether the potential has a two-body term."""
    sigma: Positive = 0.5
    """Length scale of the kernel in angstrom (Table 1)."""
    n_sparse: Count = 30
    """Sparse points per pair of species (Table 1), evenly spaced between the shortest and longest
    distance."""
    cutoff_covalent_in_r: Positive = 9.0
    """Cutoff of a covalent element in units of its characteristic radius r (Table 1)."""
    cutoff_metallic_in_r: Positive = 8.2
    """Cutoff of a metallic element in units of its characteristic radius r (Table 1)."""
    transition_width_in_r: Positive = 0.9
    """Width over which the term is switched off before its cutoff, in r (not in the paper: 1.0 A for Si)."""
    least_spacing_in_sigma: Positive = 0.2
    """Sparse points are never closer than this many sigma, so that narrow data sets do not make the fit
    singular."""


class ThreeBodySettings(Settings):
    """The three-body term: a squared-exponential kernel of (r1 + r2, (r1 - r2)^2, r12), one per triple."""

    enabled: bool = True
    """Whether the potential has a three-body term."""
    sigma: Positive = 1.0
    """Length scale of the kernel in the units of each component, A, A^2 and A (Table 1)."""
    n_sparse: Count = 100
    """Sparse points per triple of species (Table 1)."""
    sparse_method: Literal["farthest", "uniform"] = "farthest"
    """How they are chosen: `farthest`, each new one as far as possible from all chosen ones, or `uniform`, one from
    each occupied box of a regular grid."""
    cutoff_covalent_in_r: Positive = 2.925
    """Cutoff of a covalent element in r (Table 1)."""
    cutoff_metallic_in_r: Positive = 2.665
    """Cutoff of a metallic element in r (Table 1)."""
    transition_width_in_r: Positive = 0.5
    """Width over which the term is switched off before its cutoff, in r (not in the paper)."""
    least_spacing_in_sigma: Positive = 0.05
    """Sparse points are never closer than this many sigma."""


class SoapSettings(Settings):
    """The many-body term: a SOAP kernel, one per central species."""

    enabled: bool = True
    """Whether the potential has a SOAP term."""
    atom_sigma: Positive = 0.75
    """Width of the atomic density in angstrom (Table 1)."""
    n_sparse: Count = 2000
    """Sparse points per central species (Table 1), drawn by leverage score."""
    n_max: Count = 8
    """Radial functions (Table 1)."""
    l_max: Annotated[int, Field(ge=0, le=20)] = 8
    """Largest angular momentum (Table 1)."""
    zeta: Positive = 4.0
    """Exponent of the kernel (Table 1)."""
    cutoff_covalent_in_r: Positive = 4.5
    """Cutoff of a covalent element in r (Table 1)."""
    cutoff_metallic_in_r: Positive = 4.1
    """Cutoff of a metallic element in r (Table 1)."""
    transition_width_in_r: Positive = 0.9
    """Width over which neighbours are switched off before the cutoff, in r (not in the paper: 1.0 A for
    Si)."""
    central_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the central atom in its own density."""
    duplicate_tolerance: Annotated[float, Field(ge=0)] = 1e-9
    """An environment whose dot product with a chosen one exceeds 1 - this is a duplicate and is not chosen
    again."""


class DeltaSettings(Settings):
    """How the energy scale delta of each term is set."""

    rule: Literal["total", "per-atom", "per-descriptor"] = "total"
    """`total`: 2b = root-mean-square deviation of the crystals' energies from the mean energy per atom, 3b =
    root-mean-square error of the 2b-only fit, SOAP = that of the 2b+3b fit, all of total energies. `per-atom`: the
    same of energies per atom. `per-descriptor` (the published program): sum of absolute residual energies over the
    number of descriptors of the stage within its count cutoff. The paper does not say per what; on held-out
    Stillinger-Weber silicon (40 cells) `total` gave 3.2 meV/atom and 0.14 eV/A, `per-atom` 7.1 and 0.22,
    `per-descriptor` 13.1 and 0.33."""
    count_cutoff_in_r: Positive = 2.8
    """`per-descriptor`: pairs and triples are counted within this distance, in r."""
    least: Positive = 1e-3
    """Smallest delta in eV: a perfect earlier stage must not switch the next term off entirely."""
    fixed: tuple[Positive, ...] = ()
    """Deltas of the stages in eV, in order; when given nothing is derived and only one fit is made."""


class ProgramSettings(Settings):
    """How a fit is run; nothing here changes the numbers of a finished fit."""

    fit_threads: Count | None = None
    """Threads of the native backend (None: all cores that the process may use). The potential does not depend on
    it, to the last byte."""
    executable: str = "gap_fit"
    """Backend `gap_fit`: name or path of the program; found on PATH, next to the Python interpreter, or inside
    quippy."""
    openmp_threads: Count = 1
    """Backend `gap_fit`: threads of the program (the quippy 0.10 wheels are serial)."""
    timeout_s: Positive = 6 * 3600.0
    """Backend `gap_fit`: a fit that takes longer than this many seconds is stopped."""
    evaluation_timeout_s: Positive = 2 * 3600.0
    """Backend `gap_fit`: a proof by quippy that takes longer than this many seconds is stopped."""
    memory_limit_gb: Positive | None = None
    """A fit whose estimated peak memory (GB) exceeds this is refused before it starts."""


class UnlabelledSettings(Settings):
    """Structures without labels that sparse points may be chosen from as well (Allen and Bartók 2022, Fig. 4).

    They change which environments the potential is expanded in, and nothing else: not what it is fitted to.
    """

    file: str | None = None
    """Extended XYZ or CIF file, its path counted from the campaign file. It is read together with the campaign file,
    and then no more."""
    structures: str | None = None
    """What was read from `file`, as extended XYZ; the campaign has it from then on. Where it is given, no file is
    read."""

    def atoms(self) -> tuple[Atoms, ...]:
        """Return the structures; not to be changed.

        Raises
        ------
        InputError
            They were not read yet, or are no crystals in extended XYZ.
        """
        if self.structures is None:
            if self.file is not None:
                msg = (
                    f"the structures of {self.file} were not read with the campaign file: give "
                    "gap.unlabelled.structures"
                )
                raise InputError(msg)
            return ()
        from gapfactory.io.structure_text import given_crystals

        return given_crystals(self.structures)


class GapSettings(Settings):
    """Everything that steers the fit of one Gaussian approximation potential."""

    backend: Literal["native", "gap_fit"] = "native"
    """What solves the fit: `native`, built in, or the external program `gap_fit`, which comes with quippy. Both solve
    the same equations with the same sparse points, expected errors and jitter."""
    two_body: TwoBodySettings = TwoBodySettings()
    """Two-body term."""
    three_body: ThreeBodySettings = ThreeBodySettings()
    """Three-body term."""
    soap: SoapSettings = SoapSettings()
    """Many-body term."""
    delta: DeltaSettings = DeltaSettings()
    """Energy scales of the terms."""
    sigma: SigmaSettings = SigmaSettings()
    """Expected errors of the data."""
    sparse_files: dict[str, str] = Field(default_factory=dict)
    """Sparse points given by file instead of chosen: name of a term (`2b-Si-Si`, `3b-C-Si-Si`, `soap-Si`) to the path
    of a file as gap_fit's `sparse_method=FILE` reads it, one number per line, each point after its cutoff factor."""
    unlabelled: UnlabelledSettings = UnlabelledSettings()
    """Structures without labels to choose sparse points from, beside the labelled ones."""
    jitter: Positive = 1e-8
    """Added to the diagonal of the sparse covariance (eV^2)."""
    energy_limit_per_atom: Positive = 1000.0
    """An evaluated energy farther than this from the free atoms (eV/atom) is an error, not a result."""
    program: ProgramSettings = ProgramSettings()
    """How it is run."""

    @property
    def enabled(self) -> tuple[bool, bool, bool]:
        """Whether there is a two-body, a three-body and a SOAP term."""
        return (self.two_body.enabled, self.three_body.enabled, self.soap.enabled)

    @model_validator(mode="after")
    def _deltas_fit_stages(self) -> Self:
        stages = sum(self.enabled)
        if not stages:
            msg = "two_body, three_body and soap are all switched off: a potential needs one of them"
            raise ValueError(msg)
        if self.delta.fixed and len(self.delta.fixed) != stages:
            msg = (
                f"delta.fixed has {len(self.delta.fixed)} values, but there are {stages} terms: give one "
                "per term"
            )
            raise ValueError(msg)
        return self
