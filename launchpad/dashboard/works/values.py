"""What a potential says of the atoms of a structure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.dashboard.works import Made, as_json

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.dashboard.works import Tell

__all__ = ["values_of_atoms"]


def values_of_atoms(database: Database[Any], tell: Tell, key: str, generation: int) -> Made:
    """Return what a potential says of each atom of a structure.

    Returns
    -------
    Made
        ``values``, a mapping: ``local_energy`` (eV), ``force_error`` (eV/Å, length of the difference to the reference;
        None without a label) and a ``note`` that says by which potential.
    """
    import numpy as np
    from ase import Atoms

    from gapfactory.potentials import load_potential
    from launchpad.dashboard.queries.structures import find, label_of
    from launchpad.database.potentials import cached_potential, require_potential

    tell("loading the potential", 0, 0)
    subject = find(database, key)
    record = require_potential(database, subject.campaign, generation)
    crystal = subject.crystal
    atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=crystal.pbc)
    atoms.calc = load_potential(cached_potential(database, record))
    local = [round(float(value), 6) for value in atoms.get_potential_energies()]
    note = f"by the potential of generation {generation}"
    label = label_of(database, subject)
    error = None
    if label is not None and label.status == "done" and label.forces is not None:
        difference = atoms.get_forces() - label.forces
        error = [round(float(value), 6) for value in np.linalg.norm(difference, axis=1)]
    else:
        note += "; no label, hence no force error"
    return Made({"values": as_json({"local_energy": local, "force_error": error, "note": note})})
