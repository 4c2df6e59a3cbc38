"""Settings of the reference calculations: one model per engine, told apart by `engine`."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, JsonValue, field_validator

from gapfactory.settings import Settings

if TYPE_CHECKING:
    from gapfactory.reference.base import StructureKind

__all__ = [
    "NAMED_CALCULATORS",
    "AseSettings",
    "EngineSettings",
    "GpawSettings",
    "ReferenceSettings",
    "settings_hash",
]

#: Short names of calculators.
NAMED_CALCULATORS = {
    "emt": "ase.calculators.emt.EMT",
    "lj": "ase.calculators.lj.LennardJones",
    "morse": "ase.calculators.morse.MorsePotential",
    "stillinger-weber": "gapfactory.reference.analytic.StillingerWeberSilicon",
    "second-moment": "gapfactory.reference.analytic.SecondMomentTitanium",
}


class EngineSettings(Settings):
    """What every engine has: limits that decide whether there is a label, never what its numbers are."""

    time_limit_s: float = Field(default=1800.0, gt=0)
    """Seconds one attempt at one structure may take before it is killed."""
    max_attempts: int = Field(default=4, ge=1)
    """Attempts per structure, the plain calculation included, before it is quarantined."""

    #: fields that do not enter the hash under which labels are shared
    operational: ClassVar[frozenset[str]] = frozenset({"time_limit_s", "max_attempts"})
    #: fields without influence on a kind of structure
    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = {}

    def with_higher_density(self) -> EngineSettings:
        """Return the settings of a higher level of convergence, to measure the labels' noise against."""
        return self


class GpawSettings(EngineSettings):
    """Density-functional theory in the projector augmented-wave method with plane waves (GPAW)."""

    engine: Literal["gpaw"] = "gpaw"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional by GPAW's name; LDA, PBE, revPBE, RPBE and PW91 need no libxc."""
    cutoff_eV: float = Field(default=300.0, ge=100)
    """Kinetic-energy cutoff of the plane waves, in eV. For silicon 250 eV is enough: diamond, simple cubic,
    fcc and a random cell keep their energy differences within 0.5 meV/atom of those at 400 eV, and pressures
    within 0.1 GPa."""
    kpoint_density: float = Field(default=2.5, gt=0)
    """k-points per 1/Å of reciprocal vector, 2 pi included: N_i = max(1, ceil(density |b_i|)), with Gamma."""
    kpoint_grid: tuple[int, int, int] | None = None
    """One grid for every structure instead of the density: energy-volume and elastic curves need it."""
    smearing_width_eV: float = Field(default=0.1, gt=0)
    """Width of the Fermi-Dirac occupations, in eV."""
    energy_convergence_eV: float = Field(default=1e-5, gt=0)
    """Change of the energy per valence electron over the last three iterations at convergence, in eV."""
    density_convergence: float = Field(default=1e-4, gt=0)
    """Integrated change of the density per valence electron at convergence, in electrons."""
    eigenstates_convergence_eV2: float = Field(default=1e-6, gt=0)
    """Residual of the eigenstates per valence electron at convergence, in eV^2. With GPAW's own 4e-8 a random
    cell of silicon takes a quarter more iterations for the same energy and forces within 0.001 eV/Å."""
    max_iterations: int = Field(default=120, ge=10)
    """Self-consistency iterations of the plain calculation."""
    use_symmetry: bool = True
    """Reduce k-points by the point group where the structure has one; time reversal is always used."""
    closest_approach: float = Field(default=0.4, ge=0, lt=1)
    """Structures with two atoms closer than this fraction of the sum of their covalent radii are not
    labelled."""
    vacuum_isolated: float = Field(default=6.0, gt=0)
    """Vacuum on every side of isolated atoms, in Å; their own box is not used. Silicon's energy changes by 2 meV
    from 5 to 6 Å, by 21 meV from 4 to 5 Å."""
    vacuum_dimer: float = Field(default=4.0, gt=0)
    """Vacuum on every side of dimers, in Å; their own box is not used. Si2 at 2.6 Å changes by 8 meV to 5 Å, at
    almost twice the cost, which is far below the error that a fit allows dimers."""
    spin_isolated: Literal["hund", "none"] = "hund"
    """Spin of isolated atoms: fixed at the moment of Hund's first rule, or none."""
    spin_dimer: Literal["free", "none"] = "free"
    """Spin of dimers: moments start ferromagnetic at Hund's values and relax, or there is none."""

    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = {
        "crystal": frozenset({"vacuum_isolated", "vacuum_dimer", "spin_isolated", "spin_dimer"}),
        "isolated": frozenset(
            {
                *("kpoint_density", "kpoint_grid", "spin_dimer", "use_symmetry", "vacuum_dimer"),
                "closest_approach",
            }
        ),
        "dimer": frozenset(
            {"kpoint_density", "kpoint_grid", "spin_isolated", "use_symmetry", "vacuum_isolated"}
        ),
    }

    def with_higher_density(self) -> GpawSettings:
        """Return the same settings at 1.6 times the k-point density (2.5 becomes 4), or of a fixed grid."""
        if self.kpoint_grid is None:
            return self.model_copy(update={"kpoint_density": 1.6 * self.kpoint_density})
        # in integers: 1.6 * 5 in floating point may end above 8
        first, second, third = (-(-8 * n // 5) for n in self.kpoint_grid)
        return self.model_copy(update={"kpoint_grid": (first, second, third)})


class AseSettings(EngineSettings):
    """Any calculator of ASE, QUIP or this package, to stand in for a quantum-mechanical code."""

    engine: Literal["ase"] = "ase"
    """Name of the engine."""
    calculator: str = "stillinger-weber"
    """Short name (emt, lj, morse, stillinger-weber, second-moment) or dotted path of a class, such as
    quippy.potential.Potential. Which modules it may come from is decided where it runs."""
    arguments: tuple[JsonValue, ...] = ()
    """Positional arguments of the calculator."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the calculator."""
    time_limit_s: float = Field(default=300.0, gt=0)
    """Seconds one attempt at one structure may take before it is killed."""
    max_attempts: int = Field(default=2, ge=1)
    """Attempts per structure, the plain calculation included, before it is quarantined."""

    @field_validator("calculator")
    @classmethod
    def _named_or_dotted(cls, value: str) -> str:
        parts = NAMED_CALCULATORS.get(value, value).split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise ValueError(
                f"calculator {value!r} is neither a short name ({', '.join(NAMED_CALCULATORS)}) nor the "
                "dotted path of a class"
            )
        return value

    @property
    def path(self) -> str:
        """Dotted path of the calculator class."""
        return NAMED_CALCULATORS.get(self.calculator, self.calculator)


ReferenceSettings: TypeAlias = Annotated[GpawSettings | AseSettings, Field(discriminator="engine")]


def settings_hash(settings: EngineSettings, kind: StructureKind) -> str:
    """Return the sha256 (hex) of the settings that decide the numbers of a label of this kind of structure.

    Together with the structure's hash it is the key under which labels are shared: limits on time and
    attempts do not enter, nor do k-points for an isolated atom or spin for a crystal.
    """
    left_out = settings.operational | settings.irrelevant.get(kind, frozenset())
    values: dict[str, Any] = settings.model_dump(mode="json", exclude=set(left_out))
    canonical = json.dumps({"kind": kind, **values}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
