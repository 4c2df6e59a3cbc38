"""What a program (a DFT code) must offer to label structures: write inputs, run, read, and say what went wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import EngineInfo, kind_of
from gapfactory.reference.faults import CalculationFailedError, Fault, Signature, find_signature
from gapfactory.reference.kpoints import kpoint_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.base import Raw
    from gapfactory.reference.faults import Diagnosis
    from gapfactory.reference.ladder import Remedy
    from gapfactory.reference.settings import DftSettings
    from gapfactory.reference.site import ProgramSite

__all__ = ["STDERR", "STDOUT", "ProgramEngine", "text_of"]

#: Where a program's own streams go in the directory of an attempt.
STDOUT, STDERR = "stdout.txt", "stderr.txt"


def text_of(path: Path) -> str:
    """Return the text of a program's file, whatever its encoding; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


class ProgramEngine(ABC):
    """One code. A subclass states facts in class variables and implements four methods.

    Every attempt has a directory of its own, empty at first: nothing stale can be read. The calls come in this
    order: `write`, the program (started by `recovery`), then `diagnose`; without a diagnosis, `read`.

    Parameters
    ----------
    settings
        What the label is asked for.
    site
        How the program is run here.

    Attributes
    ----------
    name
        As in the campaign file (`engine: espresso`).
    executable
        The program's usual name on PATH.
    remedy_if_missing
        How to install it; ends the error.
    settings_class
        Model of its settings.
    signatures
        Words in `outputs` that tell a fault, most telling first.
    ladder
        Remedies of its own, most gentle first; `COMMON_REMEDIES` come before them.
    outputs
        Glob patterns of the files in which `signatures` are searched; the first is quoted when nothing is found.
    kept
        Glob patterns of further files worth keeping of a failed calculation (inputs above all).
    relative_cost, cost_cutoff_eV
        For estimates: time of a label over GPAW's (docs/evidence/four-codes.md), at this cutoff.
    """

    name: ClassVar[str]
    executable: ClassVar[str]
    remedy_if_missing: ClassVar[str] = ""
    settings_class: ClassVar[type[DftSettings]]
    signatures: ClassVar[tuple[Signature, ...]] = ()
    ladder: ClassVar[tuple[Remedy, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = (STDOUT, STDERR)
    kept: ClassVar[tuple[str, ...]] = ()
    relative_cost: ClassVar[float] = 1.0
    cost_cutoff_eV: ClassVar[float] = 300.0

    def __init__(self, settings: Any, site: ProgramSite) -> None:
        self.settings = settings
        self.site = site

    # ---- what a code implements -------------------------------------------------------------------------------

    @abstractmethod
    def version(self) -> str:
        """Return the version of the installed program.

        Raises
        ------
        MissingEngineError
            It is not installed.
        """

    @abstractmethod
    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 (hex) of the pseudopotential or data set of each species.

        Raises
        ------
        MissingEngineError
            One has none.
        """

    @abstractmethod
    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write the inputs of one single point into an empty directory.

        Parameters
        ----------
        atoms
            The structure. For isolated atoms and dimers the box is the engine's: see `boxed`.
        directory
            Where the program will run.
        numerics
            Changes that remedies made so far; empty for the plain calculation.
        checkpoint
            Directory of the attempt to continue from, which `has_checkpoint` accepted; None for a start from nothing.
        """

    @abstractmethod
    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Return energy, forces and stress, atoms in the order of `atoms`.

        Raises
        ------
        CalculationFailedError
            The output is incomplete or not converged.
        """

    # ---- what a code may override -----------------------------------------------------------------------------

    def arguments(self, directory: Path) -> list[str]:
        """Return the program's arguments."""
        del directory
        return []

    def input_file(self, directory: Path) -> Path | None:
        """Return the file that the program reads from its standard input, or None."""
        del directory
        return None

    def ask_to_stop(self, directory: Path) -> bool:
        """Ask the running program to stop and write a checkpoint; False when this code cannot be asked."""
        del directory
        return False

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether `write` can continue from what an attempt left in its directory."""
        del directory
        return False

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies of the self-consistency iterations so far (eV), as far as the output tells."""
        del directory
        return ()

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that the outputs show, or None when they show none."""
        del status
        return find_signature(self.output_files(directory), self.signatures)

    def propose(self, diagnosis: Diagnosis, directory: Path) -> Remedy | None:
        """Return a remedy found by looking at the failed attempt, tried before the ladder's; usually None."""
        del diagnosis, directory
        return None

    def refused(self, directory: Path) -> tuple[str, ...]:
        """Return what `propose` found and did not propose because it changes the energy; usually nothing."""
        del directory
        return ()

    # ---- shared -----------------------------------------------------------------------------------------------

    def info(self) -> EngineInfo:
        """Return name and version.

        Raises
        ------
        MissingEngineError
            The program is not installed.
        """
        return EngineInfo(engine=self.name, version=self.version())

    def require(self, symbols: Sequence[str]) -> None:
        """Make sure that the program can treat these species.

        Raises
        ------
        MissingEngineError
            The program or the data of one of them are not installed.
        """
        self.data_hashes(symbols)

    def program(self) -> list[str]:
        """Return the command without launcher and arguments, as found on this machine.

        Raises
        ------
        MissingEngineError
            It is not on PATH.
        """
        words = list(self.site.command) or [self.executable]
        found = shutil.which(words[0])
        if found is None:
            raise MissingEngineError(
                f"the reference engine {self.name} needs the program {words[0]!r}, which is not on PATH: "
                f"{self.remedy_if_missing or 'install it'}, or name it in the site file (docs/reference/engines.md)."
            )
        return [found, *words[1:]]

    def command(self, directory: Path) -> list[str]:
        """Return the whole command line of one attempt.

        Raises
        ------
        MissingEngineError
            The program or the launcher is not on PATH: no structure is to blame for that.
        """
        launcher = self.site.prefix()
        if launcher and shutil.which(launcher[0]) is None:
            raise MissingEngineError(
                f"the site starts {self.name} by {launcher[0]!r}, which is not on PATH: install that launcher, or "
                "correct `launcher` in the site file (docs/reference/engines.md)."
            )
        return [*launcher, *self.program(), *self.arguments(directory)]

    def output_files(self, directory: Path) -> list[Path]:
        """Return the existing files that tell what happened."""
        return [
            path for pattern in self.outputs for path in sorted(directory.glob(pattern)) if path.is_file()
        ]

    def grid(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the Gamma-centred k-point grid of a structure."""
        if kind_of(atoms) != "crystal":
            return (1, 1, 1)
        fixed: tuple[int, int, int] | None = self.settings.kpoint_grid
        return fixed or kpoint_grid(atoms, self.settings.kpoint_density)

    def starts_polarised(self, atoms: Atoms) -> bool:
        """Return whether it is calculated with spin: isolated atoms and dimers, unless the settings say otherwise."""
        kind, s = kind_of(atoms), self.settings
        return (kind == "isolated" and s.spin_isolated == "hund") or (
            kind == "dimer" and s.spin_dimer == "free"
        )

    def boxed(self, atoms: Atoms) -> Atoms:
        """Return the structure as a plane-wave code sees it: isolated ones in a periodic box of their own."""
        prepared: Atoms = atoms.copy()
        prepared.calc = None
        prepared.set_initial_magnetic_moments(None)
        kind = kind_of(atoms)
        if kind != "crystal":
            import numpy as np

            s = self.settings
            vacuum = s.vacuum_isolated if kind == "isolated" else s.vacuum_dimer
            prepared.set_cell(np.ptp(prepared.positions, axis=0) + 2.0 * vacuum)
            prepared.center()
            prepared.pbc = True
        return prepared

    def refuse_overlap(self, atoms: Atoms) -> None:
        """Refuse atoms inside each other: with enough damping a code converges there, to numbers without meaning.

        Raises
        ------
        CalculationFailedError
            Two atoms are closer than `closest_approach` times the sum of their covalent radii.
        """
        from ase.data import covalent_radii

        from gapfactory.search.evaluator import closest_within

        limit = self.settings.closest_approach
        closest = closest_within(atoms, limit * covalent_radii[atoms.numbers])
        if closest is not None:
            raise CalculationFailedError(
                f"two atoms are {closest:.2f} Å apart, below {limit} of the sum of their covalent radii: the atomic "
                "data sets overlap",
                fault=Fault.OVERLAP,
                hopeless=True,
            )

    def asked_version(self, arguments: Sequence[str], *, timeout_s: float = 60.0) -> str:
        """Return what the program prints for these arguments, both streams together.

        Raises
        ------
        MissingEngineError
            It is not installed, or does not end.
        """
        # some programs leave files where they run
        with tempfile.TemporaryDirectory() as here:
            try:
                done = subprocess.run(
                    [*self.program(), *arguments],
                    cwd=here,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    encoding="utf-8",
                    errors="replace",
                    timeout=timeout_s,
                    check=False,
                    env={**os.environ, **self.site.variables()},
                )
            except subprocess.TimeoutExpired as error:
                raise MissingEngineError(
                    f"{error.cmd[0]} did not say its version within {timeout_s:g} s: try it by hand, or correct the "
                    "command in the site file (docs/reference/engines.md)."
                ) from error
        return done.stdout + done.stderr
