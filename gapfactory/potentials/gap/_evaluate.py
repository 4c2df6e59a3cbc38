"""The throw-away process of `check.evaluate_apart`: directory, input, output, properties, token."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from gapfactory.errors import GapFactoryError


def main(arguments: list[str]) -> int:
    """Evaluate the structures of the input file, write the output file, then print the token."""
    from ase import Atoms

    from gapfactory.potentials.gap.quip_calculator import QuipCalculator

    directory, source, target, properties, token = arguments
    with np.load(source, allow_pickle=False) as data:
        counts, numbers, positions, cells, pbc = (
            data[name] for name in ("counts", "numbers", "positions", "cells", "pbc")
        )
    ends = np.cumsum(counts)
    energies, forces, stresses = (
        np.empty(len(counts)),
        np.zeros(positions.shape),
        np.full((len(counts), 6), np.nan),
    )
    try:
        calculator: Any = QuipCalculator(Path(directory), properties=properties)
        calculator.limit = np.inf  # early stages of a fit may be far off; they are judged by their errors
        for k, (end, count) in enumerate(zip(ends, counts, strict=True)):
            rows = slice(end - count, end)
            atoms = Atoms(numbers=numbers[rows], positions=positions[rows], cell=cells[k], pbc=pbc[k])
            energies[k] = calculator.get_potential_energy(atoms)
            if properties == "all":
                forces[rows] = calculator.get_forces(atoms)
                if pbc[k].all():
                    stresses[k] = calculator.get_stress(atoms)
    except GapFactoryError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    np.savez(target, energies=energies, forces=forces, stresses=stresses)
    sys.stdout.write(f"\n{token}\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
