"""How noisy labels are: the same structures at the working k-point density and at a higher one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.reference.base import Label

__all__ = ["LabelNoise", "label_noise"]


@dataclass(frozen=True)
class LabelNoise:
    """Differences of labels at the working settings from labels at a higher level.

    Attributes
    ----------
    n_structures
        Structures compared.
    energy_rms_meV
        Root mean square of the energy differences, in meV per atom: the noise floor of the labels.
    energy_max_meV
        Largest one, in meV per atom.
    energy_shift_meV
        Their mean, in meV per atom: a part of the floor that is the same for all structures.
    force_rms
        Root mean square of the differences of force components, in eV/Å.
    """

    n_structures: int
    energy_rms_meV: float
    energy_max_meV: float
    energy_shift_meV: float
    force_rms: float


def label_noise(working: Mapping[str, Label], higher: Mapping[str, Label]) -> LabelNoise:
    """Compare labels of the same structures; only ids present in both count.

    Parameters
    ----------
    working
        Labels at the campaign's settings by structure id.
    higher
        Labels at ``settings.with_higher_density()`` by structure id.

    Raises
    ------
    InputError
        No structure has both labels, or the numbers of atoms differ.
    """
    ids = sorted(set(working) & set(higher))
    if not ids:
        raise InputError("no structure has a label at both levels: label at least one structure at both.")
    energies, forces = [], []
    for name in ids:
        low, high = working[name], higher[name]
        if low.forces.shape != high.forces.shape:
            raise InputError(
                f"the labels of {name} are for {len(low.forces)} and {len(high.forces)} atoms: they are not of the "
                "same structure."
            )
        energies.append(1000.0 * (low.energy - high.energy) / len(low.forces))
        forces.append((low.forces - high.forces).ravel())
    differences = np.array(energies)
    return LabelNoise(
        n_structures=len(ids),
        energy_rms_meV=float(np.sqrt(np.mean(differences**2))),
        energy_max_meV=float(np.abs(differences).max()),
        energy_shift_meV=float(differences.mean()),
        force_rms=float(np.sqrt(np.mean(np.concatenate(forces) ** 2))),
    )
