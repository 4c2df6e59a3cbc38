"""autoplex's side of the whole loop: its `RssMaker`, driven by jobflow's `run_locally`, labels by a force-field job.

`buildcell` cannot be had from a package index: a script of that name hands out cells that our builder made before the
clock started.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from atomate2.forcefields.jobs import ForceFieldStaticMaker
from autoplex.auto.rss.flows import RssMaker
from autoplex.settings import RssConfig
from clock import Clock, side
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore

BUILDCELL = """#!/bin/sh
n=$(cat {place}/next)
cat {place}/$n.cell
echo $((n + 1)) > {place}/next
"""


def hand_out(cells: list[str]) -> None:
    """Put a `buildcell` on the path that gives one cell after the other."""
    place = Path("buildcell-cells").resolve()
    place.mkdir()
    for number, text in enumerate(cells):
        (place / f"{number}.cell").write_text(text)
    (place / "next").write_text("0\n")
    program = place / "buildcell"
    program.write_text(BUILDCELL.format(place=place))
    program.chmod(0o755)
    os.environ["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"


def configuration(task: dict[str, Any]) -> RssConfig:
    """Return autoplex's own defaults with the sizes of the task and one process everywhere."""
    terms = task["terms"]
    sizes = {
        "tag": "Si",
        "train_from_scratch": True,
        "generated_struct_numbers": [task["cells"]],
        "num_processes_buildcell": 1,
        "num_of_initial_selected_structs": [task["labels"] + task["held_out"]],
        "num_of_rss_selected_structs": task["labels"] + task["held_out"],
        "include_dimer": True,
        "dimer_range": [1.4, 5.0],
        "dimer_num": task["dimers"],
        "max_steps": task["max_steps"],
        "scalar_pressure_method": "exp",
        "scalar_exp_pressure": task["pressure_GPa"],
        "scalar_pressure_exponential_width": 0.2,
        "stop_criterion": 1e-12,
        "max_iteration_number": task["rounds"],
        "num_processes_fit": 1,
        "num_processes_rss": 1,
        "num_groups": 1,
        "bcur_params": {"soap_paras": {**task["soap_rss"], "zeta": 4.0, "average": True, "species": True}},
        "mlip_type": "GAP",
        "mlip_hypers": {
            "GAP": {
                "general": {"two_body": True, "three_body": True, "soap": True},
                "twob": {"cutoff": terms["cutoff_2b"], "n_sparse": terms["two_body"]},
                "threeb": {"cutoff": terms["cutoff_3b"], "n_sparse": terms["three_body"]},
                "soap": {
                    "cutoff": terms["cutoff_soap"],
                    "n_sparse": terms["soap"],
                    "n_max": terms["n_max"],
                    "l_max": terms["l_max"],
                },
            }
        },
    }
    return RssConfig.from_dict(sizes)


def loop(task: dict[str, Any]) -> dict[str, Any]:
    """Run it."""
    from ase.io import read

    Path("reference.xml").write_text(task["reference"])
    hand_out(task["buildcell"])
    clock = Clock()
    labels = ForceFieldStaticMaker(
        force_field_name="GAP",
        calculator_kwargs={"args_str": "IP SW", "param_filename": str(Path("reference.xml").resolve())},
    )
    job = RssMaker(
        rss_config=configuration(task), static_energy_maker=labels, static_energy_maker_isolated_atoms=labels
    ).make()
    run_locally(
        Flow([job], output=job.output),
        create_folders=True,
        ensure_success=True,
        store=JobStore(MemoryStore(), additional_stores={"data": MemoryStore()}),
    )
    figures = clock.read()
    fits = sorted(Path.cwd().rglob("gap_file.xml"), key=lambda p: p.stat().st_mtime_ns)
    trained = [atoms.info.get("config_type") for atoms in read(fits[-1].parent / "train.extxyz", ":")]
    number = sum(kind not in ("IsolatedAtom", "dimer") for kind in trained)
    return {**figures, "labels": number, "fits": len(fits), "potential": str(fits[-1])}


if __name__ == "__main__":
    side({"loop": loop})
