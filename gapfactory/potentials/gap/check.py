"""Proves potentials: reads them back from their files and evaluates them.

With the built-in engine that happens here; with QUIP in a throw-away process, because QUIP can end a process at any
time, with exit status 0.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import FitError, PotentialError
from gapfactory.potentials.gap.files import XML_NAME, check_files, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.evaluator import Results
    from gapfactory.potentials.gap.model import GapModel

__all__ = ["Evaluation", "evaluate", "evaluate_apart", "validate_potential"]


@dataclass(frozen=True)
class Evaluation:
    """Results of many structures.

    Attributes
    ----------
    energies
        (n,) eV.
    forces
        n arrays (N, 3), eV/A, or None.
    stresses
        (n, 6) eV/A^3, NaN where a structure is not periodic; None if not asked for.
    """

    energies: NDArray[np.float64]
    forces: list[NDArray[np.float64]] | None
    stresses: NDArray[np.float64] | None


def evaluate(
    potential: GapModel | Path,
    structures: Sequence[Atoms],
    *,
    properties: Literal["all", "energy"] = "all",
    threads: int = 1,
) -> Evaluation:
    """Evaluate structures with the built-in engine, of a model or from the files in a directory.

    Structures are taken in batches on `threads` threads; the numbers depend on neither.

    Raises
    ------
    PotentialError
        If the potential cannot be read, a structure cannot be used or a result is not finite.
    """
    from gapfactory.potentials.gap.batches import in_batches
    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.potentials.gap.xml import read_gap

    engine = Engine(read_gap(potential / XML_NAME) if isinstance(potential, Path) else potential)

    def work(chosen: Sequence[Atoms]) -> Results:
        return engine.evaluate(chosen, gradients=properties == "all")

    try:
        found = list(in_batches(structures, work, threads=threads))
    except FitError as error:
        raise PotentialError(str(error)) from None
    energies = np.concatenate([result.energies for result in found])
    if properties == "energy":
        return Evaluation(energies, None, None)
    forces = [
        result.forces[result.atoms_of(k)]
        for result in found
        if result.forces is not None
        for k in range(len(result.energies))
    ]
    stresses = np.concatenate([result.stresses for result in found if result.stresses is not None])
    return Evaluation(energies, forces, stresses)


def evaluate_apart(
    directory: Path,
    structures: Sequence[Atoms],
    *,
    properties: Literal["all", "energy"] = "all",
    timeout_s: float,
) -> Evaluation:
    """Evaluate structures with QUIP, in a separate process that must print a token at its end.

    Raises
    ------
    PotentialError
        If the process ends without the token, whatever its exit status, or takes longer than `timeout_s`
        seconds.
    """
    token = f"evaluated-{secrets.token_hex(8)}"
    counts = np.array([len(atoms) for atoms in structures], dtype=np.int64)
    with tempfile.TemporaryDirectory(prefix="gap-evaluate-") as scratch:
        source, target = Path(scratch) / "in.npz", Path(scratch) / "out.npz"
        np.savez(
            source,
            counts=counts,
            numbers=np.concatenate([atoms.numbers for atoms in structures]),
            positions=np.concatenate([atoms.positions for atoms in structures]),
            cells=np.array([atoms.cell.array for atoms in structures]),
            pbc=np.array([atoms.pbc for atoms in structures]),
        )
        command = [
            sys.executable, "-m", "gapfactory.potentials.gap._evaluate",
            str(directory.resolve()), str(source), str(target), properties, token,
        ]  # fmt: skip
        output, status = _run(command, timeout_s)
        if token not in output or not target.is_file():
            tail = "\n".join(output.rstrip().splitlines()[-15:])
            msg = (
                f"the evaluation of the potential in {directory} ended early (exit status {status}); its "
                "last "
                f"words:\n{tail or '(none)'}"
            )
            raise PotentialError(msg)
        with np.load(target, allow_pickle=False) as found:
            energies = found["energies"]
            if properties == "energy":
                return Evaluation(energies, None, None)
            forces = np.split(found["forces"], np.cumsum(counts)[:-1])
            return Evaluation(energies, forces, found["stresses"])


def _run(command: list[str], timeout_s: float) -> tuple[str, int]:
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            raw, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            msg = f"the evaluation took longer than {timeout_s:g} s and was stopped"
            raise PotentialError(msg) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return raw.decode("utf-8", errors="replace"), process.returncode


def validate_potential(
    directory: Path,
    sentinels: Sequence[tuple[Atoms, float]],
    *,
    tolerance: float = 1e-6,
    timeout_s: float = 600.0,
    engine: Literal["native", "quippy"] = "native",
) -> None:
    """Prove that a potential is complete and gives the energies that it gave when it was fitted.

    Parameters
    ----------
    sentinels
        Structures and their energies in eV by this potential; at least one.
    tolerance
        Largest difference, eV/atom.
    timeout_s
        Of an evaluation by quippy.
    engine
        What evaluates: the built-in engine, or quippy in a process of its own.

    Raises
    ------
    PotentialError
        If files differ from the manifest, the XML is truncated or malformed, the evaluation ends early, or
        an energy differs.
    """
    if not sentinels:
        msg = f"the potential in {directory} cannot be validated without a sentinel energy: give at least one"
        raise PotentialError(msg)
    read_manifest(directory)
    model = check_files(directory)
    structures = [atoms for atoms, _ in sentinels]
    if engine == "native":
        found = evaluate(model, structures, properties="energy")
    else:
        found = evaluate_apart(directory, structures, properties="energy", timeout_s=timeout_s)
    for k, ((atoms, expected), energy) in enumerate(zip(sentinels, found.energies, strict=True)):
        if not abs(energy - expected) <= tolerance * len(atoms):
            msg = (
                f"the potential in {directory} gives {energy:.8f} eV for sentinel {k} ({atoms.symbols}), "
                "expected "
                f"{expected:.8f}: it is not the potential that was fitted"
            )
            raise PotentialError(msg)
