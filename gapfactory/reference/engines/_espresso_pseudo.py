"""Pseudopotentials of Quantum ESPRESSO: which file is used for a species, and what its header says."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapfactory.errors import MissingEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.reference.site import ProgramSite

__all__ = ["Pseudopotential", "find_pseudopotential", "pseudopotential_directory"]

#: Where Debian's quantum-espresso-data puts them.
SYSTEM_DIRECTORY = Path("/usr/share/espresso/pseudo")

#: Preferred files of Debian's quantum-espresso-data where several match. All are scalar relativistic or, for the
#: lightest elements, not relativistic; the sets of pslibrary come before older ones.
PREFERRED: dict[str, dict[str, str]] = {
    "PBE": {
        "B": "B.pbe-n-kjpaw_psl.1.0.0.UPF",
        "C": "C.pbe-n-kjpaw_psl.0.1.UPF",
        "Fe": "Fe.pbe-spn-rrkjus_psl.0.2.1.UPF",
        "N": "N.pbe-n-kjpaw_psl.1.0.0.UPF",
        "Ni": "Ni.pbe-spn-kjpaw_psl.1.0.0.UPF",
        "O": "O.pbe-kjpaw.UPF",
        "Si": "Si.pbe-nl-rrkjus_psl.1.0.0.UPF",
    },
    "PBESOL": {
        "Li": "Li.pbesol-s-kjpaw_psl.0.2.1.UPF",
        "Ni": "Ni.pbesol-n-kjpaw_psl.0.1.UPF",
        "O": "O.pbesol-n-kjpaw_psl.0.1.UPF",
    },
    "LDA": {"C": "C.pz-rrkjus.UPF", "O": "O.pz-kjpaw.UPF"},
}

#: Names that headers of pseudopotential files give to functionals, by the name of this package.
_FUNCTIONALS = {
    "LDA": {"LDA", "PZ", "SLA PZ NOGX NOGC", "SLA PW NOGX NOGC"},
    "PBE": {"PBE", "SLA PW PBX PBC", "SLA PW PBE PBE"},
    "PBESOL": {"PBESOL", "SLA PW PSX PSC"},
    "REVPBE": {"REVPBE", "SLA PW REVX PBC", "SLA PW RPB PBC"},
    "BLYP": {"BLYP", "SLA LYP B88 BLYP"},
}
_HEADER_BYTES = 200_000


@dataclass(frozen=True)
class Pseudopotential:
    """One file.

    Attributes
    ----------
    path
        The file.
    element
        Chemical symbol in its header.
    functional
        As its header writes it, words separated by single blanks, capitals.
    valence
        Number of valence electrons.
    spin_orbit
        Made for calculations with spin-orbit coupling, which are not done here.
    """

    path: Path
    element: str
    functional: str
    valence: float
    spin_orbit: bool

    @classmethod
    def read(cls, path: Path) -> Pseudopotential | None:
        """Return what the header of a file in UPF format (version 1 or 2) says; None for other formats."""
        with path.open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(_HEADER_BYTES)
        found = re.search(r"<PP_HEADER(.*?)(?:/>|</PP_HEADER>)", text, re.DOTALL)
        if found is None:
            return None
        header = found[1]
        attributes = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', header))
        try:
            if "element" in attributes:
                return cls(
                    path,
                    attributes["element"].strip().capitalize(),
                    _words(attributes["functional"]),
                    float(attributes["z_valence"].lower().replace("d", "e")),
                    attributes.get("has_so", "f").strip().lower().strip(".").startswith("t"),
                )
            return cls._version_1(path, header, text)
        except (KeyError, ValueError, IndexError):
            return None

    @classmethod
    def _version_1(cls, path: Path, header: str, text: str) -> Pseudopotential:
        lines = [line for line in header.lstrip(">").splitlines() if line.strip()]
        functional = next(line for line in lines if "Exchange-Correlation" in line).split()
        valence = next(line for line in lines if "Z valence" in line).split()
        # four words of the parts, then the short name where there is one
        return cls(
            path,
            lines[1].split()[0].capitalize(),
            _words(" ".join(functional[:4])),
            float(valence[0].lower().replace("d", "e")),
            "<PP_ADDINFO" in text or ".rel-" in path.name.lower(),
        )

    def suits(self, xc: str) -> bool:
        """Tell whether it was made for a functional."""
        wanted = _words(xc)
        return self.functional in _FUNCTIONALS.get(wanted, set()) | {wanted}

    def sha256(self) -> str:
        """Return the digest of the file (hex)."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def pseudopotential_directory(site: ProgramSite) -> Path:
    """Return where the files are: the site's directory, else $ESPRESSO_PSEUDO, else that of Debian's package.

    Raises
    ------
    MissingEngineError
        There is no such directory.
    """
    named = site.pseudopotentials or os.environ.get("ESPRESSO_PSEUDO") or SYSTEM_DIRECTORY
    directory = Path(named).expanduser().absolute()
    if not directory.is_dir():
        raise MissingEngineError(
            f"the pseudopotentials of Quantum ESPRESSO should be in {directory}, which is no directory: install "
            "Debian's quantum-espresso-data, or name a directory in the site file (pseudopotentials) or in "
            "ESPRESSO_PSEUDO."
        )
    return directory


def find_pseudopotential(symbol: str, xc: str, directory: Path, chosen: Mapping[str, str]) -> Pseudopotential:
    """Return the pseudopotential of a species.

    Parameters
    ----------
    symbol
        Chemical symbol.
    xc
        Functional for which it must have been made.
    directory
        Where the files are.
    chosen
        File names that the settings give, by symbol.

    Raises
    ------
    MissingEngineError
        There is none, there are several and nothing decides, or the chosen one is for something else.
    """
    if symbol in chosen:
        return _checked(symbol, xc, directory / chosen[symbol])
    # the element is in front of the name by convention; the header decides
    start = re.compile(rf"{symbol}(?![a-z])", re.IGNORECASE)
    files = [p for p in sorted(directory.iterdir()) if start.match(p.name) and p.suffix.lower() == ".upf"]
    read = [p for p in map(Pseudopotential.read, files) if p is not None and p.element == symbol]
    candidates = [p for p in read if p.suits(xc) and not p.spin_orbit]
    preferred = PREFERRED.get(_words(xc), {}).get(symbol)
    for candidate in candidates:
        if len(candidates) == 1 or candidate.path.name == preferred:
            return candidate
    if candidates:
        raise MissingEngineError(
            f"{directory} has several pseudopotentials of {symbol} for {xc}: "
            f"{', '.join(p.path.name for p in candidates)}. Choose one in the settings: "
            f'pseudopotentials: {{"{symbol}": "{candidates[0].path.name}"}}.'
        )
    others = ", ".join(f"{p.path.name} ({p.functional})" for p in read) or "none for any functional"
    raise MissingEngineError(
        f"{directory} has no pseudopotential of {symbol} for {xc}; of this element there are: {others}. Put one "
        "there, name another directory in the site file (pseudopotentials), or change xc."
    )


def _checked(symbol: str, xc: str, path: Path) -> Pseudopotential:
    """Return the pseudopotential that the settings name, if it is what they take it for."""
    if not path.is_file():
        raise MissingEngineError(
            f"the pseudopotential {path.name} that the settings choose for {symbol} is not in {path.parent}: put it "
            "there, or correct `pseudopotentials`."
        )
    found = Pseudopotential.read(path)
    if found is None:
        raise MissingEngineError(
            f"{path} is not in UPF format (no header): choose another file for {symbol}, or convert it."
        )
    if found.element != symbol:
        raise MissingEngineError(
            f"{path} is a pseudopotential of {found.element}, the settings choose it for {symbol}: correct "
            "`pseudopotentials`."
        )
    if not found.suits(xc):
        raise MissingEngineError(
            f"{path} was made for the functional {found.functional}, the settings ask for {xc}: choose another file "
            "or change xc."
        )
    if found.spin_orbit:
        raise MissingEngineError(
            f"{path} is for calculations with spin-orbit coupling, which are not done here: choose a scalar "
            f"relativistic file for {symbol}."
        )
    return found


def _words(text: str) -> str:
    return " ".join(text.upper().replace("-", " ").replace("+", " ").split())
