"""What the potential of a generation is trained on, for the tasks that train and fit it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gapfactory.errors import StateError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.campaigns import set_state
from launchpad.database.dataset import atom_items, pick_items, with_labels
from launchpad.own_data import require_verified
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from gapfactory.potentials.gap import LabelledStructure
    from gapfactory.protocols.recipe import GenerationRecipe
    from launchpad.database.dataset import LabelledItem
    from launchpad.tasks.base import TaskContext

__all__ = ["training_data", "training_entries"]


def training_entries(context: TaskContext) -> list[LabelledItem]:
    """Return everything with a label up to this generation, once every label is decided and the quorum is met.

    Raises
    ------
    StateError
        A label is missing; or too many could not be had, and the campaign is halted.
    """
    campaign, database = context.campaign, context.database
    entries = with_labels(database, campaign, atom_items(database, campaign))
    for earlier in range(context.generation + 1):
        entries += with_labels(database, campaign, pick_items(database, campaign, earlier))
    _require_quorum(context, entries)
    require_verified(database, campaign, context.generation)
    return entries


def _require_quorum(context: TaskContext, entries: list[LabelledItem]) -> None:
    """Halt the campaign when isolated atoms or too many of this generation's picks have no label.

    What came with labels does not count: it cannot fail.
    """
    campaign, generation = context.campaign, context.generation
    undecided = [e.item.id for e in entries if e.label is None]
    if undecided:
        msg = (
            f"{len(undecided)} structures have no label yet, the first is {undecided[0]!r}; "
            f"'gapfactory campaign resume {campaign.name}' runs their reference tasks again"
        )
        raise StateError(msg)
    atoms = [e for e in entries if e.item.role == "isolated"]
    mine = [
        e
        for e in entries
        if e.item.generation == generation and e.item.kind == "crystal" and not e.item.given
    ]
    lost_atoms, lost = ([(e.item.id, e.label) for e in g if _failed(e) and e.label] for g in (atoms, mine))
    planned = recipe_of(campaign, generation).labels
    wanted = campaign.schedule.quorum * min(len(mine), planned)
    # in floating point 0.56 times 25 is a little more than 14
    enough = bool(mine or not planned) and len(mine) - len(lost) >= wanted - 1e-9
    if not lost_atoms and enough:
        return
    kinds = Counter(label.fault for _, label in (*lost_atoms, *lost) if label.fault)
    first = (*lost_atoms, *lost)[:1]
    why = f" First reason: {first[0][0]}: {first[0][1].reason}" if first else ""
    what = "the isolated atom" if lost_atoms else f"{len(lost)} of {len(mine)} picks"
    reason = (
        f"{what} of generation {generation} could not be labelled{_counted(kinds)}; schedule.quorum is "
        f"{campaign.schedule.quorum:g}. 'gapfactory campaign why {campaign.name}' lists them. Mend the cause, then "
        f"'gapfactory campaign retry {campaign.name} --run'; or accept fewer: lower schedule.quorum in the campaign "
        f"file, submit it again, then 'gapfactory campaign resume {campaign.name} --run'.{why}"
    )
    set_state(context.database, campaign.name, CampaignState.HALTED, reason)
    raise StateError(reason)


def _failed(entry: LabelledItem) -> bool:
    return entry.label is not None and entry.label.status == "failed"


def _counted(kinds: Counter[str]) -> str:
    found = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return f" ({found})" if found else ""


def training_data(entries: list[LabelledItem], recipe: GenerationRecipe) -> list[LabelledStructure]:
    """Return what the potential of a generation is trained on, ordered by id."""
    from gapfactory.potentials.gap import LabelledStructure

    data = [
        LabelledStructure(
            id=entry.item.id,
            atoms=entry.item.atoms,
            energy=entry.label.energy,
            forces=entry.label.forces,
            stress=entry.label.stress,
            kind=entry.item.kind,
        )
        for entry in entries
        if not entry.item.held_out_of(recipe)
        and entry.label is not None
        and entry.label.usable_in(recipe.generation)
    ]
    return sorted(data, key=lambda structure: structure.id)
