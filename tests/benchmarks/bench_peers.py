"""Our figures beside those of the programs that people use for the same, in one run on one machine.

    python tests/benchmarks/bench_peers.py                  all comparisons, about half an hour on two cores
    python tests/benchmarks/bench_peers.py --quick          small sizes, some minutes; not for the page
    python tests/benchmarks/bench_peers.py --only cells fit
    python tests/benchmarks/bench_peers.py --page           only the page and pictures, from the figures of before

The peers: ASE with quippy and gap_fit (the common practice), PyXtal and ASE's genetic algorithm (random cells), wfl,
autoplex, FireWorks' own launcher, and pymatgen's structure matcher. Those that gapfactory does not need are installed
from PyPI into environments of their own below --venvs, which are kept (autoplex's takes some GB). One that cannot be
installed is named with the reason. Ours and the peer's run by turns, each on one thread; figures are medians.

Writes README.md, peers.json, ratios.png and growth.png to --out, by default docs/benchmarks of this repository. The
exit status is 1 when a peer is better in a row; the row stays.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_all import REPOSITORY, cpu_model, versions
from peers import cells, loop, page, relaxing, scripts, selection
from peers.places import PEERS, PeerFailedError, Places
from peers.tables import Comparison, losses, table

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is compared, how, and which of the peers' environments it needs.
COMPARISONS: dict[str, tuple[Callable[[Places], Comparison], tuple[str, ...]]] = {
    "cells": (cells.compare, ("PyXtal", "ASE + quippy")),
    "selection": (selection.compare, ("ASE + quippy", "wfl")),
    "engine": (scripts.engine, ()),
    "relax": (relaxing.compare, ("ASE + quippy", "wfl")),
    "fit": (scripts.fit, ()),
    "queue": (scripts.queue, ()),
    "match": (scripts.matching, ()),
    "loop": (loop.common_practice, ("ASE + quippy",)),
    "autoplex": (loop.autoplex, ("autoplex",)),
}


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, to see that everything runs")
    add("--only", nargs="+", choices=list(COMPARISONS), help="only these; the others' last figures are kept")
    add("--page", action="store_true", help="measure nothing; write page and pictures again")
    add("--repeats", type=int, default=3, help="runs of each side (where they are short) [default: 3]")
    add("--venvs", type=Path, default=Path.home() / ".cache" / "gapfactory-peers",
        help="where the peers' environments are made and kept [default: %(default)s]")  # fmt: skip
    add("--no-install", action="store_true", help="install nothing: peers that are not there are named")
    add("--out", type=Path, default=REPOSITORY / "docs" / "benchmarks")
    return parser.parse_args(given)


def measure(name: str, places: Places) -> dict[str, Any]:
    """Run one comparison and return its figures with date and load."""
    before, began = os.getloadavg()[0], time.monotonic()
    try:
        found = COMPARISONS[name][0](places)
    except PeerFailedError as error:
        places.say(str(error))
        found = Comparison(missing=[f"{name}: it was tried, and {str(error).splitlines()[0]}"])
    return {
        **found.document(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "quick": places.quick,
        "seconds": round(time.monotonic() - began),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }


def main() -> int:
    """Run what is asked for and write the page."""
    options = arguments_of()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "peers.json"
    kept = (options.only or options.page) and file.exists()
    document: dict[str, Any] = json.loads(file.read_text()) if kept else {"comparisons": {}, "peers": {}}
    names = [] if options.page else [name for name in COMPARISONS if name in (options.only or COMPARISONS)]
    with tempfile.TemporaryDirectory(prefix="gf-peers-") as scratch:
        places = Places(
            options.venvs.resolve(),
            Path(scratch),
            quick=options.quick,
            repeats=1 if options.quick else options.repeats,
            say=lambda text: print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True),
        )
        places.directory.mkdir(parents=True, exist_ok=True)
        needed = {peer for name in names for peer in COMPARISONS[name][1]}
        places.prepare([peer for peer in PEERS if peer in needed], install=not options.no_install)
        document["peers"].update(places.versions)
        if names:
            document["machine"] = {"cpu": cpu_model(), "cores": os.cpu_count()}
            document["versions"] = versions()
        for name in names:
            places.say(f"{name} ...")
            document["comparisons"][name] = measure(name, places)
            for line in table(Comparison.of(document["comparisons"][name]).rows)[2:]:
                print(line, flush=True)
            # after each, so that a run that is stopped keeps what it has
            file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    rows = page.write(document, list(COMPARISONS), options.out)
    print("\n".join(table(rows)))
    lost = losses(rows)
    print(f"{len(rows)} rows, {len(lost)} in which a peer is better; written to {options.out}")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
