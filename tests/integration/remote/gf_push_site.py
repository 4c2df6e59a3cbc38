"""A site for tests: its file, what stands in its directory, and what its push worker says."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
LIMIT_S = 300.0
#: What a login shell at the site needs here: our code, and settings of the linear algebra (which processor it takes
#: this one for), because those change the last bits of a result.
_HANDED = {n: v for n, v in os.environ.items() if n.startswith(("OPENBLAS_", "MKL_", "NPY_"))}
_HANDED |= {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "GAPFACTORY_DB": "",
    "GAPFACTORY_DATA": "/nowhere",
}

FAST = {
    "poll_s": 0.3,
    "claimed_s": 1.0,
    "pilots_s": 1.0,
    "retry_first_s": 0.2,
    "retry_largest_s": 0.5,
    "connect_s": 5,
    "drain_s": 20,
}


def site_text(gate: Any, there: Path, cache: Path | None = None, **changes: Any) -> str:
    """Return the file of a site behind an sshd of ours (YAML; JSON is YAML); `cache` is for compiled code."""
    handed = _HANDED | ({"GAPFACTORY_CACHE": str(cache)} if cache else {})
    exports = "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in handed.items())
    content = {
        "name": "site",
        "host": gate.alias,
        "ssh_config": str(gate.config),
        "directory": str(there),
        "python": sys.executable,
        "setup": [exports, *changes.pop("more_setup", [])],
        "idle_minutes": 5,
        "timing": FAST,
    }
    return json.dumps(content | changes)


def stand_in(there: Path, *names: str) -> list[str]:
    """Make stand-ins of a batch system's commands; return the shell lines that put them on a site's PATH."""
    program = ROOT / "tests" / "integration" / "queue" / "gf_scheduler.py"
    there.mkdir()
    for name in names:
        (there / name).write_text(
            f"#!{sys.executable}\nimport runpy, sys\nsys.argv.insert(1, {name!r})\n"
            f"runpy.run_path({str(program)!r}, run_name='__main__')\n"
        )
        (there / name).chmod(0o755)
    here = shlex.quote(str(there))
    return [f"export PATH={here}:$PATH GF_SCHEDULER_DIR={here} GF_SCHEDULER=slurm"]


def eventually(what, *, why: str = "what was waited for did not happen", limit_s: float = LIMIT_S):
    """Return the first true value of a function, asked again and again."""
    end = time.monotonic() + limit_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(0.05)


def runners(directory: Path) -> list[dict[str, Any]]:
    """Return the runners of a site that live, as their heartbeat files say."""
    found = []
    for path in (directory / "runners").glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            about = json.loads(path.read_text())
            if Path(f"/proc/{about['pid']}").exists():
                found.append(about)
    return found


def end_runners(directory: Path, number: int = signal.SIGTERM) -> None:
    """End the runners of a site and wait for it."""
    for about in runners(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(about["pid"], number)
        eventually(lambda pid=about["pid"]: not lives(pid))


def lives(pid: int) -> bool:
    """Return whether a process runs; one that ended and was not waited for does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"
