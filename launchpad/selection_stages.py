"""What the funnel of a campaign's newest selection had and kept at each step, as it recorded it (Fig. 1b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from gapfactory.figures import SelectionStage

__all__ = ["selection_stages"]

#: Step of the funnel, its side, and what that is called.
_STAGES: Final = (
    ("minima-histogram", "pool", "all minima"),
    ("minima-cur", "chosen", "minima kept"),
    ("frames-histogram", "pool", "frames on the paths to them"),
    ("frames-histogram", "chosen", "frames kept by the histogram"),
)
#: Bins that the histograms of several composition groups are counted into together.
_BINS: Final = 24


def selection_stages(database: Database[Any], campaign: str) -> tuple[SelectionStage, ...]:
    """Return the steps of the newest selection by energy, and what it chose to be labelled.

    Energies (eV/atom) count from the lowest of each composition group; empty where no selection was by energy.
    """
    from gapfactory.figures import SelectionStage

    newest = database.selections.find_one(
        {"campaign": campaign, "generation": {"$gte": 1}}, {"report": 1}, sort=[("generation", -1)]
    )
    if newest is None:
        return ()
    report = newest["report"]
    known = [s for s in report["stages"] if s["histogram"] is not None]
    zeros: dict[str, float] = {}
    for stage in known:
        lowest = stage["histogram"]["lowest_eV"]
        zeros[stage["group"]] = min(zeros.get(stage["group"], lowest), lowest)
    found = []
    for step, side, name in _STAGES:
        histograms = [_counted(s, side, zeros[s["group"]]) for s in known if s["stage"] == step]
        if histograms:
            edges, counts = _pooled(histograms)
            found.append(SelectionStage(name, edges=edges, counts=counts))
    picks = [p for p in report["picks"] if p["energy_eV"] is not None and p["group"] in zeros]
    if picks:
        energies = tuple(float(p["energy_eV"]) - zeros[p["group"]] for p in picks)
        found.append(SelectionStage("chosen to be labelled", energies, tuple(p["id"] for p in picks)))
    return tuple(s for s in found if s.size)


def _counted(stage: Mapping[str, Any], side: str, zero: float) -> tuple[list[float], list[int]]:
    histogram = stage["histogram"]
    shift = histogram["lowest_eV"] - zero
    return [edge + shift for edge in histogram["edges_eV"]], list(histogram[side])


def _pooled(
    histograms: Sequence[tuple[list[float], list[int]]],
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the histogram as it is, or several counted into common bins by the centres of their own."""
    import numpy as np

    if len(histograms) == 1:
        edges, counts = histograms[0]
        return tuple(edges), tuple(counts)
    common = np.linspace(0.0, max(edges[-1] for edges, _ in histograms), _BINS + 1)
    total = np.zeros(_BINS, dtype=np.int64)
    for edges, counts in histograms:
        centres = 0.5 * (np.asarray(edges)[1:] + np.asarray(edges)[:-1])
        total += np.histogram(centres, common, weights=counts)[0].astype(np.int64)
    return tuple(common.tolist()), tuple(total.tolist())
