"""Figures for reports and papers: analysis results in, matplotlib `Figure` out.

No function touches matplotlib's global state; every figure is drawn by the object-oriented interface on the
Agg canvas, with units on its axes and the legend outside the data.
"""

from __future__ import annotations

from gapfactory.figures.campaign import (
    SelectionStage,
    energy_distribution,
    selection_histograms,
    time_budget,
)
from gapfactory.figures.cells import cell_pictures, level_differences
from gapfactory.figures.crystals import (
    distorted_crystal_errors,
    occupation_models,
    polymorph_curves,
    search_rates,
)
from gapfactory.figures.database import database_boxes, database_energy_volume
from gapfactory.figures.formation import formation_energies
from gapfactory.figures.local_energies import local_energy_pictures
from gapfactory.figures.quality import energy_scatter, learning_curve, phase_curves
from gapfactory.figures.searches import best_structures, density_of_structures
from gapfactory.figures.stability import contact_curves, dynamics_trace, trial_times
from gapfactory.figures.structures import hull_plot, similarity_map_plot
from gapfactory.figures.training import (
    enthalpy_histograms,
    error_windows,
    fit_errors,
    held_out_errors,
    training_set,
)
from gapfactory.figures.vibration_studies import bain_picture, phonon_learning_picture
from gapfactory.figures.vibrations import (
    PhononPanel,
    elastic_errors_picture,
    phonon_picture,
    phonon_pictures,
)

__all__ = [
    "PhononPanel",
    "SelectionStage",
    "bain_picture",
    "best_structures",
    "cell_pictures",
    "contact_curves",
    "database_boxes",
    "database_energy_volume",
    "density_of_structures",
    "distorted_crystal_errors",
    "dynamics_trace",
    "elastic_errors_picture",
    "energy_distribution",
    "energy_scatter",
    "enthalpy_histograms",
    "error_windows",
    "fit_errors",
    "formation_energies",
    "held_out_errors",
    "hull_plot",
    "learning_curve",
    "level_differences",
    "local_energy_pictures",
    "occupation_models",
    "phase_curves",
    "phonon_learning_picture",
    "phonon_picture",
    "phonon_pictures",
    "polymorph_curves",
    "search_rates",
    "selection_histograms",
    "similarity_map_plot",
    "time_budget",
    "training_set",
    "trial_times",
]
