"""The science without a campaign: structures and labels come from files, and results go into files."""

from gapfactory.files.evaluation import Evaluated, GroupErrors, errors_by_group, evaluate_each
from gapfactory.files.fitting import FileFit, fit_files, settings_for
from gapfactory.files.reading import NamedStructure, read_named
from gapfactory.files.selection import choose_structures
from gapfactory.files.training import TrainingFiles, training_structures

__all__ = [
    "Evaluated",
    "FileFit",
    "GroupErrors",
    "NamedStructure",
    "TrainingFiles",
    "choose_structures",
    "errors_by_group",
    "evaluate_each",
    "fit_files",
    "read_named",
    "settings_for",
    "training_structures",
]
