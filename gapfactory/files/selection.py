"""The structures of files that are worth a reference calculation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import SelectionError
from gapfactory.seeds import Stage, stream
from gapfactory.structures import composition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.descriptors.settings import SimilaritySettings
    from gapfactory.select import SelectionReport
    from gapfactory.select.settings import SelectSettings

__all__ = ["choose_structures"]

#: Number of the stream of the histogram of composition k; beyond those of `select_initial`.
_HISTOGRAM = 1_000_000


def choose_structures(
    names: Sequence[str],
    structures: Sequence[Atoms],
    settings: SelectSettings,
    similarity: SimilaritySettings,
    *,
    seed: int,
    energies: Sequence[float] | None = None,
    kT: float | None = None,
    cores: int = 1,
) -> SelectionReport:
    """Choose structures that differ from each other, of each composition in proportion to how many there are.

    Without energies this is how a campaign chooses its first cells; with them, as it chooses frames: a flat histogram
    with Boltzmann bias in the energy per atom comes first (Bernstein, Csányi and Deringer 2019, Methods).

    Parameters
    ----------
    names, structures
        Of equal length; names are unique. The order changes nothing.
    settings
        How many, and how.
    similarity
        The descriptor.
    seed
        Of every random draw.
    energies
        Of the structures, eV; needed with `kT`.
    kT
        Temperature of the bias, eV; None: energies do not count.
    cores
        Threads of the descriptor; results do not depend on it.

    Raises
    ------
    SelectionError
        There are no structures, or energies are missing.
    """
    from gapfactory.descriptors import average_soap
    from gapfactory.select import select_initial

    if not structures:
        raise SelectionError("there are no structures to choose from")
    order = sorted(range(len(names)), key=lambda i: names[i])
    if kT is not None:
        if energies is None:
            raise SelectionError("a choice by energy needs the energy of every structure")
        order = _low(order, structures, np.asarray(energies, dtype=float), settings, kT, seed)
    chosen = [structures[i] for i in order]
    numbers = sorted({int(z) for atoms in chosen for z in atoms.numbers})
    vectors = average_soap(chosen, species=numbers, settings=similarity, cores=cores)
    return select_initial(
        [names[i] for i in order],
        vectors,
        settings=settings,
        zeta=similarity.zeta,
        streams=lambda k: stream(seed, 0, Stage.SELECT, k),
        groups=[composition_of(atoms) for atoms in chosen],
        cores=cores,
    )


def _low(
    order: Sequence[int],
    structures: Sequence[Atoms],
    energies: NDArray[np.float64],
    settings: SelectSettings,
    kT: float,
    seed: int,
) -> list[int]:
    """Return what the histogram of each composition keeps, in the order given."""
    from gapfactory.select.histogram import flat_histogram

    groups: dict[str, list[int]] = {}
    for i in order:
        groups.setdefault(composition_of(structures[i]), []).append(i)
    kept: set[int] = set()
    for number, group in enumerate(sorted(groups)):
        members = groups[group]
        share = settings.labels_per_generation * len(members) / len(order)
        wanted = min(
            round(settings.frames_histogram_per_label * share),
            round(settings.histogram_keeps_at_most * len(members)),
        )
        values = np.array([energies[i] / len(structures[i]) for i in members])
        n = max(wanted, int(np.ceil(share)))
        rng = stream(seed, 0, Stage.SELECT, _HISTOGRAM + number)
        kept |= {members[k] for k in flat_histogram(values, n, kT=kT, bins=settings.bins, rng=rng)}
    return [i for i in order if i in kept]
