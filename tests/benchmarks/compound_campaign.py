"""A binary from nothing: what a campaign of a compound gave, as a page with pictures.

::

    cd docs/evidence/compound-ni-al
    gapfactory campaign run campaign.yaml --data DATA
    python tests/benchmarks/compound_campaign.py DATA docs/evidence/compound-ni-al

Nickel and aluminium with an embedded-atom potential in place of DFT take about ten minutes; `compound-si-c` is a
campaign by DFT. The page says how often each ordered compound was found without having been given, how the errors of
the potentials fell, and how far energies, forces and stresses by our engine are from those by quippy from the same
file; where the reference is analytic, also whether it knows anything lower.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from gf_evidence import labels_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem

#: Pictures of the report that the page shows.
PICTURES: Final = {
    "formation": "Formation energies of the labelled structures with their hull, and the known crystals.",
    "learning_curve": "Errors on held-out structures.",
    "energy_volume": "The known crystals by the reference and by the last potential.",
    "similarity_map": "Labels of the last generation by similarity, coloured by coordination (and composition).",
}
#: Structures that both engines evaluate; per formula random cells that the reference itself relaxes, and structures of
#: the last search that it relaxes once more.
COMPARED, SEARCHED, LOWEST = 60, 12, 3


def found_rows(metrics: Sequence[dict[str, Any]]) -> list[list[object]]:
    """Return how often each crystal came out of each search."""
    from launchpad.diagnostics import search_counts

    return [
        [
            row.target,
            row.generation,
            row.labels,
            f"{row.found} of {row.attempts}",
            f"{100 * row.found / row.attempts:.0f} ({100 * row.rate_low_95:.0f}-{100 * row.rate_high_95:.0f})",
            row.rank,
        ]
        for row in sorted(search_counts(list(metrics)), key=lambda r: (r.target, r.generation))
    ]


def error_rows(metrics: Sequence[dict[str, Any]], phases: Sequence[str]) -> list[list[object]]:
    """Return the errors by generation: of held-out structures, and of the known crystals."""
    rows: list[list[object]] = []
    for entry in metrics:
        headline = entry["evidence"]["headline"]
        judged = [(entry["evidence"]["phases"].get(name) or {}).get("comparison") for name in phases]
        rows.append(
            [
                entry["generation"],
                entry["labels"],
                _rounded(headline.get("energy_rmse_meV"), 1),
                _rounded(headline.get("force_rmse_eV_A"), 3),
                *(
                    ""
                    if one is None
                    else f"{one['energy_error_meV_per_atom']:+.1f} meV, {one['volume_error_percent']:+.1f} %"
                    for one in judged
                ),
            ]
        )
    return rows


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def lowest_of_search(database: Database[Any], campaign: str, composition: str, number: int) -> list[Atoms]:
    """Return the lowest structures of a composition that the last potential has relaxed."""
    from launchpad.database.results import frame_atoms

    last = database.relaxations.find_one({"campaign": campaign}, {"generation": 1}, sort=[("generation", -1)])
    query = {"campaign": campaign, "generation": last["generation"], "composition": composition}
    rows = database.relaxations.find(query | {"status": "converged"}).sort("final_energy_per_atom", 1)
    return [frame_atoms(row, row["n_frames"] - 1) for row in rows.limit(number)]


def lowest_by_reference(database: Database[Any], campaign: Campaign) -> list[list[object]]:
    """Return, for each known crystal, its energy by the reference, and the lowest that searches by either find."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    from gapfactory.build import build_cell
    from gapfactory.reference import calculator_of
    from gapfactory.structures import composition_of

    def relaxed(atoms: Atoms) -> float:
        work = atoms.copy()
        work.calc = calculator_of(campaign.reference)
        BFGS(FrechetCellFilter(work), logfile=None).run(fmax=0.01, steps=200)
        return float(work.get_potential_energy()) / len(work)

    build = campaign.components["look"].build
    rows: list[list[object]] = []
    for name in campaign.phase_names():
        crystal = campaign.phase_of(name).atoms
        symbols = crystal.get_chemical_symbols()
        rng = np.random.default_rng(1)
        energies = []
        for _ in range(SEARCHED):
            built = build_cell(
                rng,
                composition=_formula(symbols),
                species=campaign.species_table,
                generation=0,
                settings=build,
            )
            energies.append(relaxed(built.atoms))
        known = relaxed(crystal)
        ours = min(
            relaxed(a) for a in lowest_of_search(database, campaign.name, composition_of(crystal), LOWEST)
        )
        rows.append(
            [
                name,
                composition_of(crystal),
                f"{1000 * known:.1f}",
                f"{1000 * (ours - known):+.2f}",
                f"{1000 * (min(energies) - known):+.2f}",
                sum(abs(energy - min(energies)) < 1e-3 for energy in energies),
            ]
        )
    return rows


def lowest_labels(
    campaign: Campaign, last: dict[str, Any], done: Sequence[LabelledItem]
) -> list[list[object]]:
    """Return, for each known crystal, the lowest of the labelled structures of its composition, by the reference."""
    from spglib import get_spacegroup

    from gapfactory.structures import composition_of

    rows: list[list[object]] = []
    for name, crystal in last["evidence"]["phases"].items():
        if not crystal["comparison"]:
            continue
        composition = composition_of(campaign.phase_of(name).atoms)
        labels = [(one.label.energy / len(one.item.atoms), one.item) for one in done]
        energy, item = min(
            (pair for pair in labels if composition_of(pair[1].atoms) == composition),
            key=lambda pair: pair[0],
        )
        cell = (item.atoms.cell.array, item.atoms.get_scaled_positions(), item.atoms.numbers)
        known = crystal["comparison"]["reference_energy_eV_per_atom"]
        rows.append(
            [
                name,
                f"{known:.3f}",
                f"{1000 * (energy - known):+.1f}",
                get_spacegroup(cell, symprec=0.1),
                item.generation,
            ]
        )
    return rows


def _formula(symbols: Sequence[str]) -> dict[str, int]:
    counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    divisor = int(np.gcd.reduce(list(counts.values())))
    return {symbol: count // divisor for symbol, count in counts.items()}


def against_quippy(database: Database[Any], campaign: str, structures: Sequence[Atoms]) -> list[list[object]]:
    """Return the largest differences between our engine and quippy, the same file of the last potential in both."""
    from quippy.potential import Potential

    from gapfactory.potentials import load_potential
    from launchpad.exporting import export_campaign

    with tempfile.TemporaryDirectory() as directory:
        place = export_campaign(database, campaign, Path(directory) / "potential", None) / "potential"
        ours = load_potential(place)
        theirs = Potential(param_filename=str(place / "gap.xml"))
        apart = np.zeros(3)
        largest = np.zeros(3)
        for atoms in structures:
            values = []
            for calculator in (ours, theirs):
                work = atoms.copy()
                work.calc = calculator
                stress = work.get_stress(voigt=False)
                values.append((work.get_potential_energy() / len(work), work.get_forces(), stress))
            for k, (one, other) in enumerate(zip(*values, strict=True)):
                apart[k] = max(apart[k], float(np.abs(np.asarray(one) - other).max()))
                largest[k] = max(largest[k], float(np.abs(other).max()))
    units = ("eV/atom", "eV/Å", "eV/Å^3")
    return [
        [what, f"{apart[k]:.1e} {units[k]}", f"{largest[k]:.2g} {units[k]}"]
        for k, what in enumerate(("energy", "force component", "stress component"))
    ]


def reference_in_words(campaign: Campaign) -> str:
    """Return what made the labels."""
    settings = campaign.reference
    if settings.engine == "ase":
        return f"`{settings.calculator}`"
    given = settings.model_dump(exclude_defaults=True, exclude={"engine"})
    return f"{settings.engine.upper()} ({', '.join(f'{key} {value}' for key, value in given.items())})"


def main() -> None:
    """Write the page."""
    from gapfactory.campaign import load_campaign
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database
    from launchpad.database.results import metrics_of
    from launchpad.reporting import report_campaign

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="where the campaign's database is")
    parser.add_argument("out", type=Path, help="the directory of the page and of campaign.yaml")
    options = parser.parse_args()
    text = (options.out / "campaign.yaml").read_text(encoding="utf-8")
    title = text.splitlines()[0].lstrip("# ")
    database = open_database(locate_database(None, options.data).uri)
    name = load_campaign(options.out / "campaign.yaml").name
    record = require_campaign(database, name)
    campaign = campaign_of(record)
    metrics = metrics_of(database, name)
    done, failed = labels_of(database, name)
    print(f"{len(done)} labels, {len(failed)} failed", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        report_campaign(database, name, Path(directory))
        # of one composition there are no formation energies
        drawn = [name for name in PICTURES if (Path(directory) / f"{name}.png").exists()]
        for picture in drawn:
            shutil.copy(Path(directory) / f"{picture}.png", options.out / f"{picture}.png")
    chosen = [done[k].item.atoms for k in np.linspace(0, len(done) - 1, COMPARED).astype(int)]
    cells = campaign.components["look"].build
    attempts = campaign.components["look"].cells
    lines = [
        f"# {title.partition(':')[0]}",
        "",
        title,
        "",
        f"`campaign.yaml` ({record['state']}: {record['reason']}) has {len(done)} labels by",
        f"{reference_in_words(campaign)}; {len(failed)} could not be made. Nothing was known of the crystals: each",
        f"potential relaxes {attempts} new random cells of {cells.atoms_min} to {cells.atoms_max} atoms, and it is",
        "counted how many become one of them. Their files serve to recognise them and to judge by.",
        "",
        "Made by `tests/benchmarks/compound_campaign.py`, which also says how to run it again.",
        "",
        "## Found",
        "",
        f"Relaxations of all formulas ({', '.join(campaign.composition or {})}) are counted together. The rank is that",
        "of the first one by enthalpy among all that were relaxed, of all formulas too.",
        "",
        *rows_of(found_rows(metrics), "crystal", "generation", "labels", "found", "% (95 %)", "rank"),
    ]
    if campaign.reference.engine == "ase":
        lines += [
            f"Is it the lowest of its composition? The reference relaxed {SEARCHED} such random cells of each, and the",
            f"{LOWEST} lowest that the last potential had relaxed (meV/atom):",
            "",
            *rows_of(
                lowest_by_reference(database, campaign),
                "crystal",
                "composition",
                "energy by the reference",
                "lowest of the last search, above it",
                "lowest that the reference finds, above it",
                f"of {SEARCHED} cells that became the lowest",
            ),
        ]
    lines += [
        "The lowest of all labelled structures by the reference, against the crystal at its best volume (meV/atom):",
        "",
        *rows_of(
            lowest_labels(campaign, metrics[-1], done),
            "crystal",
            "its energy (eV/atom)",
            "lowest label of its composition, above it",
            "space group of that (within 0.1 Å)",
            "generation",
        ),
        "## Errors",
        "",
        "Held-out structures (energy, meV/atom; forces, eV/Å); energy and volume of the crystals.",
        "",
        *rows_of(
            error_rows(metrics, campaign.phase_names()),
            "generation",
            "labels",
            "energy",
            "forces",
            *campaign.phase_names(),
        ),
        "## The same potential by quippy",
        "",
        f"Largest differences between our engine and quippy over {COMPARED} labelled structures, and largest values:",
        "",
        *rows_of(against_quippy(database, name, chosen), "", "largest difference", "largest value"),
        "## Pictures",
        "",
    ]
    for picture in drawn:
        lines += [f"![{PICTURES[picture]}]({picture}.png)", "", PICTURES[picture], ""]
    (options.out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    database.client.close()
    print(options.out / "README.md")


if __name__ == "__main__":
    main()
