"""The common practice, ASE and quippy: selection by SOAP and CUR in numpy, relaxation by ASE's L-BFGS."""

from __future__ import annotations

import resource
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize.precon import PreconLBFGS
from ase.units import GPa
from clock import Clock, side

if TYPE_CHECKING:
    from numpy.typing import NDArray


def soap_text(task: dict[str, Any]) -> str:
    """Return quippy's words for the average SOAP vector of one element."""
    return (
        "soap average=T "
        + " ".join(f"{key}={value}" for key, value in task["soap"].items())
        + f" n_Z=1 Z={task['number']} n_species=1 species_Z={task['number']}"
    )


def leverage_choice(vectors: NDArray[np.float64], n: int, zeta: int) -> NDArray[np.int64]:
    """Return the n structures of highest leverage in the kernel matrix, by numpy's eigenvectors."""
    kernel = (vectors @ vectors.T) ** zeta
    _, axes = np.linalg.eigh(kernel)
    leading = axes[:, -max(1, n // 2) :]
    return np.argsort(-(leading**2).sum(axis=1))[:n]


def select(task: dict[str, Any]) -> dict[str, Any]:
    """Describe cells and choose some."""
    from quippy.descriptors import Descriptor

    cells = read(task["cells"], ":")
    descriptor = Descriptor(soap_text(task))
    descriptor.calc(cells[0])
    clock = Clock()
    vectors = np.array([descriptor.calc(cell)["data"][0] for cell in cells])
    described = clock.read()["cpu_s"]
    chosen = leverage_choice(vectors, task["choose"], task["zeta"])
    np.save("vectors.npy", vectors)
    return {**clock.read(), "descriptors_cpu_s": described, "chosen": [int(k) for k in chosen]}


def cur(task: dict[str, Any]) -> dict[str, Any]:
    """Choose from vectors that are there."""
    vectors = np.load(task["vectors"])[: task["cells"]]
    clock = Clock()
    chosen = leverage_choice(vectors, task["choose"], task["zeta"])
    return {
        **clock.read(),
        "chosen": [int(k) for k in chosen],
        "peak_GB": 1024e-9 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def relax(task: dict[str, Any]) -> dict[str, Any]:
    """Relax cells one by one; the three properties are asked for together, so that none is computed twice."""
    from quippy.potential import Potential

    cells = read(task["cells"], ":")
    calculator = Potential("", param_filename=task["potential"])
    calculator.set_default_properties(["energy", "forces", "stress"])
    warnings.simplefilter("ignore")
    clock = Clock()
    converged, enthalpies, steps = [], [], 0
    for cell in cells:
        atoms = cell.copy()
        atoms.calc = calculator
        pressure = float(cell.info["pressure_GPa"]) * GPa
        filtered = FrechetCellFilter(atoms, scalar_pressure=pressure)
        optimiser = PreconLBFGS(filtered, precon=None, logfile=None, maxstep=task["max_step"])
        try:
            good = optimiser.run(fmax=task["fmax"], smax=task["smax"], steps=task["max_steps"])
            enthalpies.append((atoms.get_potential_energy() + pressure * atoms.get_volume()) / len(atoms))
        except RuntimeError:
            good = False
            enthalpies.append(float("inf"))
        converged.append(bool(good))
        steps += optimiser.nsteps
    return {**clock.read(), "converged": converged, "enthalpies": enthalpies, "steps": steps}


if __name__ == "__main__":
    side({"select": select, "cur": cur, "relax": relax})
