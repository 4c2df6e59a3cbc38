"""ABINIT's main output and log: numbers of a single point, and what its error reports say.

ASE's reader needs a line that ABINIT prints only where the potential is mixed; with PAW data sets the density is, and
that reader ends with an error. It also knows neither convergence nor entropy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Output", "error_reports", "read_output", "scf_energies"]

_FLOAT = r"[-+]?(?:\d+\.\d*(?:[EeDd][-+]?\d+)?|NaN|\*+)"


@dataclass(frozen=True)
class Output:
    """One single point.

    Attributes
    ----------
    energy
        Free energy E - TS in eV.
    entropy_term
        -TS in eV.
    forces
        (N, 3) in eV/Å.
    stress
        (6,) in eV/Å^3, ASE's sign and order; None when it was not calculated.
    moment
        Total magnetic moment, in Bohr magnetons.
    atoms
        Cell, species and positions as ABINIT repeats them.
    iterations
        Number of self-consistency iterations.
    converged
        Whether self-consistency was reached.
    complete
        Whether the output goes to its end.
    stopped
        Whether somebody asked ABINIT to end.
    """

    energy: float
    entropy_term: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None
    moment: float
    atoms: Atoms
    iterations: int
    converged: bool
    complete: bool
    stopped: bool


def scf_energies(text: str) -> tuple[float, ...]:
    """Return the total energies of the iterations in eV, of a log or a main output that may be unfinished."""
    found = re.findall(rf"^ ETOT\s*\d+\s+({_FLOAT})\s", text, re.MULTILINE)
    return tuple(_number(word) * Hartree for word in found)


def read_output(text: str) -> Output:
    """Return what a main output says.

    Parameters
    ----------
    text
        Content of the `.abo` file of a calculation of one data set that did not relax.

    Raises
    ------
    ValueError
        Something is missing; the message says what.
    """
    energies = scf_energies(text)
    if not energies:
        raise ValueError("no total energy")
    positions = _table(text, r"cartesian coordinates \(angstrom\) at end")
    forces = _table(text, r"cartesian forces \(hartree/bohr\) at end") * (Hartree / Bohr)
    if len(positions) != len(forces):
        raise ValueError(f"{len(positions)} positions, {len(forces)} forces")
    # the last echo of the variables comes after the calculation
    numbers = np.array([float(z) for z in _variable(text, "znucl")])
    types = np.array([int(i) for i in _variable(text, "typat")])
    if len(types) != len(positions):
        raise ValueError(f"{len(positions)} positions, {len(types)} types")
    cell = [_row(text, rf"R\({i}\)=") for i in (1, 2, 3)]
    atoms = Atoms(numbers[types - 1].astype(int), positions=positions, cell=np.array(cell) * Bohr, pbc=True)
    entropy = re.findall(rf"^'-kT\*entropy'\s*:\s*({_FLOAT})", text, re.MULTILINE)
    moment = re.findall(rf"Total magnetization \(exact up - dn\):\s*({_FLOAT})", text)
    return Output(
        energy=energies[-1],
        entropy_term=_number(entropy[-1]) * Hartree if entropy else 0.0,
        forces=forces,
        stress=_stress(text),
        moment=_number(moment[-1]) if moment else 0.0,
        atoms=atoms,
        iterations=len(energies),
        converged=bool(re.search(r"At SCF step\s+\d+, etot is converged", text)),
        complete="Calculation completed." in text,
        stopped="Exit has been requested" in text,
    )


def error_reports(text: str) -> list[str]:
    """Return ABINIT's error reports in a log, each on one line, the file of the source first.

    A report is a YAML document with the tag ERROR, BUG or one that ends in Error; lines that precede it tell the
    details of refused inputs.
    """
    reports = [
        f"{' '.join(found[1].split())} ({found[0]})"
        for found in re.findall(
            r"^--- !(?:ERROR|BUG|\w+Error)\s*\nsrc_file: *(\S+)\s*\n(?:\w+:.*\n)*?message: \|\n(.*?)^\.\.\.",
            text,
            re.MULTILINE | re.DOTALL,
        )
    ]
    details = re.findall(r"^ *chk\w+: ERROR -\n((?: {2,}\S.*\n)+)", text, re.MULTILINE)
    return [" ".join(lines.split()) for lines in details] + reports


def _number(word: str) -> float:
    if word.startswith("*"):
        # Fortran's sign that the number does not fit
        return float("nan")
    return float(word.replace("D", "E").replace("d", "e"))


def _table(text: str, title: str) -> NDArray[np.float64]:
    """Return the (N, 3) numbers under the last title of this kind, each row after its index."""
    starts = [found.end() for found in re.finditer(title, text)]
    if not starts:
        raise ValueError(f"no {title.replace(chr(92), '')!r}")
    rows = []
    for line in text[starts[-1] :].splitlines()[1:]:
        row = re.fullmatch(rf"\s*\d+\s+({_FLOAT})\s*({_FLOAT})\s*({_FLOAT})\s*", line)
        if row is None:
            break
        rows.append([_number(word) for word in row.groups()])
    return np.array(rows, dtype=float).reshape(-1, 3)


def _row(text: str, title: str) -> list[float]:
    found = re.search(rf"{title}\s*({_FLOAT})\s*({_FLOAT})\s*({_FLOAT})", text)
    if found is None:
        raise ValueError(f"no {title.replace(chr(92), '')!r}")
    return [_number(word) for word in found.groups()]


def _variable(text: str, name: str) -> list[str]:
    """Return the words of the last echo of an input variable of numbers."""
    found = re.findall(rf"^[-P]?\s+{name}\s+((?:[-+.\dEe]+\s+)+)", text, re.MULTILINE)
    if not found:
        raise ValueError(f"no echo of {name}")
    return list(found[-1].split())


def _stress(text: str) -> NDArray[np.float64] | None:
    titles = [
        t.end() for t in re.finditer(r"Cartesian components of stress tensor \(hartree/bohr\^3\)", text)
    ]
    if not titles:
        return None
    rows = re.findall(rf"sigma\(\d \d\)=\s*({_FLOAT})\s+sigma\(\d \d\)=\s*({_FLOAT})", text[titles[-1] :])[:3]
    if len(rows) != 3:
        raise ValueError("an incomplete stress tensor")
    # printed as xx yz / yy xz / zz xy
    first, second = zip(*rows, strict=True)
    return np.array([_number(word) for word in (*first, *second)]) * (Hartree / Bohr**3)
