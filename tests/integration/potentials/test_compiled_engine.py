"""The engine in a fresh process: nothing is compiled after set-up, the first call is short, CPUs agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gf_yardstick import stretched

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("quippy", reason="gap_fit makes the potentials")
pytestmark = pytest.mark.gap

# Times are of the processor, so that a busy machine does not decide.
FIRST_CALL = """
import json, sys, time
from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.xml import read_gap
from gapfactory.compiled import kernels
from ase.io import read
frames = read(sys.argv[1], ":")
found = []
for path in sys.argv[2:]:
    results = Engine(read_gap(path)).evaluate(frames)
    found.append([results.energies.tolist(), results.forces.tolist(), results.virials.tolist()])
seconds = time.process_time()
made = [name for name, function in kernels() if function.stats.cache_misses]
print("result", json.dumps({"seconds": seconds, "made": made, "found": found}))
"""


def _module() -> ModuleType:
    spec = util.spec_from_file_location("gap_potentials", Path(__file__).parent / "gap_potentials.py")
    module = util.module_from_spec(spec)
    sys.modules["gap_potentials"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


shared = _module()


def run(arguments: list[str], **changes: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=env | {"OMP_NUM_THREADS": "1"} | changes,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def first_call(place: Path, names: tuple[str, ...], **changes: str) -> dict[str, Any]:
    from ase.io import write

    frames = list(shared.structures((14,)).values())
    write(place / "frames.traj", frames)
    paths = [str(shared.potential(name) / "gap.xml") for name in names]
    out = run(["-c", FIRST_CALL, str(place / "frames.traj"), *paths], **changes)
    return json.loads(out[out.index("result ") + 7 :])


@pytest.mark.slow
def test_after_set_up_nothing_is_compiled_and_the_first_call_is_short(tmp_path: Path) -> None:
    run(["-m", "gapfactory.compiled"])
    assert "0 variants compiled" in run(["-m", "gapfactory.compiled"])
    found = first_call(tmp_path, ("si_soap8", "si_nb3", "si_nb3_closed", "si_core"))
    assert found["made"] == []
    assert found["seconds"] < stretched(3.0)


@pytest.mark.long
def test_a_plainer_cpu_gives_the_same_numbers(tmp_path: Path) -> None:
    """No fused multiply-add, other vectors: equal to rounding, also where close contacts give large numbers."""
    names = ("si_2b_3b", "si_soap8")
    native = first_call(tmp_path, names)["found"]
    generic = first_call(tmp_path, names, NUMBA_CPU_NAME="generic")["found"]
    for ours, theirs in zip(native, generic, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            for a, b in zip(one, other, strict=False):
                scale = max(1.0, float(np.abs(a).max()))
                assert np.abs(np.array(a) - np.array(b)).max() <= 1e-10 * scale
