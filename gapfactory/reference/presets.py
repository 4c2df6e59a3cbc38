"""The papers' reference settings by name, for their own codes and, as near as it goes, for the free ones.

A campaign file names one: ``reference: {preset: bernstein-2019-Si, engine: vasp}``; keys next to it override. Its page
in the documentation is generated: ``python -m gapfactory.reference.presets docs/reference/reference-presets.md``.

Every number stands in its paper; what a paper leaves open is said in `PaperPreset.not_stated`, and then our own
settings' defaults hold. k-point spacings become densities by `kspacing_to_density`: VASP's KSPACING contains the factor
2 pi, CASTEP's spacing does not.
"""

from __future__ import annotations

import difflib
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError
from gapfactory.reference._equivalents import FREE_CODES, Variant, closest
from gapfactory.reference.kpoints import kspacing_to_density

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "REFERENCE_PRESETS",
    "PaperPreset",
    "Variant",
    "expand_preset",
    "find_preset",
    "preset_page",
    "reference_preset",
]


@dataclass(frozen=True)
class PaperPreset:
    """Reference settings as a paper states them.

    Attributes
    ----------
    name
        As in a campaign file.
    paper, place
        The publication, and where in it.
    code
        Engine of the code that the paper used.
    elements
        Elements for which the paper used them; empty for settings meant for any.
    xc
        Functional.
    cutoff_eV
        Plane-wave cutoff in eV.
    kspacing, includes_2pi
        Distance of neighbouring k-points in 1/Å, and whether the factor 2 pi is in it.
    pseudopotentials
        What the paper says of them.
    own
        Further keys of the paper's own code.
    not_stated
        What the paper leaves open.
    """

    name: str
    paper: str
    place: str
    code: str
    elements: tuple[str, ...]
    xc: str
    cutoff_eV: float
    kspacing: float
    includes_2pi: bool
    pseudopotentials: str
    own: Mapping[str, Any] = field(default_factory=dict)
    not_stated: tuple[str, ...] = ()

    @property
    def kpoint_density(self) -> float:
        """k-points per 1/Å with 2 pi; rounded up in the sixth decimal, as a file that a user writes would have it."""
        exact = kspacing_to_density(self.kspacing, includes_2pi=self.includes_2pi)
        return math.ceil(round(exact * 1e6, 3)) / 1e6

    @property
    def summary(self) -> str:
        """One line for people."""
        of = f" for {', '.join(self.elements)}" if self.elements else " for any element"
        pi = "with" if self.includes_2pi else "without"
        return (
            f"{self.paper.split(',')[0]}{of}: {self.xc}, {self.cutoff_eV:g} eV, k-points every {self.kspacing:g} 1/Å "
            f"({pi} 2 pi), {self.code.upper()}"
        )

    def variant(self, engine: str) -> Variant:
        """Return the settings for one code.

        Raises
        ------
        InputError
            The preset has none for it.
        """
        found = self.variants().get(engine)
        if found is None:
            raise InputError(
                f"the reference preset {self.name!r} has no settings for engine {engine!r}: choose one of "
                f"{', '.join(self.variants())}, or write the settings without a preset."
            )
        return found

    def variants(self) -> dict[str, Variant]:
        """Return the settings of the paper's own code, then their closest equivalents on the free ones."""
        common = {"xc": self.xc, "cutoff_eV": self.cutoff_eV, "kpoint_density": self.kpoint_density}
        own = Variant(self.code, {**common, **self.own}, _GRID[self.code])
        others = {
            engine: closest(
                engine,
                common,
                elements=self.elements,
                code=self.code.upper(),
            )
            for engine in FREE_CODES
        }
        more = _GRID[self.code]
        return {self.code: own} | {
            engine: Variant(engine, found.settings, (*found.differences, *more))
            for engine, found in others.items()
        }


#: The grids that the paper's code would make are not ours in every case.
_GRID = {
    "vasp": (),
    "castep": (
        "Grids contain Gamma; CASTEP's own do not where their size is even: as dense, but other points.",
    ),
}

_DERINGER = "Deringer 2018, Phys. Rev. Lett. 120, 156001"
_BERNSTEIN = "Bernstein 2019, npj Comput. Mater. 5, 99"
_ALLEN = "Allen 2022, Mach. Learn.: Sci. Technol. 3, 045031"
_PICKARD = "Pickard 2024, Faraday Discuss., doi:10.1039/d4fd00134f"
_SMEARING = "Smearing of the occupations."
_CONVERGENCE = "Convergence of the self-consistency."


def _bernstein(element: str, cutoff: float, kspacing: float, xc: str = "PBEsol") -> PaperPreset:
    return PaperPreset(
        f"bernstein-2019-{element}",
        _BERNSTEIN,
        "Methods, Computational details",
        "vasp",
        (element,),
        xc,
        cutoff,
        kspacing,
        True,
        "projector augmented waves of VASP; which of an element's data sets is not said",
        not_stated=(
            "Which POTCAR of the element: the one of its bare symbol is taken.",
            _SMEARING,
            _CONVERGENCE,
        ),
    )


def _allen(element: str, cutoff: float, kspacing: float, tolerance: float, valence: str) -> PaperPreset:
    return PaperPreset(
        f"allen-2022-{element}",
        _ALLEN,
        "section 3.1 and Table 1",
        "castep",
        (element,),
        "PBE",
        cutoff,
        kspacing,
        False,
        f"on-the-fly ultrasoft, valence {valence}",
        own={"energy_convergence_eV": tolerance},
        not_stated=(
            (
                "Whether the k-point spacing contains 2 pi: taken without, as CASTEP's own keyword; with it, grids "
                "of aluminium would have 270 points in each direction."
            ),
            "Which library of on-the-fly pseudopotentials: the engine's default is taken.",
            _SMEARING,
        ),
    )


_ALL = (
    PaperPreset(
        "deringer-2018-B",
        _DERINGER,
        "'dense spacing of k meshes (0.02 1/Å), a plane-wave cutoff energy of 800 eV', before Fig. 1",
        "castep",
        ("B",),
        "PBE",
        800.0,
        0.02,
        False,
        "on-the-fly, CASTEP 8.0",
        own={"pseudopotential_library": "C8"},
        not_stated=(
            (
                "Whether the k-point spacing contains 2 pi: taken without, as CASTEP's own keyword; with it, a cell of "
                "5 Å would have 63 points in each direction."
            ),
            "Which library of on-the-fly pseudopotentials: C8, that of CASTEP 8.0, is taken.",
            _SMEARING,
            _CONVERGENCE,
        ),
    ),
    _bernstein("B", 500.0, 0.25),
    _bernstein("C", 800.0, 0.35, "optB88-vdW"),
    _bernstein("Si", 400.0, 0.25),
    _bernstein("Ti", 285.0, 0.25),
    _allen("Mg", 520.0, 0.012, 1e-11, "2s2 2p6 3s2"),
    _allen("Al", 800.0, 0.010, 1e-11, "3s2 3p1"),
    _allen("Si", 400.0, 0.030, 1e-11, "3s2 3p2"),
    _allen("W", 600.0, 0.015, 1e-10, "5s2 5p6 4f14 6s2 5d4"),
    PaperPreset(
        "pickard-2024-search",
        _PICKARD,
        "sections V (boron) and VIII (carbon; MgO-Al2O3-SiO2 likewise)",
        "castep",
        (),
        "PBE",
        340.0,
        0.07,
        False,
        "default QC5 on-the-fly set; default grid scales",
        # CASTEP's defaults: the engine's own are those of the final level
        own={"pseudopotential_library": "QC5", "grid_scale": 1.75, "fine_grid_scale": 1.75},
        not_stated=(_SMEARING, _CONVERGENCE),
    ),
    PaperPreset(
        "pickard-2024-final-C",
        _PICKARD,
        "section VIII: the structures within 0.5 eV of the ground state",
        "castep",
        ("C",),
        "PBE",
        700.0,
        0.03,
        False,
        "default C9 on-the-fly set; standard and fine grid scales 2 and 2.3",
        own={"pseudopotential_library": "C9", "grid_scale": 2.0, "fine_grid_scale": 2.3},
        not_stated=(_SMEARING, _CONVERGENCE),
    ),
)

#: Every preset by its name.
REFERENCE_PRESETS: dict[str, PaperPreset] = {entry.name: entry for entry in _ALL}


def find_preset(name: str) -> PaperPreset:
    """Return a preset.

    Raises
    ------
    InputError
        There is none of this name; the nearest one is named.
    """
    found = REFERENCE_PRESETS.get(name)
    if found is None:
        lower = {key.lower(): key for key in REFERENCE_PRESETS}
        near = difflib.get_close_matches(name.lower(), lower, n=1)
        hint = f"did you mean {lower[near[0]]!r}?" if near else f"there are: {', '.join(REFERENCE_PRESETS)}"
        raise InputError(f"no reference preset {name!r}; {hint}")
    return found


def reference_preset(name: str, engine: str | None = None) -> dict[str, Any]:
    """Return the content of a preset, to be overlaid by the keys of a campaign file.

    Parameters
    ----------
    name
        Of the preset.
    engine
        For which code; None: the paper's own.

    Raises
    ------
    InputError
        There is no such preset, or it has no settings for this code.
    """
    found = find_preset(name)
    variant = found.variant(engine or found.code)
    return {"engine": variant.engine, **variant.settings}


def expand_preset(content: Mapping[str, Any], elements: Iterable[str] = ()) -> dict[str, Any]:
    """Return the reference settings of a campaign file with the preset that they name put below the other keys.

    Parameters
    ----------
    content
        Keys and values below `reference`.
    elements
        Of the campaign.

    Raises
    ------
    InputError
        There is no such preset or no settings of it for the engine, or it is for other elements.
    """
    above = dict(content)
    name = above.pop("preset", None)
    if name is None:
        return above
    engine = above.get("engine")
    found = find_preset(str(name))
    foreign = sorted(set(elements) - set(found.elements)) if found.elements else []
    if foreign:
        raise InputError(
            f"the reference preset {found.name!r} is for {', '.join(found.elements)}, the campaign has "
            f"{', '.join(foreign)}: its cutoff says nothing there. Choose another preset or write the settings out."
        )
    return {**reference_preset(found.name, None if engine is None else str(engine)), **above}


_HEAD = """# Reference settings of the papers

Generated by `python -m gapfactory.reference.presets docs/reference/reference-presets.md`; a test keeps it up to date.

A campaign file takes one by name; keys next to it override, and without `engine` it is the paper's own code:

```yaml
element: Si
reference:
  preset: bernstein-2019-Si
  engine: vasp
```

k-points are given as a density: points per 1/Å of reciprocal vector, the factor 2 pi included, with Gamma. A spacing
that contains 2 pi (VASP's KSPACING) is its inverse; one that does not (CASTEP's) is first multiplied by 2 pi. What a
paper leaves open keeps the default of [the engine's settings](campaign-file.md). An equivalent on another code is never
the same calculation: what differs is listed, and `gapfactory reference check` measures its noise.
"""


def preset_page() -> str:
    """Return the page of all presets, as Markdown."""
    lines = [_HEAD, "| preset | settings |", "| --- | --- |"]
    lines += [f"| [`{entry.name}`](#{entry.name.lower()}) | {entry.summary} |" for entry in _ALL]
    for entry in _ALL:
        pi = "contains 2 pi" if entry.includes_2pi else "without 2 pi"
        lines += [
            "",
            f"## {entry.name}",
            "",
            f"{entry.paper}: {entry.place}.",
            "",
            f"- functional {entry.xc}; cutoff {entry.cutoff_eV:g} eV; {entry.code.upper()}",
            f"- k-point spacing {entry.kspacing:g} 1/Å, {pi}: density {entry.kpoint_density:g}",
            f"- pseudopotentials: {entry.pseudopotentials}",
            *(f"- not stated: {text[0].lower()}{text[1:]}" for text in entry.not_stated),
            "",
            "| engine | settings | differs from the paper |",
            "| --- | --- | --- |",
        ]
        for variant in entry.variants().values():
            keys = ", ".join(f"`{key}: {value}`" for key, value in variant.settings.items())
            lines.append(f"| `{variant.engine}` | {keys} | {' '.join(variant.differences) or '-'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(preset_page(), encoding="utf-8")
