"""Our side of the whole loop: a campaign with one worker, its database and its queue, as `campaign run` does it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from clock import Clock, side

GAPFACTORY = (sys.executable, "-c", "from launchpad.cli import main; main()")


def campaign(task: dict[str, Any]) -> dict[str, Any]:
    """Return the campaign file."""
    terms = task["terms"]
    return {
        "preset": "quickstart-Si-analytic",
        "name": "loop",
        "seed": task["seed"],
        "build": {"atoms_min": task["atoms"][0], "atoms_max": task["atoms"][1]},
        "dimers": {"bond_lengths": task["dimers"]},
        "schedule": {
            "cells_per_generation": task["cells"],
            "initial_cells": task["cells"],
            "generations": task["rounds"],
        },
        "select": {
            "labels_per_generation": task["labels"],
            "held_out_per_generation": task["held_out"],
            "noise_cells": 0,
        },
        "stop": {"label_budget": 10 * task["rounds"] * task["labels"]},
        "relax": {"max_steps": task["max_steps"]},
        "gap": {
            "two_body": {"n_sparse": terms["two_body"]},
            "three_body": {"n_sparse": terms["three_body"]},
            "soap": {"n_sparse": terms["soap"], "n_max": terms["n_max"], "l_max": terms["l_max"]},
        },
        "evidence": {"phases": "none", "stability": {"enabled": False}},
        "execution": {
            "build_chunk": task["cells"],
            "relax_chunk": task["cells"],
            "reference_chunk": task["labels"] + task["held_out"],
        },
    }


def server_seconds(data: Path) -> float:
    """Return the processor seconds of the campaign's own database server, which is nobody's child."""
    from launchpad.embedded import status

    pid = status(data).pid
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loop(task: dict[str, Any]) -> dict[str, Any]:
    """Run it, and leave the last potential."""
    from gapfactory.io.extxyz import read_training_set
    from launchpad.embedded import stop

    Path("loop.yaml").write_text(json.dumps(campaign(task)))  # JSON is YAML
    for name in ("GAPFACTORY_DB", "GAPFACTORY_SCRATCH", "GAPFACTORY_DATA"):
        os.environ.pop(name, None)
    data = Path("data").resolve()
    run = (*GAPFACTORY, "campaign", "run", "loop.yaml", "--data", str(data), "--workers", "1")
    export = (*GAPFACTORY, "campaign", "export", "loop", "--data", str(data), "-o", "exported")
    clock = Clock()
    try:
        subprocess.run([*run, "--no-report", "--quiet"], check=True)
        figures = clock.read()
        figures["cpu_s"] += server_seconds(data)
        subprocess.run(export, check=True)
    finally:
        stop(data)
    trained = [f.config_type for f in read_training_set(Path("exported/train.xyz"))]
    shutil.copytree("exported/potential", "potential")
    labels = sum(kind == "crystal" for kind in trained)
    return {**figures, "labels": labels, "potential": str(Path("potential/gap.xml").resolve())}


if __name__ == "__main__":
    side({"loop": loop})
