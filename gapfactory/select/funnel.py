"""The funnel from thousands of relaxations to the structures that are labelled.

Bernstein et al. 2019 (Fig. 1b and Methods): minima of the relaxations -> Boltzmann-biased flat histogram ->
CUR -> all frames of the trajectories that lead to the chosen minima -> flat histogram -> CUR. Everything is
sorted by id first, and every draw has its own stream, so the result depends neither on the order of the input
nor on the number of cores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import SelectionError
from gapfactory.select.cur import choose
from gapfactory.select.histogram import flat_histogram, relative_to_similar_volume
from gapfactory.select.labels import (
    PER_GROUP,
    Pool,
    Step,
    Streams,
    choose_labels,
    group_weights,
    label_shares,
    noise_picks,
    require_unique,
    shortfall,
    too_few,
)
from gapfactory.select.report import HistogramReport, Pick, SelectionReport, StageReport

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.random import Generator
    from numpy.typing import NDArray

    from gapfactory.descriptors.settings import SimilaritySettings
    from gapfactory.select.report import Purpose
    from gapfactory.select.settings import SelectSettings

__all__ = ["Funnel", "StructuresById", "TrajectorySummary"]

#: gives the structures of some ids, in their order
StructuresById = Callable[[Sequence[str]], Sequence["Atoms"]]


@dataclass(frozen=True)
class TrajectorySummary:
    """What the funnel must know of one relaxation; structures are fetched only for those that survive.

    Parameters
    ----------
    id
        Identity of the relaxation.
    group
        Composition group (reduced formula).
    converged
        Whether the last frame is a converged minimum.
    frames
        Ids of the stored frames in order; the last one is the endpoint.
    enthalpies, energies
        (T,) enthalpy at the relaxation's own pressure and energy of each frame, in eV per *atom*.
    volumes
        (T,) volume per atom of each frame, in Å^3 (used for ``energy-at-volume`` only).
    left_known_space
        Whether the uncertainty of the potential ended it: its last frame joins the pool of the second histogram.
    """

    id: str
    group: str
    converged: bool
    frames: tuple[str, ...]
    enthalpies: NDArray[np.float64]
    energies: NDArray[np.float64]
    volumes: NDArray[np.float64]
    left_known_space: bool = False

    def __post_init__(self) -> None:
        lengths = {len(self.frames), len(self.enthalpies), len(self.energies), len(self.volumes)}
        if len(lengths) != 1:
            msg = (
                f"relaxation {self.id} has {sorted(lengths)} frames, energies and volumes: give equal numbers"
            )
            raise SelectionError(msg)


@dataclass(frozen=True)
class Funnel:
    """Selection for generations after the first.

    Parameters
    ----------
    settings
        Sizes, temperatures and method.
    similarity
        The structure kernel.
    species
        Atomic numbers that can occur in the campaign.
    weights
        Share of each composition group; None means in proportion to its relaxations.
    cores
        Threads; results do not depend on it.
    """

    settings: SelectSettings
    similarity: SimilaritySettings
    species: tuple[int, ...]
    weights: Mapping[str, float] | None = None
    cores: int = 1

    def run(
        self,
        trajectories: Sequence[TrajectorySummary],
        structures: StructuresById,
        *,
        generation: int,
        streams: Streams,
    ) -> SelectionReport:
        """Choose the structures of one generation.

        Parameters
        ----------
        trajectories
            All relaxations of the generation, in any order.
        structures
            Fetches frames by id; asked only for what survives a histogram.
        generation
            1, 2, ...: sets kT.
        streams
            Gives the random stream of decision k.

        Raises
        ------
        SelectionError
            If an id is repeated, a group has no weight, or no relaxation ended in a usable minimum.
        """
        require_unique([t.id for t in trajectories], "relaxation")
        require_unique([frame for t in trajectories for frame in t.frames], "frame")
        by_group: dict[str, list[TrajectorySummary]] = defaultdict(list)
        for trajectory in sorted(trajectories, key=lambda t: t.id):
            by_group[trajectory.group].append(trajectory)
        minima = {group: self._minima(members) for group, members in by_group.items()}
        if not any(pool.ids for pool in minima.values()):
            msg = (
                f"none of the {len(trajectories)} relaxations ended in a usable minimum; allow more steps, "
                'or set minima: "all" in the selection'
            )
            raise SelectionError(msg)
        weights = group_weights(self.weights, {group: len(m) for group, m in by_group.items()})
        n_frames = {
            group: sum(int(np.isfinite(self._values(t)).sum()) for t in members) if minima[group].ids else 0
            for group, members in by_group.items()
        }
        shares = label_shares(self.settings, weights, n_frames)
        picks: list[Pick] = []
        stages: list[StageReport] = []
        notes: list[str] = []
        for number, group in enumerate(sorted(by_group)):
            sizes = {purpose: share[group] for purpose, share in shares.items()}
            if sum(sizes.values()) == 0:
                continue
            chosen, done, remarks = self._run_group(
                group,
                by_group[group],
                minima[group],
                structures,
                sizes=sizes,
                kT=self.settings.kt(generation),
                streams=streams,
                base=number * PER_GROUP,
            )
            picks += chosen
            stages += done
            notes += remarks
        finite = sum(int(np.isfinite(self._values(t)).sum()) for t in trajectories)
        total = sum(len(t.frames) for t in trajectories)
        counts = {
            "relaxations": len(trajectories),
            "converged": sum(t.converged for t in trajectories),
            "minima": sum(len(pool.ids) for pool in minima.values()),
            "frames": total,
            "left known space": sum(t.left_known_space for t in trajectories),
            "frames without a finite energy": total - finite,
        }
        notes += shortfall(stages) + too_few(self.settings, shares)
        notes += [f"{group}: no usable minimum" for group in sorted(minima) if not minima[group].ids]
        return SelectionReport(
            tuple(picks), noise_picks(picks, self.settings, streams), tuple(stages), counts, tuple(notes)
        )

    def _values(self, trajectory: TrajectorySummary) -> NDArray[np.float64]:
        enthalpy = self.settings.energy == "enthalpy"
        return np.asarray(trajectory.enthalpies if enthalpy else trajectory.energies, dtype=np.float64)

    def _pool(self, rows: list[tuple[str, float, float, str]]) -> Pool:
        """Make a pool of (id, value, volume, trajectory), sorted by id, of finite values."""
        kept = sorted(row for row in rows if np.isfinite(row[1]))
        values = np.array([row[1] for row in kept])
        if kept and self.settings.energy == "energy-at-volume":
            volumes = np.array([row[2] for row in kept])
            values = relative_to_similar_volume(values, volumes, window=self.settings.volume_window)
        return Pool([row[0] for row in kept], values, [row[3] for row in kept])

    def _minima(self, trajectories: Sequence[TrajectorySummary]) -> Pool:
        usable = [t for t in trajectories if t.frames and (t.converged or self.settings.minima == "all")]
        return self._pool(
            [(t.frames[-1], float(self._values(t)[-1]), float(t.volumes[-1]), t.id) for t in usable]
        )

    def _frames(self, trajectories: Sequence[TrajectorySummary], chosen: set[str]) -> Pool:
        rows: list[tuple[str, float, float, str]] = []
        for t in trajectories:
            if t.id in chosen or (self.settings.frames_of_unconverged and not t.converged):
                offered = slice(None)
            elif t.left_known_space:
                offered = slice(-1, None)
            else:
                continue
            rows += [
                (frame, float(v), float(w), t.id)
                for frame, v, w in zip(
                    t.frames[offered], self._values(t)[offered], t.volumes[offered], strict=True
                )
            ]
        return self._pool(rows)

    def _vectors(self, ids: Sequence[str], structures: StructuresById) -> NDArray[np.float64]:
        from gapfactory.descriptors.average_soap import average_soap

        atoms = structures(ids)
        if len(atoms) != len(ids):
            msg = f"{len(ids)} structures were asked for by id and {len(atoms)} came back"
            raise SelectionError(msg)
        return average_soap(atoms, species=self.species, settings=self.similarity, cores=self.cores)

    def _capped(self, n: int, pool: int, needed: int) -> int:
        """Return how many a histogram keeps: at most a part of its pool, at least what is needed."""
        return max(min(n, round(self.settings.histogram_keeps_at_most * pool)), needed)

    def _histogram(
        self, pool: Pool, n: int, kT: float, group: str, stage: str, rng: Generator
    ) -> tuple[Pool, StageReport]:
        kept = flat_histogram(pool.values, n, kT=kT, bins=self.settings.bins, rng=rng)
        histogram = HistogramReport.of(pool.values, kept, self.settings.bins)
        return pool.take(kept), StageReport(group, stage, len(pool.ids), n, len(kept), kT, histogram)

    def _run_group(
        self,
        group: str,
        trajectories: Sequence[TrajectorySummary],
        minima: Pool,
        structures: StructuresById,
        *,
        sizes: Mapping[Purpose, int],
        kT: float,
        streams: Streams,
        base: int,
    ) -> tuple[list[Pick], list[StageReport], list[str]]:
        s = self.settings
        n_labels = sum(sizes.values())
        n_cur = max(round(s.minima_cur_fraction * len(trajectories)), n_labels)
        n_first = max(
            round(s.minima_histogram_fraction * len(trajectories)),
            round(n_cur * s.minima_histogram_fraction / s.minima_cur_fraction),
        )
        n_first = self._capped(n_first, len(minima.ids), n_cur)
        kept, first = self._histogram(
            minima, n_first, kT, group, "minima-histogram", streams(base + Step.MINIMA_HISTOGRAM)
        )
        choice = choose(
            self._vectors(kept.ids, structures),
            n_cur,
            settings=s,
            zeta=self.similarity.zeta,
            rng=streams(base + Step.MINIMA_CUR),
            cores=self.cores,
        )
        second = StageReport(
            group,
            "minima-cur",
            len(kept.ids),
            n_cur,
            len(choice.indices),
            histogram=HistogramReport.of(kept.values, choice.indices, s.bins),
            rank=choice.rank,
            duplicates=choice.duplicates,
        )
        frames = self._frames(trajectories, {kept.trajectories[i] for i in choice.indices})
        n_frames = round(s.frames_histogram_per_label * n_labels)
        n_frames = self._capped(n_frames, len(frames.ids), n_labels)
        survivors, third = self._histogram(
            frames, n_frames, kT, group, "frames-histogram", streams(base + Step.FRAMES_HISTOGRAM)
        )
        picks, last, notes = choose_labels(
            survivors,
            survivors.ids,
            self._vectors(survivors.ids, structures),
            group=group,
            sizes=sizes,
            settings=s,
            zeta=self.similarity.zeta,
            streams=streams,
            base=base,
            cores=self.cores,
        )
        return picks, [first, second, third, *last], notes
