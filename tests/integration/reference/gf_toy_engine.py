"""A complete engine in one file, with a program of its own: Stillinger and Weber's silicon, iterated slowly.

It shows what an engine consists of (docs/how-to/add-an-engine.md) and lets the tests of the recovery provoke every kind
of fault in a real process within a second. Started as ``python gf_toy_engine.py``, this file is the program.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

from gapfactory.reference.base import Raw
from gapfactory.reference.faults import CalculationFailedError, Fault, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDOUT, ProgramEngine
from gapfactory.reference.settings import DftSettings


class ToySettings(DftSettings):
    """Settings of the toy."""

    engine: Literal["toy"] = "toy"
    """Name of the engine."""
    converges_with: str = "plain"
    """What makes it converge: plain, damped, more-steps, or smearing (a width of at least 0.2 eV)."""
    seconds: float = 0.0
    """How long it takes."""


class ToyEngine(ProgramEngine):
    """Runs this file."""

    name = "toy"
    executable = sys.executable
    settings_class = ToySettings
    signatures: ClassVar = (
        Signature(Fault.SCF, r"not converged"),
        Signature(Fault.NAN, r"\bNaN\b"),
        Signature(Fault.INPUT, r"unknown keyword", hopeless=True),
    )
    ladder: ClassVar = (
        Remedy("damped mixing", frozenset({Fault.SCF}), {"mixing": 0.1}),
        Remedy("more steps", frozenset({Fault.SCF, Fault.NAN}), {"steps": 40}),
        Remedy("twice the smearing", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
    )
    kept = ("input.json",)

    def version(self):
        return "1.0"

    def data_hashes(self, symbols):
        return dict.fromkeys(symbols, "0" * 64)

    def arguments(self, directory):
        del directory
        return [__file__, "input.json"]

    def write(self, atoms, directory, numerics, *, checkpoint):
        boxed = self.boxed(atoms)
        document = {
            "numbers": boxed.numbers.tolist(),
            "positions": boxed.positions.tolist(),
            "cell": boxed.cell.tolist(),
            "width": self.settings.smearing_width_eV,
            "converges_with": self.settings.converges_with,
            "seconds": self.settings.seconds,
            "mixing": 0.5,
            "steps": 20,
            "first": 0,
            **numerics,
        }
        if checkpoint is not None:
            document["first"] = json.loads((checkpoint / "checkpoint.json").read_text())
        (directory / "input.json").write_text(json.dumps(document))

    def read(self, atoms, directory):
        result = directory / "result.json"
        if not result.is_file():
            raise CalculationFailedError("there is no result.json")
        found = json.loads(result.read_text())
        stress = found["stress"] if atoms.pbc.any() else None
        import numpy as np

        return Raw(
            found["energy"],
            np.array(found["forces"]),
            None if stress is None else np.array(stress),
            {"first": found["first"], "magnetic_moment": 0.0, "width": found["width"]},
        )

    def ask_to_stop(self, directory):
        (directory / "EXIT").touch()
        return True

    def has_checkpoint(self, directory):
        return (directory / "checkpoint.json").is_file()

    def iterations(self, directory):
        lines = (directory / STDOUT).read_text().splitlines() if (directory / STDOUT).is_file() else []
        return tuple(float(line.split()[1]) for line in lines if line.startswith("iteration"))


ENGINE = ToyEngine


def program(path):
    """The program: reads its input, iterates, writes its result."""
    job = json.loads(Path(path).read_text())
    print("cores", len(os.sched_getaffinity(0)), flush=True)
    for step in range(job["first"], 10):
        print("iteration", 0.5**step, flush=True)
        Path("checkpoint.json").write_text(str(step))
        if Path("EXIT").exists():
            print("asked to stop", flush=True)
            return
        time.sleep(job["seconds"] / 10)
    converges = {
        "plain": True,
        "damped": job["mixing"] < 0.2,
        "more-steps": job["steps"] > 20,
        "smearing": job["width"] >= 0.2,
        "never": False,
        "nan": job["steps"] > 20,
    }[job["converges_with"]]
    if not converges:
        print("energy is NaN" if job["converges_with"] == "nan" else "not converged in 20 steps")
        sys.exit(1)
    # late: what comes before must not depend on how long a busy machine takes to import this
    from ase import Atoms

    from gapfactory.reference.analytic import StillingerWeberSilicon

    atoms = Atoms(job["numbers"], job["positions"], cell=job["cell"], pbc=True)
    atoms.calc = StillingerWeberSilicon()
    result = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces().tolist(),
        "stress": atoms.get_stress(voigt=False).tolist(),
        "first": job["first"],
        "width": job["width"],
    }
    new = Path("result.json.new")
    new.write_text(json.dumps(result))
    new.replace("result.json")


if __name__ == "__main__":
    program(sys.argv[1])
