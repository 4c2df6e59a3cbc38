"""The table of structures: what was chosen to be labelled, all random cells, all relaxations.

Each view is a collection with indexes for its filters and orders. What was chosen is read from rows that a task of the
dashboard derives (`launchpad.dashboard.derived`): the structure, its label and its purpose are three documents, and a
database cannot filter by all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError
from launchpad.dashboard.listing import Column, Listing, Page
from launchpad.database.documents import generation_id, now
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

__all__ = ["PURPOSES", "STATUSES", "STORED", "VIEWS", "Table", "View", "read", "stored_page"]

#: What a structure was chosen for.
PURPOSES: Final = ("training", "held-out", "isolated", "dimer")
#: A campaign that ended so long ago has all its rows.
_SETTLES: Final = timedelta(minutes=5)
STATUSES: Final = ("done", "altered", "failed", "waiting")


@dataclass(frozen=True)
class View:
    """One kind of table.

    Attributes
    ----------
    name
        In the URL.
    label
        For people.
    collection
        Where its rows are.
    fields
        What is read of each document; never arrays of atoms.
    filters
        Names of its columns in the URL, see `_columns`.
    order
        Column by which the rows are ordered at first, ``-`` for the other way round.
    """

    name: str
    label: str
    collection: str
    fields: tuple[str, ...]
    filters: tuple[str, ...]
    order: str
    needs_generation: bool = False


STAGES: Final = (
    "cell", "frame", "distorted", "isolated", "dimer", "parent", "displaced", "evidence", "diagonal", "data",
)  # fmt: skip
#: Filters of all stored structures; the order is that of their keys.
STORED: Final = (
    Column("campaign", "campaign", "Campaign", "exact"),
    Column("generation", "generation", "Generation (with a campaign)", "number"),
    Column("stage", "stage", "Kind (with campaign and generation)", "choice", STAGES),
    Column("composition", "composition", "Composition (with campaign and generation)", "exact"),
    Column("hash", "hash", "Content hash", "exact"),
    Column("id", "_id", "Id", "exact", sortable=True),
)
_STORED: Final = dict.fromkeys(("campaign", "generation", "stage", "index", "composition", "hash", "info"), 1)

VIEWS: Final = {
    view.name: view
    for view in (
        View(
            "chosen",
            "Chosen for a label",
            "dashboard_rows",
            ("generation", "purpose", "composition", "atoms", "label", "fault", "energy", "force", "volume"),
            ("generation", "purpose", "label", "fault", "composition", "energy", "force", "rank"),
            "rank",
        ),
        View(
            "cell",
            "Random cells",
            "structures",
            ("generation", "composition", "info.space_group"),
            ("generation", "composition", "index"),
            "index",
            needs_generation=True,
        ),
        View(
            "relaxation",
            "Relaxations",
            "relaxations",
            (
                "generation",
                "composition",
                "status",
                "n_steps",
                "pressure_gpa",
                "final_energy_per_atom",
                "final_volume_per_atom",
            ),
            ("generation", "composition", "status", "final", "index"),
            "index",
            needs_generation=True,
        ),
    )
}


@dataclass(frozen=True)
class Table:
    """What the page shows.

    Attributes
    ----------
    view
        Which kind of table.
    campaign
        Of which campaign, None where there is none yet.
    campaigns
        Names to choose from.
    generations
        To choose from, newest first.
    compositions, faults
        To choose from.
    listing, page
        The rows, and how they were asked for.
    generation
        Of which generation, None for all.
    settled_s
        For how long nothing has become of the structures any more: since some time after the campaign ended (seconds);
        None before.
    """

    view: View
    campaign: str | None
    campaigns: tuple[str, ...]
    generations: tuple[int, ...]
    compositions: tuple[str, ...]
    faults: tuple[str, ...]
    listing: Listing
    page: Page
    generation: int | None
    settled_s: float | None

    def given(self, name: str) -> tuple[str, ...]:
        """Return the values of an argument of the URL."""
        return tuple(self.listing.arguments.get(name, ()))

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the table down."""
        return bool(self.listing.conditions)


def _columns(
    generations: Sequence[int], compositions: Sequence[str], faults: Sequence[str]
) -> dict[str, Column]:
    columns = (
        Column("generation", "generation", "Generation", "whole"),
        Column("purpose", "purpose", "Purpose", "choice", PURPOSES),
        Column("label", "label", "Label", "choice", STATUSES),
        Column("fault", "fault", "Fault", "choice", tuple(faults)),
        Column("composition", "composition", "Composition", "exact"),
        Column("energy", "energy", "Energy (eV/atom)", "real", sortable=True),
        Column("force", "force", "Largest force (eV/Å)", "real", sortable=True),
        Column("rank", "rank", "Order of choice", "whole", sortable=True),
        Column("index", "_id", "Number", "exact", sortable=True),
        Column("status", "status", "Ended", "choice", ("converged", "unconverged", "failed")),
        Column("final", "final_energy_per_atom", "Energy (eV/atom)", "real", sortable=True),
    )
    return {column.name: column for column in columns}


def read(database: Database[Any], arguments: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the table that the URL asks for.

    Raises
    ------
    InputError
        The URL asks for what the table does not have.
    """
    from gapfactory.reference.faults import Fault

    fields = {"generation": 1, "state": 1, "updated": 1}
    records = list(database.campaigns.find({}, fields).sort("created", -1).limit(500))
    asked = next(iter(arguments.get("campaign", ())), "")
    if asked and not any(record["_id"] == asked for record in records):
        # an older one than those
        records += database.campaigns.find({"_id": asked}, fields)
    names = tuple(record["_id"] for record in records)
    name = next(iter(arguments.get("view", ())), "") or "chosen"
    if name not in VIEWS:
        raise InputError(f"view={name[:40]!r}: one of {', '.join(VIEWS)}")
    view = VIEWS[name]
    campaign = asked or (names[0] if names else None)
    if campaign is not None and campaign not in names:
        raise InputError(f"campaign={campaign[:80]!r}: there is none of this name")
    own: dict[str, Any] = next((record for record in records if record["_id"] == campaign), {})
    newest = int(own.get("generation", 0))
    settled_s = None
    if own and CampaignState(own["state"]).ended and now() - own["updated"] > _SETTLES:
        settled_s = (now() - own["updated"] - _SETTLES).total_seconds()
    generations = tuple(range(newest, -1, -1))
    compositions = _compositions(database, campaign)
    faults = tuple(str(fault) for fault in Fault)
    columns = _columns(generations, compositions, faults)
    wanted = next(iter(arguments.get("generation", ())), "")
    generation = _generation(wanted, newest, view)
    given = {key: values for key, values in arguments.items() if key != "generation"}
    listing = Listing.read(
        [columns[key] for key in view.filters if key != "generation"],
        given,
        sort=view.order,
        descending=False,
    )
    kept = {"view": (view.name,), **({"campaign": (campaign,)} if campaign else {})}
    if wanted:
        kept["generation"] = (wanted,)
    listing = replace(listing, arguments={**listing.arguments, **kept})
    always: dict[str, Any] = {"campaign": campaign}
    if generation is not None:
        always["generation"] = generation
    if view.name == "cell":
        always["stage"] = "cell"
    always |= _ordered(listing, view, campaign, generation)
    if view.name == "chosen":
        always |= listing.spread({"purpose": PURPOSES, "label": STATUSES})
    if view.name == "relaxation":
        always |= _all_values(listing, compositions)
    page = Page((), None)
    if campaign is not None:
        page = listing.page(database[view.collection], dict.fromkeys(view.fields, 1), always)
    table = Table(
        view, campaign, names, generations, compositions, faults, listing, page, generation, settled_s
    )
    return {
        "table": table,
        "columns": columns,
        "views": VIEWS.values(),
        "statuses": STATUSES,
        "purposes": PURPOSES,
    }


def stored_page(database: Database[Any], listing: Listing) -> Page:
    """Return a page of all stored structures, in the order of their keys.

    Raises
    ------
    InputError
        The filters leave open in which part of the order to look.
    """
    return listing.page(database.structures, _STORED, _part(listing))


def _part(listing: Listing) -> dict[str, Any]:
    """Return where in the order of the keys the rows are: keys begin with campaign, generation and kind."""
    asked = listing.conditions
    if "hash" in asked or "_id" in asked:
        return {}
    if "campaign" not in asked and asked:
        raise InputError("name the campaign as well, with which the keys of structures begin")
    if "generation" not in asked and asked.keys() & {"stage", "composition"}:
        raise InputError("name the generation as well, in whose order the structures are")
    if not asked:
        return {}
    stem = f"{asked['campaign']}/"
    if "generation" in asked:
        stem = f"{generation_id(asked['campaign'], asked['generation'])}/"
    if isinstance(asked.get("stage"), str):
        # frames are named by their relaxation
        stem += "relaxation/" if asked["stage"] == "frame" else f"{asked['stage']}/"
    found: dict[str, Any] = {"_id": {"$gte": stem, "$lt": stem + "~"}}
    return found | (listing.spread({"stage": STAGES}) if "composition" in asked else {})


def _ordered(listing: Listing, view: View, campaign: str | None, generation: int | None) -> dict[str, Any]:
    """Return between which values of the sort key the rows are; what has no number has no place in the order by it."""
    if listing.sort.path != "_id":
        return {listing.sort.path: {"$gte": -1e30}}
    # natural keys are in the order of their numbers
    stem = f"{generation_id(campaign or '', generation or 0)}/{view.name}/"
    return {"_id": {"$gte": stem, "$lt": stem + "~"}}


def _all_values(listing: Listing, compositions: Sequence[str]) -> dict[str, Any]:
    """Return conditions that name every value of what is not filtered: then one index serves each order.

    Raises
    ------
    InputError
        There are more compositions than an index is read at side by side.
    """
    if listing.sort.path == "_id" and not listing.conditions:
        return {}
    statuses = ["converged", "failed", "unconverged"]
    found = listing.spread({"status": statuses, "composition": list(compositions)})
    if not found and listing.sort.kind == "real" and "composition" not in listing.conditions:
        raise InputError(f"Choose a composition: there are {len(compositions)}, too many to order by energy.")
    return found


def _generation(wanted: str, newest: int, view: View) -> int | None:
    """Return the generation that is asked for; cells and relaxations are shown of one."""
    if not wanted:
        return newest if view.needs_generation else None
    if not wanted.isdecimal() or len(wanted) > 6:
        raise InputError(f"generation={wanted[:40]!r}: a whole number")
    return int(wanted)


def _compositions(database: Database[Any], campaign: str | None) -> tuple[str, ...]:
    """Return the composition groups that a campaign's file allows."""
    if campaign is None:
        return ()
    from launchpad.database.campaigns import compositions_of

    fields = {"compositions": 1, "settings": 1, "versions": 1}
    record = database.campaigns.find_one({"_id": campaign}, fields)
    return () if record is None else compositions_of(record)
