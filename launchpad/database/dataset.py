"""Which structures of a campaign are to be labelled, under which settings, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from launchpad.database.documents import StructureDocument, label_id, structure_id
from launchpad.database.labels import labels_of
from launchpad.database.packing import pack_atoms, unpack_atoms
from launchpad.database.results import (
    require_selection,
    save_structures,
    structure_documents,
    structures_by_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.reference import EngineSettings
    from launchpad.database.labels import StoredLabel

__all__ = [
    "Item",
    "LabelledItem",
    "all_items",
    "atom_items",
    "data_items",
    "grid_of",
    "label_hash",
    "label_key",
    "noise_items",
    "pick_items",
    "settings_of",
    "store_atoms",
    "unlabelled_frames",
    "vibration_items",
    "with_labels",
]

Role = Literal["train", "test", "noise", "isolated", "dimer", "evidence", "diagonal", "verify"]


@dataclass(frozen=True)
class Item:
    """A structure that is to be labelled.

    Attributes
    ----------
    id
        Natural key of the structure.
    atoms
        The structure.
    hash
        Its content hash.
    role
        What the label is for.
    generation
        Which generation chose it.
    info
        Where it came from.
    """

    id: str
    atoms: Atoms
    hash: str
    role: Role
    generation: int
    info: dict[str, Any]

    @property
    def given(self) -> str:
        """Name of the data that it came with, label and all; empty: the campaign made it."""
        return str(self.info.get("data", ""))

    @property
    def kind(self) -> Literal["crystal", "isolated", "dimer"]:
        """What the reference method must know about it."""
        return self.role if self.role == "isolated" or self.role == "dimer" else "crystal"

    def held_out_of(self, recipe: GenerationRecipe) -> bool:
        """Whether the potential of a generation is not trained on it: distorted crystals may join later."""
        return self.role == "test" and self.info.get("crystal") not in recipe.trained_crystals


@dataclass(frozen=True)
class LabelledItem:
    """An item with its label, if it has one (done or failed)."""

    item: Item
    label: StoredLabel | None


def _item(document: dict[str, Any], role: Role, generation: int) -> Item:
    return Item(
        id=document["_id"],
        atoms=unpack_atoms(document["atoms"]),
        hash=document["hash"],
        role=role,
        generation=generation,
        info=document["info"],
    )


def make_atoms(campaign: Campaign) -> list[tuple[Literal["isolated", "dimer"], list[Atoms]]]:
    """Make the isolated atoms and dimers that a campaign's potential is trained on."""
    from gapfactory.build import dimers, isolated_atoms

    if not campaign.labels_atoms:
        return []
    species, cutoff = tuple(campaign.species_table.values()), campaign.potential_cutoff
    atoms = isolated_atoms(species, cutoff + 2 * max(item.radius for item in species))
    if campaign.potential == "eddp":
        return [("isolated", atoms)]
    return [("isolated", atoms), ("dimer", dimers(species, campaign.dimers, cutoff))]


def store_atoms(database: Database[Any], campaign: Campaign) -> None:
    """Store the isolated atoms and dimers of a campaign; those that are there stay as they are."""
    from gapfactory.structures import composition_of, structure_hash

    made = make_atoms(campaign)
    save_structures(
        database,
        [
            StructureDocument(
                id=structure_id(campaign.name, 0, stage, index),
                campaign=campaign.name,
                generation=0,
                stage=stage,
                index=index,
                composition=composition_of(atoms),
                hash=structure_hash(atoms),
                atoms=pack_atoms(atoms),
            )
            for stage, group in made
            for index, atoms in enumerate(group)
        ],
    )


def atom_items(database: Database[Any], campaign: Campaign) -> list[Item]:
    """Return the isolated atoms and dimers that are stored."""
    stages: tuple[Literal["isolated", "dimer"], ...] = ("isolated", "dimer")
    return [
        _item(document, stage, 0)
        for stage in stages
        for document in structure_documents(database, campaign.name, 0, stage)
    ]


def pick_items(database: Database[Any], campaign: Campaign, generation: int) -> list[Item]:
    """Return what a generation chose to be labelled: training picks, then held-out picks, in the order of choice."""
    from gapfactory.protocols.planner import recipe_of

    recipe = recipe_of(campaign, generation)
    if recipe.picks == "none" or recipe.reference_relaxations:
        return []
    selection = require_selection(database, campaign.name, generation)
    return [
        *_chosen(database, selection["train"], "train", generation),
        *_chosen(database, selection["test"], "test", generation),
    ]


def vibration_items(
    database: Database[Any],
    campaign: Campaign,
    stage: Literal["evidence", "diagonal"],
    parent: str | None = None,
) -> list[Item]:
    """Return the cells that tell phonons and elastic constants, or the diagonal supercells, of one crystal or all."""
    from gapfactory.protocols.planner import generations_of

    if campaign.vibrations is None:
        return []
    generation = generations_of(campaign) - 1
    return [
        _item(document, stage, generation)
        for document in structure_documents(database, campaign.name, generation, stage)
        if parent is None or document["info"]["parent"] == parent
    ]


def unlabelled_frames(database: Database[Any], campaign: Campaign, generation: int) -> list[Atoms]:
    """Return the frames that are made for sparse points only, in their order."""
    return [
        unpack_atoms(document["atoms"])
        for document in structure_documents(database, campaign.name, generation, "displaced")
        if document["info"]["role"] == "unlabelled"
    ]


def data_items(database: Database[Any], campaign: Campaign, generation: int) -> list[Item]:
    """Return what came with labels and is labelled again to see that they are of the campaign's reference."""
    from gapfactory.protocols.own_data import data_joining

    names = data_joining(campaign, generation)
    if not any(campaign.data[name].verify for name in names):
        return []
    stored = structure_documents(database, campaign.name, generation, "data")
    found = []
    for name in names:
        mine = [
            _item(document, "verify", generation) for document in stored if document["info"]["data"] == name
        ]
        found += sorted(mine, key=lambda item: (len(item.atoms), item.id))[: campaign.data[name].verify]
    return found


def noise_items(database: Database[Any], campaign: Campaign) -> list[Item]:
    """Return the cells that are labelled again at a higher k-point density."""
    return _chosen(database, require_selection(database, campaign.name, 0)["noise"], "noise", 0)


def all_items(database: Database[Any], campaign: Campaign) -> list[Item]:
    """Return everything that was chosen to be labelled so far: isolated atoms, dimers, picks, noise cells, evidence."""
    items = atom_items(database, campaign)
    chosen = database.selections.find({"campaign": campaign.name}, {"generation": 1}).sort("generation", 1)
    for generation in [selection["generation"] for selection in chosen]:
        items += pick_items(database, campaign, generation)
        if generation == 0:
            items += noise_items(database, campaign)
        items += data_items(database, campaign, generation)
    items += vibration_items(database, campaign, "evidence")
    items += vibration_items(database, campaign, "diagonal")
    return items


def _chosen(database: Database[Any], ids: Sequence[str], role: Role, generation: int) -> list[Item]:
    documents = structures_by_id(database, ids)
    return [_item(documents[key], role, generation) for key in ids]


def grid_of(campaign: Campaign, item: Item) -> tuple[int, int, int] | None:
    """Return the k-points of its own that a cell shares with its crystal, or None.

    What is labelled again by another campaign has the k-points that this one asks for.
    """
    grid = None if campaign.source is not None else item.info.get("kpoints")
    return None if grid is None else (grid[0], grid[1], grid[2])


def settings_of(campaign: Campaign, item: Item) -> EngineSettings:
    """Return the settings at which an item is labelled."""
    grid = grid_of(campaign, item)
    reference = campaign.reference_in(item.generation)
    settings = reference if grid is None else reference.with_grid(grid)
    return settings.with_higher_density() if item.role == "noise" else settings


def label_hash(campaign: Campaign, item: Item) -> str:
    """Return the settings hash under which an item is labelled."""
    from gapfactory.protocols.own_data import level_of
    from gapfactory.reference import settings_hash

    if item.given in campaign.data and item.role != "verify":
        return level_of(campaign.data[item.given])
    return settings_hash(settings_of(campaign, item), item.kind)


def label_key(campaign: Campaign, item: Item) -> str:
    """Return the key under which the label of an item is shared."""
    return label_id(item.hash, label_hash(campaign, item))


def with_labels(database: Database[Any], campaign: Campaign, items: Sequence[Item]) -> list[LabelledItem]:
    """Return the items with the labels that the database holds for them, as this campaign sees them."""
    keys = [label_key(campaign, item) for item in items]
    labels = labels_of(database, keys, campaign.name)
    return [LabelledItem(item, labels.get(key)) for item, key in zip(items, keys, strict=True)]
