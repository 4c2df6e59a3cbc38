"""Structural density of states: how the energies of what searches found are spread (Pickard 2024, Figs. 3-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from gapfactory.errors import EvidenceError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["DensitySettings", "SearchDensity", "StructuralDensity", "structural_density"]


class DensitySettings(Settings):
    """How energies become a density."""

    smearing: float = Field(default=0.02, gt=0)
    """Standard deviation of the Gaussian on each structure, in eV/atom."""
    points: int = Field(default=600, ge=50, le=20_000)
    """Points of the axis."""
    margin: float = Field(default=4.0, ge=0)
    """How far the axis goes beyond the lowest and the highest structure, in widths of the Gaussian."""
    largest: float | None = Field(default=None, gt=0)
    """Where the axis ends, in eV/atom above the lowest; by default beyond the highest structure. Structures above
    are in the density, and are counted as not shown."""


@dataclass(frozen=True)
class SearchDensity:
    """One search on the common axis.

    Parameters
    ----------
    name
        Of the search.
    energies
        (n,) relative to the common zero, ascending, eV/atom.
    density
        (points,) structures per eV/atom, as a fraction of the search's: its integral is 1 where all are on the axis.
    shown
        Structures that lie on the axis.
    """

    name: str
    energies: NDArray[np.float64]
    density: NDArray[np.float64]
    shown: int

    def quantile(self, fraction: float) -> float:
        """Return the energy below which a fraction of the structures lies, eV/atom."""
        return float(np.quantile(self.energies, fraction))


@dataclass(frozen=True)
class StructuralDensity:
    """Several searches on one axis.

    Parameters
    ----------
    axis
        (points,) eV/atom above the lowest structure of all searches, of each composition by itself.
    searches
        In the order given.
    smearing
        eV/atom.
    """

    axis: NDArray[np.float64]
    searches: tuple[SearchDensity, ...]
    smearing: float

    def rows(self) -> list[dict[str, Any]]:
        """Return flat rows: for each search its summary, and each point of its curve."""
        found: list[dict[str, Any]] = []
        for search in self.searches:
            found += [
                {
                    "search": search.name,
                    "structures": len(search.energies),
                    "lowest_eV_per_atom": float(search.energies[0]),
                    "median_eV_per_atom": search.quantile(0.5),
                    "smearing_eV_per_atom": self.smearing,
                    "energy_eV_per_atom": float(x),
                    "density_per_eV": float(y),
                }
                for x, y in zip(self.axis, search.density, strict=True)
            ]
        return found


def structural_density(
    searches: Mapping[str, Sequence[tuple[str, float, int]]] | Mapping[str, ArrayLike],
    settings: DensitySettings | None = None,
) -> StructuralDensity:
    """Return the structural density of states of several searches on one axis.

    Energies count from the lowest structure of the same composition in any of the searches. Encounters count, not
    different structures: a minimum that was found ten times weighs ten times as much.

    Parameters
    ----------
    searches
        Per search (composition, energy or enthalpy in eV/atom, copies) of each structure, or plain energies (n,).
    settings
        Smearing and axis.

    Raises
    ------
    EvidenceError
        A search has no structures, or an energy is not a number.
    """
    settings = settings or DensitySettings()
    triples = {name: _triples(name, values) for name, values in searches.items()}
    if not triples:
        raise EvidenceError("there is no search to show")
    best: dict[str, float] = {}
    for found in triples.values():
        for composition, energy, _ in found:
            best[composition] = min(best.get(composition, np.inf), energy)
    above = {
        name: np.sort(np.repeat([e - best[c] for c, e, _ in found], [n for _, _, n in found]))
        for name, found in triples.items()
    }
    beyond = settings.margin * settings.smearing
    highest = max(float(values[-1]) for values in above.values()) + beyond
    axis = np.linspace(-beyond, min(highest, settings.largest or highest), settings.points)
    return StructuralDensity(
        axis,
        tuple(
            SearchDensity(
                name, values, _smeared(axis, values, settings.smearing), int((values <= axis[-1]).sum())
            )
            for name, values in above.items()
        ),
        settings.smearing,
    )


def _triples(name: str, values: Any) -> list[tuple[str, float, int]]:
    given = list(values)
    found = [v if isinstance(v, tuple) else ("", float(v), 1) for v in given]
    if not found:
        raise EvidenceError(f"search {name!r} has no structures")
    if not all(np.isfinite(energy) for _, energy, _ in found):
        raise EvidenceError(f"search {name!r} has an energy that is not a number")
    return found


def _smeared(axis: NDArray[np.float64], energies: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return the sum of normalised Gaussians, divided by their number."""
    total = np.zeros_like(axis)
    for start in range(0, len(energies), 1000):
        steps = (axis[:, None] - energies[None, start : start + 1000]) / width
        total += np.exp(-0.5 * steps**2).sum(axis=1)
    return np.asarray(total / (len(energies) * width * np.sqrt(2.0 * np.pi)))
