"""Which pseudopotential files ABINIT is given, and whether they belong to the functional that is asked for."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference.engines._abinit_gth import abinit_text, find_gth, read_gth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.reference.engines._abinit_gth import GthPotential
    from gapfactory.reference.site import ProgramSite

__all__ = ["Functional", "Potential", "functional", "potential_of"]

_SYSTEM = Path("/usr/share/abinit/psp")
_CP2K = Path("/usr/share/cp2k")
_GTH_FILES = ("GTH_POTENTIALS", "POTENTIAL")


@dataclass(frozen=True)
class Functional:
    """A functional by ABINIT's numbers.

    Attributes
    ----------
    name
        As in the settings.
    ixc
        Number written into the input; negative: two numbers of libxc, three digits each.
    made_for
        Values of pspxc, in files of ABINIT's own formats, that say the same functional.
    spellings
        How PAW-XML and UPF files name it.
    gth
        Family in CP2K's file; empty when it has none.
    """

    name: str
    ixc: int
    made_for: frozenset[int]
    spellings: frozenset[str]
    gth: str = ""


# The numbers were checked against the names that ABINIT 9.6.2 prints for them. LDA is Perdew and Wang's: GTH potentials
# were made with Teter's (1), a fit to the same data.
_FUNCTIONALS = tuple(
    Functional(name, ixc, frozenset({ixc, *more}), frozenset(spellings), gth)
    for name, ixc, more, spellings, gth in (
        ("LDA", 7, (1, -1012), ("PW", "LDA", "LDA_X+LDA_C_PW", "SLA PW NOGX NOGC"), "GTH-PADE"),
        ("PADE", 1, (7, -1012), ("PADE",), "GTH-PADE"),
        (
            "PBE",
            11,
            (-101130,),
            ("PBE", "GGA_X_PBE+GGA_C_PBE", "SLA PW PBE PBE", "SLA PW PBX PBC"),
            "GTH-PBE",
        ),
        ("PBEsol", -116133, (), ("PBESOL", "GGA_X_PBE_SOL+GGA_C_PBE_SOL", "SLA PW PSX PSC"), "GTH-PBESol"),
        ("revPBE", 14, (-102130,), ("REVPBE",), ""),
        ("RPBE", 15, (-117130,), ("RPBE",), ""),
        ("WC", 23, (-118130,), ("WC",), ""),
        ("BLYP", -106131, (18,), ("BLYP", "SLA LYP B88 BLYP"), "GTH-BLYP"),
        ("BP", -106132, (19,), ("BP", "B88+P86"), "GTH-BP"),
        ("OLYP", -110131, (20,), ("OLYP",), "GTH-OLYP"),
        ("HCTH120", 17, (), ("HCTH120",), "GTH-HCTH120"),
        ("HCTH407", 27, (), ("HCTH407",), "GTH-HCTH407"),
    )
)


def functional(name: str) -> Functional:
    """Return a functional by its name, in any case of letters.

    Raises
    ------
    InputError
        The engine does not know it.
    """
    for known in _FUNCTIONALS:
        if known.name.lower() == name.lower():
            return known
    raise InputError(
        f"engine abinit has no functional {name!r}: choose one of {', '.join(f.name for f in _FUNCTIONALS)}."
    )


@dataclass(frozen=True)
class Potential:
    """One pseudopotential file.

    Attributes
    ----------
    file
        Name that it has in the calculation's directory.
    content
        Its bytes.
    electrons
        Valence electrons.
    paw
        Whether it is a PAW data set.
    """

    file: str
    content: bytes
    electrons: float
    paw: bool

    @property
    def sha256(self) -> str:
        """The sha256 (hex) of the content."""
        return hashlib.sha256(self.content).hexdigest()


def potential_of(symbol: str, xc: Functional, names: Mapping[str, str], site: ProgramSite) -> Potential:
    """Return the potential of one element.

    Parameters
    ----------
    symbol
        Chemical symbol.
    xc
        The functional that is asked for.
    names
        By symbol: a file's name or path, `gth`, or a GTH potential's name such as GTH-PBE-q4; nothing means `gth`.
    site
        May name the directory of potentials.

    Raises
    ------
    MissingEngineError
        There is none.
    InputError
        It was made for another functional or element, or is of a kind that cannot be used.
    """
    name = names.get(symbol, "gth")
    if name == "gth" or re.fullmatch(r"GTH-[A-Za-z0-9]+(-q\d+)?", name):
        return _converted(symbol, xc, name, site)
    for folder in _folders(site):
        path = folder / name
        if path.is_file():
            return _named(symbol, xc, path)
    raise MissingEngineError(
        f"the pseudopotential {name!r} of {symbol} for engine abinit is not in "
        f"{', '.join(map(str, _folders(site)))}: put it there, set `pseudopotentials` of [abinit] in the site file or "
        "ABINIT_PSP_DIR, or leave it out for the GTH potentials of CP2K's package."
    )


def _folders(site: ProgramSite) -> list[Path]:
    if site.pseudopotentials is not None:
        return [site.pseudopotentials]
    named = os.environ.get("ABINIT_PSP_DIR")
    return [Path(named)] if named else [_SYSTEM]


# ---- GTH potentials ---------------------------------------------------------------------------------------------


def _converted(symbol: str, xc: Functional, name: str, site: ProgramSite) -> Potential:
    from ase.data import atomic_numbers

    family = re.sub(r"-q\d+$", "", name).upper().replace("GTH-LDA", "GTH-PADE")
    if name != "gth" and family != xc.gth.upper():
        raise InputError(
            f"the pseudopotential {name} of {symbol} is not of the functional {xc.name} (ixc {xc.ixc}) that is asked "
            f"for: take {xc.gth or 'a file of that functional'}, or the functional of {name}."
        )
    wanted = xc.gth if name == "gth" else name
    path, potentials = _gth_file(site)
    found = find_gth(potentials, symbol, wanted) if wanted else None
    if found is None:
        raise MissingEngineError(
            f"{path} has no GTH potential of {symbol} for the functional {xc.name}"
            + (f" (looked for {wanted})" if wanted else "")
            + f": name a file of that functional in `pseudopotentials` ({symbol}: file), or choose another functional."
        )
    # the mark of the file is the number in the input: the coefficients are of that functional
    text = abinit_text(found, atomic_numbers[symbol], xc.ixc)
    return Potential(f"{symbol}-{found.names[0]}.hgh", text.encode(), found.electrons, paw=False)


def _gth_file(site: ProgramSite) -> tuple[Path, tuple[GthPotential, ...]]:
    folders = [*_folders(site), *(Path(p) for p in [os.environ.get("CP2K_DATA_DIR")] if p), _CP2K]
    for folder in folders:
        for name in _GTH_FILES:
            path = folder / name
            if path.is_file():
                return path, _read_gth_file(path, path.stat().st_mtime_ns)
    raise MissingEngineError(
        f"no file {' or '.join(_GTH_FILES)} of GTH potentials in {', '.join(map(str, folders))}: "
        "`apt install cp2k-data`, set CP2K_DATA_DIR, or name a file per element in `pseudopotentials`."
    )


@lru_cache(maxsize=4)
def _read_gth_file(path: Path, modified: int) -> tuple[GthPotential, ...]:
    del modified
    return tuple(read_gth(path.read_text(encoding="utf-8", errors="replace")))


# ---- files by name ----------------------------------------------------------------------------------------------


def _named(symbol: str, xc: Functional, path: Path) -> Potential:
    content = path.read_bytes()
    head = content[:20000].decode(errors="replace")
    number: str | float
    if "<paw_dataset" in head or "<paw_setup" in head:
        number, electrons, made_for = _of_xml(head)
        right, paw = made_for.upper() in xc.spellings, True
    elif "<UPF" in head or "<PP_HEADER" in head:
        number, electrons, made_for = _of_upf(head, path)
        right, paw = made_for.upper() in xc.spellings, False
    else:
        number, electrons, pspcod, pspxc = _of_abinit(head, path)
        made_for, right, paw = f"pspxc {pspxc}", pspxc in xc.made_for, pspcod in {7, 17}
    if not right:
        raise InputError(
            f"the pseudopotential {path.name} of {symbol} was made for {made_for or 'an unnamed functional'}, but the "
            f"functional asked for is {xc.name} (ixc {xc.ixc}): take a file of that functional or change `xc`."
        )
    if not _is_of(symbol, number):
        raise InputError(
            f"the pseudopotential {path.name} is of {number}, not of {symbol}: name another one."
        )
    return Potential(path.name, content, electrons, paw)


def _is_of(symbol: str, number: str | float) -> bool:
    from ase.data import atomic_numbers

    return number == symbol if isinstance(number, str) else abs(number - atomic_numbers[symbol]) < 1e-6


def _of_abinit(head: str, path: Path) -> tuple[float, float, int, int]:
    """Return zatom, zion, pspcod and pspxc of the second and third line of ABINIT's own formats."""
    lines = [line.replace("D", "e").split() for line in head.splitlines()[1:3]]
    try:
        return float(lines[0][0]), float(lines[0][1]), int(lines[1][0]), int(lines[1][1])
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{path} is no pseudopotential that engine abinit knows (ABINIT's own formats, psp8, PAW-XML, UPF): "
            "name another file."
        ) from error


def _of_xml(head: str) -> tuple[str, float, str]:
    atom = _attributes(head, "atom")
    return (
        atom.get("symbol", "").strip(),
        float(atom.get("valence", "nan")),
        _attributes(head, "xc_functional").get("name", ""),
    )


def _of_upf(head: str, path: Path) -> tuple[str, float, str]:
    header = _attributes(head, "PP_HEADER")
    if header:
        kind = header.get("pseudo_type", "").strip()
        symbol, electrons = header.get("element", "").strip(), header.get("z_valence", "nan")
        made_for, core = header.get("functional", ""), header.get("core_correction", "F")
    else:
        # version 1: one value per line, its meaning behind it
        lines = [line.split() for line in head.partition("<PP_HEADER>")[2].splitlines()[1:8]]
        kind, symbol, electrons = lines[2][0], lines[1][0], lines[5][0]
        made_for, core = " ".join(lines[4][:4]), lines[3][0]
    if kind not in {"NC", "SL"}:
        raise InputError(
            f"{path.name} is a UPF file of type {kind!r}, of which ABINIT reads norm-conserving ones only: name "
            "another file."
        )
    if core.strip(" .").upper().startswith("T"):
        # measured with 9.6.2 and 14-Si.nlcc.UPF: forces 0.3 eV/Å away from the derivative of the energy
        raise InputError(
            f"{path.name} is a UPF file with a core correction, with which ABINIT's forces are not the derivatives of "
            "its energy: take the same potential as psp8, a GTH potential or a PAW data set."
        )
    return symbol, float(electrons), " ".join(made_for.split())


def _attributes(text: str, tag: str) -> dict[str, str]:
    found = re.search(rf"<{tag}\s+([^>]*)>", text)
    return {} if found is None else dict(re.findall(r"([\w-]+)\s*=\s*\"([^\"]*)\"", found[1]))
