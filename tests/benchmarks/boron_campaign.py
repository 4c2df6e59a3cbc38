"""Boron from nothing by real DFT: what a campaign of the protocol of 2018 gave, as a page with pictures and data.

::

    cd docs/evidence/boron-2018
    gapfactory campaign run campaign.yaml --data DATA            stop with Ctrl-C, and go on with the same command
    python tests/benchmarks/boron_campaign.py DATA docs/evidence/boron-2018
    python tests/benchmarks/boron_occupations.py docs/evidence/boron-2018 --label SCRATCH     Fig. 3

The second command can be given at any time, and again after the third. It writes ``README.md``, the figures, the labels
(``labels.extxyz.xz``) and, once the last fit is done, the potential (``potential.tar.xz``). Before that it writes
``state.tar.gz``, from which another machine goes on::

    gapfactory db import docs/evidence/boron-2018/state.tar.gz --data DATA
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gf_evidence import keep, kept, labels_of, rows_of, seconds_of, section_of

from gapfactory.errors import GapFactoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

NAME = "boron-2018"
#: Section of the page that boron_occupations.py writes.
MIXED = "Models of the mixed occupations"
#: Figure -> what its caption says, and what it is asked beside the campaign's name.
FIGURES: dict[str, tuple[str, dict[str, Any]]] = {
    "energy-volume": ("Fig. 1a: labelled structures over volume, by origin.", {}),
    "energy-boxes": ("Fig. 1b: energies by generation, component and origin.", {}),
    "distorted-crystals": ("Fig. 1c: error on distorted crystals, potential after potential.", {}),
    "polymorphs": ("Fig. 2: polymorphs by DFT, by the tight fit and by the smooth one.", {}),
    "local-energies": ("Fig. 4: local energies of two structures on one scale.", {}),
}


def draw(database: Database[Any], out: Path) -> list[str]:
    """Draw every figure there is; say why others are not."""
    from launchpad.figure_data import gather
    from launchpad.figure_data.request import Request

    lines = ["## Figures", ""]
    for name, (caption, asked) in FIGURES.items():
        try:
            found = gather(database, name, Request(campaign=NAME, **asked))
        except GapFactoryError as error:
            lines += [f"`{name}`: not yet. {error}", ""]
            continue
        found.figure.savefig(out / f"{name}.png", metadata={"Software": None})
        notes = "".join(f" {note[0].upper()}{note[1:]}." for note in found.notes)
        lines += [f"![{name}]({name}.png)", "", caption + notes, ""]
        print(f"{name}: {len(found.rows)} numbers")
    return lines


def energies_by_origin(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Return the boxes of Fig. 1b as a table (eV/atom above the lowest label)."""
    found = [
        (record["generation"], origin, box)
        for record in metrics
        for origin, box in sorted(record["evidence"].get("energies", {}).items())
    ]
    lowest = min(box["least"] for _, _, box in found)
    rows = [
        (
            generation,
            origin,
            box["n"],
            f"{box['median'] - lowest:.3f}",
            f"{box['low'] - lowest:.3f} to {box['high'] - lowest:.3f}",
        )
        for generation, origin, box in found
    ]
    return rows_of(rows, "generation", "origin", "labels", "median (eV/atom)", "68 %")


def page(database: Database[Any], out: Path) -> list[str]:
    """Return the lines of the page, after drawing its figures."""
    from launchpad.diagnostics import stored_searches
    from launchpad.service import status

    now = status(database, NAME)
    done, failed = labels_of(database, NAME)
    cost = seconds_of(done)
    metrics = list(database.metrics.find({"campaign": NAME}).sort("generation", 1))
    lines = [
        "# Boron from nothing, by real DFT",
        "",
        (
            "The protocol of the Letter (Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001) at an eighth of "
            "its size, with [this campaign file](campaign.yaml): GPAW, PBE, 400 eV, 1.5 k-points per 1/Å, Fermi-Dirac "
            "smearing of 0.2 eV. Crystals are labelled at first to tell the error of every potential, and no potential "
            "is fitted to them before the searches are over."
        ),
        "",
        (
            f"Written by `tests/benchmarks/boron_campaign.py` on {datetime.now(tz=UTC):%Y-%m-%d} "
            f"({platform.machine()}, two cores that did other work meanwhile). State: **{now['state']}**, "
            f"generation {now['generation']} of "
            f"{now['generations'] - 1}, {len(done)} labels of picks and crystals, {len(failed)} quarantined."
        ),
        "",
    ]
    if cost:
        lines += [
            f"A label took {statistics.median(cost):.0f} s in the median, all of them {sum(cost) / 3600:.1f} hours.",
            "",
        ]
    found = stored_searches(database, NAME)
    if found:
        lines += [
            "## α-B12 found by search",
            "",
            "Diagnostic searches: 12 atoms, 2 to 4 operations, no pressure, the named potential alone.",
            "",
            *rows_of(
                (
                    (
                        r.search,
                        r.labels,
                        f"{r.found} of {r.attempts}",
                        (
                            f"{100 * r.found / max(r.attempts, 1):.1f} % "
                            f"({100 * r.rate_low_95:.1f} to {100 * r.rate_high_95:.1f})"
                        ),
                        r.rank,
                    )
                    for r in found
                ),
                "search",
                "labels in the fit",
                "found",
                "share (95 %)",
                "rank by energy",
            ),
        ]
    if metrics:
        lines += ["## Energies of the labels", "", *energies_by_origin(metrics)]
    return lines + draw(database, out)


def main() -> int:
    """Write everything."""
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    parser = argparse.ArgumentParser(description="Report the boron campaign.")
    parser.add_argument("data", type=Path, help="data directory of the campaign's database")
    parser.add_argument("out", type=Path, help="directory to write to")
    given = parser.parse_args()
    database = open_database(locate_database(None, given.data).uri)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = page(database, given.out)
    keep(database, NAME, given.out)
    lines += section_of(given.out / "README.md", MIXED)
    lines += ["## To take away", "", *(f"- {text}" for text in kept(given.out)), ""]
    (given.out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
