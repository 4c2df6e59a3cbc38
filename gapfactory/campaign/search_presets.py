"""Presets of searches that fit nothing: plain, hot, for structures like a datum; and to learn the cost of these."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SEARCHES"]

_ANALYTIC: Final[dict[str, Any]] = {"engine": "ase", "calculator": "stillinger-weber"}
_TIGHT: Final[dict[str, Any]] = {"force_threshold": 0.001, "cell_force_threshold": 0.001}
#: Cells of 8 to 16 atoms without symmetry.
_SEARCHED: Final[dict[str, Any]] = {"atoms_min": 8, "atoms_max": 16, "symmetry_operations_max": 1}
#: Å^3 per atom and smallest distance (Å) of carbon, from dense to open frameworks (Pickard 2024).
_CARBON: Final[dict[str, Any]] = {"volume": {"per_atom": [5, 10]}, "separations": {"value": 1.2}}
_CARBON_DFT: Final[dict[str, Any]] = {
    "engine": "gpaw",
    "xc": "PBE",
    "cutoff_eV": 400.0,
    "kpoint_density": 2.5,
}

#: Summary, content and notes of each preset by its name.
SEARCHES: Final[dict[str, tuple[str, dict[str, Any], tuple[str, ...]]]] = {
    "airss": (
        "Si, random search with a potential that exists (here Stillinger-Weber), ranked in two stages by the reference",
        {
            "element": "Si",
            "protocol": "search",
            "build": {"atoms_min": 2, "atoms_max": 12},
            "schedule": {"cells_per_generation": 500},
            "relax": {"max_steps": 300, "pressure_scale_GPa": 0.0},
            "reference": _ANALYTIC,
            "search": {
                "potential": "reference",
                "targets": ["diamond"],
                "ranking": [
                    {"do": "single-points", "within_eV": 1.0, "most": 60},
                    {"do": "relax", "within_eV": 0.5, "most": 20, "relax": _TIGHT},
                ],
            },
            "execution": {"build_chunk": 250, "relax_chunk": 25, "reference_chunk": 5},
        },
        (
            (
                "For another element name its potential: 'search: {potential: {campaign: NAME}}', and a DFT code as "
                "'reference' for the ranking."
            ),
        ),
    ),
    "hot-airss": (
        "Si, hot random search beside a plain one: cells annealed 10 ps at 1400 K between two relaxations",
        {
            "element": "Si",
            "protocol": "search",
            "components": {
                "hot": {
                    "cells": 40,
                    "build": _SEARCHED,
                    "anneal": {"temperature_K": 1400.0, "time_ps": 10.0},
                },
                "plain": {"cells": 400, "build": _SEARCHED},
            },
            "relax": {"max_steps": 300, "pressure_scale_GPa": 0.0},
            "reference": _ANALYTIC,
            "search": {
                "potential": "reference",
                "targets": ["diamond"],
                "ranking": [{"do": "relax", "within_eV": 0.3, "most": 20, "relax": _TIGHT}],
            },
            "execution": {"build_chunk": 100, "relax_chunk": 10, "reference_chunk": 5},
        },
        (
            (
                "The temperature is below the melting point of the potential, about 1700 K; without 'temperature_K' a "
                "scan of the mobility finds one."
            ),
        ),
    ),
    "datum-derived": (
        "C, structures generated from diamond alone by the datum cost, then ranked by DFT (GPAW, PBE) in three stages",
        {
            "element": "C",
            "protocol": "search",
            "components": {
                "small": {
                    "cells": 1000,
                    "build": {"atoms_min": 2, "atoms_max": 12, "symmetry": {"operations": "1-8"}, **_CARBON},
                },
                "symmetric": {
                    "cells": 1000,
                    "build": {
                        "atoms_min": 4,
                        "atoms_max": 24,
                        "symmetry": {"operations": [12, 16, 24]},
                        **_CARBON,
                    },
                },
            },
            "relax": {"max_steps": 300, "pressure_scale_GPa": 0.0, "keep_symmetry": True},
            "reference": {"engine": "datum", "targets": ["C-diamond"]},
            "search": {
                "potential": "reference",
                "targets": ["diamond"],
                "ranking": [
                    {"do": "single-points", "within_eV": 1.0, "most": 100, "reference": _CARBON_DFT},
                    {"do": "relax", "within_eV": 1.0, "most": 40, "reference": _CARBON_DFT},
                    {
                        "do": "relax",
                        "within_eV": 0.5,
                        "most": 15,
                        "reference": {**_CARBON_DFT, "cutoff_eV": 600.0, "kpoint_density": 4.0},
                    },
                ],
            },
            "execution": {"build_chunk": 500},
        },
        (
            (
                "The first stage takes structures by cost: one unit stands for 1 eV/atom in 'within_eV'. The cost "
                "fixes the density, so that layers come out compressed; relaxations by the reference expand them."
            ),
            "Windows of 1 and 0.5 eV/atom are those of Pickard 2024; its searches were larger, its code was CASTEP.",
            (
                "The cost relaxes the cells itself (potential: reference). To relax with a learned one run the preset "
                "'datum-learned' in the same database, and write 'search: {potential: {campaign: NAME}}' here."
            ),
        ),
    ),
    "datum-learned": (
        "C, the datum cost of diamond learned by networks, which 'datum-derived' may search with instead of the cost",
        {
            "element": "C",
            "protocol": "eddp-chain",
            "potential": "eddp",
            "reference": {"engine": "datum", "targets": ["C-diamond"]},
            "eddp": {
                "features": {"two_body": 16, "three_body": 4},
                "network": {"hidden": [20, 20]},
                "ensemble": {"members": 31},
            },
            "build": {"atoms_min": 1, "atoms_max": 12, **_CARBON},
            "crystals": {
                "diamond": {
                    "phase": "diamond",
                    "count": 1000,
                    "joins": "first",
                    "distortion": {
                        "volume_low": 1.0,
                        "volume_high": 1.0,
                        "keep_volume": False,
                        "strain": 0.1,
                        "displacement": 0.1,
                    },
                }
            },
            "schedule": {"initial_cells": 1000, "cells_per_generation": 1000, "generations": 11},
            "chain": {
                "best": 1000,
                "label_ends": False,
                "copies": 1,
                "shake": {"strain": 0.1, "displacement": 0.1},
            },
            "select": {"noise_cells": 0},
            "stop": {"label_budget": 12000},
            "relax": {"pressure_scale_GPa": 0.0},
            "evidence": {"phases": ["diamond"], "stability": {"enabled": False}},
            "execution": {"build_chunk": 500, "reference_chunk": 100},
        },
        (
            "Sizes, networks and shakes are those of Pickard 2024 for carbon (program 'manifest').",
            "No stability is judged by molecular dynamics: the cost is no energy.",
        ),
    ),
}
