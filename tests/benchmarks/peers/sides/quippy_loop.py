"""The whole loop as one writes it with ASE, quippy and gap_fit: random cells, relaxation, CUR, labels, fit, again.

Random cells come from ASE's genetic algorithm, relaxation is ASE's L-BFGS with quippy under a random pressure, frames
are chosen by CUR of average SOAP vectors among those of low enthalpy, the fit is one call of gap_fit.
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.io import write
from ase.optimize.precon import PreconLBFGS
from ase.units import GPa
from ase_ga_cells import generator
from clock import Clock, side
from quippy.descriptors import Descriptor
from quippy.potential import Potential
from quippy_steps import leverage_choice, soap_text

#: every fifth frame of a relaxation is a candidate
EVERY = 5


def random_cells(task: dict[str, Any], count: int, rng: np.random.Generator) -> list[Atoms]:
    """Return random cells."""
    cells: list[Atoms] = []
    while len(cells) < count:
        atoms = 2 * int(rng.integers(task["atoms"][0] // 2, task["atoms"][1] // 2 + 1))
        volume = task["volume_per_atom"] * rng.uniform(0.8, 1.2)
        made = generator({**task, "atoms": atoms, "volume_per_atom": volume}, rng).get_new_candidate()
        if made is not None:
            cells.append(Atoms(made.numbers, made.positions, cell=made.cell, pbc=True))
    return cells


def relaxed(
    cells: list[Atoms], calculator: Any, task: dict[str, Any], rng: np.random.Generator
) -> list[Atoms]:
    """Relax the cells and return frames with their enthalpy per atom."""
    frames: list[Atoms] = []
    for cell in cells:
        cell.calc = calculator
        pressure = task["pressure_GPa"] * rng.exponential(0.2) * GPa
        path: list[Atoms] = []
        optimiser = PreconLBFGS(
            FrechetCellFilter(cell, scalar_pressure=pressure), precon=None, logfile=None, maxstep=0.2
        )

        def keep(path: list[Atoms] = path, cell: Atoms = cell, pressure: float = pressure) -> None:
            frame = cell.copy()
            frame.info["h"] = (cell.get_potential_energy() + pressure * cell.get_volume()) / len(cell)
            path.append(frame)

        optimiser.attach(keep, interval=EVERY)
        try:
            optimiser.run(fmax=0.01, smax=0.0005, steps=task["max_steps"])
            keep()
        except RuntimeError:
            continue
        frames += path
    return frames


def chosen(frames: list[Atoms], n: int, soap: Descriptor, rng: np.random.Generator) -> list[Atoms]:
    """Choose frames: low enthalpies are preferred (Boltzmann, 0.3 eV), then CUR."""
    if "h" in frames[0].info:
        h = np.array([frame.info["h"] for frame in frames])
        weights = np.exp(-(h - h.min()) / 0.3)
        kept = min(4 * n, int((weights > 0).sum()))
        frames = [frames[k] for k in rng.choice(len(frames), kept, replace=False, p=weights / weights.sum())]
    vectors = np.array([soap.calc(frame)["data"][0] for frame in frames])
    return [frames[k] for k in leverage_choice(vectors, n, 4)]


def labelled(structures: list[Atoms], reference: Any, kind: str) -> list[Atoms]:
    """Return copies with energies, forces and virials under QUIP's names."""
    found = []
    for atoms in structures:
        done = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        done.calc = reference
        energy, forces, stress = done.get_potential_energy(), done.get_forces(), done.get_stress(voigt=False)
        done.calc = None
        done.info.update(
            config_type=kind, REF_energy=energy, REF_virial=(-done.get_volume() * stress).ravel("F")
        )
        done.arrays["REF_forces"] = forces
        if kind != "crystal":
            del done.info["REF_virial"]
        found.append(done)
    return found


def fit(data: list[Atoms], task: dict[str, Any]) -> None:
    """Fit with gap_fit; terms and cutoffs as on the other sides."""
    terms = task["terms"]
    write("train.xyz", data)
    two_body = (
        f"distance_2b cutoff={terms['cutoff_2b']} covariance_type=ard_se delta=1.0 theta_uniform=1.0 "
        f"n_sparse={terms['two_body']} sparse_method=uniform add_species=T"
    )
    three_body = (
        f"angle_3b cutoff={terms['cutoff_3b']} covariance_type=ard_se delta=0.3 theta_uniform=1.0 "
        f"n_sparse={terms['three_body']} sparse_method=uniform add_species=T"
    )
    soap = (
        f"soap cutoff={terms['cutoff_soap']} cutoff_transition_width=1.0 n_max={terms['n_max']} "
        f"l_max={terms['l_max']} atom_sigma=0.5 zeta=4 delta=0.1 covariance_type=dot_product "
        f"n_sparse={terms['soap']} sparse_method=cur_points add_species=T"
    )
    subprocess.run(
        [
            "gap_fit", "at_file=train.xyz", "gp_file=gap.xml", "energy_parameter_name=REF_energy",
            "force_parameter_name=REF_forces", "virial_parameter_name=REF_virial", "sparse_jitter=1e-8",
            "do_copy_at_file=F", "sparse_separate_file=T", "e0_method=isolated",
            "default_sigma={0.002 0.1 0.2 0.0}", "config_type_sigma={isolated_atom:0.0001:0.01:0.01:0.0}",
            f"gap={{{two_body} : {three_body} : {soap}}}",
        ],
        check=True,
    )  # fmt: skip


def loop(task: dict[str, Any]) -> dict[str, Any]:
    """Run it."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(task["seed"])
    clock = Clock()
    reference = Potential("IP SW", param_str=task["reference"])
    reference.set_default_properties(["energy", "forces", "stress"])
    soap = Descriptor(soap_text(task))
    box = [20.0, 20.0, 20.0]
    dimers = [
        Atoms("Si2", [[0, 0, 0], [d, 0, 0]], cell=box, pbc=True)
        for d in np.linspace(1.4, 5.0, task["dimers"])
    ]
    data = labelled([Atoms("Si", cell=box, pbc=True)], reference, "isolated_atom")
    data += labelled(dimers, reference, "dimer")
    number = 0
    for turn in range(task["rounds"]):
        frames = random_cells(task, task["cells"], rng)
        if turn:
            calculator = Potential("", param_filename="gap.xml")
            calculator.set_default_properties(["energy", "forces", "stress"])
            frames = relaxed(frames, calculator, task, rng)
        taken = labelled(chosen(frames, task["labels"] + task["held_out"], soap, rng), reference, "crystal")
        number += task["labels"]
        data += taken[: task["labels"]]  # the others are held out, as on the other sides
        fit(data, task)
    return {**clock.read(), "labels": number, "potential": str(Path("gap.xml").resolve())}


if __name__ == "__main__":
    side({"loop": loop})
