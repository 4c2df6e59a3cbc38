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


def attempt(task: dict[str, Any], rng: np.random.Generator, atoms: int) -> Any:
    """Return a crystal, None where the sites do not add up to the atoms, or raise TimeoutError."""
    element = task["element"]
    number = int(rng.choice(task["groups"][int(rng.integers(len(task["groups"])))]))
    crystal = pyxtal()
    signal.setitimer(signal.ITIMER_PROF, ATTEMPT)
    try:
        crystal.from_random(
            3,
            number,
            [element],
            [atoms],
            conventional=False,
            tm=Tol_matrix((element, element, task["separation"])),
            random_state=rng,
        )
    except Comp_CompatibilityError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return crystal


def build(task: dict[str, Any]) -> dict[str, Any]:
    """Make random cells; sizes that a group cannot have are drawn again and take next to no time."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, too_long)
    attempt({**task, "groups": [[1]]}, np.random.default_rng(0), 4)  # tables are read, code is compiled
    rng = np.random.default_rng(task["seed"])
    cells, seconds, given_up, failed = [], [], 0, 0
    clock = Clock()
    while len(cells) < task["cells"] and clock.read()["cpu_s"] < task["limit_s"]:
        try:
            crystal = attempt(task, rng, task["atoms"])
        except TimeoutError:
            given_up += 1
            continue
        if crystal is None:
            continue
        if crystal.valid:
            cells.append(crystal.to_ase(resort=False))
            seconds.append(clock.read()["cpu_s"])
        else:
            failed += 1
    figures = clock.read()
    write("cells.extxyz", cells)
    return {**figures, "made": len(cells), "seconds": seconds, "given_up": given_up, "failed": failed}


if __name__ == "__main__":
    side({"build": build})
