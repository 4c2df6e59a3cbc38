"""CASTEP's input files as we write them, and its text output as far as ASE's reader does not read it."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.foreign import refuse_long_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "FUNCTIONALS",
    "NUMERICS",
    "cell_text",
    "checked_numerics",
    "gamma_offset",
    "integrated_spin",
    "order_of",
    "output_atoms",
    "param_text",
    "scf_energies",
]

#: Functional by our name -> XC_FUNCTIONAL (CASTEP's keyword help).
FUNCTIONALS = {"LDA": "LDA", "PBE": "PBE", "PBEsol": "PBESOL", "RPBE": "RPBE", "PW91": "PW91", "WC": "WC"}

#: Keywords of .param that decide how the self-consistent solution is searched for, never which one it is;
#: `symmetry` is ours: SYMMETRY_GENERATE in .cell.
NUMERICS: frozenset[str] = frozenset(
    {
        *("max_scf_cycles", "metals_method", "mixing_scheme", "mix_charge_amp", "mix_history_length"),
        *("mix_spin_amp", "mix_charge_gmax", "perc_extra_bands", "nextra_bands", "opt_strategy", "symmetry"),
    }
)


def gamma_offset(grid: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return KPOINT_MP_OFFSET, in fractions of the reciprocal vectors, that puts Gamma on a Monkhorst-Pack grid.

    Monkhorst and Pack's points (2r - q - 1)/2q contain zero only for odd q; half a step more and even ones do.
    """
    first, second, third = (0.0 if n % 2 else 0.5 / n for n in grid)
    return first, second, third


def cell_text(
    atoms: Atoms,
    grid: tuple[int, int, int],
    species: Mapping[str, str],
    *,
    moments: Sequence[float] | None = None,
    symmetry: bool = False,
) -> str:
    """Return the text of a .cell file; coordinates with 14 digits, where ASE's writer has 6.

    Parameters
    ----------
    atoms
        In a periodic cell, grouped by species.
    grid
        k-points; Gamma is among them.
    species
        Pseudopotential of each chemical symbol: a file, an on-the-fly string or a library.
    moments
        Initial moments in Bohr magnetons.
    symmetry
        Let CASTEP look for symmetry.
    """
    lines = ["%BLOCK LATTICE_CART", "ang"]
    lines += ["".join(f" {x:.14f}" for x in vector) for vector in atoms.cell.array]
    lines += ["%ENDBLOCK LATTICE_CART", "", "%BLOCK POSITIONS_FRAC"]
    for i, (symbol, place) in enumerate(
        zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False), strict=True)
    ):
        spin = "" if moments is None else f" SPIN= {moments[i]:g}"
        # adding zero after rounding leaves no minus zero
        lines.append(f"{symbol:2s}" + "".join(f" {round(x, 14) + 0.0:.14f}" for x in place) + spin)
    lines += ["%ENDBLOCK POSITIONS_FRAC", "", "%BLOCK SPECIES_POT"]
    lines += [f"{symbol:2s} {species[symbol]}" for symbol in dict.fromkeys(atoms.get_chemical_symbols())]
    lines += ["%ENDBLOCK SPECIES_POT", ""]
    lines.append("KPOINT_MP_GRID " + " ".join(str(n) for n in grid))
    lines.append("KPOINT_MP_OFFSET " + " ".join(f"{x:.14g}" for x in gamma_offset(grid)))
    if symmetry:
        lines.append("SYMMETRY_GENERATE")
    return "\n".join(lines) + "\n"


def param_text(values: Mapping[str, Any]) -> str:
    """Return the text of a .param file; keywords of value None are left out."""
    lines = [f"{key} : {_param_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def _param_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def checked_numerics(numerics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of remedies after a look that none of them changes the energy.

    Raises
    ------
    InputError
        One does.
    """
    wrong = sorted(set(numerics) - NUMERICS)
    if wrong:
        raise InputError(f"keywords {', '.join(wrong)} of a remedy would change CASTEP's energy.")
    return dict(numerics)


# ---- output ---------------------------------------------------------------------------------------------------


def output_atoms(path: Path) -> tuple[Atoms, dict[str, Any]]:
    """Return the structure of a .castep file, in the file's order, and its results, as ASE's reader has them.

    Raises
    ------
    OSError, ValueError, LookupError, AttributeError, TypeError
        The file is not complete.
    """
    from ase.io import ParseError
    from ase.io.castep import read_castep_castep

    refuse_long_lines(path)
    with warnings.catch_warnings():
        # ASE repeats CASTEP's own warnings as Python's
        warnings.simplefilter("ignore")
        with path.open(encoding="utf-8", errors="replace") as stream:
            try:
                found = read_castep_castep(stream, index=-1)
            except ParseError as error:
                raise ValueError(f"the file has no regular end ({error})") from error
    results = dict(found.calc.results)
    found.calc = None
    found.set_constraint()
    return found, results


def order_of(output: Sequence[int] | NDArray[Any], sent: Sequence[int] | NDArray[Any]) -> NDArray[np.intp]:
    """Return the (N,) place in CASTEP's output of every atom that was sent.

    CASTEP groups atoms by species; within one they keep the order of the .cell file.

    Parameters
    ----------
    output, sent
        (N,) atomic numbers in the order of the output and of the structure.

    Raises
    ------
    ValueError
        The compositions differ.
    """
    output, sent = np.asarray(output), np.asarray(sent)
    if sorted(output.tolist()) != sorted(sent.tolist()):
        raise ValueError("the output is of another composition")
    place = np.empty(len(sent), dtype=np.intp)
    place[np.argsort(sent, kind="stable")] = np.argsort(output, kind="stable")
    return place


_CYCLE = re.compile(r"^\s*\d+\s+(-?\d\S*)\s.*<-- SCF\s*$")


def scf_energies(path: Path) -> tuple[float, ...]:
    """Return the energy (eV) of every self-consistency cycle in a .castep file."""
    if not path.is_file():
        return ()
    energies = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            found = _CYCLE.match(line)
            if found:
                try:
                    energies.append(float(found[1]))
                except ValueError:
                    continue
    return tuple(energies)


def integrated_spin(path: Path) -> float | None:
    """Return the total moment in Bohr magnetons that CASTEP found (its spin unit hbar/2), or None without spin."""
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"Integrated Spin Density\s*=\s*(\S+)", text)
    return float(found[-1]) if found else None
