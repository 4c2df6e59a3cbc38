"""The `gapfactory` command: thin typer commands over `launchpad.service`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapfactory.errors import GapFactoryError

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error of ours, of the database or of the disk becomes one clear screen, exit code 1."""
    import os
    import sys

    # numerical libraries run with one thread per process; must be set before numpy is imported
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from gapfactory.errors import GapFactoryError
    from launchpad.cli.app import app
    from launchpad.cli.output import show_error

    try:
        app()
    except GapFactoryError as error:
        show_error(error)
    except Exception as error:
        known = _known_fault(error)
        if known is None:
            raise
        show_error(known)
    else:
        return
    sys.exit(1)


def _known_fault(error: Exception) -> GapFactoryError | None:
    """Return an error of the database or of the operating system as one of ours, or None: it is a defect."""
    import sys

    from gapfactory.errors import DatabaseError, ServiceError

    # a light command has not imported pymongo: then the error cannot be one of its
    if "pymongo" in sys.modules:
        from pymongo.errors import PyMongoError

        from launchpad.database.connection import describe_database_error

        if isinstance(error, PyMongoError):
            return DatabaseError(describe_database_error(error, "the database"))
    if isinstance(error, OSError):
        return ServiceError(
            f"{error}. Nothing in the database is affected; mend the cause (space, rights, path) and repeat "
            "the command."
        )
    return None
