"""What follows from a campaign's elements by the paper's rules, for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapfactory.build.settings import BuildSettings
    from gapfactory.campaign.model import Campaign

__all__ = ["derived_values"]


def derived_values(campaign: Campaign) -> dict[str, Any]:
    """Return radius, class, volumes, separations and cutoffs (Å, Å^3), with the rule each comes from."""
    from gapfactory.build import minimum_separations, volume_per_atom
    from gapfactory.build.cells import formula_of

    table = campaign.species_table
    species = tuple(table.values())

    def of_cells(build: BuildSettings) -> dict[str, Any]:
        separations = minimum_separations(species, build)
        formulas = [formula_of(formula, table, build) for formula, _ in campaign.formulas]
        return {
            "volume_per_atom_A3": {
                "".join(f"{s}{n if n > 1 else ''}" for s, n in formula.items()): round(
                    volume_per_atom([table[s] for s in formula], list(formula.values()), build), 4
                )
                for formula in formulas
            },
            "minimum_separation_A": {
                f"{first.symbol}-{second.symbol}": round(float(separations[i, j]), 4)
                for i, first in enumerate(species)
                for j, second in enumerate(species)
                if i <= j
            },
        }

    components = {name: of_cells(component.build) for name, component in sorted(campaign.components.items())}
    return {
        "species": {
            symbol: {"characteristic_radius_A": item.radius, "bonding": item.bonding}
            for symbol, item in table.items()
        },
        **({"components": components} if components else of_cells(campaign.build)),
        "cutoffs_A": _cutoffs(campaign),
        "phases_judged_by": list(campaign.phase_names()),
    }


def _cutoffs(campaign: Campaign) -> dict[str, float]:
    """Return how far the terms of the potential reach, Å."""
    from gapfactory.potentials.gap.terms import terms

    if campaign.potential == "eddp":
        return {"features": campaign.potential_cutoff}
    species = tuple(campaign.species_table.values())
    return {term.name: round(term.cutoff, 4) for term in terms(species, campaign.gap)}
