"""Label structures for a campaign: what is there is taken over, what another worker is at is waited for.

Everything is decided by what the database holds, looked at again after every step: a task that was killed anywhere goes
on, and of several workers that want the same label one computes it (`launchpad.database.claims`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from launchpad.database.adoption import adopt_from_groups
from launchpad.database.claims import Claims
from launchpad.database.data_sets import require_same_data
from launchpad.database.dataset import all_items, label_hash, label_key, settings_of, with_labels
from launchpad.database.documents import own_label_id
from launchpad.database.labels import Subject, adopt_altered, adopt_shared, save_outcome
from launchpad.database.sharing import accepted_groups
from launchpad.hand_backs import forget_hand_backs, hand_back, hand_backs, own_fault
from launchpad.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.reference import LabelOutcome
    from launchpad.database.dataset import Item
    from launchpad.tasks.base import TaskContext

__all__ = ["label_items", "late_items", "require_data_sets"]


def label_items(context: TaskContext, items: Sequence[Item]) -> dict[str, int]:
    """Label what has no label yet; return how many were reused, labelled, failed.

    Raises
    ------
    TransientFault
        A fault of the machine: the task is run again.
    StateError
        This machine's data sets are not those of the labels that are there.
    gapfactory.errors.GapFactoryError
        As `gapfactory.reference.label_structures`.
    """
    counts = {"reused": 0, "labelled": 0, "failed": 0}
    with Claims(context.database, context.campaign.name) as claims:
        pauses = Backoff(first_s=0.2, largest_s=5.0).pauses()
        while missing := _missing(context, items):
            mine = set(claims.take(missing))
            # whoever held a claim until just now may have stored the label before he gave it back
            work = {key: item for key, item in _missing(context, items).items() if key in mine}
            if work:
                _compute(context, work, counts)
            claims.release()
            if not mine:
                time.sleep(next(pauses))
    counts["reused"] = len(items) - sum(counts.values())
    return counts


def late_items(database: Database[Any], campaign: Campaign, generation: int) -> list[Item]:
    """Return what earlier generations could not label and a person asked to be tried again in this one."""
    asked = {"campaign": campaign.name, "status": "failed", "retry_in": generation}
    if database.labels.find_one(asked, {"_id": 1}) is None:
        return []
    earlier = [item for item in all_items(database, campaign) if item.generation < generation]
    return [
        entry.item
        for entry in with_labels(database, campaign, earlier)
        if entry.label is not None and entry.label.wanted_in(generation)
    ]


def _missing(context: TaskContext, items: Sequence[Item]) -> dict[str, Item]:
    """Return the items without a label by their keys; those that were handed back before come last."""
    database, campaign = context.database, context.campaign
    found: dict[str, Item] = {}
    for entry in with_labels(database, campaign, items):
        if entry.label is not None and not entry.label.wanted_in(context.generation):
            continue
        subject, enters = _subject(campaign, entry.item), _enters(context, entry.item)
        # for another try, what others have made by now is as good as one's own
        if entry.label is not None and adopt_shared(database, subject, enters=enters):
            continue
        if _allows_altered(context) and adopt_altered(database, subject, enters=enters):
            continue
        found.setdefault(subject.key, entry.item)
    for key in _of_other_groups(context, found):
        del found[key]
    names = {key: own_label_id(key, campaign.name) for key in found}
    times = hand_backs(database, names.values())
    return dict(sorted(found.items(), key=lambda pair: times.get(names[pair[0]], 0)))


def _of_other_groups(context: TaskContext, missing: Mapping[str, Item]) -> set[str]:
    """Take over what other groups have and share; return its keys."""
    from gapfactory.reference import data_hashes

    groups = accepted_groups(context.database) if missing else []
    if not groups:
        return set()
    campaign = context.campaign
    reference = campaign.reference_in(context.generation)
    symbols = {symbol for item in missing.values() for symbol in item.atoms.get_chemical_symbols()}
    return adopt_from_groups(
        context.database,
        [(_subject(campaign, item), _enters(context, item)) for item in missing.values()],
        groups,
        reference.engine,
        data_hashes(reference, sorted(symbols)),
    )


def _allows_altered(context: TaskContext) -> bool:
    """Return whether the recovery may change the energies of a generation's labels."""
    return bool(getattr(context.campaign.reference_in(context.generation), "allow_energy_changes", False))


def _subject(campaign: Campaign, item: Item) -> Subject:
    return Subject(campaign.name, item.hash, label_hash(campaign, item), item.kind, item.atoms)


def _enters(context: TaskContext, item: Item) -> int:
    """Return the generation whose fit first uses a label, if that is not the one that chose the structure."""
    return context.generation if item.generation < context.generation else 0


def _compute(context: TaskContext, work: dict[str, Item], counts: dict[str, int]) -> None:
    from gapfactory.reference import LabelOutcome, label_structures

    campaign, database = context.campaign, context.database
    symbols = {symbol for item in work.values() for symbol in item.atoms.get_chemical_symbols()}
    require_data_sets(context, symbols, {label_hash(campaign, item) for item in work.values()})
    # noise cells have settings of their own, and cells that share the k-points of a crystal a grid of their own
    batches: dict[str, list[Item]] = {}
    for item in work.values():
        batches.setdefault(settings_of(campaign, item).model_dump_json(), []).append(item)
    for batch in batches.values():
        waiting = {item.id: item for item in batch}

        def store(outcome: LabelOutcome, waiting: dict[str, Item] = waiting) -> None:
            _store(context, outcome, waiting.pop(outcome.id), counts)

        try:
            label_structures(
                [(item.id, item.atoms) for item in batch],
                settings_of(campaign, batch[0]),
                context.workdir / "reference",
                store,
            )
        except Exception as error:
            fault = own_fault(error)
            if not fault or not waiting:
                raise
            # structures are calculated one after the other in the order given
            item = next(iter(waiting.values()))
            own = own_label_id(label_key(campaign, item), campaign.name)
            lines, reason = hand_back(database, own, item.id, fault, error)
            store(LabelOutcome(item.id, None, reason, len(lines), lines, fault))
            return  # the rest is looked at again


def _store(context: TaskContext, outcome: LabelOutcome, item: Item, counts: dict[str, int]) -> None:
    from gapfactory.reference import settings_hash

    campaign, database = context.campaign, context.database
    altered = ""
    if outcome.altered and outcome.label is not None:
        changed = settings_of(campaign, item).model_copy(update=outcome.altered)
        altered = settings_hash(changed, item.kind)
    subject = _subject(campaign, item)
    done = save_outcome(
        database,
        subject,
        outcome,
        settings_of(campaign, item).engine,
        altered_hash=altered,
        enters=_enters(context, item),
    )
    forget_hand_backs(database, [own_label_id(subject.key, campaign.name)])
    counts["failed" if done == "failed" else "labelled"] += 1


def require_data_sets(context: TaskContext, symbols: Collection[str], levels: Collection[str]) -> None:
    """Refuse to calculate where this machine's data sets are not those of the labels that are there.

    Parameters
    ----------
    context
        For which campaign.
    symbols
        Species that are calculated.
    levels
        Settings hashes under which results are stored.

    Raises
    ------
    StateError
        They are not the same.
    """
    from gapfactory.reference import data_hashes

    reference = context.campaign.reference_in(context.generation)
    hashes = data_hashes(reference, sorted(set(symbols)))
    if hashes:
        require_same_data(context.database, context.campaign.name, reference.engine, levels, hashes)
