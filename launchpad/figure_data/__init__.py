"""Gather what `gapfactory figure` shows: analysis results of a campaign, as a picture and as rows of numbers."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.figure_data.request import Gathered, Request

__all__ = ["COMPOUNDS", "FIGURES", "SEARCHES", "TABLES", "VIBRATIONS", "gather"]

#: Those of Allen and Bartók (2022), for campaigns that measure vibrations.
VIBRATIONS: Final = {
    "phonons": ("phonons of each crystal, reference and potential (2022, Fig. 2)", "vibrations.phonons"),
    "phonons-primitives": (
        "phonons with and without supercells in the training set (2022, Fig. 1)",
        "vibrations.primitives_phonons",
    ),
    "phonons-diagonal": (
        "phonons by non-diagonal and by diagonal supercells of equal cost (2022, Fig. 3)",
        "vibrations.diagonal_phonons",
    ),
    "phonons-learning": (
        "phonons by fits to more and more labels (2022, Fig. 4)",
        "vibrations.learning_phonons",
    ),
    "phonons-bain": ("phonons along Bain's path, bcc to fcc (2022, Fig. 5)", "vibrations.bain"),
    "phonons-static": (
        "phonons with adaptive and with constant sigmas (2022, Fig. 8)",
        "vibrations.static_phonons",
    ),
    "elastic": ("errors of elastic constants of each crystal (2022, Fig. 6)", "vibrations.elastic"),
    "elastic-static": (
        "errors of elastic constants with adaptive and with constant sigmas (2022, Fig. 7)",
        "vibrations.static_elastic",
    ),
    "elastic-constants": (
        "table of elastic constants by potentials, reference and experiment (2022, Table 3)",
        "vibrations.elastic_constants",
    ),
    "vibration-fits": (
        "table of settings, amount of data and lattice parameters (2022, Table 2)",
        "vibrations.fits",
    ),
}

#: Those of Pickard (2024), of what searches found.
SEARCHES: Final = {
    "structural-density": (
        "energies of what searches found, on one axis (2024, Figs. 3-5)",
        "searches.structural_density",
    ),
    "best-structures": ("pictures of the lowest structures of a search (2024, Figs. 6-8)", "searches.best"),
    "frameworks": (
        "table of the lowest structures: space group, atoms, energy, volume (2024, Table 1)",
        "searches.frameworks",
    ),
}

#: For campaigns of two elements.
COMPOUNDS: Final = {
    "formation-energies": (
        "formation energies of labelled structures and known crystals over composition, with their hull",
        "database.formation_energies",
    ),
}

#: Figures by name: what is drawn; module and function that gather it.
FIGURES: Final = {
    "energy-volume": (
        "labelled structures over volume, by origin, component or generation (Fig. 1a)",
        "database.energy_volume",
    ),
    "energy-boxes": (
        "how energies are spread: median, 68 % box, whole range (Fig. 1b)",
        "database.energy_boxes",
    ),
    "distorted-crystals": (
        "error on distorted crystals of named phases, by generation (Fig. 1c)",
        "crystals.distorted_crystals",
    ),
    "polymorphs": (
        "energies of polymorphs over volume, reference and potentials (Fig. 2)",
        "crystals.polymorphs",
    ),
    "mixed-occupations": (
        "models of a crystal with partially occupied sites (Fig. 3)",
        "crystals.mixed_occupations",
    ),
    "local-energies": (
        "local energies on two structures, one scale of colours (Fig. 4)",
        "local.local_energies",
    ),
    **COMPOUNDS,
    **SEARCHES,
    **VIBRATIONS,
}

#: Those that are tables: they have rows and no picture.
TABLES: Final = frozenset({"elastic-constants", "vibration-fits", "frameworks"})

#: What of a `launchpad.figure_data.request.Request` not every figure heeds: the option of the command, and who does.
_OPTIONS: Final = {
    "against": ("--against", ("polymorphs", "mixed-occupations", "local-energies")),
    "structures": (
        "--structures",
        ("distorted-crystals", "polymorphs", "mixed-occupations", "local-energies"),
    ),
    "crystal": ("--crystal", ("mixed-occupations",)),
    "models": ("--models", ("mixed-occupations",)),
    "discrete": ("--set", ("mixed-occupations",)),
    "zero": ("--zero", ("energy-volume", "energy-boxes")),
    "by": ("--by", ("energy-volume",)),
    "label": ("--label", ("distorted-crystals", "mixed-occupations")),
    "parent": ("--parent", tuple(name for name in VIBRATIONS if name != "phonons-bain")),
    "also": (
        "--also",
        (
            "phonons",
            "elastic",
            "elastic-constants",
            "vibration-fits",
            *SEARCHES,
        ),
    ),
    "within": ("--within", tuple(SEARCHES)),
    "top": ("--top", ("best-structures", "frameworks")),
    "smearing": ("--smearing", ("structural-density",)),
}


def gather(database: Database[Any], name: str, request: Request) -> Gathered:
    """Return a figure by its name.

    Raises
    ------
    InputError
        There is no such figure, or it does not heed an option that was given.
    """
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES, 1)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(f"there is no figure {name!r}{meant} There are {', '.join(FIGURES)}")
    plain = type(request)(request.campaign)
    for field in fields(request):
        option, heeded = _OPTIONS.get(field.name, ("", ()))
        if option and name not in heeded and getattr(request, field.name) != getattr(plain, field.name):
            raise InputError(f"{option} changes nothing in {name}; it is for {', '.join(heeded)}")
    module, _, function = FIGURES[name][1].partition(".")
    found: Gathered = getattr(importlib.import_module(f"launchpad.figure_data.{module}"), function)(
        database, request
    )
    return found
