"""Interatomic potentials: models, fits and calculators of each family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapfactory.potentials.calculator import EngineCalculator

__all__ = ["load_potential"]


def load_potential(directory: Path | str) -> EngineCalculator:
    """Return a calculator for the potential in a directory, of whichever family its files are.

    Every file is compared with the manifest and read completely.

    Raises
    ------
    PotentialError
        If the files are of no family, or the potential is truncated, altered or incomplete.
    """
    from gapfactory.errors import PotentialError
    from gapfactory.potentials import eddp, gap
    from gapfactory.potentials.eddp.files import EDDP_NAME
    from gapfactory.potentials.gap.files import XML_NAME
    from gapfactory.potentials.manifest import listed_files

    directory = Path(directory)
    names = listed_files(directory)
    if XML_NAME in names:
        return gap.load_potential(directory)
    if EDDP_NAME in names:
        return eddp.load_potential(directory)
    msg = (
        f"the files in {directory} ({', '.join(sorted(names)) or 'none'}) are no potential: one has {XML_NAME} (GAP) "
        f"or {EDDP_NAME} (EDDP)"
    )
    raise PotentialError(msg)
