"""What the keys of a campaign have to agree on; every message names the key and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.protocols.kinds import KINDS

if TYPE_CHECKING:
    from gapfactory.campaign.model import Campaign

__all__ = ["require_consistent"]

#: Protocols that label single points of all or the best of what a search makes, and may end with a final fit.
_SINGLE_POINTS: Final = ("boron-2018", "eddp-chain")


def require_consistent(campaign: Campaign) -> None:
    """Refuse keys and values that do not go together; each message names the key and what to do.

    Raises
    ------
    ValueError
        As said.
    """
    if (campaign.element is None) == (campaign.composition is None):
        msg = "give exactly one of 'element' (Si) and 'composition' ({TiO2: 1})"
        raise ValueError(msg)
    foreign = set(campaign.species) - set(campaign.species_table)
    if foreign:
        msg = f"species {sorted(foreign)} are not in the composition {sorted(campaign.species_table)}"
        raise ValueError(msg)
    _require_cells(campaign)
    if campaign.source is not None and campaign.schedule.generations != 1:
        msg = "a campaign with a 'source' has one generation: set schedule.generations to 1"
        raise ValueError(msg)
    _require_vibrations(campaign)
    _require_robustness(campaign)
    _require_search(campaign)
    _require_data(campaign)
    if campaign.protocol in _SINGLE_POINTS:
        _require_snapshots(campaign)
    elif campaign.protocol == "de-novo-2019":
        _require_funnel(campaign)
    wanted = campaign.stop.convergence
    judged = wanted.energy_error_in_eV is not None or wanted.plateau_improvement is not None
    if judged and campaign.protocol in _SINGLE_POINTS:
        msg = f"stop.convergence needs held-out structures; {campaign.protocol!r} has stop.energy_distribution instead"
        raise ValueError(msg)
    if campaign.protocol == "de-novo-2019" and judged and not campaign.select.held_out_per_generation:
        msg = "stop.convergence needs evidence: set select.held_out_per_generation to 5 or more"
        raise ValueError(msg)
    campaign.phase_names()
    _require_known(campaign)
    if campaign.potential == "eddp":
        _require_networks(campaign)
    else:
        _require_gap(campaign)
    _require_targets(campaign)


def _require_known(campaign: Campaign) -> None:
    """Refuse crystals to judge by that have another one's name, other elements, or are none."""
    from gapfactory.analysis.phases import names_of_phases
    from gapfactory.errors import EvidenceError, InputError
    from gapfactory.io.structure_text import given_crystals

    tabulated = names_of_phases(campaign.element) if campaign.element is not None else ()
    for name, entry in campaign.evidence.known.items():
        where = f"evidence.known.{name}"
        if name in tabulated or f"{campaign.element}-{name}" in tabulated:
            msg = f"{where}: a tabulated phase has this name; give it another one"
            raise ValueError(msg)
        if entry.structures is None:
            msg = f"{where} has no 'structures': they come from its file when a campaign file is read"
            raise ValueError(msg)
        try:
            crystals = given_crystals(entry.structures)
            foreign = {s for atoms in crystals for s in atoms.get_chemical_symbols()} - set(
                campaign.species_table
            )
            if len(crystals) != 1 or foreign:
                what = (
                    f"has {', '.join(sorted(foreign))}"
                    if foreign
                    else f"holds {len(crystals)} crystals, not one"
                )
                msg = f"{where} {what}: give a file with one crystal of the campaign's elements"
                raise ValueError(msg)
            campaign.phase_of(name)
        except (InputError, EvidenceError) as error:
            msg = f"{where}: {error}"
            raise ValueError(msg) from error


def _require_data(campaign: Campaign) -> None:
    """Refuse labels of the group's own that no potential would be trained on, or that have not been read."""
    from gapfactory.protocols.planner import recipe_of, searches_of

    if campaign.schedule.initial_cells == 0 and campaign.source is None:
        first = any(entry.joins == 0 for entry in campaign.data.values())
        if campaign.protocol != "de-novo-2019" or campaign.components or not first:
            msg = (
                "schedule.initial_cells is 0: a campaign begins without random cells only with the protocol "
                "'de-novo-2019', without 'components', and with 'data' that join generation 0; make cells, or add data"
            )
            raise ValueError(msg)
    for name, entry in campaign.data.items():
        where = f"data.{name}"
        if entry.sha256 is None or entry.structures is None:
            msg = f"{where} has no 'sha256' and 'structures': they come from its file when a campaign file is read"
            raise ValueError(msg)
        kind = KINDS[campaign.protocol]
        if not kind.searches or kind.ranks or campaign.source is not None:
            msg = f"{where}: only campaigns that search and fit take data; leave it out"
            raise ValueError(msg)
        last = searches_of(campaign) - 1
        if entry.joins > last or recipe_of(campaign, entry.joins).picks == "none":
            msg = (
                f"{where}.joins is {entry.joins}, but no generation {entry.joins} chooses labels: the last one that "
                f"may is {max(g for g in range(last + 1) if recipe_of(campaign, g).picks != 'none')}"
            )
            raise ValueError(msg)


def _require_gap(campaign: Campaign) -> None:
    """Refuse what only an EDDP knows, and terms that cannot be fitted."""
    if campaign.eddp != type(campaign.eddp)():
        msg = (
            "the block 'eddp' is not used by 'potential: gap': set potential to eddp, or leave the block out"
        )
        raise ValueError(msg)
    if campaign.relax.max_spread is not None:
        msg = (
            f"relax.max_spread is {campaign.relax.max_spread:g}, but that is of the networks of an EDDP: set "
            "relax.max_uncertainty, or potential to eddp"
        )
        raise ValueError(msg)
    if campaign.relax.max_uncertainty is not None and not campaign.gap.soap.enabled:
        msg = (
            f"relax.max_uncertainty is {campaign.relax.max_uncertainty:g}, but only the SOAP term tells how well a "
            "structure is known: set gap.soap.enabled, or leave max_uncertainty out"
        )
        raise ValueError(msg)
    _require_unlabelled(campaign)
    _require_fittable(campaign)


def _require_networks(campaign: Campaign) -> None:
    """Refuse with `potential: eddp` what only a GAP can do."""
    from gapfactory.analysis.vibration_study import study_variants

    if campaign.relax.max_uncertainty is not None:
        msg = (
            f"relax.max_uncertainty is {campaign.relax.max_uncertainty:g}, which is the measure of a GAP; an EDDP has "
            "the spread of its networks: set relax.max_spread (eV/atom) instead"
        )
        raise ValueError(msg)
    if campaign.relax.max_spread is not None and campaign.eddp.ensemble.members < 2:
        msg = "relax.max_spread needs the spread of several networks: set eddp.ensemble.members to 2 or more"
        raise ValueError(msg)
    vibrations = campaign.vibrations
    if vibrations is not None and study_variants(vibrations.studies):
        msg = (
            "vibrations.studies compare Gaussian approximation potentials fitted to parts of the labels: switch them "
            "off, or set potential to gap"
        )
        raise ValueError(msg)
    if vibrations is not None and vibrations.unlabelled:
        msg = f"vibrations.unlabelled is {vibrations.unlabelled}, for sparse points, which an EDDP has not: set it to 0"
        raise ValueError(msg)
    _require_families(campaign)


def _require_families(campaign: Campaign) -> None:
    """Refuse to keep the relatives of fewer crystals together than there are sets, where nothing else is labelled."""
    vibrations = campaign.vibrations
    if vibrations is None or KINDS[campaign.protocol].searches or campaign.data:
        return
    families = len(vibrations.trained())
    if families < 3 and campaign.eddp.training.split == "parent":
        msg = (
            f"eddp.training.split is parent, which keeps all frames of a crystal in one of three sets, but "
            f"{families} {'crystal is' if families == 1 else 'crystals are'} trained on: set it to plain"
        )
        raise ValueError(msg)


def _require_vibrations(campaign: Campaign) -> None:
    """Refuse crystals that cannot be used, and a protocol without what it is about."""
    from gapfactory.analysis.vibration_study import static_errors
    from gapfactory.campaign.parents import require_parents

    alone = not KINDS[campaign.protocol].searches
    if alone and campaign.vibrations is None:
        msg = "the protocol 'ndsc-2022' needs a block 'vibrations' with its crystals (docs/how-to/vibrations.md)"
        raise ValueError(msg)
    for key in ("source", "components", "crystals", "final_fit"):
        if alone and getattr(campaign, key):
            msg = f"{key!r} is for searches: leave it out, or choose another protocol than 'ndsc-2022'"
            raise ValueError(msg)
    if campaign.vibrations is None:
        return
    if campaign.source is not None:
        msg = "a campaign with a 'source' labels given structures again: leave 'vibrations' out"
        raise ValueError(msg)
    if campaign.vibrations.minima and (alone or campaign.schedule.generations < 2):
        msg = (
            f"vibrations.minima is {campaign.vibrations.minima}, but no generation of this campaign searches: name "
            "crystals in vibrations.parents instead"
        )
        raise ValueError(msg)
    require_parents(campaign)
    if campaign.vibrations.studies.static:
        # a search ends with the settings of its final fit, where it has one
        fitted = campaign.final_potential
        if isinstance(fitted, GapSettings):
            static_errors(fitted, campaign.vibrations.studies)


def _require_robustness(campaign: Campaign) -> None:
    """Refuse rounds of robustness where there is no search before, or no trial that ends them."""
    if campaign.robustness is None:
        return
    kind = KINDS[campaign.protocol]
    if not kind.searches or kind.ranks or campaign.source is not None:
        msg = "rounds of robustness follow a search that fits: leave 'robustness' out, or choose another protocol"
        raise ValueError(msg)
    if not campaign.evidence.stability.enabled:
        msg = "robustness goes on until a potential survives its trial, but evidence.stability.enabled is false: set it"
        raise ValueError(msg)


def _require_search(campaign: Campaign) -> None:
    """Refuse a search without its block, one that would also fit, and a potential that the reference is not."""
    from gapfactory.reference import has_calculator

    if not KINDS[campaign.protocol].ranks:
        if campaign.search is not None:
            msg = "the block 'search' needs 'protocol: search'; leave it out, or change the protocol"
            raise ValueError(msg)
        return
    if campaign.search is None:
        msg = "the protocol 'search' needs a block 'search' (docs/how-to/search.md)"
        raise ValueError(msg)
    for key in ("source", "crystals", "final_fit", "vibrations"):
        if getattr(campaign, key):
            msg = f"{key!r} is for campaigns that fit: leave it out, or choose another protocol than 'search'"
            raise ValueError(msg)
    if campaign.search.potential == "reference" and not has_calculator(campaign.reference):
        msg = (
            f"search.potential is reference, but engine {campaign.reference.engine!r} is no potential to relax random "
            "cells with: name a fitted one ({campaign: NAME} or {file: DIRECTORY})"
        )
        raise ValueError(msg)
    if campaign.search.potential == "reference" and campaign.relax.uncertainty_limit is not None:
        key = "max_spread" if campaign.relax.max_uncertainty is None else "max_uncertainty"
        msg = f"relax.{key} needs a fitted potential: leave it out, or name one in search.potential"
        raise ValueError(msg)
    for name, component in campaign.components.items():
        if component.generations is not None or component.potential != "before":
            msg = f"components.{name}: a search has one potential and one generation of cells: leave generations and "
            raise ValueError(f"{msg}potential out")
    for target in campaign.search.targets:
        try:
            campaign.known_phase(target)
        except ValueError as error:
            msg = f"search.targets is {list(campaign.search.targets)}: {error}"
            raise ValueError(msg) from error
    for generation in range(1, len(campaign.search.ranking) + 1):
        campaign.reference_in(generation)


def _require_funnel(campaign: Campaign) -> None:
    """Refuse sizes of the funnel that contradict each other, and what only the other protocol knows."""
    for key in ("crystals", "final_fit"):
        if getattr(campaign, key):
            msg = (
                f"{key!r} needs 'protocol: boron-2018' or 'eddp-chain'; leave it out, or change the protocol"
            )
            raise ValueError(msg)
    per_generation = campaign.select.labels_per_generation + campaign.select.held_out_per_generation
    if campaign.stop.label_budget < per_generation:
        msg = (
            f"stop.label_budget is {campaign.stop.label_budget}, less than the {per_generation} labels of "
            "a single "
            "generation; raise it or lower select.labels_per_generation"
        )
        raise ValueError(msg)
    for key, generation in (("initial_cells", 0), ("cells_per_generation", 1)):
        if campaign.source is not None:
            break
        if generation == 0 and campaign.schedule.initial_cells == 0:
            continue
        if generation >= campaign.schedule.generations:
            continue  # no search: what comes after the only one chooses frames
        cells = campaign.cells_of(generation)
        if cells < per_generation:
            where = "components have" if campaign.components else f"schedule.{key} is"
            msg = (
                f"{where} {cells}, but {per_generation} of them are to be labelled; make "
                "more cells or "
                "label fewer"
            )
            raise ValueError(msg)


def _require_snapshots(campaign: Campaign) -> None:
    """Refuse snapshots, crystals and a number of labels that cannot be."""
    from gapfactory.protocols.boron import closing
    from gapfactory.protocols.planner import recipe_of

    if campaign.source is not None:
        msg = "a campaign with a 'source' makes no snapshots: its protocol is 'de-novo-2019'"
        raise ValueError(msg)
    after = closing(campaign)
    if campaign.schedule.generations <= len(after):
        msg = (
            f"schedule.generations is {campaign.schedule.generations}, but {len(after)} come after the last search "
            f"({', '.join(after)}): raise it"
        )
        raise ValueError(msg)
    kept = min(campaign.relax.keep_first_steps, campaign.relax.max_steps - 1)
    rule = campaign.stop.energy_distribution
    if (
        campaign.protocol == "eddp-chain"
        and campaign.chain.uncertain
        and not campaign.relax.uncertainty_limit
    ):
        key = "max_spread" if campaign.potential == "eddp" else "max_uncertainty"
        share = campaign.chain.uncertain
        msg = f"chain.uncertain is {share:g}, but nothing tells how certain an end is: set relax.{key}"
        raise ValueError(msg)
    if campaign.protocol == "eddp-chain" and rule is not None and not campaign.chain.label_ends:
        msg = "stop.energy_distribution judges by the energies of the ends, but chain.label_ends is false: set it"
        raise ValueError(msg)
    for step in campaign.snapshots.early_steps if campaign.protocol == "boron-2018" else ():
        if not 0 <= step <= kept:
            msg = (
                f"snapshots.early_steps has {step}, but steps 0 to {kept} are kept of every relaxation: raise "
                "relax.keep_first_steps or relax.max_steps"
            )
            raise ValueError(msg)
    for name in campaign.crystals:
        _require_crystal(campaign, name)
    _ = campaign.final_potential
    labels = sum(recipe_of(campaign, g).labels for g in range(campaign.schedule.generations))
    if labels > campaign.stop.label_budget:
        msg = (
            f"stop.label_budget is {campaign.stop.label_budget}, but the campaign labels {labels} structures: raise "
            "it, or make fewer cells, generations or crystals"
        )
        raise ValueError(msg)


def _require_crystal(campaign: Campaign, name: str) -> None:
    """Refuse a group of crystals whose phase is not tabulated, or whose structures cannot be used."""
    from gapfactory.campaign.crystals import given_crystals
    from gapfactory.errors import InputError

    group = campaign.crystals[name]
    if group.phase is not None:
        try:
            campaign.crystal_phase(name)
        except ValueError as error:
            msg = f"crystals.{name}.phase is {group.phase!r}: {error}, or take it away ('{name}: null')"
            raise ValueError(msg) from error
        return
    where = f"crystals.{name}: the structures of {group.file or 'this group'}"
    try:
        if group.structures is None:
            msg = "were not read with the campaign file"
            raise InputError(msg)
        given = given_crystals(group.structures)
    except InputError as error:
        msg = f"{where}: {error}"
        raise ValueError(msg) from error
    foreign = {symbol for atoms in given for symbol in atoms.get_chemical_symbols()} - {
        *campaign.species_table
    }
    if foreign:
        msg = f"{where} hold {', '.join(sorted(foreign))}, the campaign {', '.join(campaign.species_table)}"
        raise ValueError(msg)
    if group.count < len(given):
        msg = f"{where} are {len(given)}, but count is {group.count}: raise it, or give fewer"
        raise ValueError(msg)


def _require_cells(campaign: Campaign) -> None:
    """Refuse units of other elements, and a range of atoms that holds no multiple of a formula unit."""
    from gapfactory.build import atom_counts
    from gapfactory.build.cells import formula_of
    from gapfactory.errors import InputError

    builds = {f"components.{name}.build": c.build for name, c in campaign.components.items()}
    for where, build in (builds or {"build": campaign.build}).items():
        for formula, _ in campaign.formulas:
            try:
                whole = formula_of(formula, campaign.species_table, build)
            except InputError as error:
                msg = f"{where}.units: {error}"
                raise ValueError(msg) from error
            try:
                atom_counts(whole, build)
            except InputError as error:
                name = "".join(f"{symbol}{count if count != 1 else ''}" for symbol, count in formula.items())
                msg = f"{where}.atoms_min and {where}.atoms_max do not suit {name}: {error}"
                raise ValueError(msg) from error


def _require_targets(campaign: Campaign) -> None:
    """Refuse a diagnostic search for a phase that is not tabulated, or one that may never be made."""
    from gapfactory.protocols.boron import closing
    from gapfactory.protocols.recipe import PLAIN

    boron = campaign.protocol in _SINGLE_POINTS
    if PLAIN in campaign.components and not any(c.labelled for c in campaign.components.values()):
        msg = (
            f"components.{PLAIN} has the name of the cells that are labelled where no component is: call the "
            "diagnostic search otherwise"
        )
        raise ValueError(msg)
    last = campaign.schedule.generations - 1
    for name, component in campaign.components.items():
        made = component.generations
        if made is not None and not (made and 1 <= min(made) <= max(made) <= last):
            msg = (
                f"components.{name}.generations is {list(made)}, but cells are relaxed in generations 1 to {last}: "
                "name some of these, or leave generations out"
            )
            raise ValueError(msg)
        reached = boron and (closing(campaign) or campaign.stop.energy_distribution is None)
        if component.potential == "final" and not (reached and campaign.schedule.generations > 1):
            msg = (
                f"components.{name}.potential is final, but the campaign may end before its last generation: it "
                "needs 'protocol: boron-2018', a final_fit or no stop.energy_distribution, and two generations"
            )
            raise ValueError(msg)
        try:
            campaign.target_phases(name)
        except ValueError as error:
            msg = f"components.{name}.targets is {list(component.targets)}: {error}"
            raise ValueError(msg) from error


def _require_unlabelled(campaign: Campaign) -> None:
    """Refuse structures for sparse points that cannot be read or are of other elements."""
    from gapfactory.errors import InputError

    for key, gap in {"gap": campaign.gap, "final_fit": campaign.final_potential}.items():
        if not isinstance(gap, GapSettings):
            continue
        given = gap.unlabelled
        where = f"{key}.unlabelled: the structures of {given.file or 'this campaign'}"
        try:
            found = given.atoms()
        except InputError as error:
            msg = f"{where}: {error}"
            raise ValueError(msg) from error
        foreign = {s for atoms in found for s in atoms.get_chemical_symbols()} - {*campaign.species_table}
        if foreign:
            msg = (
                f"{where} hold {', '.join(sorted(foreign))}, the campaign {', '.join(campaign.species_table)}"
            )
            raise ValueError(msg)


def _require_fittable(campaign: Campaign) -> None:
    """Refuse terms that gap_fit cannot take, before anything is labelled."""
    if campaign.gap.backend != "gap_fit":
        return
    from gapfactory.errors import FitError
    from gapfactory.potentials.gap.program import gap_line
    from gapfactory.potentials.gap.terms import terms

    found = terms(tuple(campaign.species_table.values()), campaign.gap)
    sparse = (campaign.gap.two_body.n_sparse, campaign.gap.three_body.n_sparse, campaign.gap.soap.n_sparse)
    try:
        gap_line(found, (99.9999, 99.9999, 99.9999), [sparse[term.stage] for term in found])
    except FitError as error:
        raise ValueError(str(error)) from error
