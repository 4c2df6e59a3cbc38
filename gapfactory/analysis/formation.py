"""Formation energies of two elements and their lower convex hull: what is stable, and how far above it the rest is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["FormationHull", "formation_hull"]

#: compositions that differ by less are one
_SAME = 1e-9


@dataclass(frozen=True)
class FormationHull:
    """Formation energies of n structures of two elements.

    Parameters
    ----------
    elements
        The two elements, sorted; fractions count the second one.
    ends
        Fractions of the two compositions that energies count from: the outermost ones there are.
    end_energies
        Lowest energy of each, eV/atom.
    fractions, energies
        (n,) fraction of the second element, and energy above the line between the ends, eV/atom.
    above
        (n,) energy above the hull, eV/atom.
    corners
        Indices of the structures on the hull, by rising fraction.
    """

    elements: tuple[str, str]
    ends: tuple[float, float]
    end_energies: tuple[float, float]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]
    above: NDArray[np.float64]
    corners: NDArray[np.int64]

    def energy(self, fraction: float, energy_per_atom: float) -> float:
        """Return the formation energy (eV/atom) of another structure, from the same ends."""
        (left, right), (low, high) = self.ends, self.end_energies
        return energy_per_atom - (low + (high - low) * (fraction - left) / (right - left))


def formation_hull(
    compositions: Sequence[Mapping[str, int]], energies_per_atom: Sequence[float]
) -> FormationHull:
    """Return formation energies and hull of structures of two elements.

    Energies count from the outermost compositions that there are: the elements where these are among them.

    Parameters
    ----------
    compositions
        Atoms of each structure by element.
    energies_per_atom
        eV, all by one method.

    Raises
    ------
    EvidenceError
        The structures are not of two elements, or all of one composition.
    """
    energies = np.asarray(energies_per_atom, dtype=float)
    if len(compositions) != len(energies) or not np.isfinite(energies).all():
        raise EvidenceError(
            f"{len(compositions)} compositions and {len(energies)} energies, which must pair up and be finite: give "
            "one finite energy per structure"
        )
    elements = sorted({symbol for composition in compositions for symbol in composition})
    if len(elements) != 2:
        raise EvidenceError(
            f"formation energies are drawn of two elements, and there are {', '.join(elements) or 'none'}"
        )
    second = np.array([composition.get(elements[1], 0) for composition in compositions], dtype=float)
    fractions = second / [sum(composition.values()) for composition in compositions]
    left, right = float(fractions.min()), float(fractions.max())
    if right - left < _SAME:
        raise EvidenceError(
            "all structures have one composition: there is no line between two to count formation energies from"
        )
    lowest = [float(energies[np.abs(fractions - end) < _SAME].min()) for end in (left, right)]
    formation = energies - (lowest[0] + (lowest[1] - lowest[0]) * (fractions - left) / (right - left))
    corners = _lower_corners(fractions, formation)
    hull = np.interp(fractions, fractions[corners], formation[corners])
    return FormationHull(
        (elements[0], elements[1]),
        (left, right),
        (lowest[0], lowest[1]),
        fractions,
        formation,
        np.maximum(formation - hull, 0.0),
        corners,
    )


def _lower_corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of the corners of the lower convex hull, by rising x (Andrew's monotone chain)."""
    kept: list[int] = []
    for index in np.lexsort((y, x)):
        # of one composition the lowest only, which comes first
        if kept and x[index] - x[kept[-1]] < _SAME:
            continue
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (x[b] - x[a]) * (y[index] - y[a]) > (y[b] - y[a]) * (x[index] - x[a]):
                break
            kept.pop()
        kept.append(int(index))
    return np.array(kept, dtype=np.int64)
