"""Labelled silicon of somebody's own: strained, shaken cells of two phases by Stillinger-Weber, in any convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from gapfactory.reference.analytic import StillingerWeberSilicon

if TYPE_CHECKING:
    from pathlib import Path

    from gapfactory.campaign import Campaign

#: Names of energy, forces and stress or virial in extended XYZ; a virial is minus volume times the stress.
CONVENTIONS: Final = {
    "MACE": ("REF_energy", "REF_forces", "REF_stress"),
    "GAP": ("dft_energy", "dft_force", "dft_virial"),
    "NequIP": ("energy", "forces", "stress"),
}


def labelled_silicon(number: int = 20, *, seed: int = 3) -> list[Atoms]:
    """Return cells of 1, 2 and 4 atoms with their labels as ASE's calculators give them."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(number):
        size = rng.uniform(0.93, 1.1)
        atoms = bulk("Si", "diamond", a=5.43 * size) if k % 2 else bulk("Si", "sc", a=2.6 * size)
        if k % 3 == 0:
            atoms = atoms.repeat((2, 1, 1))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = StillingerWeberSilicon()
        labels = {
            "energy": float(atoms.get_potential_energy()),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        found.append(atoms)
    return found


def write_data(
    path: Path, structures: list[Atoms], convention: str = "MACE", *, shift: float = 0.0, sign: float = 1.0
) -> None:
    """Write labelled structures.

    Parameters
    ----------
    convention
        A key of `CONVENTIONS`.
    shift
        Added to the energies, eV per atom: another method.
    sign
        Of the stresses or virials: -1 for a wrong one.
    """
    energy, forces, stress = CONVENTIONS[convention]
    written = []
    for atoms in structures:
        bare = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        tensor = sign * atoms.get_stress(voigt=False)
        if "virial" in stress:
            tensor = -tensor * atoms.get_volume()
        # as numbers: ASE keeps what is named like a result of a calculator to itself
        bare.info |= {energy: atoms.get_potential_energy() + shift * len(atoms), stress: tensor}
        bare.arrays[forces] = atoms.get_forces()
        written.append(bare)
    write(path, written, format="extxyz")


def choose_given(database: Any, campaign: Campaign) -> None:
    """Store what generation 0 of a campaign that begins with data chooses, as its task does."""
    from launchpad.database.documents import SelectionDocument, generation_id
    from launchpad.database.results import save_selection
    from launchpad.own_data import chosen_data

    train, test = chosen_data(campaign, 0)
    key = generation_id(campaign.name, 0)
    save_selection(
        database,
        SelectionDocument(id=key, campaign=campaign.name, generation=0, train=train, test=test, report={}),
    )
