"""The `gapfactory` command: thin typer commands over `launchpad.service`."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error of ours becomes one clear screen and exit code 1."""
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
        sys.exit(1)
