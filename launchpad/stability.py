"""Try a potential on the most stable structure that its campaign knows; what was found becomes plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError
from launchpad.assessment import labelled_picks, reference_curve
from launchpad.database.dataset import atom_items, with_labels
from launchpad.database.packing import pack_atoms

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.random import Generator
    from pymongo.database import Database

    from gapfactory.analysis.stability import Stability, Trial
    from gapfactory.campaign import Campaign

__all__ = ["measure_stability", "most_stable", "stability_wanted", "stored_stability", "stored_trials"]

#: eV/atom by which a named phase may lie above the lowest labelled structure and still be the one that is tried:
#: labels differ by as much from one setting of a cell to another
_SAME = 0.005


def stability_wanted(campaign: Campaign, decision: Literal["continue", "stop"]) -> bool:
    """Return whether the potential of a generation is to be tried."""
    wanted = campaign.evidence.stability
    return wanted.enabled and (decision == "stop" or wanted.when == "every")


def measure_stability(
    database: Database[Any],
    campaign: Campaign,
    generation: int,
    calculator: Calculator,
    rng: Generator,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return what became of molecular dynamics and close contacts, as plain data with the last frames.

    A potential that fails is a result, not an error.

    Parameters
    ----------
    database, campaign, generation
        Whose structures to begin with.
    calculator
        The potential.
    rng
        Velocities and thermostat.
    progress
        Called with a line of text now and then.

    """
    from gapfactory.analysis.stability import Stability, check_stability

    settings = campaign.evidence.stability
    try:
        structure, name, energy, symmetric = most_stable(database, campaign, generation)
    except EvidenceError as error:
        nothing = Stability("", float("nan"), float("nan"), "", str(error), None)
        return {**nothing.as_dict(), "headline": nothing.headline(), "frames": []}
    found = check_stability(
        structure,
        name,
        calculator,
        settings=settings,
        rng=rng,
        known_energy=energy,
        dimer_lengths=_dimer_lengths(database, campaign),
        keep_symmetry=symmetric,
        relax=campaign.evidence.curves.relax,
        progress=progress,
    )
    run = found.dynamics
    frames = [] if run is None else list(zip(run.frame_times, run.frames, strict=True))
    return {
        **found.as_dict(),
        "headline": found.headline(),
        "frames": [{"time_ps": time, "atoms": pack_atoms(atoms)} for time, atoms in frames],
    }


def most_stable(
    database: Database[Any], campaign: Campaign, generation: int
) -> tuple[Atoms, str, float, bool]:
    """Return the most stable structure that the reference knows, its name, the energy (eV/atom), and if it is a phase.

    A named phase with a reference curve comes before a labelled structure of the same energy.

    Raises
    ------
    EvidenceError
        There is neither.
    """
    candidates: list[tuple[float, Atoms, str, bool]] = []
    for name in campaign.phase_names():
        curve = reference_curve(database, campaign, name)
        if curve is not None and len(curve.energies):
            candidates.append((float(curve.energies.min()), campaign.phase_of(name).atoms, name, True))
    for entry in labelled_picks(database, campaign, generation):
        atoms = entry.item.atoms
        if entry.label is not None and all(atoms.pbc):
            per_atom = float(entry.label.energy) / len(atoms)
            candidates.append((per_atom, atoms, f"structure {entry.item.id}", False))
    if not candidates:
        raise EvidenceError(
            f"campaign {campaign.name!r} has no labelled crystal and no named phase with a reference curve: there is "
            "nothing to try its potential on"
        )
    lowest = min(energy for energy, *_ in candidates)
    chosen = min(
        (c for c in candidates if c[0] <= lowest + (_SAME if c[3] else 0.0)),
        key=lambda c: (not c[3], c[0], c[2]),
    )
    return chosen[1], chosen[2], lowest, chosen[3]


def _dimer_lengths(database: Database[Any], campaign: Campaign) -> dict[tuple[str, str], float]:
    """Return the bond length (Å) of the lowest labelled dimer of each pair, not beyond the sum of the radii."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for entry in with_labels(database, campaign, atom_items(database, campaign)):
        if entry.item.role != "dimer" or entry.label is None or entry.label.status != "done":
            continue
        first, second = sorted(entry.item.atoms.get_chemical_symbols())
        length = float(np.linalg.norm(entry.item.atoms.positions[1] - entry.item.atoms.positions[0]))
        found = (float(entry.label.energy), length)
        best[first, second] = min(best.get((first, second), found), found)
    radius = {symbol: item.radius for symbol, item in campaign.species_table.items()}
    return {(a, b): min(length, radius[a] + radius[b]) for (a, b), (_, length) in best.items()}


def stored_trials(campaign: Campaign, metrics: list[dict[str, Any]]) -> tuple[Trial, ...]:
    """Return what became of every potential that was tried, by generation."""
    from gapfactory.analysis.stability import Trial, stability_from_dict
    from gapfactory.protocols.planner import recipe_of

    return tuple(
        Trial(
            entry["generation"],
            recipe_of(campaign, entry["generation"]).title,
            entry["labels"] + entry.get("given", 0),
            stability_from_dict(entry["evidence"]["stability"]),
        )
        for entry in metrics
        if entry["evidence"].get("stability") is not None
    )


def stored_stability(metrics: list[dict[str, Any]]) -> tuple[Stability | None, int | None]:
    """Return what the newest assessment found, and its generation; None where no potential has been tried."""
    from gapfactory.analysis.stability import stability_from_dict

    for entry in reversed(metrics):
        stored = entry["evidence"].get("stability")
        if stored is not None:
            return stability_from_dict(stored), entry["generation"]
    return None, None
