"""PyXtal's side of cells: random crystals of space groups that are drawn like ours."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
from ase.io import write
from clock import Clock, side
from pyxtal import pyxtal
from pyxtal.msg import Comp_CompatibilityError
from pyxtal.tolerance import Tol_matrix

#: CPU seconds after which one attempt is given up: some take minutes
ATTEMPT = 10.0


def build(task: dict[str, Any]) -> dict[str, Any]:
    """Make random cells; sizes that a group cannot have are drawn again and take next to no time."""
    rng = np.random.default_rng(task["seed"])
    element = task["element"]
    tolerance = Tol_matrix((element, element, task["separation"]))
    groups = task["groups"]
    cells, given_up, failed = [], 0, 0

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, too_long)
    clock = Clock()
    while len(cells) < task["cells"] and clock.read()["cpu_s"] < task["limit_s"]:
        number = int(rng.choice(groups[int(rng.integers(len(groups)))]))
        crystal = pyxtal()
        signal.setitimer(signal.ITIMER_PROF, ATTEMPT)
        try:
            crystal.from_random(
                3, number, [element], [task["atoms"]], conventional=False, tm=tolerance, random_state=rng
            )
        except Comp_CompatibilityError:
            continue
        except TimeoutError:
            given_up += 1
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if crystal.valid:
            cells.append(crystal.to_ase(resort=False))
        else:
            failed += 1
    figures = clock.read()
    write("cells.extxyz", cells)
    return {**figures, "made": len(cells), "given_up": given_up, "failed": failed}


if __name__ == "__main__":
    side({"build": build})
