"""The side of wfl (libAtoms workflow): its descriptors, CUR selection and optimiser, each as its documentation says."""

from __future__ import annotations

import os
import resource
from typing import Any

import numpy as np
from ase.io import read
from ase.units import GPa
from clock import Clock, side
from quippy.potential import Potential
from wfl.autoparallelize.autoparainfo import AutoparaInfo
from wfl.configset import ConfigSet, OutputSpec
from wfl.descriptors.quippy import calculate
from wfl.generate.optimize import optimize
from wfl.select.by_descriptor import CUR_conf_global

os.environ.setdefault("WFL_NUM_PYTHON_SUBPROCESSES", "0")


def descriptor(task: dict[str, Any]) -> dict[str, Any]:
    """Return the average SOAP descriptor of one element in wfl's form."""
    number = task["number"]
    return {
        "soap": True, "average": True, **task["soap"], "n_Z": 1, "Z": number, "n_species": 1, "species_Z": number
    }  # fmt: skip


def chosen_of(configs: Any, vectors: Any, task: dict[str, Any]) -> list[int]:
    """Return the indices that CUR chooses."""
    selected = CUR_conf_global(
        ConfigSet(configs),
        OutputSpec(),
        num=task["choose"],
        at_descs=vectors,
        kernel_exp=task["zeta"],
        stochastic=False,
        center=False,
        keep_descriptor_info=True,
    )
    return [int(atoms.info["index"]) for atoms in selected]


def select(task: dict[str, Any]) -> dict[str, Any]:
    """Describe cells and choose some."""
    cells = read(task["cells"], ":")
    for index, atoms in enumerate(cells):
        atoms.info["index"] = index
    clock = Clock()
    described = list(
        calculate(
            ConfigSet(cells),
            OutputSpec(),
            descriptor(task),
            "soap",
            per_atom=False,
            # one descriptor object for many structures, without a pool
            autopara_info=AutoparaInfo(num_python_subprocesses=0, num_inputs_per_python_subprocess=50),
        )
    )
    seconds = clock.read()["cpu_s"]
    vectors = np.array([atoms.info["soap"] for atoms in described])
    chosen = chosen_of(described, vectors, task)
    return {**clock.read(), "descriptors_cpu_s": seconds, "chosen": chosen}


def cur(task: dict[str, Any]) -> dict[str, Any]:
    """Choose from vectors that are there."""
    from ase import Atoms

    vectors = np.load(task["vectors"])[: task["cells"]]
    configs = [Atoms("H", positions=[[k, 0, 0]], info={"index": k}) for k in range(len(vectors))]
    clock = Clock()
    chosen = chosen_of(configs, vectors, task)
    return {
        **clock.read(),
        "chosen": chosen,
        "peak_GB": 1024e-9 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def relax(task: dict[str, Any]) -> dict[str, Any]:
    """Relax cells, each under the pressure in its `info`."""
    cells = read(task["cells"], ":")
    calculator = Potential("", param_filename=task["potential"])
    calculator.set_default_properties(["energy", "forces", "stress"])
    clock = Clock()
    ends = list(
        optimize(
            ConfigSet(cells),
            OutputSpec(),
            calculator,
            fmax=task["fmax"],
            smax=task["smax"],
            steps=task["max_steps"],
            pressure=("info", "pressure_GPa"),
            keep_symmetry=False,
            traj_subselect="last",
            precon=task["precon"],
            maxstep=task["max_step"],
            autopara_info=AutoparaInfo(num_python_subprocesses=0),
        )
    )
    figures = clock.read()
    energies = [atoms.info.get("last_op__optimize_energy", float("inf")) for atoms in ends]
    return {
        **figures,
        "converged": [str(a.info["optimize_config_type"]).endswith("_converged") for a in ends],
        "enthalpies": [
            float(energy + a.info["pressure_GPa"] * GPa * a.get_volume()) / len(a)
            for energy, a in zip(energies, ends, strict=True)
        ],
        "steps": int(sum(a.info["optimize_n_steps"] for a in ends)),
    }


if __name__ == "__main__":
    side({"select": select, "cur": cur, "relax": relax})
