"""What a campaign's labelled structures look like as a whole: energy against volume, and how energies are spread.

The numbers of Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001 (2018), Fig. 1a and 1b. The letter counts
energies from its lowest phase; the preprint of the same work counts them from the convex hull.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.analysis.energy_distribution import EnergyBox, energy_box
from gapfactory.errors import EvidenceError
from gapfactory.origins import by_origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BoxGroup", "DatabaseOverview", "DatabasePoint", "database_overview"]


@dataclass(frozen=True)
class DatabasePoint:
    """One labelled structure.

    Parameters
    ----------
    id
        Its name in the campaign.
    generation
        That labelled it.
    component
        Component of the search that built its cell; empty where the campaign has only one.
    origin
        What it is, e.g. ``"random cell"``, ``"minimum"``.
    volume, energy
        Å^3/atom and eV/atom.
    fractions
        Atomic fractions of all species but the first; empty for an element.
    """

    id: str
    generation: int
    component: str
    origin: str
    volume: float
    energy: float
    fractions: tuple[float, ...] = ()


@dataclass(frozen=True)
class BoxGroup:
    """The box of one origin, component and generation."""

    origin: str
    component: str
    generation: int
    box: EnergyBox


@dataclass(frozen=True)
class DatabaseOverview:
    """Labelled structures with their energies above a common zero.

    Parameters
    ----------
    points
        Ordered by generation, then id.
    origins
        The origins that occur, in the order in which they are drawn.
    heights
        Shape (n,), eV/atom above `zero`.
    zero
        What heights count from, e.g. ``"the convex hull"`` or ``"Si-diamond"``.
    """

    points: tuple[DatabasePoint, ...]
    origins: tuple[str, ...]
    heights: NDArray[np.float64]
    zero: str

    @property
    def components(self) -> tuple[str, ...]:
        """The components that occur, by name, the empty one last."""
        return tuple(sorted({p.component for p in self.points}, key=lambda name: (not name, name)))

    def boxes(self) -> tuple[BoxGroup, ...]:
        """Return one box for each origin, component and generation that has structures, in this order."""
        groups: dict[tuple[str, str, int], list[float]] = {}
        for point, height in zip(self.points, self.heights, strict=True):
            groups.setdefault((point.origin, point.component, point.generation), []).append(float(height))
        return tuple(
            BoxGroup(origin, component, generation, energy_box(values))
            for origin in self.origins
            for component in self.components
            for generation in sorted({g for _, _, g in groups})
            if (values := groups.get((origin, component, generation)))
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each structure, units in the names."""
        return [
            {
                "id": p.id,
                "generation": p.generation,
                "component": p.component,
                "origin": p.origin,
                "volume_A3_per_atom": p.volume,
                "energy_eV_per_atom": p.energy,
                "above_zero_eV_per_atom": float(height),
                "zero": self.zero,
            }
            for p, height in zip(self.points, self.heights, strict=True)
        ]

    def box_rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each box, units in the names."""
        return [
            {
                "origin": group.origin,
                "component": group.component,
                "generation": group.generation,
                "n": group.box.n,
                "lowest_eV_per_atom": group.box.least,
                "percentile_16_eV_per_atom": group.box.low,
                "median_eV_per_atom": group.box.median,
                "percentile_84_eV_per_atom": group.box.high,
                "highest_eV_per_atom": group.box.most,
                "zero": self.zero,
            }
            for group in self.boxes()
        ]


def database_overview(
    points: Sequence[DatabasePoint], *, zero: tuple[str, float] | None = None
) -> DatabaseOverview:
    """Return labelled structures with their energies above a common zero.

    Parameters
    ----------
    points
        In any order.
    zero
        Name and energy (eV/atom) of the structure that heights count from; by default the lower convex hull in
        volume and composition of the points themselves.

    Raises
    ------
    EvidenceError
        No points.
    """
    # loads calculators, which pages that only show stored numbers do without
    from gapfactory.potentials.gap.sigmas import distance_to_hull

    ordered = tuple(sorted(points, key=lambda p: (p.generation, p.id)))
    if not ordered:
        raise EvidenceError("no labelled structures; the campaign has to label some first")
    energies = np.array([p.energy for p in ordered])
    if zero is None:
        fractions = np.array([p.fractions for p in ordered]) if ordered[0].fractions else None
        heights = distance_to_hull([p.volume for p in ordered], energies, fractions)
        name = "the convex hull"
    else:
        name, energy = zero
        heights = energies - energy
    origins = tuple(sorted({p.origin for p in ordered}, key=by_origin))
    return DatabaseOverview(ordered, origins, heights, name)
