"""Errors of potentials on distorted crystals of named phases, which a search may never have met.

The numbers of Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001 (2018), Fig. 1c: "RMSE energy errors for
test sets of distorted crystal structures with small unit cells", one potential after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from gapfactory.errors import EvidenceError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "DistortedErrors",
    "DistortedTestSettings",
    "PhaseError",
    "TestCrystal",
    "distorted_errors",
    "name_potentials",
]


class DistortedTestSettings(Settings):
    """Distorted crystals that are made to test potentials, where a campaign has labelled none of its own."""

    per_phase: int = Field(default=10, ge=1)
    """Crystals of each phase."""
    max_atoms: int = Field(default=30, ge=1)
    """Phases with larger primitive cells are left out: the paper tests "structures with small unit cells"."""


@dataclass(frozen=True)
class TestCrystal:
    """One distorted crystal with its reference energy.

    Parameters
    ----------
    id
        Name of the structure.
    phase
        The phase that was distorted.
    energy
        By the reference, eV/atom.
    """

    __test__ = False  # for pytest: no test in spite of its name

    id: str
    phase: str
    energy: float


@dataclass(frozen=True)
class PhaseError:
    """Error of one potential on the distorted crystals of one phase.

    Parameters
    ----------
    phase
        The phase.
    potential
        Name of the potential, e.g. ``"2"`` or ``"4 + C"``.
    n
        Crystals that it could evaluate.
    rmse, bias
        Root mean square and mean of potential minus reference, eV/atom; NaN where `n` is 0.
    unusable
        Crystals that it refused; they are in no average.
    trained
        Crystals among those of the phase that the potential was trained on.
    """

    phase: str
    potential: str
    n: int
    rmse: float
    bias: float
    unusable: int
    trained: int = 0


@dataclass(frozen=True)
class DistortedErrors:
    """Errors by phase and potential, in the order of the potentials.

    Parameters
    ----------
    errors
        One for each phase and potential.
    phases, potentials
        Names in the order in which they are drawn.
    """

    errors: tuple[PhaseError, ...]
    phases: tuple[str, ...]
    potentials: tuple[str, ...]

    def of(self, phase: str) -> tuple[PhaseError, ...]:
        """Return the errors of one phase in the order of the potentials."""
        return tuple(e for e in self.errors if e.phase == phase)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each phase and potential, units in the names; no error where all were refused."""
        return [
            {
                "phase": e.phase,
                "potential": e.potential,
                "n": e.n,
                "rmse_meV_per_atom": 1000.0 * e.rmse if e.n else None,
                "bias_meV_per_atom": 1000.0 * e.bias if e.n else None,
                "unusable": e.unusable,
                "trained": e.trained,
            }
            for e in self.errors
        ]


def distorted_errors(
    crystals: Sequence[TestCrystal],
    predicted: Mapping[str, Mapping[str, float | None]],
    trained_on: Mapping[str, Collection[str]] | None = None,
) -> DistortedErrors:
    """Return the error of each potential on each phase.

    Parameters
    ----------
    crystals
        With their reference energies; the order of phases is that in which they first occur.
    predicted
        By name of the potential, in the order in which they are drawn, and id of the crystal: eV/atom, or None where
        the potential refused the structure.
    trained_on
        By name of the potential: ids of structures in its training set.

    Raises
    ------
    EvidenceError
        No crystals or no potentials; an id given twice; a crystal without a prediction; an energy that is not finite.
    """
    if not crystals or not predicted:
        raise EvidenceError(
            f"{len(crystals)} distorted crystals and {len(predicted)} potentials give no errors"
        )
    ids = [c.id for c in crystals]
    if len(set(ids)) != len(ids):
        raise EvidenceError(f"crystal {next(i for i in ids if ids.count(i) > 1)!r} is given twice")
    for crystal in crystals:
        if not np.isfinite(crystal.energy):
            raise EvidenceError(f"crystal {crystal.id!r} has no finite reference energy; leave it out")
        for name, of in predicted.items():
            if crystal.id not in of:
                raise EvidenceError(f"potential {name!r} has not been asked for crystal {crystal.id!r}")
            energy = of[crystal.id]
            if energy is not None and not np.isfinite(energy):
                raise EvidenceError(
                    f"potential {name!r} gives crystal {crystal.id!r} no finite energy; give None where it refuses"
                )
    phases = tuple(dict.fromkeys(c.phase for c in crystals))
    errors = []
    for phase in phases:
        mine = [c for c in crystals if c.phase == phase]
        for name, of in predicted.items():
            differences = np.array([e - c.energy for c in mine if (e := of[c.id]) is not None])
            errors.append(
                PhaseError(
                    phase,
                    name,
                    differences.size,
                    float(np.sqrt(np.mean(differences**2))) if differences.size else float("nan"),
                    float(np.mean(differences)) if differences.size else float("nan"),
                    len(mine) - differences.size,
                    sum(c.id in (trained_on or {}).get(name, ()) for c in mine),
                )
            )
    return DistortedErrors(tuple(errors), phases, tuple(predicted))


def name_potentials(trained_on: Mapping[int, Collection[str]], crystals: Collection[str]) -> dict[int, str]:
    """Return what the potential of each generation is called, after what it was fitted to.

    By its generation; where it was fitted to the data of the one before and to known crystals, by that one and ``+ C``;
    where to the data of the one before alone, ``final``, or the name of that one and ``again``.

    Parameters
    ----------
    trained_on
        Ids of the structures in its training set, by generation.
    crystals
        Ids of the distorted crystals of the campaign.
    """
    names: dict[int, str] = {}
    known, before = set(crystals), None
    for generation in sorted(trained_on):
        data = set(trained_on[generation])
        name = str(generation)
        if before is not None:
            previous = set(trained_on[before])
            if data == previous:
                name = "final" if generation == max(trained_on) else f"{names[before]} again"
            elif data > previous and data - previous <= known:
                name = f"{names[before]} + C"
        names[generation], before = name, generation
    return names
