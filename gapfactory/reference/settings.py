"""Settings of the reference calculations: what every engine has, and what every DFT code has."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from gapfactory.errors import InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gapfactory.reference.base import StructureKind

__all__ = [
    "IRRELEVANT_WITH_SYMMETRY",
    "DftSettings",
    "EngineSettings",
    "known_functional",
    "names_of_files",
    "settings_hash",
]


def known_functional(value: str, names: Iterable[str], engine: str) -> str:
    """Return a functional as an engine writes it, whatever the case of its letters.

    Raises
    ------
    ValueError
        The engine has none of this name; the message lists those it has.
    """
    known = {name.lower(): name for name in names}
    if value.lower() not in known:
        raise ValueError(f"engine {engine} has no functional {value!r}: choose {', '.join(known.values())}")
    return known[value.lower()]


def names_of_files(names: Iterable[str]) -> None:
    """Refuse names that lead out of the site's directory: a campaign must not choose what is read on a worker.

    Raises
    ------
    ValueError
        One is not the plain name of a file, folders in front of it allowed.
    """
    for name in names:
        if not re.fullmatch(r"[\w+@=~,()-][\w.+@=~,()-]*(/[\w+@=~,()-][\w.+@=~,()-]*)*", name):
            raise ValueError(
                f"{name!r} is no name of a file below the site's directory: it may not start at /, lead through .., "
                "begin with a dot or have blanks"
            )


class EngineSettings(Settings):
    """What every engine has: limits that decide whether there is a label, never what its numbers are."""

    engine: str
    """Name of the engine."""
    time_limit_s: float = Field(default=1800.0, gt=0)
    """Seconds one attempt at one structure may take before it is stopped."""
    max_attempts: int = Field(default=8, ge=1)
    """Attempts per structure, the plain calculation included, before it is quarantined."""

    #: fields that do not enter the hash under which labels are shared
    operational: ClassVar[frozenset[str]] = frozenset({"time_limit_s", "max_attempts"})
    #: fields without influence on a kind of structure
    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = {}
    #: steps of the finite differences that a check compares with: displacement along a unit vector of all 3N
    #: coordinates in Å, and strain along a unit tensor; long against the noise of a self-consistent energy
    force_step: ClassVar[float] = 0.015
    strain_step: ClassVar[float] = 0.01

    def with_higher_density(self) -> Self:
        """Return the settings of a higher level of convergence, to measure the labels' noise against."""
        return self

    def with_grid(self, grid: tuple[int, int, int]) -> Self:
        """Return the settings with this k-grid, along the vectors of the structure, for engines that have k-points."""
        return self


class DftSettings(EngineSettings):
    """What every density-functional code is asked for, by one name and in one unit."""

    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional."""
    cutoff_eV: float = Field(default=400.0, ge=50)
    """Kinetic-energy cutoff of the plane waves, in eV."""
    kpoint_density: float = Field(default=2.5, gt=0)
    """k-points per 1/Å of reciprocal vector, 2 pi included: N_i = max(1, ceil(density |b_i|)), with Gamma."""
    kpoint_grid: tuple[int, int, int] | None = None
    """One grid for every structure instead of the density: energy-volume and elastic curves need it."""
    smearing_width_eV: float = Field(default=0.1, gt=0)
    """Width (Boltzmann's constant times the temperature) of the Fermi-Dirac occupations, in eV."""
    max_iterations: int = Field(default=120, ge=10)
    """Self-consistency iterations of the plain calculation."""
    closest_approach: float = Field(default=0.4, ge=0, lt=1)
    """Structures with two atoms closer than this fraction of the sum of their covalent radii are not
    labelled."""
    vacuum_isolated: float = Field(default=6.0, gt=0)
    """Vacuum on every side of isolated atoms, in Å; their own box is not used."""
    vacuum_dimer: float = Field(default=4.0, gt=0)
    """Vacuum on every side of dimers, in Å; their own box is not used."""
    spin_isolated: Literal["hund", "none"] = "hund"
    """Spin of isolated atoms: fixed at the moment of Hund's first rule, or none."""
    spin_dimer: Literal["free", "none"] = "free"
    """Spin of dimers: moments start ferromagnetic at Hund's values and relax, or there is none."""
    allow_energy_changes: bool = False
    """Let the recovery change what changes the energy (smearing first). Such a label carries a flag and is stored
    under the hash of the settings that it really has."""

    operational: ClassVar[frozenset[str]] = frozenset(
        {"time_limit_s", "max_attempts", "allow_energy_changes"}
    )
    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = {
        "crystal": frozenset({"vacuum_isolated", "vacuum_dimer", "spin_isolated", "spin_dimer"}),
        "isolated": frozenset(
            {*("kpoint_density", "kpoint_grid", "spin_dimer", "vacuum_dimer"), "closest_approach"}
        ),
        "dimer": frozenset({"kpoint_density", "kpoint_grid", "spin_isolated", "vacuum_isolated"}),
    }

    def with_higher_density(self) -> Self:
        """Return the same settings at 1.6 times the k-point density (2.5 becomes 4), or of a fixed grid."""
        if self.kpoint_grid is None:
            return self.model_copy(update={"kpoint_density": 1.6 * self.kpoint_density})
        # in integers: 1.6 * 5 in floating point may end above 8
        first, second, third = (-(-8 * n // 5) for n in self.kpoint_grid)
        return self.model_copy(update={"kpoint_grid": (first, second, third)})

    def with_grid(self, grid: tuple[int, int, int]) -> Self:
        """Return the same settings with one Gamma-centred k-grid instead of the density."""
        return self.model_copy(update={"kpoint_grid": grid})

    def scaled(self, factors: Mapping[str, float]) -> Self:
        """Return the settings with some numbers multiplied, as remedies that change the energy ask.

        Raises
        ------
        InputError
            A factor is on something that is no number.
        """
        changed = {}
        for name, factor in factors.items():
            value = getattr(self, name, None)
            if not isinstance(value, float):
                raise InputError(f"{name!r} of engine {self.engine!r} cannot be multiplied by {factor:g}.")
            changed[name] = value * factor
        return self.model_copy(update=changed)


#: `DftSettings.irrelevant` of a code that has `use_symmetry`: isolated structures are in a box without it.
IRRELEVANT_WITH_SYMMETRY: dict[StructureKind, frozenset[str]] = {
    **DftSettings.irrelevant,
    "isolated": DftSettings.irrelevant["isolated"] | {"use_symmetry"},
    "dimer": DftSettings.irrelevant["dimer"] | {"use_symmetry"},
}


def settings_hash(settings: EngineSettings, kind: StructureKind) -> str:
    """Return the sha256 (hex) of the settings that decide the numbers of a label of this kind of structure.

    Together with the structure's hash it is the key under which labels are shared: limits on time and
    attempts do not enter, nor do k-points for an isolated atom or spin for a crystal.
    """
    left_out = settings.operational | settings.irrelevant.get(kind, frozenset())
    values: dict[str, Any] = settings.model_dump(mode="json", exclude=set(left_out))
    canonical = json.dumps({"kind": kind, **values}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
