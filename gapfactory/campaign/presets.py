"""Presets: what a campaign file may start from. Everything that a preset does not name keeps its default."""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass
from typing import Any

from gapfactory.errors import CampaignFileError, InputError
from gapfactory.reference.presets import REFERENCE_PRESETS

__all__ = ["PRESETS", "Preset", "preset", "starter_file"]


@dataclass(frozen=True)
class Preset:
    """A named starting point.

    Attributes
    ----------
    summary
        One line for people.
    content
        Keys and values as in a campaign file.
    notes
        What differs from a published setting, and why.
    """

    summary: str
    content: dict[str, Any]
    notes: tuple[str, ...] = ()


def _paper(element: str) -> Preset:
    found = REFERENCE_PRESETS[f"bernstein-2019-{element}"]
    return Preset(
        f"Bernstein 2019 for {element}: 10 000 cells and 100 labels per generation, 25 generations, {found.xc}",
        {"element": element, "reference": {"preset": found.name, "engine": "gpaw"}},
        (
            (
                f"The paper ran {found.code.upper()}; this is its closest equivalent in GPAW "
                f"(reference preset {found.name}): {' '.join(found.variant('gpaw').differences)}"
            ),
            (
                f"The paper's KSPACING of {found.kspacing:g} 1/Å is a density of {found.kpoint_density:g} k-points "
                "per 1/Å."
            ),
            f"'reference: {{engine: {found.code}}}' takes the paper's own code; 'campaign check' looks what is there.",
        ),
    )


#: Sizes of a campaign that a laptop finishes while one waits: small cells, few sparse points.
_QUICK: dict[str, Any] = {
    "build": {"atoms_min": 2, "atoms_max": 8},
    "dimers": {"bond_lengths": 12},
    "schedule": {"cells_per_generation": 400, "initial_cells": 400, "generations": 6},
    "select": {
        "labels_per_generation": 18,
        "held_out_per_generation": 3,
        "noise_cells": 3,
        "kt_eV": [0.3, 0.3, 0.2],
    },
    "stop": {"label_budget": 126},
    # a potential fitted to so few labels has holes at low density: cells that fall into one must not be chosen
    "relax": {"max_steps": 200, "max_volume_fraction": 2.0},
    "gap": {
        "two_body": {"n_sparse": 15},
        "three_body": {"n_sparse": 40},
        "soap": {"n_sparse": 200, "n_max": 8, "l_max": 6},
    },
    "execution": {"build_chunk": 200, "relax_chunk": 50, "reference_chunk": 3},
}

PRESETS: dict[str, Preset] = {
    "quickstart-Si": Preset(
        "silicon from nothing by real DFT (GPAW, PBE) in about a quarter of an hour on two cores",
        {
            "element": "Si",
            **copy.deepcopy(_QUICK),
            "reference": {
                "engine": "gpaw",
                "xc": "PBE",
                "cutoff_eV": 250.0,
                "kpoint_density": 3.0,
                "smearing_width_eV": 0.2,
            },
            "evidence": {"phases": ["diamond"]},
        },
    ),
    "quickstart-Ti": Preset(
        "a metal of the size of titanium from nothing, with an analytic reference: the whole loop in a few "
        "minutes",
        {
            "element": "Ti",
            **copy.deepcopy(_QUICK),
            "reference": {"engine": "ase", "calculator": "second-moment"},
            "evidence": {"phases": ["hcp", "omega", "bcc"]},
        },
    ),
    "quickstart-Si-analytic": Preset(
        "silicon with the Stillinger-Weber potential in place of DFT: the whole loop in a few minutes, for "
        "trying things out",
        {
            "element": "Si",
            **copy.deepcopy(_QUICK),
            "reference": {"engine": "ase", "calculator": "stillinger-weber"},
            "evidence": {"phases": ["diamond"]},
        },
    ),
    "de-novo-2019-B": _paper("B"),
    "de-novo-2019-C": _paper("C"),
    "de-novo-2019-Si": _paper("Si"),
    "de-novo-2019-Ti": _paper("Ti"),
}


def preset(name: str) -> dict[str, Any]:
    """Return the content of a preset, to be overlaid by a campaign file.

    Raises
    ------
    CampaignFileError
        There is no such preset; the nearest one is named.
    """
    found = PRESETS.get(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), {key.lower(): key for key in PRESETS}, n=1)
        nearest = next((key for key in PRESETS if near and key.lower() == near[0]), None)
        hint = f"did you mean {nearest!r}?" if nearest else f"there are: {', '.join(PRESETS)}"
        msg = f"no preset {name!r}; {hint}"
        raise CampaignFileError(msg)
    return copy.deepcopy(found.content)


def starter_file(*, element: str | None, preset_name: str | None) -> str:
    """Return the text of a new campaign file.

    Parameters
    ----------
    element
        Start from an element with the paper's defaults ...
    preset_name
        ... or from a preset.
    """
    if preset_name is not None:
        content = preset(preset_name)
        notes = [PRESETS[preset_name].summary, *PRESETS[preset_name].notes]
        head = "".join(f"# {line}\n" for line in notes)
        return (
            f"{head}preset: {preset_name}\nname: {preset_name.lower()}\nseed: 1\n\n"
            f"# Any setting of {content['element']} can be overridden below; 'gapfactory campaign show "
            "FILE' lists them all.\n"
        )
    from gapfactory.elements import species

    if element is None:
        msg = "give an element or a preset"
        raise InputError(msg)
    found = species(element)
    return (
        f"# {found.symbol}: {found.bonding}, characteristic radius {found.radius:g} Å; every default "
        "follows from these.\n"
        "# 'gapfactory campaign show FILE' lists them all, 'gapfactory campaign plan FILE' says what they "
        "cost.\n"
        f"element: {found.symbol}\nname: {found.symbol.lower()}-de-novo\nseed: 1\n"
    )
