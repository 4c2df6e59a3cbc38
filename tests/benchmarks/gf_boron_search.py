"""The hot search of `boron_eddp.py`: what it found, by the networks, by the GAP and by DFT."""

from __future__ import annotations

import json
import lzma
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from gf_evidence import labelled_frames, labels_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray
    from pymongo.database import Database

CHAIN, SEARCH = "boron-chain", "boron-b28"
GPA_A3: Final = 160.2176634
PRESSURE: Final = 10.0
#: eV/atom above γ-B28 at 10 GPa, below which ends of the search are counted.
LEVELS: Final = (0.1, 0.15, 0.2, 0.25, 0.3)
#: Ends of each kind that are calculated by DFT, and those that are shown.
BY_DFT: Final = 1
SHOWN: Final = 3
CRYSTALS: Final = ("gamma-B28", "alpha-B12", "alpha-Ga")


def boron(name: str) -> Atoms:
    """Return a named crystal of boron."""
    from gapfactory.analysis.phases import named_phase

    return named_phase(f"B-{name}").atoms.copy()


def per_atom(values: Any, structures: Sequence[Atoms]) -> NDArray[np.float64]:
    """Return energies of structures per atom."""
    return np.asarray(values) / [len(atoms) for atoms in structures]


def milli(value: float) -> str:
    """Return eV as meV."""
    return f"{1000 * value:.0f}"


def judged(calculator: Any, structures: Sequence[Atoms]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies and spreads, eV/atom."""
    found = calculator.engine.evaluate(list(structures), gradients=False)
    return per_atom(found.energies, structures), found.spreads


def gap_energy(gap: Any, atoms: Atoms) -> float | None:
    """Return the energy per atom by the GAP, or None where that refuses the structure."""
    from gapfactory.search.evaluator import Evaluation

    answer = gap.evaluate_batch([atoms])[0]
    return answer.energy / len(atoms) if isinstance(answer, Evaluation) else None


def potentials_of(database: Database[Any]) -> dict[int, Any]:
    """Return the calculators of the chain by generation."""
    from gapfactory.potentials import load_potential
    from launchpad.database.potentials import cached_potential

    records = database.potentials.find({"campaign": CHAIN}).sort("generation", 1)
    return {r["generation"]: load_potential(cached_potential(database, r)) for r in records}


def search_calculator_of(database: Database[Any]) -> Any:
    """Return the potential of the search."""
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.given_potential import search_calculator

    return search_calculator(database, campaign_of(require_campaign(database, SEARCH)))


def limit_of(database: Database[Any]) -> float:
    """Return the largest spread that the search believes in, eV/atom."""
    from launchpad.database.campaigns import campaign_of, require_campaign

    return campaign_of(require_campaign(database, SEARCH)).relax.max_spread or np.inf


class Checks:
    """Single points by the campaign's reference that it does not make itself; each is made once, and kept.

    Parameters
    ----------
    database
        Of the campaign.
    place
        Where they are kept.
    make
        Whether those that are missing are made; else they are left out.
    """

    def __init__(self, database: Database[Any], place: Path, *, make: bool) -> None:
        from launchpad.database.campaigns import campaign_of, require_campaign

        self._settings = campaign_of(require_campaign(database, CHAIN)).reference
        self._place, self._make = place, make
        self._file = place / "energies.json"
        self._known: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def energies(self, structures: Sequence[tuple[str, Atoms]]) -> dict[str, float]:
        """Return energies per atom by name, of those that are there or could be labelled."""
        from gapfactory.reference import label_structures
        from gapfactory.structures import structure_hash

        found = {}
        for name, atoms in structures:
            key = structure_hash(atoms)
            if key not in self._known and self._make:
                place = self._place / key
                place.mkdir(parents=True, exist_ok=True)
                (outcome,) = label_structures([("one", atoms)], self._settings, place)
                if outcome.label is None:
                    print(f"{name}: {outcome.reason}", flush=True)
                else:
                    self._known[key] = outcome.label.energy / len(atoms)
                    self._file.write_text(json.dumps(self._known, indent=1) + "\n")
                    print(f"{name}: {outcome.label.walltime_s:.0f} s", flush=True)
            if key in self._known:
                found[name] = self._known[key]
        return found


@dataclass(frozen=True)
class End:
    """One sample of the search: enthalpies in eV/atom at 10 GPa."""

    name: str
    component: str
    status: str
    rejected: bool
    enthalpy: float
    first: float | None
    spread: float
    volume: float
    evaluations: int
    seconds: float
    reason: str

    @property
    def good(self) -> bool:
        """Whether it is counted: a sound end that the networks are certain of."""
        return self.status != "failed" and not self.rejected


def ends_of(database: Database[Any]) -> list[End]:
    """Return every sample of the search."""
    from gapfactory.protocols.planner import recipe_of
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.results import in_unknown_space

    campaign = campaign_of(require_campaign(database, SEARCH))
    recipe, limit = recipe_of(campaign, 0), campaign.relax.max_spread
    found = []
    fields = {"positions": 0, "cells": 0}
    for r in database.relaxations.find({"campaign": SEARCH, "generation": 0}, fields).sort("index", 1):
        energy, volume = r["final_energy_per_atom"], r["final_volume_per_atom"]
        anneal = r.get("anneal") or {}
        found.append(
            End(
                name=r["_id"],
                component=recipe.cell_range(r["index"]).component,
                status=r["status"],
                rejected=in_unknown_space(r, limit),
                enthalpy=np.inf if energy is None else energy + PRESSURE * volume / GPA_A3,
                first=anneal.get("relaxed_enthalpy_per_atom"),
                spread=np.nan if r["uncertainty"] is None else r["uncertainty"],
                volume=np.nan if volume is None else volume,
                evaluations=r["n_evaluations"],
                seconds=r["seconds"],
                reason=r["reason"],
            )
        )
    return found


def crystal_enthalpies(calculator: Any) -> dict[str, tuple[float, Atoms]]:
    """Return enthalpies (eV/atom) of known crystals at 10 GPa as a potential relaxes them, and what they became."""
    from gapfactory.search.phases import relax_phase
    from gapfactory.search.settings import PhaseRelaxSettings

    found = {}
    for name in CRYSTALS:
        path = relax_phase(boron(name), calculator, settings=PhaseRelaxSettings(), pressure_GPa=PRESSURE)
        if path.status != "failed":
            found[name] = (float(path.enthalpies[-1]) / len(path.numbers), path.frame(-1))
    return found


def search_section(
    database: Database[Any], calculator: Any, gap: Any, checks: Checks, out: Path
) -> list[str]:
    """Return the search: what each kind cost and found, its lowest ends, and what was rejected."""
    ends = ends_of(database)
    crystals = crystal_enthalpies(calculator)
    zero = crystals["gamma-B28"][0]
    draw(database, ends, out)
    return [
        f"## 28 atoms at {PRESSURE:g} GPa",
        "",
        setup(database),
        "",
        (
            "Enthalpies count from γ-B28 as the networks relax it; by them α-B12 is "
            + " and α-Ga ".join(
                f"{1000 * (crystals[name][0] - zero):+.0f} meV/atom"
                for name in ("alpha-B12", "alpha-Ga")
                if name in crystals
            )
            + " from it."
        ),
        "",
        *counts(ends, zero),
        *lowest(database, ends, crystals, gap, checks),
        "![structural density of states](structural-density.png)",
        "",
        (
            "The form of Figs. 3 to 5 of the paper: enthalpies of the ends that were not rejected, above the lowest of "
            "all; those of the first relaxations of hot samples are of the same cells."
        ),
        "",
        "![lowest structures](best-structures.png)",
        "",
        "The lowest distinct ends of both searches.",
        "",
        *rejected(database, ends, crystals, gap, checks),
    ]


def setup(database: Database[Any]) -> str:
    """Return what was searched, in words."""
    from launchpad.database.campaigns import campaign_of, require_campaign

    campaign = campaign_of(require_campaign(database, SEARCH))
    record = database.potentials.find_one({"campaign": SEARCH, "generation": 0})
    origin = record["report"]["given"]
    anneal = campaign.components["hot"].anneal
    return (
        f"With the potential of generation {origin['generation']} of `{origin['campaign']}`. Random cells without "
        f"symmetry; *hot* ones are relaxed, annealed for {anneal.time_ps:g} ps at {anneal.temperature_K:g} K at this "
        f"pressure and relaxed again; *plain* ones are relaxed. *First relaxations* are those of the hot samples "
        f"before their anneal: the same cells, searched plainly. A sample is rejected if "
        f"the spread is above {campaign.relax.max_spread:g} eV/atom at its end."
    )


def counts(ends: Sequence[End], zero: float) -> list[str]:
    """Return samples, cost, quantiles, and rates below each level with their intervals."""
    from gapfactory.analysis.rediscovery import rate_interval

    kinds: dict[str, list[float]] = {}
    rows = []
    for component in ("hot", "plain"):
        mine = [e for e in ends if e.component == component]
        good = [e.enthalpy - zero for e in mine if e.good]
        kinds[component] = good
        calls = sum(e.evaluations for e in mine)
        rows.append(
            (
                component, len(mine), sum(e.status == "failed" for e in mine),
                sum(e.rejected and e.status != "failed" for e in mine), f"{calls:.3g}", f"{calls / len(mine):.0f}",
                f"{sum(e.seconds for e in mine) / 60:.1f}", *quantiles(good),
            )
        )  # fmt: skip
    kinds["first relaxations"] = [
        e.first - zero for e in ends if e.component == "hot" and e.first is not None and np.isfinite(e.first)
    ]
    first = kinds["first relaxations"]
    rows.append(("first relaxations of hot", len(first), None, None, None, None, None, *quantiles(first)))
    levels = []
    for name, good in kinds.items():
        attempts = len(good) if name == "first relaxations" else sum(e.component == name for e in ends)
        cells = []
        for level in LEVELS:
            n = sum(value < level for value in good)
            low, high = rate_interval(n, attempts)
            cells.append(f"{n} ({100 * low:.1f}-{100 * high:.1f} %)")
        levels.append((name, attempts, *cells))
    return [
        *rows_of(
            rows,
            *("search", "samples", "failed", "rejected", "force calls", "per sample", "minutes"),
            *("lowest (meV/atom)", "5 %", "median"),
        ),
        "Samples within so many meV/atom of γ-B28, with the 95 % interval of the rate:",
        "",
        *rows_of(levels, "search", "samples", *(milli(level) for level in LEVELS)),
        *equal_cost(ends, zero),
    ]


def equal_cost(ends: Sequence[End], zero: float) -> list[str]:
    """Return the sentence that compares both searches at as many force calls."""
    hot = [e for e in ends if e.component == "hot"]
    plain = [e for e in ends if e.component == "plain"]
    budget = min(sum(e.evaluations for e in hot), sum(e.evaluations for e in plain))
    said = []
    for name, group in (("hot", hot), ("plain", plain)):
        taken: list[End] = []
        spent = 0
        for e in group:
            if spent + e.evaluations > budget:
                break
            spent += e.evaluations
            taken.append(e)
        good = [e.enthalpy - zero for e in taken if e.good]
        below = ", ".join(f"{sum(v < level for v in good)} below {milli(level)}" for level in LEVELS)
        said.append(
            f"{len(taken)} {name} samples: {below}; the lowest at {milli(min(good)) if good else '-'} meV/atom"
        )
    return [f"At equal cost ({budget:.3g} force calls): {'. '.join(said)}.", ""]


def quantiles(values: Sequence[float]) -> list[str | None]:
    """Return the lowest value, the 5 % quantile and the median, meV/atom."""
    if not values:
        return [None, None, None]
    return [milli(min(values)), milli(np.quantile(values, 0.05)), milli(np.median(values))]


def atoms_at_end(database: Database[Any], name: str) -> Atoms:
    """Return where a relaxation ended."""
    from launchpad.database.results import frame_atoms

    return frame_atoms(database.relaxations.find_one({"_id": name}), -1)


def by_others(
    ends: Sequence[tuple[End, Atoms]],
    crystals: dict[str, tuple[float, Atoms]],
    gap: Any,
    checks: Checks,
) -> list[list[str | None]]:
    """Return enthalpies above γ-B28 (meV/atom): by the networks, and at the same geometry by DFT and the GAP."""
    base = crystals["gamma-B28"]
    work = PRESSURE * base[1].get_volume() / len(base[1]) / GPA_A3
    dft = checks.energies([(e.name, atoms) for e, atoms in _first_of_each(ends)])
    gamma = checks.energies([("gamma", base[1])]).get("gamma")
    zero = gap_energy(gap, base[1])
    rows = []
    for e, atoms in ends:
        extra = PRESSURE * e.volume / GPA_A3
        by_dft, by_gap = dft.get(e.name), gap_energy(gap, atoms)
        rows.append(
            [
                milli(e.enthalpy - base[0]),
                None if by_dft is None or gamma is None else milli(by_dft + extra - gamma - work),
                "refused" if by_gap is None or zero is None else milli(by_gap + extra - zero - work),
            ]
        )
    return rows


def _first_of_each(ends: Sequence[tuple[End, Atoms]]) -> list[tuple[End, Atoms]]:
    """Return the first ends of each search."""
    taken: dict[str, int] = {}
    found = []
    for e, atoms in ends:
        taken[e.component] = taken.get(e.component, 0) + 1
        if taken[e.component] <= BY_DFT:
            found.append((e, atoms))
    return found


def lowest(
    database: Database[Any],
    ends: Sequence[End],
    crystals: dict[str, tuple[float, Atoms]],
    gap: Any,
    checks: Checks,
) -> list[str]:
    """Return the lowest accepted ends of each search, and what other methods say of them."""
    from gapfactory._spglib import space_group_of
    from gapfactory.analysis.coordination import BondNetwork
    from gapfactory.analysis.rediscovery import Minimum, rediscovery

    chosen = []
    for component in ("hot", "plain"):
        good = sorted((e for e in ends if e.component == component and e.good), key=lambda e: e.enthalpy)
        chosen += [(e, atoms_at_end(database, e.name)) for e in good[:SHOWN]]
    rows = []
    for (e, atoms), others in zip(chosen, by_others(chosen, crystals, gap, checks), strict=True):
        group = space_group_of(atoms, 0.1)
        bonds = BondNetwork.within(atoms, 2.1).coordination
        rows.append(
            (
                e.component, e.name.rsplit("/", 1)[1], *others, f"{1000 * e.spread:.0f}", group[0] if group else None,
                f"{e.volume:.2f}", f"{bonds.mean():.1f} ({bonds.min()}-{bonds.max()})",
            )
        )  # fmt: skip
    hits = []
    for component in ("hot", "plain"):
        mine = [e for e in ends if e.component == component and e.good]
        minima = [Minimum(e.name, atoms_at_end(database, e.name), 0, e.enthalpy) for e in mine]
        (counted,) = rediscovery(minima, {"γ-B28": boron("gamma-B28")}) if minima else (None,)
        if counted is not None:
            hits.append(f"{counted.target} in {counted.found} of {counted.attempts} {component} ends")
    base = crystals["gamma-B28"][1]
    network = BondNetwork.within(base, 2.1).coordination
    return [
        (
            "The lowest ends; enthalpies in meV/atom above γ-B28 at the geometry that the networks have relaxed, also "
            f"by DFT and by the GAP of boron-2018. γ-B28 itself has {base.get_volume() / len(base):.2f} Å³/atom and "
            f"{network.mean():.1f} neighbours within 2.1 Å. Found: {'; '.join(hits) or 'none'}."
        ),
        "",
        *rows_of(
            rows,
            *("search", "sample", "EDDP", "DFT", "GAP", "spread (meV/atom)", "space group", "Å³/atom"),
            "neighbours (range)",
        ),
    ]


def rejected(
    database: Database[Any],
    ends: Sequence[End],
    crystals: dict[str, tuple[float, Atoms]],
    gap: Any,
    checks: Checks,
) -> list[str]:
    """Return what the spread rejected, and whether that was right."""
    zero = crystals["gamma-B28"][0]
    thrown = sorted(
        (e for e in ends if e.rejected and e.status != "failed"), key=lambda e: (e.enthalpy, e.name)
    )
    reasons: dict[str, int] = {}
    for e in ends:
        if e.status == "failed":
            kind = e.reason.split(":")[-1].strip()
            key = " ".join(word for word in kind.split() if not any(c.isdigit() for c in word))
            reasons[key] = reasons.get(key, 0) + 1
    lines = [
        "### What was rejected",
        "",
        (
            f"{len(thrown)} of {len(ends)} samples, by the spread. Guards ended "
            f"{sum(reasons.values())} more{': ' if reasons else ''}"
            f"{'; '.join(f'{count} {reason}' for reason, count in sorted(reasons.items()))}."
        ),
        "",
    ]
    if not thrown:
        return lines
    chosen = [(e, atoms_at_end(database, e.name)) for e in thrown[:SHOWN]]
    from ase.neighborlist import neighbor_list

    rows = []
    for (e, atoms), others in zip(chosen, by_others(chosen, crystals, gap, checks), strict=True):
        contact = float(neighbor_list("d", atoms, 8.0).min())
        rows.append(
            (
                e.component, e.name.rsplit("/", 1)[1], *others, milli(e.spread), f"{contact:.2f}", f"{e.volume:.2f}",
                e.reason,
            )
        )  # fmt: skip
    accepted = [e.spread for e in ends if e.good]
    return [
        *lines,
        (
            f"Spreads of the accepted ends: {milli(np.median(accepted))} meV/atom in the median, "
            f"{milli(max(accepted))} at most; of the rejected ones {milli(np.median([e.spread for e in thrown]))} and "
            f"{milli(max(e.spread for e in thrown))}. "
            f"{sum(e.enthalpy < zero for e in thrown)} of the rejected ones lie below γ-B28 by the networks. Lowest:"
        ),
        "",
        *rows_of(
            rows,
            *(
                "search",
                "sample",
                "EDDP",
                "DFT",
                "GAP",
                "spread (meV/atom)",
                "shortest contact (Å)",
                "Å³/atom",
            ),
            "why it ended",
        ),
    ]


def draw(database: Database[Any], ends: Sequence[End], out: Path) -> None:
    """Draw the structural densities of states and the lowest structures."""
    from gapfactory.analysis.structural_density import DensitySettings, structural_density
    from gapfactory.figures import density_of_structures
    from launchpad.figure_data import gather
    from launchpad.figure_data.request import Request

    hot = [e for e in ends if e.component == "hot"]
    found = {
        "plain": [e.enthalpy for e in ends if e.component == "plain" and e.good],
        "hot, first relaxation": [e.first for e in hot if e.good and e.first is not None],
        "hot": [e.enthalpy for e in hot if e.good],
    }
    density = structural_density(
        {name: values for name, values in found.items() if values}, DensitySettings()
    )
    density_of_structures(density).savefig(out / "structural-density.png", metadata={"Software": None})
    pictures = gather(database, "best-structures", Request(campaign=SEARCH, top=6, within=0.3))
    pictures.figure.savefig(out / "best-structures.png", metadata={"Software": None})


def keep(database: Database[Any], out: Path) -> None:
    """Write the new labels, the lowest ends of the search, and the files of the chain's potentials."""
    from ase.io import write

    from gapfactory.io.extxyz import write_training_set
    from launchpad.database.potentials import cached_potential

    new = [e for e in labels_of(database, CHAIN)[0] if not e.item.given]
    frames = labelled_frames(new)
    ends = sorted((e for e in ends_of(database) if e.good), key=lambda e: e.enthalpy)
    structures = []
    for e in ends[:50]:
        atoms = atoms_at_end(database, e.name)
        atoms.info = {
            "id": e.name,
            "component": e.component,
            "enthalpy_eV_per_atom": e.enthalpy,
            "spread_eV_per_atom": e.spread,
        }
        structures.append(atoms)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_training_set(place / "labels.extxyz", frames)
        (out / "new-labels.extxyz.xz").write_bytes(
            lzma.compress((place / "labels.extxyz").read_bytes(), preset=9)
        )
        write(place / "lowest.extxyz", structures, format="extxyz")
        (out / "lowest-ends.extxyz.xz").write_bytes(
            lzma.compress((place / "lowest.extxyz").read_bytes(), preset=9)
        )
    with tarfile.open(out / "potentials.tar.xz", "w:xz", preset=9) as archive:
        for record in database.potentials.find({"campaign": CHAIN}).sort("generation", 1):
            archive.add(cached_potential(database, record), f"{CHAIN}/generation-{record['generation']}")
