"""What a selection chose, from what, and why: plain data, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapfactory.select.histogram import histogram_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HistogramReport", "Pick", "SelectionReport", "StageReport"]

Purpose = Literal["training", "held-out"]


@dataclass(frozen=True)
class HistogramReport:
    """Histogram of a pool and of what was kept of it.

    Parameters
    ----------
    edges_eV
        (bins + 1,) edges in eV per atom, relative to the pool's lowest value.
    pool, chosen
        (bins,) counts before and after.
    lowest_eV
        The pool's lowest value, in eV per atom.
    """

    edges_eV: tuple[float, ...]
    pool: tuple[int, ...]
    chosen: tuple[int, ...]
    lowest_eV: float

    @classmethod
    def of(
        cls, values: NDArray[np.float64], kept: NDArray[np.int64], bins: int | Literal["auto"]
    ) -> HistogramReport:
        """Describe what `kept` (indices) is of `values` (n,) in eV per atom."""
        counts, edges, member = histogram_counts(values, bins=bins)
        lowest = float(values.min())
        return cls(
            edges_eV=tuple(float(e) - lowest for e in edges),
            pool=tuple(int(c) for c in counts),
            chosen=tuple(int(c) for c in np.bincount(member[kept], minlength=len(counts))),
            lowest_eV=lowest,
        )


@dataclass(frozen=True)
class StageReport:
    """One step of the funnel for one composition group.

    Parameters
    ----------
    group
        Composition group.
    stage
        ``minima-histogram``, ``minima-cur``, ``frames-histogram``, ``cur`` or ``held-out``.
    pool, requested, chosen
        Sizes before, asked for, after.
    kT_eV
        Temperature of the bias (histogram steps).
    histogram
        Energies before and after (steps that know energies).
    rank
        Leading vectors of the decomposition (CUR steps; 0 for the random control).
    duplicates
        Exact duplicates passed over (CUR steps).
    """

    group: str
    stage: str
    pool: int
    requested: int
    chosen: int
    kT_eV: float | None = None
    histogram: HistogramReport | None = None
    rank: int | None = None
    duplicates: int | None = None


@dataclass(frozen=True)
class Pick:
    """One chosen structure.

    Parameters
    ----------
    id
        Identity of the cell or frame.
    purpose
        Whether its label is trained on.
    group
        Composition group.
    order
        Place in the order of choice within group and purpose, from 0.
    leverage
        Its leverage score in the last step (scores of a pool sum to one).
    energy_eV
        Enthalpy (or energy, as the settings say) per atom in eV; None for cells without one.
    trajectory
        The relaxation it belongs to; None for cells.
    """

    id: str
    purpose: Purpose
    group: str
    order: int
    leverage: float
    energy_eV: float | None = None
    trajectory: str | None = None


@dataclass(frozen=True)
class SelectionReport:
    """Result of the selection of one generation.

    Parameters
    ----------
    picks
        Chosen structures: by group, training before held-out, in order of choice.
    noise
        Ids of training picks to be labelled once more, to measure the noise of the labels.
    stages
        Every step.
    counts
        Of what was offered: relaxations, converged, frames, frames without a finite energy, ...
    notes
        What the reader should know, such as fewer structures than asked for.
    """

    picks: tuple[Pick, ...]
    noise: tuple[str, ...]
    stages: tuple[StageReport, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]

    def ids(self, purpose: Purpose | None = None) -> list[str]:
        """Return the ids of the picks, of one purpose or of both, in order."""
        return [pick.id for pick in self.picks if purpose is None or pick.purpose == purpose]

    def to_json(self) -> dict[str, Any]:
        """Return the report as dictionaries, lists, numbers and strings."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    """Turn tuples into lists, so that the dictionary equals its own JSON round trip."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
