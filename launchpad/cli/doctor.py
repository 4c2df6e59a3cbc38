"""`gapfactory doctor`: is everything well, and if not, what to do."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption  # noqa: TC001 - typer reads them
from launchpad.cli.output import print_json, say, table

__all__ = ["doctor"]


def doctor(
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            "-e",
            help="Also look for this reference engine; repeatable. Those of campaigns are looked for anyway.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics",
            help="Also write metrics for Prometheus (node_exporter's textfile collector) to this file (*.prom).",
            show_default=False,
        ),
    ] = None,
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check database, clocks, versions, scratch, codes, queue, permissions and workers; say what to do.

    Changes nothing and starts nothing. Exit code 1 when something has failed; advice alone is no failure.

    Examples
    --------
      gapfactory doctor

      gapfactory doctor --engine espresso --json

      gapfactory doctor --metrics /var/lib/node_exporter/gapfactory.prom
    """
    from dataclasses import asdict

    from launchpad.database.location import named_uri
    from launchpad.health.examine import examine
    from launchpad.health.finding import worst
    from launchpad.health.metrics import write_metrics

    findings, patient = examine(named_uri(uri), data, engines=engine or (), arguments=sys.argv[1:], keep=True)
    try:
        if metrics is not None:
            write_metrics(metrics, findings, patient)
    finally:
        if patient.database is not None:
            patient.database.client.close()
    verdict = worst(findings)
    if as_json:
        print_json({"verdict": verdict, "findings": [asdict(finding) for finding in findings]})
    else:
        table(
            "doctor",
            ["verdict", "check", "what was found, and what to do"],
            [
                [f.verdict, f"{f.check}: {f.subject}", f.found + (f"\n→ {f.remedy}" if f.remedy else "")]
                for f in findings
            ],
        )
        counts = {name: sum(f.verdict == name for f in findings) for name in ("failed", "advice", "ok")}
        say(", ".join(f"{number} {name}" for name, number in counts.items()))
    raise typer.Exit(1 if verdict == "failed" else 0)
