"""Ephemeral data-derived potentials: environment vectors, small networks, ensembles, calculator and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from gapfactory.potentials.eddp.calculator import EddpCalculator, load_potential
    from gapfactory.potentials.eddp.data import Split, TrainingSet, prepare, split_structures
    from gapfactory.potentials.eddp.features import Features
    from gapfactory.potentials.eddp.files import format_ddp, parse_ddp, read_ddp, read_eddp, write_eddp
    from gapfactory.potentials.eddp.fit import EddpFit, fit_eddp, training_key, training_set
    from gapfactory.potentials.eddp.network import Baseline, Ensemble, Network
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.eddp.train import (
        EnergyErrors,
        TrainedEnsemble,
        TrainedNetwork,
        combine,
        energy_errors,
        train_network,
    )

__all__ = [
    "Baseline",
    "EddpCalculator",
    "EddpFit",
    "EddpSettings",
    "EnergyErrors",
    "Ensemble",
    "Features",
    "Network",
    "Split",
    "TrainedEnsemble",
    "TrainedNetwork",
    "TrainingSet",
    "combine",
    "energy_errors",
    "fit_eddp",
    "format_ddp",
    "load_potential",
    "parse_ddp",
    "prepare",
    "read_ddp",
    "read_eddp",
    "split_structures",
    "train_network",
    "training_key",
    "training_set",
    "write_eddp",
]

__getattr__ = lazy_names(
    __name__,
    {
        "calculator": ("EddpCalculator", "load_potential"),
        "data": ("Split", "TrainingSet", "prepare", "split_structures"),
        "features": ("Features",),
        "files": ("format_ddp", "parse_ddp", "read_ddp", "read_eddp", "write_eddp"),
        "fit": ("EddpFit", "fit_eddp", "training_key", "training_set"),
        "network": ("Baseline", "Ensemble", "Network"),
        "settings": ("EddpSettings",),
        "train": (
            "EnergyErrors",
            "TrainedEnsemble",
            "TrainedNetwork",
            "combine",
            "energy_errors",
            "train_network",
        ),
    },
)
