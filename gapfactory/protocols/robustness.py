"""The stage that makes a potential fit for molecular dynamics: rounds of runs, labels, fit and trial after a search.

Runs of bulk, vacancies, surfaces and melts with the current potential end where it fails or no longer knows what it
sees. What they come across is labelled, the potential is fitted again and tried, and so on until it survives.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gapfactory.protocols.recipe import CellRange, GenerationRecipe

if TYPE_CHECKING:
    from gapfactory.build.starts import StartSettings
    from gapfactory.campaign import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.protocols.robustness_settings import RobustnessSettings
    from gapfactory.search.settings import AnnealSettings

__all__ = ["TITLE", "robustness_recipe"]

TITLE: Final = "robustness"


def robustness_recipe(
    campaign: Campaign,
    settings: RobustnessSettings,
    generation: int,
    potential: GapSettings | EddpSettings,
    trained_crystals: tuple[str, ...] = (),
) -> GenerationRecipe:
    """Return the recipe of one round.

    Parameters
    ----------
    campaign
        Whose round.
    settings
        Its block `robustness`.
    generation
        Number of the round's generation.
    potential
        Settings of its potential: those of the last search.
    trained_crystals
        Groups of distorted crystals that the last search had in its training set.
    """
    # a page's server plans without what computes
    from gapfactory.build.settings import BuildSettings
    from gapfactory.search.settings import RelaxSettings

    cells: list[CellRange] = []
    for name, start in sorted(settings.starts.items()):
        first = cells[-1].stop if cells else 0
        cells.append(
            CellRange(
                name,
                first,
                first + start.cells,
                # what the plan counts the atoms by
                BuildSettings(atoms_min=start.atoms, atoms_max=start.atoms),
                made_of=start,
                relaxed={"anneal": _run(campaign, settings, start)},
            )
        )
    eddp = campaign.potential == "eddp"
    return GenerationRecipe(
        generation=generation,
        title=TITLE,
        cells=tuple(cells),
        relax=RelaxSettings(
            # nothing but the dynamics
            max_steps=0,
            cell="fixed",
            pressure_scale_GPa=0.0,
            closest_approach=settings.closest_approach,
            max_uncertainty=None if eddp or not campaign.gap.soap.enabled else settings.max_uncertainty,
            max_spread=settings.max_spread if eddp and campaign.eddp.ensemble.members > 1 else None,
        ),
        picks="dynamics",
        train=settings.labels,
        test=settings.held_out,
        potential=potential,
        trained_crystals=trained_crystals,
    )


def _run(campaign: Campaign, settings: RobustnessSettings, start: StartSettings) -> AnnealSettings:
    """Return the dynamics of one kind of cell."""
    from ase.data import atomic_masses

    from gapfactory.analysis.dynamics import default_timestep
    from gapfactory.analysis.stability import trial_temperature
    from gapfactory.search.settings import AnnealSettings

    trial = campaign.evidence.stability
    _, melting, _ = trial_temperature(tuple(campaign.species_table), trial)
    return AnnealSettings(
        temperature_K=start.temperature_factor * melting,
        time_ps=settings.time_ps,
        timestep_fs=settings.timestep_fs
        or trial.timestep_fs
        or default_timestep(atomic_masses[list(campaign.numbers)]),
        cell="fixed",
        frames=settings.frames,
    )
