"""What the free codes can do in place of the papers' own: functionals, data sets and the cutoffs that these need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FREE_CODES", "Variant", "closest"]

FREE_CODES = ("gpaw", "espresso", "cp2k", "abinit")
_RYDBERG_EV = 13.605693


@dataclass(frozen=True)
class Variant:
    """One code's settings of a preset.

    Attributes
    ----------
    engine
        The engine.
    settings
        Its keys and values, as in a campaign file; every other key keeps its default.
    differences
        What is not as in the paper, one sentence each.
    """

    engine: str
    settings: Mapping[str, Any]
    differences: tuple[str, ...] = ()


#: What stands in for the paper's pseudopotentials.
_DATA = {
    "gpaw": "GPAW's PAW data sets",
    "espresso": "the pseudopotentials of the site",
    "cp2k": "Goedecker-Teter-Hutter (GTH) pseudopotentials",
    "abinit": "Goedecker-Teter-Hutter (GTH) pseudopotentials, unless others are named,",
}

#: Cutoffs in eV that these data sets need: from there on, energies of a crystal, the same at 0.85 of its volume and the
#: same sheared by 8 % keep their differences within 2 meV/atom, and stresses are within 1 GPa, of those at a higher
#: cutoff (measured with PBE on diamond, fcc, hcp, bcc and boron of the alpha-gallium type).
_LOWEST_CUTOFF_EV: dict[str, dict[str, float]] = {
    "gpaw": {"Al": 400.0, "B": 500.0, "C": 500.0, "Mg": 520.0, "Si": 340.0, "Ti": 400.0, "W": 400.0},
    # those that the engine prefers of Debian's
    "espresso": {"B": 500.0, "C": 500.0, "Si": 340.0},
    "abinit": {"Al": 400.0, "B": 1100.0, "C": 1800.0, "Mg": 400.0, "Si": 400.0, "W": 1500.0},
}

#: GTH potentials other than the first of the element: with 2s and 2p as valence magnesium is not converged at 1200 eV.
_GTH_NAMES = {"Mg": "GTH-PBE-q2"}

#: Elements with a GTH potential for PBEsol in CP2K's collection, of those that the papers need.
_GTH_PBESOL = frozenset({"B"})

_LIBXC = "{xc} needs a GPAW that was built with libxc, and PAW data sets for it."
_NO_VDW = "optB88-vdW is not available: PBE, which hardly binds the layers of graphite."

#: functional of the paper -> engine -> (name in our settings, what differs)
_FUNCTIONALS: dict[str, dict[str, tuple[str, str]]] = {
    "PBE": dict.fromkeys(FREE_CODES, ("PBE", "")),
    "PBEsol": {
        "gpaw": ("PBEsol", _LIBXC.format(xc="PBEsol")),
        "espresso": (
            "PBEsol",
            "PBEsol needs pseudopotentials for it in the site's directory; Debian has none here.",
        ),
        "cp2k": ("PBEsol", ""),
        "abinit": ("PBEsol", ""),
    },
    "optB88-vdW": {
        "gpaw": ("optB88-vdW", _LIBXC.format(xc="optB88-vdW")),
        **dict.fromkeys(("espresso", "cp2k", "abinit"), ("PBE", _NO_VDW)),
    },
}


def closest(engine: str, paper: Mapping[str, Any], *, elements: Sequence[str], code: str) -> Variant:
    """Return the closest that a free code comes to a paper's settings.

    Parameters
    ----------
    engine
        One of `FREE_CODES`.
    paper
        Functional, cutoff and k-point density of the paper.
    elements
        For which they are meant; empty for any.
    code
        What the paper used, for people.
    """
    settings = dict(paper)
    settings["xc"], text = _FUNCTIONALS[paper["xc"]][engine]
    differences = [text] if text else []
    if engine in {"cp2k", "abinit"}:
        differences += _gth(engine, settings, elements)
    if engine == "cp2k":
        del settings["cutoff_eV"]
        differences.append(
            "Gaussian basis sets instead of plane waves: the paper's cutoff has no counterpart (`cutoff_eV` of cp2k is "
            "that of the density; its default is tested for C and Si)."
        )
    else:
        settings["cutoff_eV"], text = _cutoff(engine, float(paper["cutoff_eV"]), elements)
        differences.append(text)
    sentence = f"{_DATA[engine]} instead of {code}'s."
    return Variant(engine, settings, (*differences, sentence[0].upper() + sentence[1:]))


def _gth(engine: str, settings: dict[str, Any], elements: Sequence[str]) -> list[str]:
    """Choose GTH potentials; return what differs."""
    if not elements:
        return []
    element = elements[0]
    if settings["xc"] == "PBEsol" and element not in _GTH_PBESOL:
        if engine == "cp2k":
            settings["potential"] = "GTH-PBE"
            return [
                f"No GTH potential of {element} is made for PBEsol: that of PBE with the functional PBEsol."
            ]
        text = f"No GTH potential of {element} is made for PBEsol: a file for PBEsol must be in the site's directory"
        return [f"{text} and named in `pseudopotentials`, and the cutoff must suit it."]
    if engine == "abinit" and element in _GTH_NAMES:
        name = _GTH_NAMES[element]
        settings["pseudopotentials"] = {element: name}
        return [f"{name}, with the semi-core states in the core: with them no practical cutoff is enough."]
    return []


def _cutoff(engine: str, paper: float, elements: Sequence[str]) -> tuple[float, str]:
    """Return the cutoff in eV and what is to be said of it."""
    known = dict(_LOWEST_CUTOFF_EV[engine])
    if engine == "abinit" and not elements:
        # known for a potential that is named, which it cannot be here
        known = {element: value for element, value in known.items() if element not in _GTH_NAMES}
    tested = [element for element in elements or sorted(known) if element in known]
    lowest = max((known[element] for element in tested), default=0.0)
    used = max(paper, lowest)
    rydberg = f" = {used / _RYDBERG_EV:.1f} Ry" if engine == "espresso" else ""
    if not tested:
        return (
            paper,
            f"The same plane-wave cutoff, {paper:g} eV{rydberg}, which is not tested with these data sets.",
        )
    if lowest <= paper:
        return paper, f"The same plane-wave cutoff, {paper:g} eV{rydberg}."
    text = (
        f"{lowest:g} eV{rydberg} instead of {paper:g} eV: what the data sets of {', '.join(tested)} need (measured on "
        "crystals: relative energies within 2 meV/atom, stress within 1 GPa)."
    )
    return lowest, text if elements else f"{text} Other elements may need more."
