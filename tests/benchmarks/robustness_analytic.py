"""A potential that fails its molecular dynamics after the search, and survives it after rounds of robustness.

::

    cd docs/evidence/robustness
    gapfactory campaign run campaign.yaml --data DATA
    gapfactory campaign run search-alone.yaml --data DATA
    python tests/benchmarks/robustness_analytic.py DATA docs/evidence/robustness

The same with other seeds under the names robust-SEED and search-SEED, where they have been run.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gf_evidence import rows_of

from gapfactory import figures

if TYPE_CHECKING:
    from pymongo.database import Database

NAME = "robust"


def page(database: Database[Any], out: Path) -> list[str]:
    """Return the page, and draw its figures."""
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.results import metrics_of
    from launchpad.stability import stored_trials

    campaign = campaign_of(require_campaign(database, NAME))
    metrics = metrics_of(database, NAME)
    trials = stored_trials(campaign, metrics)
    first, last = trials[0], trials[-1]
    run = last.found.dynamics
    trial = ""
    if run is not None:
        trial = (
            f"The trial: {run.duration_ps:g} ps of {run.n_atoms} atoms at {run.temperature_K:.0f} K, 0.8 of the "
            "melting point."
        )
    lines = [
        "# A potential made to survive molecular dynamics",
        "",
        (
            "Silicon by Stillinger-Weber: few labels of random cells, then rounds of robustness "
            "([how-to/robustness.md](../../how-to/robustness.md)). The campaign is "
            "[campaign.yaml](campaign.yaml); `tests/benchmarks/robustness_analytic.py` wrote this page."
        ),
        "",
        trial,
        "",
        (
            f"The potential of the search, with {first.labels} labels, {first.found.headline()}. With "
            f"{last.labels - first.labels} more labels, after round {last.generation - first.generation} of "
            f"robustness, it {last.found.headline()}."
        ),
        "",
        *rows_of(
            (
                (
                    t.generation,
                    t.title,
                    t.labels,
                    f"{t.reached_ps:.3g}",
                    _short(t.wanted_ps),
                    t.found.headline(),
                )
                for t in trials
            ),
            *("generation", "what", "labels", "survived (ps)", "wanted (ps)", "verdict"),
        ),
        "![How long potential after potential survived](trials.png)",
        "",
        "## What was run, and what was labelled",
        "",
        *_rounds(database, campaign.schedule.generations),
        "## Other seeds, and a search with as many labels",
        "",
        (
            "`robust-8` and `robust-9` are the campaign with another seed; `search-7`, `search-8` and `search-9` go on "
            "searching instead ([search-alone.yaml](search-alone.yaml))."
        ),
        "",
        *_others(database),
        "## Errors",
        "",
        *rows_of(
            (
                (
                    entry["generation"],
                    entry["labels"],
                    _short(entry["evidence"]["headline"].get("energy_rmse_meV")),
                    _short(entry["evidence"]["headline"].get("force_rmse_eV_A")),
                    _short(entry["evidence"]["headline"].get("Si-diamond_meV")),
                )
                for entry in metrics
            ),
            *(
                "generation",
                "labels",
                "held-out energy (meV/atom)",
                "held-out force (eV/Å)",
                "diamond (meV/atom)",
            ),
        ),
        (
            "From the first round on, frames of the runs are held out too, so the errors before and after are not of "
            "the same structures."
        ),
        "",
    ]
    figures.trial_times(trials).savefig(out / "trials.png", metadata={"Software": None})
    return lines


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _others(database: Database[Any]) -> list[str]:
    """Return what became of the same campaigns with other seeds, and of searches with as many labels."""
    from launchpad.database.campaigns import campaign_of
    from launchpad.database.results import metrics_of
    from launchpad.stability import stored_trials

    rows = []
    for record in database.campaigns.find({"state": "done"}).sort("_id"):
        metrics = metrics_of(database, record["_id"])
        for trial in stored_trials(campaign_of(record), metrics):
            measured = next(m for m in metrics if m["generation"] == trial.generation)["evidence"]["headline"]
            error = _short(measured.get("Si-diamond_meV"))
            rows.append(
                (record["_id"], trial.generation, trial.title, trial.labels, error, trial.found.headline())
            )
    return rows_of(rows, "campaign", "generation", "what", "labels", "diamond (meV/atom)", "verdict")


def _rounds(database: Database[Any], searches: int) -> list[str]:
    """Return what the runs of each round did, and how many labels came of each kind of cell."""
    rows = []
    for selection in database.selections.find({"campaign": NAME, "generation": {"$gte": searches}}).sort(
        "generation"
    ):
        generation = selection["generation"]
        counts = selection["report"]["counts"]
        if not counts:
            continue
        ids = [*selection["train"], *selection["test"]]
        chosen = Counter(
            document["info"]["component"]
            for document in database.structures.find({"_id": {"$in": ids}}, {"info": 1})
        )
        rows.append(
            (
                generation,
                counts["runs"],
                counts["failed"],
                counts["left known space"],
                ", ".join(f"{n} {name}" for name, n in sorted(chosen.items())),
            )
        )
    return rows_of(rows, *("generation", "runs", "failed", "left known space", "labelled"))


def main() -> int:
    """Write everything."""
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    parser = argparse.ArgumentParser(description="Report the campaign with rounds of robustness.")
    parser.add_argument("data", type=Path, help="data directory of the campaign's database")
    parser.add_argument("out", type=Path, help="directory to write to")
    given = parser.parse_args()
    database = open_database(locate_database(None, given.data).uri)
    lines = page(database, given.out)
    (given.out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
