"""The peers' own environments, and how a side of a comparison is run in one.

Each peer lives in a virtual environment of its own, because their requirements exclude each other (numpy below 2 for
one, above for another). A side is a script of `sides/`: it reads a task (JSON), does the work, and writes its figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIDES = Path(__file__).resolve().parent / "sides"
REPOSITORY = Path(__file__).resolve().parents[3]

#: One thread each, unless a task says otherwise.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


class PeerFailedError(RuntimeError):
    """A peer's side ended badly: the comparison is left out, and the page says so."""


@dataclass(frozen=True)
class Peer:
    """A program to compare with: its environment, what pip installs into it, whose versions are stated."""

    directory: str
    requirements: tuple[str, ...]
    stated: tuple[str, ...]


#: The environment named `ase` holds the common practice: ASE, its genetic-algorithm package, quippy with gap_fit.
PEERS = {
    "PyXtal": Peer("pyxtal", ("pyxtal",), ("pyxtal", "numpy")),
    "ASE + quippy": Peer(
        "ase", ("ase", "ase-ga", "quippy-ase", "scipy"), ("ase", "ase-ga", "quippy-ase", "numpy", "scipy")
    ),
    "wfl": Peer("wfl", ("wfl", "quippy-ase"), ("wfl", "ase", "quippy-ase", "numpy")),
    "autoplex": Peer(
        "autoplex",
        ("autoplex[strict-base]",),
        ("autoplex", "atomate2", "jobflow", "ase", "quippy-ase", "numpy", "torch"),
    ),
}


@dataclass
class Places:
    """Where the peers are; `missing` has the reason for each that is not there."""

    directory: Path
    scratch: Path
    quick: bool = False
    repeats: int = 3
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None

    def python(self, peer: str) -> Path:
        """Return the interpreter of a peer's environment."""
        return self.directory / PEERS[peer].directory / "bin" / "python"

    def prepare(self, names: list[str], *, install: bool = True) -> None:
        """Make the environments that are missing, and find the versions in them."""
        for name in names:
            peer = PEERS[name]
            mark = self.directory / peer.directory / "installed"
            if not mark.exists() and install:
                self.say(f"installing {name}: {' '.join(peer.requirements)}")
                reason = self._install(peer)
                if reason:
                    self.missing[name] = reason
                    continue
                mark.write_text(" ".join(peer.requirements) + "\n")
            if not mark.exists():
                self.missing[name] = "not installed (--no-install)"
                continue
            self.versions[name] = self._versions(name)

    def _install(self, peer: Peer) -> str:
        """Install, and return why it failed or nothing."""
        place = self.directory / peer.directory
        steps = (
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.requirements],
        )
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=3600)
            if done.returncode != 0:
                lines = [line for line in done.stderr.splitlines() if line.strip()]
                return f"pip install {' '.join(peer.requirements)}: {lines[-1] if lines else 'failed'}"
        return ""

    def _versions(self, name: str) -> dict[str, str]:
        code = (
            "import importlib.metadata as m, json, platform, sys;"
            "print(json.dumps({'python': platform.python_version(), **{n: m.version(n) for n in sys.argv[1:]}}))"
        )
        done = subprocess.run(
            [str(self.python(name)), "-c", code, *PEERS[name].stated],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return dict(json.loads(done.stdout))

    def run(
        self, peer: str | None, script: str, task: Mapping[str, Any], *, limit: float = 1800.0
    ) -> dict[str, Any]:
        """Run one side of a comparison once (ours for `peer` None) and return its figures.

        Raises
        ------
        PeerFailedError
            The peer's side failed.
        RuntimeError
            Ours failed.
        """
        python = Path(sys.executable) if peer is None else self.python(peer)
        place = self.scratch / f"{script}-{len(list(self.scratch.iterdir()))}"
        place.mkdir()
        (place / "task.json").write_text(json.dumps(task))
        environment = {**os.environ, **ONE_THREAD, "MPLBACKEND": "Agg"}
        environment.pop("PYTHONPATH", None)
        if peer is None:
            environment["PYTHONPATH"] = str(REPOSITORY)
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
        with (place / "log").open("w") as log:
            done = subprocess.run(
                [str(python), str(SIDES / f"{script}.py"), "task.json", "result.json"],
                cwd=place,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=limit,
            )
        result = place / "result.json"
        if done.returncode != 0 or not result.exists():
            tail = "\n".join((place / "log").read_text(errors="replace").splitlines()[-15:])
            failed = RuntimeError if peer is None else PeerFailedError
            raise failed(f"{script} ended with status {done.returncode}\n{tail}")
        return dict(json.loads(result.read_text()))

    def by_turns(
        self, sides: Mapping[str, Callable[[], dict[str, Any]]], repeats: int | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """Run the sides one after the other, several times over, so that other load meets all alike."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for turn in range(repeats or self.repeats):
            order = list(sides) if turn % 2 == 0 else list(reversed(sides))
            for name in order:
                found[name].append(sides[name]())
        return found


def median(results: list[dict[str, Any]], key: str) -> float:
    """Return the median of one figure of repeated runs."""
    return float(statistics.median(one[key] for one in results))


def gap_fit_program() -> str | None:
    """Return QUIP's program beside our interpreter, if it is installed."""
    return shutil.which("gap_fit", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
