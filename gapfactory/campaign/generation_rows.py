"""What the generations of a campaign do, as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gapfactory.protocols.own_data import data_joined
from gapfactory.protocols.planner import generations_of, recipe_of

if TYPE_CHECKING:
    from gapfactory.campaign.model import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.search.settings import AnnealSettings

__all__ = ["GenerationRow", "generation_rows"]


@dataclass(frozen=True)
class GenerationRow:
    """What one generation, or several equal ones, do.

    Attributes
    ----------
    generations
        E.g. ``0`` or ``1-24``.
    title
        What they are for.
    cells
        Random cells of each, by component.
    relaxed
        Whether they are relaxed, and under which mean pressure; by component where they differ.
    labels
        New labels of each, by what they are of.
    fit
        Which crystals and own data are in the fit, and its SOAP settings.
    """

    generations: str
    title: str
    cells: dict[str, int]
    relaxed: str
    labels: dict[str, int]
    fit: str

    def words(self) -> list[str]:
        """Return the row as texts of a table."""
        cells, labels = (
            f"{sum(numbers.values())}: {', '.join(f'{n} {name}' for name, n in numbers.items())}"
            if numbers
            else ""
            for numbers in (self.cells, self.labels)
        )
        return [self.generations, self.title, cells, self.relaxed, labels, self.fit]


def generation_rows(campaign: Campaign) -> tuple[GenerationRow, ...]:
    """Return what the generations of a campaign do; equal ones that follow each other share a row."""
    found: list[tuple[int, int, GenerationRow]] = []
    for generation in range(generations_of(campaign)):
        row = _row(campaign, recipe_of(campaign, generation))
        if found and found[-1][2] == row:
            found[-1] = (found[-1][0], generation, row)
        else:
            found.append((generation, generation, row))
    return tuple(
        replace(row, generations=str(first) if first == last else f"{first}-{last}")
        for first, last, row in found
    )


def _row(campaign: Campaign, recipe: GenerationRecipe) -> GenerationRow:
    crystals = sum(campaign.crystals[name].count for name in recipe.crystals)
    labels: dict[str, int]
    if recipe.picks == "snapshots":
        labels = dict.fromkeys((*(f"step {step}" for step in recipe.early_steps), "end"), recipe.n_labelled)
    elif recipe.picks == "ends":
        best = min(campaign.chain.best, recipe.n_labelled)
        labels = {"end": best * campaign.chain.label_ends, "shaken copy": best * campaign.chain.copies}
    elif recipe.picks == "cells":
        labels = {"cell": recipe.n_cells}
    elif recipe.picks == "frames":
        labels = {"displaced cell": recipe.train, "held-out": recipe.test}
    elif recipe.picks == "ranked":
        labels = {"single point": recipe.train, "relaxation": recipe.reference_relaxations}
    else:
        labels = {"training": recipe.train, "held-out": recipe.test}
    own = [f"{name} ({campaign.data[name].structures})" for name in data_joined(campaign, recipe.generation)]
    more = [*recipe.trained_crystals, *own]
    return GenerationRow(
        generations="",
        title=recipe.title,
        cells={part.component: part.stop - part.start for part in recipe.cells},
        relaxed=_dynamics(recipe) if recipe.picks == "dynamics" else _pressures(recipe),
        labels={key: n for key, n in (*labels.items(), ("crystal", crystals)) if n},
        fit=(f"with {', '.join(more)}; " if more else "") + _fitted(recipe.potential) if recipe.fits else "",
    )


def _fitted(settings: GapSettings | EddpSettings) -> str:
    """Say in a few words which potential is fitted."""
    from gapfactory.potentials.eddp.settings import EddpSettings

    if isinstance(settings, EddpSettings):
        hidden = "x".join(map(str, settings.network.hidden))
        return f"EDDP {settings.ensemble.members} networks of {hidden}, {settings.features.cutoff:g} Å"
    soap = settings.soap
    return f"SOAP {soap.atom_sigma:g} Å {soap.n_max}/{soap.l_max}"


def _pressures(recipe: GenerationRecipe) -> str:
    """Say under which mean pressure the cells of a generation are relaxed; by component where they differ."""
    found: dict[str, list[str]] = {}
    for part in recipe.cells:
        relax = recipe.relax_of(part)
        if relax is not None:
            mean = relax.mean_pressure
            words = f"mean pressure {mean:g} GPa" if mean else "no pressure"
            words += ", fixed cell" if relax.cell == "fixed" else ""
            words += annealed(relax.anneal)
            found.setdefault(words, []).append(part.component)
    if len(found) < 2:
        return next(iter(found), "")
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in found.items())


def _dynamics(recipe: GenerationRecipe) -> str:
    """Say how long and hot the runs of molecular dynamics are, by kind of cell."""
    runs = {part.component: run for part in recipe.cells if (run := part.relaxed.get("anneal"))}
    times = sorted({f"{run.time_ps:g} ps" for run in runs.values()})
    return f"{', '.join(times)}: " + ", ".join(
        f"{name} {run.temperature_K:.0f} K" for name, run in runs.items()
    )


def annealed(anneal: AnnealSettings | None) -> str:
    """Say how cells are annealed, or nothing."""
    if anneal is None:
        return ""
    kelvin = "a temperature by mobility" if anneal.temperature_K is None else f"{anneal.temperature_K:g} K"
    return f", annealed {anneal.time_ps:g} ps at {kelvin}"
