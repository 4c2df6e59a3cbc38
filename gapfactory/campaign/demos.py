"""Demonstrations: each protocol on silicon, an analytic potential in place of DFT, in a minute or so on two cores."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["DEMOS"]

_ANALYTIC: Final[dict[str, Any]] = {"engine": "ase", "calculator": "stillinger-weber"}
#: Volumes and distances around those of silicon's structures, from β-tin's to clathrates'.
_SILICON: Final[dict[str, Any]] = {"volume": {"per_atom": [14, 26]}, "separations": {"value": 2.0}}
_SMALL_GAP: Final[dict[str, Any]] = {
    "two_body": {"n_sparse": 12},
    "three_body": {"n_sparse": 30},
    "soap": {"n_sparse": 100, "n_max": 6, "l_max": 4},
}
_BRIEF: Final[dict[str, Any]] = {"duration_ps": 1.0, "nve_ps": 0.5, "n_atoms": 32}
_ROUGH: Final = "Small numbers, to see how it goes: potentials and searches of such a size prove nothing."

#: Summary, content and notes of each preset by its name; a content is laid over that of the preset that it names.
DEMOS: Final[dict[str, tuple[str, dict[str, Any], tuple[str, ...]]]] = {
    "demo-de-novo": (
        "demonstration of the protocol of 2019: silicon from nothing in 115 labels of an analytic potential",
        {
            "preset": "quickstart-Si-analytic",
            # small enough to be quick; with half the labels, diamond is right for one seed and wrong for the next
            "build": {"atoms_min": 2, "atoms_max": 6},
            "schedule": {"cells_per_generation": 200, "initial_cells": 200, "generations": 5},
            "select": {"labels_per_generation": 20, "noise_cells": 0},
            "stop": {"label_budget": 115},
            "relax": {"max_steps": 100},
            "gap": {**_SMALL_GAP, "soap": {"n_sparse": 200, "n_max": 8, "l_max": 6}},
            "evidence": {"stability": _BRIEF},
            "execution": {"build_chunk": 60, "relax_chunk": 15, "reference_chunk": 8},
        },
        (_ROUGH,),
    ),
    "demo-boron-2018": (
        "demonstration of the protocol of 2018 (Letter): snapshots, a crystal that joins late, a tight refit",
        {
            "preset": "boron-2018-prl",
            "element": "Si",
            "components": {
                "free": {"cells": 8, "initial_cells": 16, "build": {"atoms_max": 8}},
                "ordered": {
                    "cells": 8,
                    "initial_cells": 16,
                    # that of diamond, where boron's is near α-B12's
                    "build": {
                        "contents": {"formula_units": [4, 8]},
                        "atoms_min": 4,
                        "volume_in_r3_covalent": 15.0,
                    },
                },
                "look": {
                    "cells": 30,
                    "labelled": False,
                    "targets": ["diamond"],
                    "generations": [1, 2],
                    "pressure_scale_GPa": 0,
                    "build": {
                        "atoms_min": 2,
                        "atoms_max": 4,
                        "symmetry_operations_min": 2,
                        "symmetry_operations_max": 4,
                        "volume_in_r3_covalent": 15.0,
                    },
                },
            },
            # two searches instead of four, the first one with snapshots on the way
            "schedule": {"generations": 5},
            "snapshots": {"minima_only_from": 2},
            "crystals": {
                "alpha": None,
                "beta": None,
                "gamma": None,
                "alpha-Ga": None,
                "diamond": {"phase": "diamond", "count": 12},
            },
            "dimers": {"bond_lengths": 12},
            "select": {"noise_cells": 0},
            "stop": {"label_budget": 200},
            "relax": {"max_steps": 60, "pressure_scale_GPa": 10.0},
            "gap": _SMALL_GAP,
            "final_fit": {"soap": {"n_max": 8, "l_max": 6}},
            "reference": _ANALYTIC,
            "evidence": {"phases": ["diamond", "beta-tin"], "stability": _BRIEF},
            "execution": {"build_chunk": 60, "relax_chunk": 14, "reference_chunk": 16},
        },
        (
            "Silicon has silicon's volumes and pressures here; it has 92 labels, not 5 038.",
            _ROUGH,
        ),
    ),
    "demo-ndsc": (
        "demonstration of the protocol of 2022: phonons of silicon from non-diagonal supercells",
        {
            "preset": "quickstart-vibrations",
            "vibrations": {
                "frames": {"primitives": 12, "primitives_displaced": 0, "variants": 4},
                "phonons": {"dos_mesh": [8, 8, 8]},
                "studies": {"primitives": False},
            },
            "gap": {"soap": {"n_sparse": 100}},
        },
        (_ROUGH,),
    ),
    "demo-hot-airss": (
        "demonstration of hot random search: cells annealed between two relaxations, beside plain ones",
        {
            "preset": "hot-airss",
            "components": {
                "hot": {
                    "cells": 6,
                    "build": {"atoms_min": 4, "atoms_max": 8},
                    "anneal": {"time_ps": 0.5, "checkpoint_steps": 100},
                },
                "plain": {"cells": 30, "build": {"atoms_min": 4, "atoms_max": 8}},
            },
            "search": {"ranking": [{"do": "relax", "within_eV": 0.3, "most": 6}]},
            "execution": {"build_chunk": 36, "relax_chunk": 6, "reference_chunk": 3},
        },
        ("Half a picosecond is short: 'hot-airss' has ten.", _ROUGH),
    ),
    "demo-datum-derived": (
        "demonstration of datum-derived structures: relatives of diamond by the datum cost, ranked by a potential",
        {
            "preset": "datum-derived",
            "element": "Si",
            "components": {
                "small": {"cells": 20, "build": {"atoms_max": 6, **_SILICON}},
                "symmetric": {"cells": 10, "build": {"atoms_max": 12, **_SILICON}},
            },
            "reference": {"targets": ["Si-diamond"], "features": {"cutoff": 5.7}},
            "search": {
                "ranking": [
                    {"do": "single-points", "within_eV": 2.0, "most": 12, "reference": _ANALYTIC},
                    {"do": "relax", "within_eV": 1.0, "most": 6, "reference": _ANALYTIC},
                ]
            },
            "relax": {"max_steps": 150},
            "execution": {"build_chunk": 30, "relax_chunk": 5, "reference_chunk": 6},
        },
        (
            "Silicon, because an analytic potential ranks what comes out; 'datum-derived' is of carbon, by DFT.",
            _ROUGH,
        ),
    ),
}
