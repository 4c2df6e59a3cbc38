"""Fit the next potential on every label so far, prove it whole, and store it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from fireworks import explicit_serialize

from gapfactory.errors import StateError
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.assessment import noise_of_labels
from launchpad.database.campaigns import set_state
from launchpad.database.dataset import atom_items, pick_items, unlabelled_frames, with_labels
from launchpad.database.documents import PotentialDocument, generation_id
from launchpad.database.potentials import damaged_files, save_potential, store_files
from launchpad.states import CampaignState
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from gapfactory.potentials.gap import GapFit, GapSettings, LabelledStructure
    from gapfactory.protocols.recipe import GenerationRecipe
    from launchpad.database.dataset import LabelledItem

__all__ = ["FitTask", "fit_settings", "training_data"]


@explicit_serialize
class FitTask(CampaignTask):
    """Fit the potential of a generation once every label of it is decided and the quorum is met."""

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Gather the labels in the order of their ids, fit, store."""
        from gapfactory.potentials.gap import fit_gap

        campaign, generation = context.campaign, context.generation
        key = generation_id(campaign.name, generation)
        stored = context.database.potentials.find_one({"_id": key}, {"files": 1, "pruned": 1})
        # a potential whose files were lost is fitted again: the same labels give the same one
        if stored is not None and not damaged_files(context.database, stored):
            return {"reused": 1}
        entries = with_labels(context.database, campaign, atom_items(context.database, campaign))
        for earlier in range(generation + 1):
            entries += with_labels(
                context.database, campaign, pick_items(context.database, campaign, earlier)
            )
        _require_quorum(context, entries)
        recipe = recipe_of(campaign, generation)
        data = training_data(entries, recipe)
        more = unlabelled_frames(context.database, campaign, generation) if recipe.picks == "frames" else []
        began = time.monotonic()
        fit = fit_gap(
            data,
            species=tuple(campaign.species_table.values()),
            settings=fit_settings(context),
            seed=lambda k: context.rng(Stage.SPARSE, k),
            workdir=context.workdir / "fit",
            extra_sparse_structures=more,
        )
        save_potential(
            context.database,
            PotentialDocument(
                id=key,
                campaign=campaign.name,
                generation=generation,
                digest=fit.digest,
                files=store_files(context.database, list(fit.files)),
                trained_on=[s.id for s in data if s.id not in {*fit.duplicates, *fit.discarded}],
                report={**_report(fit), "seconds": round(time.monotonic() - began, 3)},
            ),
        )
        return {"structures": len(data), "energy_rmse_meV": 1000 * fit.train_errors.energy_rmse}


def fit_settings(context: TaskContext) -> GapSettings:
    """Return the settings of the fit, with no energy error below the measured noise of the labels."""
    settings = recipe_of(context.campaign, context.generation).gap
    noise = noise_of_labels(context.database, context.campaign)
    if noise is None:
        return settings
    floor = max(settings.sigma.energy_noise_floor, noise.energy_rms_meV / 1000)
    return settings.model_copy(
        update={"sigma": settings.sigma.model_copy(update={"energy_noise_floor": floor})}
    )


def _require_quorum(context: TaskContext, entries: list[LabelledItem]) -> None:
    """Halt the campaign when isolated atoms or too many of this generation's picks have no label."""
    campaign, generation = context.campaign, context.generation
    undecided = [e.item.id for e in entries if e.label is None]
    if undecided:
        msg = (
            f"{len(undecided)} structures have no label yet, the first is {undecided[0]!r}; "
            f"'gapfactory campaign resume {campaign.name}' runs their reference tasks again"
        )
        raise StateError(msg)
    atoms = [e for e in entries if e.item.role == "isolated"]
    mine = [e for e in entries if e.item.generation == generation and e.item.kind == "crystal"]
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


def _report(fit: GapFit) -> dict[str, Any]:
    """Return what is worth keeping of a fit, as plain data."""
    from dataclasses import asdict

    return {
        "deltas_eV": dict(fit.deltas),
        "targets": dict(fit.targets),
        "train_errors": asdict(fit.train_errors),
        "stages": [asdict(stage) for stage in fit.stages],
        "wall_s": dict(fit.wall_s),
        "backend": fit.backend,
        "threads": fit.threads,
        "peak_memory_bytes": fit.peak_memory,
        "e0_eV": dict(fit.e0),
        "descriptors": list(fit.descriptors),
        "skipped": list(fit.skipped),
        "duplicates": list(fit.duplicates),
        "discarded": list(fit.discarded),
        "sparse_pool": fit.pool,
        "versions": dict(fit.versions),
        "sigmas": {key: sigma.summary() for key, sigma in sorted(fit.sigmas.items())},
        "residuals": {key: list(value) for key, value in sorted(fit.residuals.items())},
    }
