"""Every error that gapfactory raises on purpose, as one tree.

::

    GapFactoryError
    ├── InputError (also ValueError)      a value the user gave cannot be used
    │   ├── CampaignFileError             a key or value of the campaign file
    │   └── UnknownElementError           no such element, or no tabulated radius
    ├── BuildError                        a random structure cannot be built within its tries
    ├── SelectionError                    a selection cannot be made from this pool
    ├── ReferenceCalculationError         a reference calculation
    │   ├── MissingEngineError            the code is not installed
    │   └── LabelFailedError              this structure cannot be labelled; carries the directory
    ├── FitError                          a potential could not be fitted or is not what was asked for
    ├── PotentialError                    a stored potential is truncated, altered or unreadable
    ├── RelaxationError                   a relaxation cannot start
    ├── EvidenceError                     named phases, learning curves and other judgements
    │   └── UnstableCrystalError          what only a stable crystal has
    └── ServiceError                      database, queue and workers
        ├── DatabaseError
        ├── NotFoundError
        └── StateError                    the campaign is not in a state that allows this

The text of every error names the offending value and the remedy. `code` is stable and documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "BuildError",
    "CampaignFileError",
    "DatabaseError",
    "EvidenceError",
    "FitError",
    "GapFactoryError",
    "InputError",
    "LabelFailedError",
    "MissingEngineError",
    "NotFoundError",
    "PotentialError",
    "ReferenceCalculationError",
    "RelaxationError",
    "SelectionError",
    "ServiceError",
    "StateError",
    "UnknownElementError",
    "UnstableCrystalError",
]


class GapFactoryError(Exception):
    """Base of every error that gapfactory raises on purpose."""

    code = "gapfactory"


class InputError(GapFactoryError, ValueError):
    """A value the user gave cannot be used."""

    code = "input"


class CampaignFileError(InputError):
    """A key or value of the campaign file cannot be used."""

    code = "campaign-file"


class UnknownElementError(InputError):
    """There is no such element, or no radius is tabulated for it."""

    code = "unknown-element"


class BuildError(GapFactoryError):
    """A random structure could not be built within its bounded number of tries."""

    code = "build"


class SelectionError(GapFactoryError):
    """A selection cannot be made from this pool of structures."""

    code = "selection"


class ReferenceCalculationError(GapFactoryError):
    """Something about the reference calculations."""

    code = "reference"


class MissingEngineError(ReferenceCalculationError):
    """The code that should do the reference calculations is not installed."""

    code = "missing-engine"


class LabelFailedError(ReferenceCalculationError):
    """One structure cannot be labelled.

    Parameters
    ----------
    message
        What happened and what to do.
    directory
        Where the files of the failed calculation were kept, or None.
    """

    code = "label-failed"

    def __init__(self, message: str, directory: Path | None = None) -> None:
        super().__init__(message)
        self.directory = directory


class FitError(GapFactoryError):
    """A potential could not be fitted, or the fit is not what was asked for."""

    code = "fit"


class PotentialError(GapFactoryError):
    """A stored potential is truncated, altered or unreadable."""

    code = "potential"


class RelaxationError(GapFactoryError):
    """A relaxation cannot start."""

    code = "relaxation"


class EvidenceError(GapFactoryError):
    """Evidence (named phases, learning curves, errors) cannot be computed from this input."""

    code = "evidence"


class UnstableCrystalError(EvidenceError):
    """A crystal is not stable, and has not what was asked for."""

    code = "unstable-crystal"


class ServiceError(GapFactoryError):
    """Something about the database, the queue or the workers."""

    code = "service"


class DatabaseError(ServiceError):
    """The database cannot be reached, or refused an operation."""

    code = "database"


class NotFoundError(ServiceError):
    """The database holds nothing of this name."""

    code = "not-found"


class StateError(ServiceError):
    """The campaign is not in a state that allows this."""

    code = "state"
