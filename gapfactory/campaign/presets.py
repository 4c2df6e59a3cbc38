"""Presets: what a campaign file may start from. Everything that a preset does not name keeps its default."""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass
from typing import Any

from gapfactory.campaign.demos import DEMOS
from gapfactory.campaign.search_presets import SEARCHES
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
        Keys and values as in a campaign file; as there, they may be laid over another preset.
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

#: 3.7 Å for boron (r = 0.84 Å); for a metal smaller in the proportion of the 2019 paper's cutoffs.
_BORON_CUTOFF = {"cutoff_covalent_in_r": 4.4048, "cutoff_metallic_in_r": 4.0133, "transition_width_in_r": 0.6}
#: Cells of 2 to 32 atoms without symmetry, over a wide range of densities.
_FREE = {
    "atoms_min": 2,
    "atoms_max": 32,
    "symmetry_operations_max": 1,
    "minimum_separation_in_r": 1.4,
    "narrow_volume_spread": 0.5,
    "wide_volume_spread": 0.5,
    "odd_fraction": 0.5,
}
#: Volumes around that of α-B12, 7.3 Å^3 per atom, for boron.
_NEAR_ALPHA = {"volume_in_r3_covalent": 12.3, "initial_wide_fraction": 0.0, "odd_fraction": 0.0}


def _boron(components: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what both papers of 2018 have in common, with these components and settings."""
    return {
        "element": "B",
        "protocol": "boron-2018",
        "components": {
            name: {"cells": 250, "initial_cells": 500, "build": build} for name, build in components.items()
        },
        "gap": {
            "two_body": {"n_sparse": 30, **_BORON_CUTOFF},
            "three_body": {"n_sparse": 200, **_BORON_CUTOFF},
            "soap": {"n_sparse": 3000, "atom_sigma": 0.75, "n_max": 8, "l_max": 8, **_BORON_CUTOFF},
        },
        "final_fit": {"soap": {"atom_sigma": 0.5, "n_max": 12, "l_max": 12}},
        "reference": {"engine": "gpaw", "xc": "PBE", "cutoff_eV": 800.0, "kpoint_density": 7.96},
        **more,
    }


#: What the texts of 2018 leave open, for both presets.
_BORON_NOTES = (
    (
        "Sizes that the texts give: 500 cells of each component at first; four searches. 250 cells of each component "
        "per search is what the preprint's 3 000 end points in four searches of three components allow; the same "
        "number is taken for the Letter. What the totals leave are distorted crystals."
    ),
    (
        "Chosen, for the texts do not say: sigmas (by distance to the hull, as in 2019), deltas (staged), sparse "
        "points (30, 200 and 3000), width of the switching (0.6 r, 0.5 Å for boron), distortions of crystals."
    ),
    "Steps are those of the L-BFGS of this program; the papers count conjugate-gradient steps.",
    "Isolated atoms and dimers are labelled beside the totals; the texts mention none.",
    "The papers ran CASTEP with PBE, 800 eV and a k-point spacing of 0.02 1/Å without 2 pi, a density of 7.96 per 1/Å.",
)


def _ndsc(
    summary: str,
    parents: dict[str, Any],
    reference: dict[str, Any],
    frames: dict[str, Any],
    **vibrations: Any,
) -> Preset:
    """Return a campaign of Allen and Bartók (2022); the summary begins with the element."""
    from gapfactory.elements import species
    from gapfactory.potentials.gap.presets import allen_2022

    element = summary.split(",", 1)[0]
    return Preset(
        f"Allen 2022 for {summary}",
        {
            "element": element,
            "protocol": "ndsc-2022",
            "vibrations": {
                "parents": parents,
                # the published choice of supercells, whose numbers the paper's table has
                "frames": {**frames, "supercells": {"choice": "published"}},
                **vibrations,
            },
            "gap": allen_2022(species(element)).model_dump(mode="json", exclude_defaults=True),
            "dimers": {"bond_lengths": 2},
            "reference": {"engine": "gpaw", "xc": "PBE", "smearing_width_eV": 0.1, **reference},
            "evidence": {"phases": "none", "stability": {"enabled": False}},
        },
        (
            "Numbers of frames are those that the counts of Table 2 decompose into.",
            (
                "The paper ran CASTEP with ultrasoft pseudopotentials made on the fly; this is PBE in GPAW at the "
                "paper's cutoff, with its k-point spacing (without 2 pi) as a density."
            ),
            (
                "The potential has learnt small displacements of one crystal, so there is no molecular dynamics at "
                "its end and no other phase to judge by. Two dimers are labelled, for there is no campaign without."
            ),
        ),
    )


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
    "quickstart-eddp": Preset(
        "silicon with the Stillinger-Weber potential in place of DFT, by the chain of ephemeral data-derived "
        "potentials: the whole loop in a few minutes",
        {
            "element": "Si",
            "protocol": "eddp-chain",
            "potential": "eddp",
            "eddp": {"features": {"cutoff": 4.5}, "ensemble": {"members": 8}},
            "build": {"atoms_min": 2, "atoms_max": 8},
            "crystals": {
                "diamond": {
                    "phase": "diamond",
                    "count": 20,
                    "joins": "first",
                    "distortion": {"keep_volume": False, "strain": 0.1, "displacement": 0.1},
                }
            },
            "schedule": {"cells_per_generation": 60, "initial_cells": 200, "generations": 4},
            "chain": {"best": 20, "copies": 3, "shake": {"strain": 0.05, "displacement": 0.05}},
            "select": {"noise_cells": 3},
            "stop": {"label_budget": 460},
            "relax": {
                "max_steps": 200,
                "max_volume_fraction": 2.0,
                "pressure_range_GPa": [0.0, 5.0],
                "max_spread": 0.3,
            },
            "reference": {"engine": "ase", "calculator": "stillinger-weber"},
            "evidence": {"phases": ["diamond", "beta-tin"], "stability": {"n_atoms": 32}},
            "execution": {"build_chunk": 200, "relax_chunk": 20, "reference_chunk": 40, "train_chunk": 2},
        },
        ("Small numbers of structures and networks: the potential is rough, as an ephemeral one may be.",),
    ),
    "eddp-chain": Preset(
        "boron by the chain of ephemeral data-derived potentials (Pickard 2022, 2024): 1 000 random cells and 300 "
        "copies of markers, then five generations of 100 minima at 5 to 15 GPa with 10 copies shaken out of each, PBE",
        {
            "element": "B",
            "protocol": "eddp-chain",
            "potential": "eddp",
            "build": {
                "atoms_min": 2,
                "atoms_max": 28,
                "symmetry_operations_max": 8,
                "minimum_separation_in_r": 1.4,
            },
            "crystals": {
                name: {
                    "phase": name,
                    "count": 100,
                    "joins": "first",
                    "distortion": {"keep_volume": False, "strain": 0.1, "displacement": 0.1},
                }
                for name in ("alpha-B12", "gamma-B28", "alpha-Ga")
            },
            "schedule": {"cells_per_generation": 200, "initial_cells": 1000, "generations": 6},
            "chain": {"shake": {"strain": 0.1, "displacement": 0.1}},
            "stop": {"label_budget": 7000},
            "relax": {"pressure_range_GPa": [5.0, 15.0], "max_spread": 0.2},
            "reference": {"engine": "gpaw", "xc": "PBE", "cutoff_eV": 800.0, "kpoint_density": 7.96},
            "evidence": {"phases": ["alpha-B12", "gamma-B28"]},
        },
        (
            (
                "Sizes are those of the published chain's defaults; the paper on boron has 10 000 random cells, 1 000 "
                "copies of each marker, and seven generations of 10 000 minima with one copy of each."
            ),
            "Markers are the three phases that are tabulated here, of the paper's eleven; 'crystals' takes files.",
            "200 cells are relaxed for 100 minima: the chain makes trials until it has enough.",
        ),
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
    "boron-2018-preprint": Preset(
        "Deringer 2018 (preprint): snapshots of searches from three components, at no pressure and later under "
        "pressure, crystals in every fit, 8 388 labels",
        _boron(
            {
                "free": _FREE,
                "twelve": {
                    "atoms_min": 12,
                    "atoms_max": 12,
                    "symmetry_operations_min": 2,
                    "symmetry_operations_max": 4,
                    **_NEAR_ALPHA,
                },
                "units": {
                    "atoms_min": 36,
                    "atoms_max": 48,
                    "contents": {"formula_units": [3, 4]},
                    "units": [{"name": "B12"}],
                    "symmetry_operations_min": 3,
                    "symmetry_operations_max": 4,
                    **_NEAR_ALPHA,
                },
            },
            schedule={"generations": 7},
            stop={"label_budget": 8388},
            relax={
                "max_steps": 200,
                "pressure_scale_GPa": 100.0,
                "pressure_beta": 1.0,
                "pressure_from_generation": 3,
            },
            crystals={
                "alpha": {"phase": "alpha-B12", "count": 222, "joins": "first"},
                "gamma": {"phase": "gamma-B28", "count": 222, "joins": "first"},
                "alpha-Ga": {"phase": "alpha-Ga", "count": 222, "joins": "first"},
                "beta": {"phase": "beta-B105", "count": 222, "joins": "end"},
            },
        ),
        (
            *_BORON_NOTES,
            "An exponential distribution 'with a width of 100 GPa' is taken as one with a mean of 100 GPa.",
            (
                "1 500 cells + 4 searches x 750 cells x 2 snapshots + 888 crystals = 8 388. Of the end points there "
                "are 3 000, as the preprint says."
            ),
            "β-boron joins at the end, as the full model of 105 atoms: coordinates of the papers' 106 were not found.",
        ),
    ),
    "boron-2018-prl": Preset(
        "Deringer 2018 (Phys. Rev. Lett. 120, 156001): snapshots of searches from two components under random "
        "pressure, no crystal before the searches are over, 5 038 labels",
        _boron(
            {
                "free": _FREE,
                "ordered": {
                    "atoms_min": 8,
                    "atoms_max": 12,
                    "contents": {"formula_units": [8, 12]},
                    "symmetry_operations_max": 4,
                    **_NEAR_ALPHA,
                },
            },
            schedule={"generations": 7},
            stop={"label_budget": 5038},
            relax={"max_steps": 200, "pressure_scale_GPa": 100.0, "pressure_beta": 0.2},
            snapshots={"minima_only_from": 3},
            crystals={
                "alpha": {"phase": "alpha-B12", "count": 240},
                "gamma": {"phase": "gamma-B28", "count": 240},
                "alpha-Ga": {"phase": "alpha-Ga", "count": 240},
                "beta": {"phase": "beta-B105", "count": 318},
            },
        ),
        (
            *_BORON_NOTES,
            (
                "1 000 cells + 2 searches x 500 cells x 2 snapshots + 2 searches x 500 end points + 1 038 crystals = "
                "5 038."
            ),
            (
                "The crystals are labelled in the first generation and tell the error of every potential (Fig. 1c); "
                "they join the training set in a generation of their own after the last search (4 + C)."
            ),
            "β-boron is the full model of 105 atoms: the coordinates of the papers' 106 were not found.",
        ),
    ),
    "quickstart-vibrations": Preset(
        "phonons and elastic constants of silicon, the Stillinger-Weber potential in place of DFT: in a minute or two",
        {
            "element": "Si",
            "protocol": "ndsc-2022",
            "vibrations": {
                "parents": {"diamond": {"phase": "diamond"}},
                "frames": {
                    "primitives": 20,
                    "primitives_displaced": 4,
                    "variants": 6,
                    "supercells": {"divisions": [2, 2, 2]},
                },
                "phonons": {"grid": [2, 2, 2], "dos_mesh": [16, 16, 16]},
                "studies": {"primitives": True},
            },
            "gap": {
                "two_body": {"enabled": False},
                "three_body": {"enabled": False},
                "soap": {"atom_sigma": 0.5, "n_sparse": 150, "n_max": 8, "l_max": 6},
                "delta": {"fixed": [2.0]},
                "sigma": {"rule": "adaptive"},
            },
            "dimers": {"bond_lengths": 2},
            "reference": {"engine": "ase", "calculator": "stillinger-weber"},
            "evidence": {"phases": "none", "stability": {"enabled": False}},
        },
    ),
    "ndsc-2022-Al": _ndsc(
        "Al, fcc, 850 frames, with the comparisons of Figs. 3 and 4",
        {"fcc": {"prototype": "fcc"}},
        {"cutoff_eV": 800.0, "kpoint_density": 15.92},
        {"primitives": 457, "variants": 49},
        studies={"diagonal": True, "learning": [25, 50, 100, 200, 400]},
    ),
    "ndsc-2022-Al-Bain": _ndsc(
        "Al, the path from bcc to fcc, learnt at both ends and half way, measured between (Fig. 5)",
        {
            "fcc": {"prototype": "fcc"},
            "half": {"bain": {"of": "fcc", "eta": 0.5}},
            "bcc": {"bain": {"of": "fcc", "eta": 0.0}},
            "quarter": {"bain": {"of": "fcc", "eta": 0.25}, "trained": False},
            "three-quarters": {"bain": {"of": "fcc", "eta": 0.75}, "trained": False},
        },
        {"cutoff_eV": 800.0, "kpoint_density": 15.92},
        {"primitives": 100, "variants": 35},
    ),
    "ndsc-2022-Mg": _ndsc(
        "Mg, hcp, 1 004 frames, with constant errors for comparison (Figs. 7 and 8)",
        {"hcp": {"prototype": "hcp"}},
        {"cutoff_eV": 520.0, "kpoint_density": 13.26},
        {"primitives": 499, "variants": 42},
        studies={"static": True},
    ),
    "ndsc-2022-Si": _ndsc(
        "Si, diamond, 936 frames, and a potential without supercells (Fig. 1)",
        {"diamond": {"prototype": "diamond"}},
        {"cutoff_eV": 400.0, "kpoint_density": 5.31},
        # silicon has 100 more primitive cells than other elements in Table 2, and its potential without supercells has
        # elastic constants: it needs displaced atoms in some of these (docs/evidence/vibrations-analytic.md)
        {"primitives": 599, "primitives_displaced": 100, "variants": 42},
        studies={"primitives": True},
    ),
    "ndsc-2022-W": _ndsc(
        "W, bcc, 836 frames",
        {"bcc": {"prototype": "bcc"}},
        {"cutoff_eV": 600.0, "kpoint_density": 10.61},
        {"primitives": 499, "variants": 42},
    ),
    **{name: Preset(*entry) for name, entry in SEARCHES.items()},
    "de-novo-2019-B": _paper("B"),
    "de-novo-2019-C": _paper("C"),
    "de-novo-2019-Si": _paper("Si"),
    "de-novo-2019-Ti": _paper("Ti"),
    **{name: Preset(*entry) for name, entry in DEMOS.items()},
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


def _element_of(name: str) -> str:
    content = preset(name)
    return str(content["element"]) if "element" in content else _element_of(content["preset"])


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
        element = _element_of(preset_name)
        notes = [PRESETS[preset_name].summary, *PRESETS[preset_name].notes]
        head = "".join(f"# {line}\n" for line in notes)
        return (
            f"{head}preset: {preset_name}\nname: {preset_name.lower()}\nseed: 1\n\n"
            f"# Any setting of {element} can be overridden below; 'gapfactory campaign show "
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
