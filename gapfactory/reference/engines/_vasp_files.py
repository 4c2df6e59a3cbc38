"""VASP's input files as we write them, and its output files as far as they tell how a run ended."""

from __future__ import annotations

import hashlib
import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError, MissingEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "FUNCTIONALS",
    "NUMERICS",
    "arranged",
    "boxed_words",
    "electronic_energies",
    "ending",
    "incar_text",
    "kpoints_text",
    "magnetic_moment",
    "number_of_bands",
    "poscar_text",
    "potcar_path",
    "species_order",
]

#: Functional by our name -> INCAR tags. The values are those of the VASP wiki (pages GGA and "Nonlocal vdW-DF
#: functionals") and agree with ASE's ``xc_defaults``; PARAM1 of optB88 is 1.1/6.
FUNCTIONALS: dict[str, dict[str, Any]] = {
    "LDA": {"GGA": "CA"},
    "PBE": {"GGA": "PE"},
    "PBEsol": {"GGA": "PS"},
    "RPBE": {"GGA": "RP"},
    "revPBE": {"GGA": "RE"},
    "optB88-vdW": {"GGA": "BO", "PARAM1": 1.1 / 6.0, "PARAM2": 0.22, "LUSE_VDW": True, "AGGAC": 0.0},
}

#: INCAR tags that decide how the self-consistent solution is searched for, never which one it is. Everything else
#: changes the energy, as far as we are concerned.
NUMERICS: frozenset[str] = frozenset(
    {
        *("ALGO", "IALGO", "ISEARCH", "TIME", "NELM", "NELMIN", "NELMDL", "LDIAG", "NSIM", "NBANDS"),
        *("AMIX", "BMIX", "AMIX_MAG", "BMIX_MAG", "AMIN", "IMIX", "MAXMIX", "MIXPRE", "WC", "INIMIX"),
        *("ISYM", "SYMPREC", "NCORE", "NPAR", "KPAR", "LPLANE", "LSCALAPACK", "LSCALU", "ISTART", "ICHARG"),
    }
)

# a tolerance beyond this (Å) lets VASP see symmetry that the structure does not have
LARGEST_SYMPREC = 1e-4


# ---- inputs ---------------------------------------------------------------------------------------------------


def species_order(numbers: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Return the (N,) indices that group atoms by species, as POSCAR and POTCAR need it; stable."""
    return np.argsort(np.asarray(numbers), kind="stable")


def arranged(atoms: Atoms) -> tuple[Atoms, float]:
    """Return the structure as VASP takes it, and the factor that its lattice vectors got.

    Atoms are grouped by species. VASP refuses left-handed lattice vectors; reversing all three gives the same
    lattice, right-handed.
    """
    sign = -1.0 if np.linalg.det(atoms.cell.array) < 0 else 1.0
    ready: Atoms = atoms[species_order(atoms.numbers)]
    ready.set_cell(sign * atoms.cell.array)
    return ready, sign


def poscar_text(atoms: Atoms) -> str:
    """Return POSCAR's text (VASP 5 format, direct coordinates, 16 digits) of atoms grouped by species."""
    from ase.io.vasp import write_vasp

    stream = io.StringIO()
    write_vasp(stream, atoms, direct=True, sort=False, vasp5=True, ignore_constraints=True)
    return stream.getvalue()


def kpoints_text(grid: tuple[int, int, int]) -> str:
    """Return KPOINTS' text of a grid that contains Gamma."""
    return f"Gamma-centred\n0\nGamma\n{grid[0]} {grid[1]} {grid[2]}\n0 0 0\n"


def incar_text(values: Mapping[str, Any]) -> str:
    """Return INCAR's text; tags of value None are left out."""
    return "".join(f"{tag} = {_incar_value(value)}\n" for tag, value in values.items() if value is not None)


def _incar_value(value: Any) -> str:
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return " ".join(_incar_value(item) for item in value)
    return str(value)


def potcar_path(root: Path | None, potential_set: str, name: str, symbol: str) -> Path:
    """Return the file of one species, after a look whether it is of this element.

    Parameters
    ----------
    root
        Directory that holds the sets, as in VASP_PP_PATH.
    potential_set
        Name of the set, such as potpaw_PBE.
    name
        Folder of the species in it, such as Si or Ti_sv.
    symbol
        Chemical symbol that the file must be for.

    Raises
    ------
    MissingEngineError
        There is no such file, or it is of another element.
    """
    if root is None:
        raise MissingEngineError(
            "the reference engine vasp needs VASP's PAW data sets: name the directory that holds "
            f"{potential_set}/{name}/POTCAR as `pseudopotentials` in the site file, or in VASP_PP_PATH."
        )
    path = root / potential_set / name / "POTCAR"
    if not path.is_file():
        raise MissingEngineError(
            f"there is no PAW data set {path} for {symbol}: unpack VASP's sets there, or name another folder of the "
            "set in `pseudopotentials` of the engine's settings."
        )
    with path.open(encoding="utf-8", errors="replace") as stream:
        head = [line for _, line in zip(range(400), stream, strict=False)]
    found = next((m[1] for line in head if (m := re.search(r"VRHFIN\s*=\s*([A-Z][a-z]?)\s*:", line))), None)
    if found != symbol:
        raise MissingEngineError(
            f"the PAW data set {path} is of {found or 'no element that it names'}, not of {symbol}: correct "
            "`pseudopotentials` of the engine's settings."
        )
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checked_numerics(numerics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags of remedies after a look that none of them changes the energy.

    Raises
    ------
    InputError
        One does.
    """
    wrong = sorted(set(numerics) - NUMERICS)
    if wrong or float(numerics.get("SYMPREC") or 0.0) > LARGEST_SYMPREC:
        raise InputError(
            f"INCAR tags {', '.join(wrong) or 'SYMPREC'} of a remedy would change VASP's energy."
        )
    return dict(numerics)


# ---- outputs --------------------------------------------------------------------------------------------------


def ending(outcar: Path) -> str:
    """Return how the self-consistency of OUTCAR's last step ended.

    Returns
    -------
    str
        'converged', 'unconverged' (all iterations used up), 'stopped' (by STOPCAR), or '' when the run ended before.
    """
    if not outcar.is_file():
        return ""
    # after these lines a single point writes eigenvalues, forces and times: far less than this
    with outcar.open("rb") as stream:
        stream.seek(max(0, outcar.stat().st_size - 50_000_000))
        text = stream.read().decode(errors="replace")
    marks = re.findall(r"-{3,} *aborting loop(.*)", text)
    if not marks:
        # VASP 5 says nothing when the iterations are used up
        return "unconverged" if "General timing and accounting" in text else ""
    if "EDIFF is reached" in marks[-1]:
        return "converged"
    return "unconverged" if "not reached" in marks[-1] else "stopped"


_STEP = re.compile(r"^\s*(?:DAV|RMM|CGA|DMP|SDA|EIG|ROT)\s*:\s+\d+\s+(\S+)")


def electronic_energies(oszicar: Path) -> tuple[float, ...]:
    """Return the energy (eV) of every electronic step that OSZICAR has; steps that are no numbers are left out."""
    if not oszicar.is_file():
        return ()
    energies = []
    for line in oszicar.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _STEP.match(line)
        if found:
            try:
                value = float(found[1])
            except ValueError:
                continue
            if math.isfinite(value):
                energies.append(value)
    return tuple(energies)


def magnetic_moment(oszicar: Path) -> float | None:
    """Return the total moment in Bohr magnetons of the last step, or None without spin."""
    if not oszicar.is_file():
        return None
    found = re.findall(r"mag=\s*(\S+)", oszicar.read_text(encoding="utf-8", errors="replace"))
    return float(found[-1]) if found else None


def number_of_bands(outcar: Path) -> int | None:
    """Return how many bands the run had, or None when OUTCAR does not say."""
    if not outcar.is_file():
        return None
    found = re.findall(r"\bNBANDS=\s*(\d+)", outcar.read_text(encoding="utf-8", errors="replace"))
    return int(found[-1]) if found else None


_REFUSAL = "I REFUSE TO CONTINUE WITH THIS SICK JOB"


def boxed_words(text: str) -> str:
    """Return what VASP says in the box that ends with its refusal to go on; empty when there is none."""
    lines = text.splitlines()
    last = next((i for i in range(len(lines) - 1, -1, -1) if _REFUSAL in lines[i]), None)
    if last is None:
        return ""
    words: list[str] = []
    for line in reversed(lines[:last]):
        inner = line.strip().strip("|").strip()
        # the banner above the text is made of single letters, of # and of rules
        if not line.strip().startswith("|") or re.search(r"#{3}|(?:\b[EROW]\s+){3}", inner):
            break
        if inner:
            words.append(inner)
    return " ".join(" ".join(reversed(words)).split())[:300]
