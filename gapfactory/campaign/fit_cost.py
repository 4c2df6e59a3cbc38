"""What potentials cost: training of networks, fits, their memory, and the molecular dynamics that judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.campaign import sizes
from gapfactory.campaign.search_cost import evaluation_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe

__all__ = ["fit_basis", "fit_costs", "stability_seconds"]

#: Seconds that a step of molecular dynamics takes beside the evaluation, where it is watched.
DYNAMICS_S = 1e-3


def fit_costs(campaign: Campaign, recipes: Sequence[GenerationRecipe]) -> tuple[float, float, float]:
    """Return the seconds of all trainings and of all fits, those of studies included, and the memory (GB) of one."""
    from gapfactory.analysis.vibration_study import study_variants
    from gapfactory.potentials.eddp.cost import Workload, training_memory, training_time
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap import estimate_memory

    fits = []
    train_s, fit_s, gigabytes = 0.0, 0.0, 0.0
    for number, recipe in enumerate(recipes, 1):
        data = sizes.mean(sizes.trained(campaign, recipes[:number], recipe))
        if isinstance(recipe.potential, EddpSettings):
            size = Workload(len(campaign.species_table), data.n, data.n * data.atoms)
            train_s += recipe.potential.ensemble.members * training_time(recipe.potential, size)
            fit_s += size.atoms * evaluation_seconds(campaign, recipe.potential, data.volume)
            gigabytes = max(gigabytes, training_memory(recipe.potential, size) / 1e9)
            continue
        fits.append(
            estimate_memory(
                n_structures=max(round(data.n), 1),
                atoms_per_structure=data.atoms,
                volume_per_atom=data.volume,
                species=tuple(campaign.species_table.values()),
                settings=recipe.potential,
            )
        )
    if not fits:
        return train_s, fit_s, gigabytes
    # a study fits to what the last generation is fitted to, or to a part of it
    studies = 0 if campaign.vibrations is None else len(study_variants(campaign.vibrations.studies))
    fit_s += sum(fit.cpu_s for fit in fits) + studies * fits[-1].cpu_s
    return train_s, fit_s, max(fit.peak_bytes for fit in fits) / 1e9


def fit_basis(campaign: Campaign) -> str:
    """Say what a fit consists of."""
    if campaign.potential == "eddp":
        return "features and energies of all structures"
    if campaign.gap.backend == "native":
        return "one pass over the data serves all stages"
    return "gap_fit's covariance loop, three staged fits"


def stability_seconds(campaign: Campaign, generations: int, per_atom: float) -> float:
    """Return the seconds of molecular dynamics, given those of an evaluation per atom."""
    from gapfactory.analysis.dynamics import default_timestep

    wanted = campaign.evidence.stability
    if not wanted.enabled or not generations:
        return 0.0
    from ase.data import atomic_masses

    timestep = wanted.timestep_fs or default_timestep(atomic_masses[list(campaign.numbers)])
    steps = 1000.0 * (wanted.duration_ps + wanted.nve_ps) / timestep
    runs = generations if wanted.when == "every" else 1
    return runs * steps * (DYNAMICS_S + wanted.n_atoms * per_atom)
