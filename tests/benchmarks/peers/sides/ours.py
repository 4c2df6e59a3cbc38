"""Our side of cells, selection and relaxations. Compiled code is loaded before the clock starts."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np
from ase.io import read, write
from clock import Clock, side


def build(task: dict[str, Any]) -> dict[str, Any]:
    """Make random cells."""
    from gapfactory.build import BuildSettings, build_cell
    from gapfactory.elements import species
    from gapfactory.seeds import Stage, stream

    settings = BuildSettings.model_validate(
        {
            "atoms_min": task["atoms"],
            "atoms_max": task["atoms"],
            "odd_fraction": 0.5,
            "volume": {"per_atom": task["volume_per_atom"]},
            "separations": {"value": task["separation"]},
            "symmetry": {"operations": task["operations"]},
            "slack": 0.0,
        }
    )
    kinds = {task["element"]: species(task["element"])}

    def one(index: int) -> Any:
        random = stream(task["seed"], 1, Stage.CELL, index)
        return build_cell(
            random, composition={task["element"]: 1}, species=kinds, generation=1, settings=settings
        ).atoms

    one(10**6)
    clock = Clock()
    cells, seconds = [], []
    for index in range(task["cells"]):
        cells.append(one(index))
        seconds.append(clock.read()["cpu_s"])
    figures = clock.read()
    write("cells.extxyz", cells[: task["keep"]])
    return {**figures, "made": len(cells), "seconds": seconds}


def select(task: dict[str, Any]) -> dict[str, Any]:
    """Describe cells by their average SOAP vectors and choose some by CUR of the kernel."""
    from gapfactory.descriptors import SimilaritySettings, average_soap
    from gapfactory.select import SelectSettings
    from gapfactory.select.cur import choose

    cells = read(task["cells"], ":")
    similarity = SimilaritySettings.model_validate(task["soap"])
    average_soap(cells[:1], species=[task["number"]], settings=similarity)
    settings = SelectSettings(choice="highest")
    clock = Clock()
    vectors = average_soap(cells, species=[task["number"]], settings=similarity)
    described = clock.read()["cpu_s"]
    chosen = choose(
        vectors, task["choose"], settings=settings, zeta=task["zeta"], rng=np.random.default_rng(1)
    ).indices
    np.save("vectors.npy", vectors)
    return {**clock.read(), "descriptors_cpu_s": described, "chosen": [int(k) for k in chosen]}


def cur(task: dict[str, Any]) -> dict[str, Any]:
    """Choose by CUR from vectors that are there."""
    from gapfactory.select import SelectSettings
    from gapfactory.select.cur import choose

    vectors = np.load(task["vectors"])[: task["cells"]]
    settings = SelectSettings(choice="highest")
    choose(vectors[:50], 5, settings=settings, zeta=task["zeta"], rng=np.random.default_rng(1))
    clock = Clock()
    chosen = choose(
        vectors, task["choose"], settings=settings, zeta=task["zeta"], rng=np.random.default_rng(1)
    ).indices
    return {
        **clock.read(),
        "chosen": [int(k) for k in chosen],
        "peak_GB": 1024e-9 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def relax(task: dict[str, Any]) -> dict[str, Any]:
    """Relax cells under their pressures."""
    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.potentials.gap.xml import read_gap
    from gapfactory.search import RelaxSettings, relax_batch
    from gapfactory.search.evaluator import EngineEvaluator

    cells = read(task["cells"], ":")
    pressures = [float(atoms.info["pressure_GPa"]) for atoms in cells]
    model = read_gap(task["potential"])
    evaluate = EngineEvaluator(Engine(model), model.e0, 1000.0)
    settings = RelaxSettings(max_steps=task["max_steps"])
    relax_batch(cells[:2], pressures[:2], evaluate, RelaxSettings(max_steps=2))
    clock = Clock()
    paths = relax_batch(cells, pressures, evaluate, settings)
    figures = clock.read()
    return {
        **figures,
        "converged": [path.status == "converged" for path in paths],
        "enthalpies": [float(p.enthalpies[-1] / len(p.numbers)) if len(p) else float("inf") for p in paths],
        "steps": int(sum(path.n_steps for path in paths)),
    }


if __name__ == "__main__":
    side({"build": build, "select": select, "cur": cur, "relax": relax})
