"""The page of the comparisons: tables and pictures from the figures; what is to be said of them stands in notes.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .plots import draw_growth, draw_ratios
from .tables import Comparison, Row, growth_table, losses, table

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """# Beside other programs

Written by `python tests/benchmarks/bench_peers.py` (about half an hour on two cores, without the installation of the
peers); do not edit. [notes.md](notes.md) says what was compared with what, and why rows are lost. Ours and the peer's
ran by turns in the same minutes, on one thread each; figures are medians. The ratio is how many times better ours is,
below 1 where the peer is better; within 5 % it is a tie. A row that is lost stays. Figures of ours alone and against
the papers: [benchmarks](../reference/benchmarks.md).
"""


def write(document: dict[str, Any], order: list[str], out: Path) -> list[Row]:
    """Write README.md, ratios.png and growth.png, and return all rows in the order of the comparisons."""
    found = {n: Comparison.of(document["comparisons"][n]) for n in order if n in document["comparisons"]}
    rows = [row for one in found.values() for row in one.rows]
    series = [line for one in found.values() for line in one.series]
    lines = [HEAD, *table(rows), ""]
    lost = losses(rows)
    if lost:
        lines += [f"A peer is better in {len(lost)} of {len(rows)} rows; [notes.md](notes.md) says why.", ""]
    else:
        lines += [f"No peer is better in any of the {len(rows)} rows.", ""]
    if rows:
        draw_ratios(rows, out / "ratios.png")
        lines += ["![Ratios of all rows on a logarithmic axis](ratios.png)", ""]
    if series:
        draw_growth(series, out / "growth.png")
        lines += [
            "## Growth with the size of the problem",
            "",
            "Exponents are fitted to the logarithms (least squares), over sizes that are small for the larger ones.",
            "",
            *growth_table(series),
            "",
            "![Costs against sizes on logarithmic axes](growth.png)",
            "",
        ]
    missing = [text for one in found.values() for text in one.missing]
    if missing:
        lines += ["## Not compared", "", *(f"- {text}" for text in missing), ""]
    lines += ["## Versions and runs", ""]
    if "machine" in document:
        lines += [f"{document['machine']['cpu']}, {document['machine']['cores']} cores.", ""]
    if "versions" in document:
        lines.append(f"- ours: {', '.join(f'{k} {v}' for k, v in document['versions'].items())}")
    for peer, stated in document["peers"].items():
        lines.append(f"- {peer}: {', '.join(f'{k} {v}' for k, v in stated.items())}")
    lines += ["", "| comparison | measured on | took | load before, after |", "|---|---|---|---|"]
    for name in found:
        run = document["comparisons"][name]
        size = " (quick)" if run["quick"] else ""
        load = " and ".join(f"{value:g}" for value in run["load"])
        lines.append(f"| `--only {name}`{size} | {run['date']} | {run['seconds']} s | {load} |")
    (out / "README.md").write_text("\n".join(lines) + "\n")
    return rows
