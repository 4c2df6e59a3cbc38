"""Energies of polymorphs over volume by the reference and by several potentials.

The numbers of Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001 (2018), Fig. 2: symbols of the reference,
thin lines of a smooth potential, thick lines of the final, tighter one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve

__all__ = ["Polymorphs", "polymorphs"]

REFERENCE = "reference"


@dataclass(frozen=True)
class Polymorphs:
    """Curves of several phases by several methods.

    Parameters
    ----------
    curves
        Their `method` is ``"reference"`` or the name of a potential.
    potentials
        Names of the potentials, the one that is drawn thick first.
    zero
        What energies count from.
    zero_energy
        eV/atom.
    labels
        ``(phase, label for figures)``.
    """

    curves: tuple[EnergyVolumeCurve, ...]
    potentials: tuple[str, ...]
    zero: str
    zero_energy: float
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases that have a curve."""
        return tuple(dict.fromkeys(c.phase for c in self.curves))

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each point, units in the names."""
        return [
            {
                "phase": curve.phase,
                "method": curve.method,
                "volume_A3_per_atom": float(volume),
                "energy_eV_per_atom": float(energy),
                "above_zero_eV_per_atom": float(energy - self.zero_energy),
                "zero": self.zero,
            }
            for curve in self.curves
            for volume, energy in zip(curve.volumes, curve.energies, strict=True)
        ]


def polymorphs(curves: Sequence[EnergyVolumeCurve], *, labels: Sequence[tuple[str, str]] = ()) -> Polymorphs:
    """Return curves with a common zero: the lowest energy of the reference, or of all where it has none.

    Parameters
    ----------
    curves
        Of ``"reference"`` and of potentials, the potential that matters most first; those without points are left out.
    labels
        ``(phase, label)``.

    Raises
    ------
    EvidenceError
        No curve has points, or one phase has two curves by one method.
    """
    kept = tuple(c for c in curves if len(c.volumes))
    if not kept:
        raise EvidenceError("no energy-volume points of any phase")
    keys = [(c.phase, c.method) for c in kept]
    if len(set(keys)) != len(keys):
        phase, method = next(k for k in keys if keys.count(k) > 1)
        raise EvidenceError(f"two curves of {phase!r} by {method!r}")
    judges = [c for c in kept if c.method == REFERENCE] or list(kept)
    lowest = min(judges, key=lambda c: float(c.energies.min()))
    judge = "the reference" if lowest.method == REFERENCE else lowest.method
    return Polymorphs(
        kept,
        tuple(dict.fromkeys(c.method for c in kept if c.method != REFERENCE)),
        f"the lowest of {dict(labels).get(lowest.phase, lowest.phase)} by {judge}",
        float(np.min(lowest.energies)),
        tuple(labels),
    )
