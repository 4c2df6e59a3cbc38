"""What a figure is asked for, what it gives, and the potentials that it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import InputError, NotFoundError, PotentialError
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.potentials import cached_potential, latest_potential, require_potential

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ase import Atoms
    from matplotlib.figure import Figure
    from pymongo.database import Database

    from gapfactory.campaign import Campaign

__all__ = [
    "Gathered",
    "Potential",
    "Request",
    "energy_per_atom",
    "opened",
    "other_potential",
    "potential_of",
    "shown_potential",
]


@dataclass(frozen=True)
class Request:
    """What a figure is asked for.

    Attributes
    ----------
    campaign
        Name of the campaign.
    generation
        The potential, or the last generation, that is shown; None: the newest.
    against
        ``CAMPAIGN@GENERATION`` or ``GENERATION`` of another potential to draw beside it.
    structures
        File with structures, or None.
    crystal
        CIF of the crystal that models of mixed occupations stand for, or None.
    models
        How many models are drawn from it where no file has any.
    discrete
        How: fields of `gapfactory.build.discrete.DiscreteSettings`.
    zero
        What energies of the database are counted from; None: as the paper does in this figure.
    by
        What colours mean in the figure of the database.
    label
        Compute reference energies that are missing, here and now, and store them.
    parent
        The one crystal that vibrations are shown of; None: all.
    also
        Further campaigns in a figure of vibrations: ``CAMPAIGN`` or ``CAMPAIGN@GENERATION``; in one of searches also
        ``CAMPAIGN/COMPONENT``, a file or a directory of AIRSS.
    within
        Of searches: how far above the lowest structure is shown, eV/atom; None: all.
    top
        Of searches: how many structures are shown.
    smearing
        Of searches: width of the Gaussians, eV/atom; None: the default.
    """

    campaign: str
    generation: int | None = None
    against: str | None = None
    structures: Path | None = None
    crystal: Path | None = None
    models: int = 10
    discrete: Mapping[str, Any] = field(default_factory=dict)
    zero: Literal["hull", "phase"] | None = None
    by: Literal["origin", "component", "generation"] = "origin"
    label: bool = False
    parent: str | None = None
    also: tuple[str, ...] = ()
    within: float | None = None
    top: int = 24
    smearing: float | None = None


@dataclass(frozen=True)
class Gathered:
    """A figure and its numbers.

    Attributes
    ----------
    figure
        The picture; None of a table.
    rows
        Flat rows, units in the names.
    notes
        What people should know: what was left out, and how to get it.
    """

    figure: Figure | None
    rows: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Potential:
    """A stored potential.

    Attributes
    ----------
    name
        For legends.
    campaign, generation
        Whose it is.
    record
        Its document.
    """

    name: str
    campaign: str
    generation: int
    record: dict[str, Any]

    def load(self, database: Database[Any]) -> Any:
        """Return its calculator."""
        from gapfactory.potentials import load_potential

        return load_potential(cached_potential(database, self.record))


def opened(database: Database[Any], request: Request) -> Campaign:
    """Return the campaign that a figure is about.

    Raises
    ------
    NotFoundError
        There is none of this name.
    """
    return campaign_of(require_campaign(database, request.campaign))


def shown_potential(database: Database[Any], request: Request, *, assessed: bool = False) -> Potential:
    """Return the potential that a figure is about: the one asked for, else the newest.

    Parameters
    ----------
    assessed
        Whether it is the newest that has been assessed, if any has: what a figure shows was stored by that.
    """
    if request.generation is None:
        newest = None
        if assessed:
            newest = database.metrics.find_one(
                {"campaign": request.campaign}, {"generation": 1}, sort=[("generation", -1)]
            )
        if newest is None:
            record = latest_potential(database, request.campaign)
        else:
            record = require_potential(database, request.campaign, newest["generation"])
        if record is None:
            raise NotFoundError(
                f"campaign {request.campaign!r} has no potential yet; 'gapfactory campaign status {request.campaign}' "
                "shows how far it is"
            )
    else:
        record = require_potential(database, request.campaign, request.generation)
    return potential_of(record, f"generation {record['generation']}")


def potential_of(record: dict[str, Any], name: str) -> Potential:
    """Return a stored potential under a name for legends."""
    return Potential(name, record["campaign"], record["generation"], record)


def _potential_named(database: Database[Any], text: str, campaign: str) -> Potential:
    """Return the potential that ``CAMPAIGN@GENERATION`` or ``GENERATION`` (of the same campaign) names.

    Raises
    ------
    InputError
        It is written differently.
    NotFoundError
        There is none.
    """
    other, _, generation = text.rpartition("@")
    if not generation.isdecimal() or len(generation) > 6:
        raise InputError(f"--against {text!r} is not CAMPAIGN@GENERATION or GENERATION, e.g. {campaign}@0")
    record = require_potential(database, other or campaign, int(generation))
    name = (
        f"generation {generation}" if (other or campaign) == campaign else f"{other}, generation {generation}"
    )
    return potential_of(record, name)


def other_potential(database: Database[Any], request: Request, first: Potential) -> Potential | None:
    """Return the potential to compare with: the one asked for, else the newest that was fitted to the same data.

    Raises
    ------
    InputError
        The one asked for is the first one itself.
    """
    if request.against is not None:
        asked = _potential_named(database, request.against, request.campaign)
        if (asked.campaign, asked.generation) == (first.campaign, first.generation):
            raise InputError(
                f"--against {request.against} is the potential that is shown anyway; name another, e.g. an earlier "
                "generation, or show an earlier one by --generation"
            )
        return asked
    data = sorted(first.record["trained_on"])
    earlier = database.potentials.find(
        {"campaign": request.campaign, "generation": {"$lt": first.generation}},
        {"trained_on": 1, "generation": 1},
    ).sort("generation", -1)
    for record in earlier:
        if sorted(record["trained_on"]) == data:
            whole = require_potential(database, request.campaign, record["generation"])
            return potential_of(whole, f"generation {record['generation']}, same data")
    return None


def energy_per_atom(atoms: Atoms, calculator: Any) -> float | None:
    """Return the energy by a potential, eV/atom; None where it refuses the structure."""
    work = atoms.copy()
    work.calc = calculator
    try:
        return float(work.get_potential_energy()) / len(work)
    except PotentialError:
        return None
