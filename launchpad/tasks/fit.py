"""Fit the next potential on every label so far, prove it whole, and store it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fireworks import explicit_serialize

from gapfactory.potentials.eddp.settings import EddpSettings
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.assessment import noise_of_labels
from launchpad.database.dataset import unlabelled_frames
from launchpad.database.documents import PotentialDocument, generation_id
from launchpad.database.potentials import damaged_files, save_potential, store_files
from launchpad.tasks.base import CampaignTask, TaskContext
from launchpad.tasks.train import prepare_networks
from launchpad.tasks.training import training_data, training_entries

if TYPE_CHECKING:
    from gapfactory.potentials.eddp import EddpFit
    from gapfactory.potentials.gap import GapFit, GapSettings

__all__ = ["FitTask", "fit_settings"]


@explicit_serialize
class FitTask(CampaignTask):
    """Fit the potential of a generation once every label of it is decided and the quorum is met."""

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Fit and store, unless that is done."""
        key = generation_id(context.campaign.name, context.generation)
        stored = context.database.potentials.find_one({"_id": key}, {"files": 1, "pruned": 1})
        # a potential whose files were lost is fitted again: the same labels give the same one
        if stored is not None and not damaged_files(context.database, stored):
            return {"reused": 1}
        settings = recipe_of(context.campaign, context.generation).potential
        if isinstance(settings, EddpSettings):
            return _fit_eddp(context, settings)
        return _fit_gap(context, fit_settings(context, settings))


def _fit_gap(context: TaskContext, settings: GapSettings) -> dict[str, Any]:
    """Fit a GAP on the labels in the order of their ids."""
    from gapfactory.potentials.gap import fit_gap

    campaign, generation = context.campaign, context.generation
    recipe = recipe_of(campaign, generation)
    data = training_data(training_entries(context), recipe)
    more = unlabelled_frames(context.database, campaign, generation) if recipe.picks == "frames" else []
    began = time.monotonic()
    fit = fit_gap(
        data,
        species=tuple(campaign.species_table.values()),
        settings=settings,
        seed=lambda k: context.rng(Stage.SPARSE, k),
        workdir=context.workdir / "fit",
        extra_sparse_structures=more,
    )
    trained_on = [s.id for s in data if s.id not in {*fit.duplicates, *fit.discarded}]
    _save(context, fit, trained_on, {**_gap_report(fit), "seconds": round(time.monotonic() - began, 3)})
    return {"structures": len(data), "energy_rmse_meV": 1000 * fit.train_errors.energy_rmse}


def _fit_eddp(context: TaskContext, settings: EddpSettings) -> dict[str, Any]:
    """Weigh the networks that the tasks before have trained; one whose document was lost is trained again."""
    from gapfactory.potentials.eddp import fit_eddp

    prepared = prepare_networks(context, settings)
    members = settings.ensemble.members
    prepared.train(0, members)
    networks, records = prepared.trained(0, members)
    directory = context.workdir / "fit"
    fit = fit_eddp(networks, prepared.data, prepared.training, prepared.split, settings, directory)
    report = _eddp_report(fit, settings) | {
        "networks": [
            {"test_mae_eV": r["errors"]["test"]["mae"], "steps": r["steps"], "reason": r["reason"]}
            for r in records
        ],
        "seconds": round(fit.seconds, 3),
        "training_seconds": round(sum(record["seconds"] for record in records), 3),
    }
    _save(context, fit, list(fit.trained_on), report)
    return {
        "structures": len(fit.trained_on),
        "networks": f"{len(fit.kept)} of {fit.trained}",
        "energy_rmse_meV": 1000 * fit.train_errors.energy_rmse,
        "test_mae_meV": 1000 * fit.errors["test"].mae,
    }


def _save(context: TaskContext, fit: GapFit | EddpFit, trained_on: list[str], report: dict[str, Any]) -> None:
    save_potential(
        context.database,
        PotentialDocument(
            id=generation_id(context.campaign.name, context.generation),
            campaign=context.campaign.name,
            generation=context.generation,
            digest=fit.digest,
            files=store_files(context.database, list(fit.files)),
            trained_on=trained_on,
            report=report,
        ),
    )


def fit_settings(context: TaskContext, settings: GapSettings) -> GapSettings:
    """Return the settings of a fit, with no energy error below the measured noise of the labels."""
    noise = noise_of_labels(context.database, context.campaign)
    if noise is None:
        return settings
    floor = max(settings.sigma.energy_noise_floor, noise.energy_rms_meV / 1000)
    return settings.model_copy(
        update={"sigma": settings.sigma.model_copy(update={"energy_noise_floor": floor})}
    )


def _eddp_report(fit: EddpFit, settings: EddpSettings) -> dict[str, Any]:
    """Return what is worth keeping of a fit, as plain data."""
    from dataclasses import asdict

    from gapfactory.potentials.gap.backends import package_versions

    return {
        "family": "eddp",
        "backend": "eddp",
        "split": settings.training.split,
        "errors": {name: asdict(errors) for name, errors in sorted(fit.errors.items())},
        "train_errors": asdict(fit.train_errors),
        "members": {"trained": fit.trained, "kept": len(fit.kept)},
        "weights": {f"{place:03d}": part for place, part in zip(fit.kept, fit.parts, strict=True)},
        "spread_eV": fit.spread,
        "tested_on": list(fit.tested_on),
        "discarded": list(fit.discarded),
        "outliers": list(fit.outliers),
        "versions": package_versions(),
        "residuals": {key: list(value) for key, value in sorted(fit.residuals.items())},
    }


def _gap_report(fit: GapFit) -> dict[str, Any]:
    """Return what is worth keeping of a fit, as plain data."""
    from dataclasses import asdict

    return {
        "family": "gap",
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
