"""Relaxation of random cells under pressure, with an anneal or without, and of named phases."""

from __future__ import annotations

from gapfactory.search.batch import relax_batch, relax_each, search_each
from gapfactory.search.evaluator import batch_evaluator
from gapfactory.search.phases import left_phase, relax_at_fixed_volume, relax_phase
from gapfactory.search.relax import draw_pressure, relax
from gapfactory.search.settings import AnnealSettings, PhaseRelaxSettings, RelaxSettings
from gapfactory.search.trajectory import Trajectory

__all__ = [
    "AnnealSettings",
    "PhaseRelaxSettings",
    "RelaxSettings",
    "Trajectory",
    "batch_evaluator",
    "draw_pressure",
    "left_phase",
    "relax",
    "relax_at_fixed_volume",
    "relax_batch",
    "relax_each",
    "relax_phase",
    "search_each",
]
