"""What the selections of all generations share: streams, shares, and the choice of labels from a pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import SelectionError
from gapfactory.select.cur import choose
from gapfactory.select.quota import share_out
from gapfactory.select.report import HistogramReport, Pick, StageReport

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from gapfactory.select.report import Purpose
    from gapfactory.select.settings import SelectSettings

__all__ = [
    "PER_GROUP",
    "Pool",
    "Step",
    "Streams",
    "choose_labels",
    "group_weights",
    "label_shares",
    "noise_picks",
    "require_unique",
    "shortfall",
    "too_few",
]

#: random stream of decision number k of this generation: ``lambda k: stream(seed, g, Stage.SELECT, k)``
Streams = Callable[[int], "Generator"]

#: decisions kept apart for each composition group; part of reproducibility, never change
PER_GROUP = 8


class Step(IntEnum):
    """Numbers of the random decisions within a composition group: part of reproducibility, never renumber."""

    MINIMA_HISTOGRAM = 0
    MINIMA_CUR = 1
    FRAMES_HISTOGRAM = 2
    CUR = 3
    HELD_OUT = 4
    #: once for all groups
    NOISE = 5


@dataclass(frozen=True)
class Pool:
    """Frames of one composition group: ids, values in eV per atom, trajectories; sorted by id."""

    ids: list[str]
    values: NDArray[np.float64]
    trajectories: list[str]

    def take(self, indices: NDArray[np.int64]) -> Pool:
        """Return the members named by `indices`, in that order."""
        return Pool(
            [self.ids[i] for i in indices], self.values[indices], [self.trajectories[i] for i in indices]
        )


def require_unique(ids: Sequence[str], what: str) -> None:
    """Raise SelectionError when an id occurs twice."""
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        repeated = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        msg = f"{what} {repeated} is listed twice; give every one once"
        raise SelectionError(msg)


def noise_picks(picks: Sequence[Pick], settings: SelectSettings, streams: Streams) -> tuple[str, ...]:
    """Return the ids, sorted, of the training picks that are labelled once more, drawn at random."""
    ids = sorted(pick.id for pick in picks if pick.purpose == "training")
    n = min(settings.noise_cells, len(ids))
    if n == 0:
        return ()
    return tuple(ids[i] for i in np.sort(streams(Step.NOISE).choice(len(ids), size=n, replace=False)))


def choose_labels(
    pool: Pool | None,
    ids: Sequence[str],
    vectors: NDArray[np.float64],
    *,
    group: str,
    sizes: Mapping[Purpose, int],
    settings: SelectSettings,
    zeta: int,
    streams: Streams,
    base: int,
    cores: int,
) -> tuple[list[Pick], list[StageReport], list[str]]:
    """Choose training structures, then held-out ones from relaxations without a training structure.

    Neighbouring frames of one relaxation are nearly the same structure, so an error on one of them says little
    when the other is trained on. Where too few relaxations are left, held-out structures are chosen from all
    frames that are, and a note says so.

    Parameters
    ----------
    pool
        Energies and relaxations of the structures; None for cells without them.
    ids
        Identities, sorted.
    vectors : (n, d)
        Their unit vectors, in the same order.
    group, sizes
        Composition group, and how many to choose for each purpose.
    settings, zeta, streams, base, cores
        As in the funnel; `base` is added to the number of each decision.

    Returns
    -------
    tuple
        The picks, the steps, and notes.
    """
    picks: list[Pick] = []
    stages: list[StageReport] = []
    notes: list[str] = []
    exclude = np.empty(0, dtype=np.int64)
    purposes: tuple[tuple[Purpose, str, int], ...] = (
        ("training", "cur", Step.CUR),
        ("held-out", "held-out", Step.HELD_OUT),
    )
    for purpose, stage, number in purposes:
        n = sizes[purpose]
        if n == 0:
            continue
        related = _related(pool, exclude, n)
        if related is None:
            notes.append(
                f"{group}: fewer than {n} relaxations of the pool are without a training structure, so held-out "
                "structures may share a relaxation with one"
            )
        elif related.size:
            exclude = np.concatenate([exclude, related])
        choice = choose(
            vectors, n, settings=settings, zeta=zeta, rng=streams(base + number), exclude=exclude, cores=cores
        )
        for order, index in enumerate(choice.indices):
            value = None if pool is None else float(pool.values[index])
            origin = None if pool is None else pool.trajectories[index]
            score = float(choice.scores[index])
            picks.append(Pick(ids[index], purpose, group, order, score, value, origin))
        left = np.setdiff1d(np.arange(len(ids)), exclude)
        histogram = None
        if pool is not None and left.size:
            kept = np.searchsorted(left, choice.indices)
            histogram = HistogramReport.of(pool.values[left], kept, settings.bins)
        stages.append(
            StageReport(
                group,
                stage,
                pool=len(left),
                requested=n,
                chosen=len(choice.indices),
                histogram=histogram,
                rank=choice.rank,
                duplicates=choice.duplicates,
            )
        )
        exclude = np.concatenate([exclude, choice.indices])
    return picks, stages, notes


def _related(pool: Pool | None, chosen: NDArray[np.int64], n: int) -> NDArray[np.int64] | None:
    """Return the frames not chosen whose relaxation has a chosen one; None if fewer than n relaxations have none."""
    if pool is None or chosen.size == 0:
        return np.empty(0, dtype=np.int64)
    used = {pool.trajectories[i] for i in chosen}
    if len(set(pool.trajectories) - used) < n:
        return None
    inside = np.array([i for i, origin in enumerate(pool.trajectories) if origin in used], dtype=np.int64)
    return np.setdiff1d(inside, chosen)


def shortfall(stages: Sequence[StageReport]) -> list[str]:
    """Return a note for every last step that chose fewer structures than it was asked for."""
    return [
        f"{s.group}: {s.stage} chose {s.chosen} of the {s.requested} asked for, from {s.pool} structures "
        f"({s.duplicates or 0} exact duplicates)"
        for s in stages
        if s.stage in {"cur", "held-out"} and s.chosen < s.requested
    ]


def group_weights(weights: Mapping[str, float] | None, sizes: Mapping[str, int]) -> dict[str, float]:
    """Return a weight for every group that has structures: as given, or in proportion to its structures."""
    if weights is None:
        return {group: float(size) for group, size in sizes.items()}
    missing = sorted(set(sizes) - set(weights))
    if missing:
        msg = (
            f"composition {missing[0]} has structures but no weight; weights are given for {sorted(weights)}"
        )
        raise SelectionError(msg)
    return dict(weights)


def label_shares(
    settings: SelectSettings, weights: Mapping[str, float], capacity: Mapping[str, int]
) -> dict[Purpose, dict[str, int]]:
    """Share the labels of a generation between groups; held-out ones come out of what training leaves."""
    training = share_out(settings.labels_per_generation, weights, capacity)
    left = {group: capacity[group] - training[group] for group in capacity}
    return {"training": training, "held-out": share_out(settings.held_out_per_generation, weights, left)}


def too_few(settings: SelectSettings, shares: Mapping[Purpose, Mapping[str, int]]) -> list[str]:
    """Return a note for each purpose whose shares do not add up to what the settings ask for."""
    asked: dict[Purpose, int] = {
        "training": settings.labels_per_generation,
        "held-out": settings.held_out_per_generation,
    }
    return [
        f"the pool holds only {sum(shares[purpose].values())} of the {n} {purpose} structures asked for"
        for purpose, n in asked.items()
        if sum(shares[purpose].values()) < n
    ]
