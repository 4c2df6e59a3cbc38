"""Calculators that fail in the ways real codes do; admitted only through the operator's environment variable."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from gapfactory.reference.analytic import StillingerWeberSilicon


class Counted(StillingerWeberSilicon):
    """Adds a line to the file `log` when it begins and takes `pause_s` seconds: shows what is calculated, and where."""

    def __init__(self, log, pause_s=0.0):
        super().__init__()
        self.log = log
        self.pause_s = pause_s

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        with Path(self.log).open("a") as stream:
            stream.write(f"{len(atoms)} {atoms.positions.sum():.6f}\n")
        time.sleep(self.pause_s)
        super().calculate(atoms, properties, system_changes)


class Stronger(StillingerWeberSilicon):
    """Everything times `strength`, and a constant per atom: another level of theory."""

    def __init__(self, strength=1.0, constant=-100.0):
        super().__init__()
        self.strength = strength
        self.constant = constant

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        self.results = {name: self.strength * value for name, value in self.results.items()}
        for name in {"energy", "free_energy"} & set(self.results):
            self.results[name] += self.constant * len(atoms)


class Unlucky(StillingerWeberSilicon):
    """Fails for a fixed share of all crystals, told by their volume per atom, whoever calculates them and when.

    `every` of 10 means one of ten; `offset` picks which.
    """

    def __init__(self, every=10, offset=0):
        super().__init__()
        self.every = every
        self.offset = offset

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if atoms.pbc.all() and int(1000 * atoms.get_volume() / len(atoms)) % self.every == self.offset:
            raise RuntimeError("SCF did not converge")
        super().calculate(atoms, properties, system_changes)


class Faulty(StillingerWeberSilicon):
    """Does what `faults` says for structures of so many atoms.

    `once` names a directory: a fault happens only the first time, so that a second attempt succeeds.
    """

    def __init__(self, faults, once=None):
        super().__init__()
        self.faults = faults
        self.once = once

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        fault = self.faults.get(str(len(atoms)))
        if fault is None:
            return
        if self.once is not None:
            marker = Path(self.once) / f"{fault}-{len(atoms)}"
            if marker.exists():
                return
            marker.touch()
        getattr(self, f"do_{fault}")()

    def do_raise(self):
        raise RuntimeError("SCF did not converge")

    def do_kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_segv(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_exit0(self):
        os._exit(0)

    def do_exit7(self):
        os._exit(7)

    def do_hang(self):
        time.sleep(600)

    def do_nan(self):
        self.results["energy"] = self.results["free_energy"] = float("nan")

    def do_nanforce(self):
        self.results["forces"] = np.full_like(self.results["forces"], np.nan)

    def do_shape(self):
        self.results["forces"] = self.results["forces"][:-1]

    def do_stress(self):
        self.results["stress"] = np.zeros(3)

    def do_netforce(self):
        self.results["forces"] = self.results["forces"] + 5.0

    def do_memory(self):
        raise MemoryError

    def do_fill(self):
        with Path("large").open("wb") as stream:
            stream.write(bytes(4_000_000))
