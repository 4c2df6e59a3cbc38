"""CP2K's text: writing nested sections, and reading numbers and abort messages from the output.

The output's forms are those of CP2K 2023.1 and of the source of 2025.1 to 2026.2, where forces carry a tag of their own
and energies their unit's full name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "abort_message",
    "printed_energy",
    "printed_forces",
    "printed_moment",
    "printed_stress",
    "printed_structure",
    "scf_energies",
    "section_text",
    "smearing_energy",
]

_FLOAT = r"[-+]?\d+\.\d*(?:[ED][-+]?\d+)?"
_TRIPLE = rf"\s+({_FLOAT})\s+({_FLOAT})\s+({_FLOAT})"
_SCF_LINE = re.compile(rf"^ *\d+ +[^\s/]+/Diag\..*? ({_FLOAT}|NaN|\*+) +\S+ *$", re.M)


def section_text(tree: dict[str, Any], depth: int = 0) -> str:
    """Return an input file.

    Parameters
    ----------
    tree
        Keywords and their values. A dict is a section, whose parameter has the key ""; a list of dicts or of other
        values repeats the section or the keyword; the key "*" has lines without a keyword. True and False are as CP2K
        writes them; None leaves out.
    depth
        Of the indentation.
    """
    lines: list[str] = []
    pad = "  " * depth
    for key, value in tree.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                head = f"&{key} {_word(one[''])}" if "" in one else f"&{key}"
                inner = section_text({k: v for k, v in one.items() if k != ""}, depth + 1)
                lines.append(f"{pad}{head}\n{inner}{pad}&END {key}\n")
            elif one is not None:
                lines.append(f"{pad}{_word(one) if key == '*' else f'{key} {_word(one)}'}\n")
    return "".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, (tuple, np.ndarray)):
        return " ".join(_word(v) for v in value)
    return str(value)


def abort_message(text: str) -> str:
    """Return the message in the frame that CP2K draws when it gives up, or an empty string.

    Long messages are broken over lines of the frame.
    """
    _, found, rest = text.rpartition("[ABORT]")
    if not found:
        return ""
    words = []
    for line in rest.splitlines():
        inner = line.strip()
        if inner.startswith("****"):
            break
        # the drawing of a person next to the message takes the first columns
        said = re.sub(r"^\*?\s*(\\___/|O/\||/\| \||/ \\|\|)?\s*", "", inner.removesuffix("*"))
        words.append(said.strip())
    return " ".join(" ".join(words).split())


def scf_energies(text: str) -> tuple[float, ...]:
    """Return the energies of the self-consistency iterations, in hartree."""
    return tuple(_number(found) for found in _SCF_LINE.findall(text))


def printed_energy(text: str) -> float | None:
    """Return the total energy in hartree: with smeared occupations the free energy, that of the forces."""
    found = re.findall(
        rf"^ ENERGY\| Total FORCE_EVAL \( QS \) energy \[(?:a\.u\.|hartree)\]:?\s+({_FLOAT}|\S+)$", text, re.M
    )
    return _number(found[-1]) if found else None


def smearing_energy(text: str) -> float:
    """Return minus temperature times entropy, in hartree; 0 where the output has none."""
    found = re.findall(rf"^ *Electronic entropic energy:\s+({_FLOAT})", text, re.M)
    return _number(found[-1]) if found else 0.0


def printed_forces(text: str, n_atoms: int) -> NDArray[np.float64] | None:
    """Return the (N, 3) forces in hartree/bohr, or None when the output has not all of them."""
    _, old, block = text.rpartition("ATOMIC FORCES in [a.u.]")
    if old:
        rows = re.findall(rf"^ *\d+ +\d+ +[A-Z][a-z]?{_TRIPLE}$", block, re.M)
    else:
        rows = re.findall(rf"^ FORCES\| +\d+{_TRIPLE} +{_FLOAT}$", text, re.M)
    if len(rows) < n_atoms:
        return None
    return np.array([[_number(x) for x in row] for row in rows[:n_atoms]])


def printed_stress(text: str) -> NDArray[np.float64] | None:
    """Return the (3, 3) stress in GPa, positive under compression as CP2K has it, or None."""
    _, found, block = text.rpartition("STRESS| Analytical stress tensor [GPa]")
    rows = re.findall(rf"^ STRESS\| +([xyz]){_TRIPLE}$", block, re.M)[:3] if found else []
    if [row[0] for row in rows] != ["x", "y", "z"]:
        return None
    return np.array([[_number(x) for x in row[1:]] for row in rows])


def printed_moment(text: str) -> float | None:
    """Return the total moment of the Mulliken analysis with spin, in Bohr magnetons, or None."""
    # populations of both spins, charge, moment
    found = re.findall(rf"^ *# Total charge and spin{_TRIPLE} +({_FLOAT})$", text, re.M)
    return _number(found[-1][3]) if found else None


def printed_structure(text: str) -> Atoms | None:
    """Return the structure as the output has it, printed in pm because lengths have three decimals; or None."""
    from ase import Atoms

    cell = re.findall(rf"^ CELL\| Vector [abc] \[pm\]:{_TRIPLE}", text, re.M)[:3]
    block = text.partition("ATOMIC COORDINATES IN PM")[2]
    rows = re.findall(rf"^ *\d+ +\d+ +[A-Z][a-z]? +(\d+){_TRIPLE} +{_FLOAT} +{_FLOAT} *$", block, re.M)
    if len(cell) != 3 or not rows:
        return None
    vectors = np.array([[float(x) for x in row] for row in cell]) / 100.0
    positions = np.array([[float(x) for x in row[1:]] for row in rows]) / 100.0
    return Atoms(numbers=[int(row[0]) for row in rows], positions=positions, cell=vectors, pbc=True)


def _number(text: str) -> float:
    # numbers that do not fit are printed as stars
    return float("nan") if "*" in text else float(text.replace("D", "E"))
