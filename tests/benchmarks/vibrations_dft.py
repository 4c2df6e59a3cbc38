"""Phonons and elastic constants of aluminium and silicon by real DFT: what two campaigns gave, as a page with figures.

::

    gapfactory campaign run docs/evidence/vibrations-dft/al.yaml --data DATA     stop with Ctrl-C, go on with the same
    gapfactory campaign run docs/evidence/vibrations-dft/si.yaml --data DATA
    python tests/benchmarks/vibrations_dft.py DATA docs/evidence/vibrations-dft --kpoints
    python tests/benchmarks/vibrations_dft.py DATA docs/evidence/vibrations-dft

The first call of the script adds the reference's elastic constants on a denser grid of k-points (``k-error.json``), the
second writes ``README.md``, the figures, and for each crystal a directory with its labels and its potential, or, while
the campaign is under way, the state from which another machine goes on::

    gapfactory db import docs/evidence/vibrations-dft/al/state.tar.gz --data DATA
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gf_evidence import keep, kept, labels_of, rows_of, seconds_of

from gapfactory.errors import GapFactoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database


@dataclass(frozen=True)
class Run:
    """One campaign of the page."""

    element: str
    crystal: str
    words: str

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return f"vibrations-{self.element.lower()}"

    @property
    def short(self) -> str:
        """Name of its directory and of its campaign file."""
        return self.element.lower()


RUNS = (
    Run(
        "Al",
        "fcc aluminium",
        "Quantum ESPRESSO 6.7 with Debian's norm-conserving `Al.pz-vbc.UPF`, LDA, 300 eV, 16x16x16 k-points in the "
        "primitive cell, Fermi-Dirac smearing of 0.5 eV",
    ),
    Run(
        "Si",
        "diamond silicon",
        "GPAW with its PAW sets, PBE, plane waves of 300 eV, 8x8x8 k-points in the primitive cell, Fermi-Dirac "
        "smearing of 0.1 eV",
    ),
)
#: Figure of `gapfactory figure` -> what its caption says.
FIGURES = {
    "phonons-primitives": "Figs. 1 and 2: phonons by DFT, by the potential, and by one that was fitted to strained "
    "primitive cells only.",
    "phonons-static": "Fig. 8: phonons by potentials with adaptive and with constant expected errors.",
    "elastic-static": "Fig. 7: elastic constants by both, in percent of DFT.",
    "phonons-learning": "Fig. 4: phonons by fits to more and more labels.",
}
KERROR = "k-error.json"


def measured(database: Database[Any], run: Run) -> dict[str, Any] | None:
    """Return the stored vibrations of a crystal by the reference, or None."""
    from launchpad.database.vibrations import vibrations_of

    found = vibrations_of(database, run.name, method="reference")
    return found[0]["data"] if found else None


def denser(database: Database[Any], run: Run, workdir: Path) -> dict[str, Any] | None:
    """Return the reference's elastic constants of the same crystal at the campaign's k-points and at more."""
    from gapfactory.analysis.elasticity import elastic_cells, elastic_constants
    from gapfactory.reference import label_structures
    from gapfactory.reference.checks import voigt
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.parents import parents_of

    stored = measured(database, run)
    if stored is None:
        return None
    campaign = campaign_of(require_campaign(database, run.name))
    (parent,) = parents_of(database, campaign)
    assert parent.grid is not None
    grid = tuple(3 * n // 2 for n in parent.grid)
    planned = elastic_cells(parent.crystal, campaign.vibration_settings.elastic)
    outcomes = label_structures(
        [(f"elastic-{k}", cell) for k, cell in enumerate(planned.cells)],
        campaign.reference.with_grid((grid[0], grid[1], grid[2])),
        workdir / run.short,
        lambda outcome: print(f"{run.short}: {outcome.id} {outcome.reason or 'done'}", flush=True),
    )
    labels = [outcome.label for outcome in outcomes if outcome.label is not None]
    found = elastic_constants(
        planned,
        [stress for label in labels if (stress := voigt(label.stress)) is not None],
        [label.forces for label in labels if label.forces is not None],
        method="reference",
    )
    return {
        "grid": list(parent.grid),
        "denser": list(grid),
        "constants_GPa": found.constants(),
        "bulk_GPa": found.tensor.bulk,
    }


def k_errors(database: Database[Any], out: Path) -> int:
    """Calculate what a denser grid of k-points changes, and write it."""
    with tempfile.TemporaryDirectory() as place:
        found = {run.short: denser(database, run, Path(place)) for run in RUNS}
    done = {name: entry for name, entry in found.items() if entry is not None}
    (out / KERROR).write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    return 0


def elastic_rows(database: Database[Any], run: Run, k_error: dict[str, Any] | None) -> list[str]:
    """Return Table 3 of one crystal, the error of its k-points apart."""
    from launchpad.database.vibrations import vibrations_of

    compared = vibrations_of(database, run.name, method="potential", variant="")[0]["comparison"]
    rows: list[Sequence[object]] = []
    for row in compared["rows"]:
        denser_value = None
        if k_error is not None:
            denser_value = {"B": k_error["bulk_GPa"], **k_error["constants_GPa"]}.get(row["quantity"])
        error = row["error_percent"]
        rows.append(
            (
                f"{row['quantity']} ({row['unit']})",
                f"{row['reference']:.5g}",
                f"{row['potential']:.5g}",
                "" if error is None else f"{error:+.2f}",
                "" if denser_value is None else f"{denser_value:.5g}",
                "" if denser_value is None else f"{100 * (row['reference'] / denser_value - 1):+.2f}",
            )
        )
    grid = "" if k_error is None else "x".join(map(str, k_error["denser"]))
    return rows_of(
        rows,
        "",
        "DFT",
        "potential",
        "error (%)",
        f"DFT, {grid} k-points" if grid else "DFT, denser",
        "k-error (%)",
    )


def section(database: Database[Any], run: Run, out: Path, k_error: dict[str, Any] | None) -> list[str]:
    """Return what is said of one crystal, after drawing its figures."""
    from launchpad.database.vibrations import vibrations_of
    from launchpad.figure_data import gather
    from launchpad.figure_data.request import Request
    from launchpad.service import status

    record = database.campaigns.find_one({"_id": run.name}, {"_id": 1})
    lines = [
        f"## {run.crystal[0].upper()}{run.crystal[1:]}",
        "",
        f"{run.words}. [Campaign file]({run.short}.yaml).",
        "",
    ]
    if record is None:
        return [*lines, "Not begun.", ""]
    now = status(database, run.name)
    done, failed = labels_of(database, run.name)
    cost = seconds_of(done)
    lines += [
        f"State: **{now['state']}**, {len(done)} labels (frames and what is measured by), {len(failed)} quarantined"
        + (
            f"; {statistics.median(cost):.0f} s each in the median, {sum(cost) / 3600:.1f} hours in all."
            if cost
            else "."
        ),
        "",
    ]
    found = {d["variant"]: d for d in vibrations_of(database, run.name, method="potential")}
    if "" in found and found[""]["comparison"] is not None:
        row = found[""]["comparison"]
        lines += [
            (
                f"Phonons on a {'x'.join(map(str, row['mesh']))} mesh: **{row['rmse_THz']:.3f} THz** root mean square "
                f"error (largest {row['largest_THz']:+.2f} THz); elastic constants and moduli within "
                f"**{row['elastic_percent']:.1f} %**: {'passed' if row['passed'] else 'not passed'}."
            ),
            "",
            *elastic_rows(database, run, k_error),
            *rows_of(
                [
                    (
                        variant or "**the potential**",
                        entry["fit"]["n_energies"],
                        entry["fit"]["n_atoms"],
                        entry["fit"]["n_sparse"],
                        entry["fit"]["cost"],
                        f"{entry['comparison']['rmse_THz']:.3f}",
                        (
                            "–"
                            if entry["comparison"]["elastic_percent"] is None
                            else f"{entry['comparison']['elastic_percent']:.1f}"
                        ),
                    )
                    for variant, entry in sorted(found.items())
                    if entry["comparison"] is not None
                ],
                "fitted to", "labels", "atoms", "sparse points", "k-points x atoms^3", "phonons (THz)", "elastic (%)",
            ),
        ]  # fmt: skip
    for name, caption in FIGURES.items():
        try:
            drawn = gather(database, name, Request(campaign=run.name))
        except GapFactoryError as error:
            lines += [f"`{name}`: not yet. {error}", ""]
            continue
        file = f"{run.short}-{name}.png"
        drawn.figure.savefig(out / file, metadata={"Software": None})
        lines += [f"![{run.crystal}, {name}]({file})", "", caption, ""]
    return lines


def page(database: Database[Any], out: Path) -> list[str]:
    """Return the lines of the page."""
    k_error = json.loads((out / KERROR).read_text(encoding="utf-8")) if (out / KERROR).is_file() else {}
    lines = [
        "# Phonons and elastic constants by real DFT",
        "",
        (
            "The protocol of Allen and Bartók (Mach. Learn.: Sci. Technol. 3, 045031, 2022) with free codes: 100 "
            "strained primitive cells or more and 12 variants of each non-diagonal supercell of a 4x4x4 grid are "
            "labelled and fitted; phonons and elastic constants of the potential are held against those of the same "
            "DFT, which no potential was fitted to. All cells of a crystal have the same k-points, folded; what these "
            "are short of convergence stands in columns of its own. Each method has its own relaxed crystal."
        ),
        "",
        (
            f"Written by `tests/benchmarks/vibrations_dft.py` on {datetime.now(tz=UTC):%Y-%m-%d} "
            f"({platform.machine()}, two cores that did other work meanwhile). Limits: 0.5 THz and 6 % (the paper's)."
        ),
        "",
    ]
    for run in RUNS:
        lines += section(database, run, out, k_error.get(run.short))
    return lines


def main() -> int:
    """Write everything."""
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    parser = argparse.ArgumentParser(description="Report the vibrations of aluminium and silicon by DFT.")
    parser.add_argument("data", type=Path, help="data directory of the campaigns' database")
    parser.add_argument("out", type=Path, help="directory to write to")
    parser.add_argument(
        "--kpoints", action="store_true", help="calculate what more k-points change, and stop"
    )
    given = parser.parse_args()
    database = open_database(locate_database(None, given.data).uri)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.kpoints:
        return k_errors(database, given.out)
    lines = page(database, given.out)
    lines += ["## To take away", ""]
    for run in RUNS:
        if database.campaigns.find_one({"_id": run.name}, {"_id": 1}) is not None:
            place = given.out / run.short
            place.mkdir(exist_ok=True)
            keep(database, run.name, place)
            lines += [f"- {run.crystal}: {line.replace('](', f']({run.short}/')}" for line in kept(place)]
    (given.out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
