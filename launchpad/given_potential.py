"""The potential that a search is given: taken over when it is submitted, as a record of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError, NotFoundError, PotentialError
from launchpad.database.documents import PotentialDocument, generation_id
from launchpad.database.potentials import (
    cached_potential,
    damaged_files,
    latest_potential,
    require_potential,
    save_potential,
    store_files,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.search_settings import GivenPotentialSettings

__all__ = ["search_calculator", "take_over_potential"]


def take_over_potential(database: Database[Any], campaign: Campaign, directory: Path | None) -> None:
    """Store the potential that a search is given as that of its generation 0, unless it is stored.

    Parameters
    ----------
    database
        With durable writes.
    campaign
        The search.
    directory
        Where the campaign file is.

    Raises
    ------
    NotFoundError, PotentialError
        There is no such potential, or it is not that of the campaign file any more.
    InputError
        It does not know an element of the campaign.
    """
    given = None if campaign.search is None else campaign.search.potential
    if given is None or isinstance(given, str):
        return
    key = generation_id(campaign.name, 0)
    stored = database.potentials.find_one({"_id": key})
    if stored is not None and not damaged_files(database, dict(stored)):
        return
    if given.campaign is not None:
        source = _of_campaign(database, given)
        files, digest = source["files"], source["digest"]
        origin = {"campaign": given.campaign, "generation": source["generation"]}
        calculator = _load(cached_potential(database, source))
    else:
        paths = _files(given, directory)
        calculator = _load(paths[0].parent)
        files, digest = store_files(database, paths), calculator.digest
        origin = {"file": str(given.file)}
    unknown = sorted(set(campaign.species_table) - _symbols(calculator))
    if unknown:
        msg = f"search.potential does not know {', '.join(unknown)}: name one that was fitted for it"
        raise InputError(msg)
    _require_measure(campaign, calculator)
    save_potential(
        database,
        PotentialDocument(
            id=key,
            campaign=campaign.name,
            generation=0,
            digest=digest,
            files=files,
            trained_on=[],
            report={"given": origin},
        ),
    )


def _require_measure(campaign: Campaign, calculator: Any) -> None:
    """Refuse a limit of uncertainty in the measure of the other family."""
    from gapfactory.potentials.eddp import EddpCalculator

    networks, relax = isinstance(calculator, EddpCalculator), campaign.relax
    if networks and relax.max_uncertainty is not None:
        msg = (
            f"relax.max_uncertainty is {relax.max_uncertainty:g}, which is the measure of a GAP, but search.potential "
            "is an EDDP: set potential to eddp, and relax.max_spread (eV/atom) instead"
        )
        raise InputError(msg)
    if not networks and relax.max_spread is not None:
        msg = (
            f"relax.max_spread is {relax.max_spread:g} eV/atom, the spread of networks, but search.potential is a GAP: "
            "set potential to gap, and relax.max_uncertainty instead"
        )
        raise InputError(msg)
    if networks and relax.max_spread is not None and len(calculator.engine.ensemble.members) < 2:
        msg = "relax.max_spread needs the spread of several networks, but search.potential has one: leave it out"
        raise InputError(msg)


def _of_campaign(database: Database[Any], given: GivenPotentialSettings) -> dict[str, Any]:
    name = str(given.campaign)
    if given.generation != "newest":
        return require_potential(database, name, given.generation)
    found = latest_potential(database, name)
    if found is None:
        msg = f"search.potential.campaign: there is no potential of a campaign {name!r} in this database"
        raise NotFoundError(msg)
    return found


def _files(given: GivenPotentialSettings, directory: Path | None) -> list[Path]:
    """Return the files, which are those that the campaign file was read with.

    Raises
    ------
    PotentialError
        They are not there, or have changed.
    """
    if directory is None:
        msg = (
            f"search.potential.file is {given.file!r}: files are found beside a campaign file; submit it with "
            "'gapfactory campaign submit FILE'"
        )
        raise PotentialError(msg)
    place = directory / str(given.file)
    folder = place if place.is_dir() else place.parent
    paths = [folder / name for name in sorted(given.files)]
    for path in paths:
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != given.files[path.name]:
            msg = f"search.potential.file: {path} is not what it was when the campaign file was read: submit it again"
            raise PotentialError(msg)
    return paths


def _load(directory: Path) -> Any:
    from gapfactory.potentials import load_potential

    return load_potential(directory)


def _symbols(calculator: Any) -> set[str]:
    from ase.data import chemical_symbols

    return {chemical_symbols[number] for number in calculator.e0}


def search_calculator(database: Database[Any], campaign: Campaign) -> Any:
    """Return the calculator that relaxes the cells of a search.

    Raises
    ------
    NotFoundError
        The potential that it is given is not stored.
    """
    from gapfactory.reference import calculator_of

    if campaign.search_settings.potential == "reference":
        return calculator_of(campaign.reference)
    return _load(cached_potential(database, require_potential(database, campaign.name, 0)))
