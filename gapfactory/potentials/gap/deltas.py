"""Energy scale (delta) of each term: from the data, then from the errors of the stages before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.terms import SpeciesLike

__all__ = ["binding_energies", "judged", "stage_delta"]


def judged(data: Sequence[LabelledStructure]) -> list[int]:
    """Return the indices of the structures that errors and scales are taken from: the crystals.

    Dimers reach tens of eV per atom and would set every scale. Without crystals everything but isolated
    atoms counts.
    """
    crystals = [k for k, item in enumerate(data) if item.kind == "crystal"]
    return crystals or [k for k, item in enumerate(data) if item.kind != "isolated"]


def binding_energies(data: Sequence[LabelledStructure], e0: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the (n,) energies relative to the free atoms, eV in total."""
    return np.array(
        [item.energy - sum((e0[s] for s in item.atoms.get_chemical_symbols()), 0.0) for item in data]
    )


def stage_delta(
    stage: int,
    data: Sequence[LabelledStructure],
    residuals: NDArray[np.float64],
    species: Sequence[SpeciesLike],
    settings: GapSettings,
) -> float:
    """Return delta of a stage in eV.

    Rules `total` and `per-atom` (Bernstein, Csányi and Deringer 2019, read in two ways): the root-mean-square deviation
    of the energies from the mean energy per atom for the first term, then the root-mean-square error of the preceding
    fit; of total energies or per atom. Rule `per-descriptor`: the sum of the absolute residuals over the number of
    descriptors that share them.

    Parameters
    ----------
    stage
        0 two-body, 1 three-body, 2 SOAP.
    residuals
        (n,) eV in total: energy relative to the free atoms for the first term, reference minus preceding fit after
        that.
    """
    chosen = judged(data)
    sizes = np.array([len(data[k].atoms) for k in chosen])
    values = residuals[chosen]
    if settings.delta.rule != "per-descriptor":
        per_atom = values / sizes
        if stage == settings.enabled.index(True):
            per_atom = per_atom - per_atom.mean()
        weights = sizes if settings.delta.rule == "total" else 1.0
        delta = float(np.sqrt(np.mean((weights * per_atom) ** 2)))
    else:
        n = sum(_count(stage, data[k], species, settings) for k in chosen)
        delta = float(np.abs(values).sum() / max(1, n))
    return max(delta, settings.delta.least)


def _count(stage: int, item: LabelledStructure, species: Sequence[SpeciesLike], settings: GapSettings) -> int:
    """Return how many descriptors of a stage a structure has within the count cutoff."""
    if stage == 2:
        return len(item.atoms)
    from ase.neighborlist import neighbor_list

    reach = {s.symbol: s.radius * settings.delta.count_cutoff_in_r for s in species}
    cutoffs = {(a, b): (reach[a] + reach[b]) / 2 for a in reach for b in reach}
    neighbours = np.bincount(neighbor_list("i", item.atoms, cutoffs), minlength=len(item.atoms))
    if stage == 0:
        return int(neighbours.sum())
    return int((neighbours * (neighbours - 1) // 2).sum())
