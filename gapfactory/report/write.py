"""Write a report: one HTML page, a PNG and a CSV per figure, and everything as JSON."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections import Counter
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.analysis.vibration_overview import verdict
from gapfactory.io.tables import csv_table, plain
from gapfactory.report.sections import drawn, figure_sections
from gapfactory.report.verdict import Headline, duration, headline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.report.data import ReportData

__all__ = ["write_report"]

#: long lists are cut in the page; the CSV holds all of them
_SHOWN_FAILURES = 50
#: characters of a setting in the page
_LONGEST_VALUE = 2000


def write_report(data: ReportData, directory: Path) -> Path:
    """Write the report of a campaign and return the path of the page.

    Files: ``index.html``, ``report.json``, ``<figure>.png`` and ``<figure>.csv`` for each figure there is,
    ``generations.csv``, ``errors.csv``, ``phases.csv``, ``failures.csv`` and ``remedies.csv``. Every file is replaced
    as a whole and the page comes last, so a report that is being read is never half new. The page needs no network
    and no script.

    Parameters
    ----------
    data
        What to report.
    directory
        Made when it does not exist.
    """
    directory.mkdir(parents=True, exist_ok=True)
    first = headline(data)
    pictures = []
    for section in figure_sections(data):
        figure, missing = drawn(section)
        png, table = directory / f"{section.key}.png", directory / f"{section.key}.csv"
        if figure is None:
            # a figure of an earlier report would contradict the page
            png.unlink(missing_ok=True)
        else:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
            _replace(png, buffer.getvalue())
        if section.rows:
            _replace(table, csv_table(section.header, section.rows))
        else:
            table.unlink(missing_ok=True)
        pictures.append(
            {
                "key": section.key,
                "title": section.title,
                "caption": section.caption,
                "missing": missing,
                "png": png.name if figure is not None else "",
                "csv": table.name if section.rows else "",
            }
        )
    for name, (header, rows) in _tables(data, first).items():
        _replace(directory / name, csv_table(header, rows))
    document = _document(data, first)
    text = json.dumps(document, indent=2, allow_nan=False, default=str, ensure_ascii=False)
    _replace(directory / "report.json", text.encode())
    page = directory / "index.html"
    _replace(page, _render(data, first, pictures).encode())
    return page


def _replace(path: Path, content: bytes) -> None:
    """Write a file as a whole: readers see the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary = Path(name)
        # mkstemp makes it private; a report is meant to be shown
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


_COUNTS = (
    "built",
    "relaxed_converged",
    "relaxed_unconverged",
    "relaxed_failed",
    "selected",
    "labelled",
    "reused",
    "quarantined",
    "training_set",
)


def _tables(data: ReportData, first: Headline) -> dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    generations = sorted(data.generations, key=lambda g: g.generation)
    keys = (
        "quantity",
        "unit",
        "group",
        "n_structures",
        "n_values",
        "rmse",
        "rmse_low",
        "rmse_high",
        "mae",
        "max",
    )
    phase_rows = [c.as_dict() for c in first.comparisons]
    phase_keys = tuple(phase_rows[0]) if phase_rows else ("phase", "passes")
    return {
        "generations.csv": (
            ("generation", *_COUNTS, "task_seconds"),
            [
                (g.generation, *(getattr(g, name) for name in _COUNTS), sum(g.seconds.values()))
                for g in generations
            ],
        ),
        "errors.csv": (
            ("generation", "on", *keys),
            [
                (g.generation, on, *(row.as_dict()[k] for k in keys))
                for g in generations
                for on, rows in (("held-out", g.errors), ("training", g.training_errors))
                for row in rows
            ],
        ),
        "phases.csv": (phase_keys, [tuple(row.values()) for row in phase_rows]),
        "failures.csv": (
            ("generation", "stage", "id", "reason"),
            [(f.generation, f.stage, f.id, f.reason) for f in data.failures],
        ),
        "remedies.csv": (
            ("remedy", "used", "helped"),
            [(remedy.name, remedy.used, remedy.helped) for remedy in data.remedies],
        ),
    }


def _document(data: ReportData, first: Headline) -> dict[str, Any]:
    """Return the report as plain data."""
    return {
        "format": "gapfactory-report-1",
        "campaign": data.campaign,
        "system": data.system,
        "state": data.state,
        "state_reason": data.state_reason,
        "started": data.started,
        "finished": data.finished,
        "wall_seconds": plain(data.wall_seconds),
        "label_budget": data.label_budget,
        "verdict": first.verdict,
        "summary": {
            "made": first.made,
            "quality": first.quality,
            "judgement": first.judgement,
            "failed": first.failed,
            "cost": first.cost,
        },
        "phases": [plain(c.as_dict()) for c in first.comparisons],
        "phases_not_judged": dict(first.unjudged),
        "phases_missing": dict(data.phases_missing),
        "survival": first.survival,
        "vibrations": first.vibrations,
        "stability": None if data.stability is None else plain(data.stability.as_dict()),
        "label_noise_eV_per_atom": plain(data.label_noise),
        "generations": [
            {
                "generation": g.generation,
                **{name: getattr(g, name) for name in _COUNTS},
                "relaxation_reasons": dict(g.relaxation_reasons),
                "quarantine_reasons": dict(g.quarantine_reasons),
                "deltas_eV": plain(dict(g.deltas)),
                "networks": None if g.networks is None else plain(asdict(g.networks)),
                "seconds": plain(dict(g.seconds)),
                "errors": [row.as_dict() for row in g.errors],
                "training_errors": [row.as_dict() for row in g.training_errors],
            }
            for g in sorted(data.generations, key=lambda g: g.generation)
        ],
        "figures": {
            s.key: {"columns": s.header, "rows": plain(s.rows)} for s in figure_sections(data) if s.rows
        },
        "failures": [[f.generation, f.stage, f.id, f.reason] for f in data.failures],
        "quarantined": [
            {
                "generation": q.generation,
                "id": q.id,
                "role": q.role,
                "fault": q.fault,
                "reason": q.reason,
                "attempts": q.attempts,
                "history": list(q.history),
            }
            for q in data.quarantined
        ],
        "remedies": [[r.name, r.used, r.helped] for r in data.remedies],
        "unusual_energies": plain(data.unusual),
        "levels": None if data.levels is None else {"of": data.levels_of, **plain(data.levels.as_dict())},
        "settings": plain(dict(data.settings)),
        "potential_files": dict(data.potential_files),
        "removed": list(data.removed),
        "versions": dict(data.versions),
        "citations": list(data.citations),
    }


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if hasattr(value, "items"):
            rows += _flatten(value, f"{name}.")
        else:
            text = str(value)
            # structures that a campaign was given are in report.json
            rows.append((name, text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."))
    return rows


def _render(data: ReportData, first: Headline, pictures: list[dict[str, str]]) -> str:
    from jinja2 import Environment, StrictUndefined

    # everything that comes from outside is escaped; the template itself is ours
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    template = environment.from_string(
        resources.files("gapfactory.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    generations = sorted(data.generations, key=lambda g: g.generation)
    measured = next((g for g in reversed(generations) if g.errors), None)
    return template.render(
        data=data,
        first=first,
        pictures=pictures,
        generations=generations,
        measured=measured,
        networks=[g for g in generations if g.networks is not None],
        delta_names=list(dict.fromkeys(name for g in generations for name in g.deltas)),
        vibrations=_vibrations(data),
        settings=_flatten(data.settings),
        shown_failures=data.failures[:_SHOWN_FAILURES],
        faults=Counter(q.fault or "no kind given" for q in data.quarantined).most_common(),
        sources=[(e.phase, e.label, e.source, e.note) for e in data.phases],
    )


def _vibrations(data: ReportData) -> list[tuple[str, str, list[tuple[str, str, str, str]]]]:
    """Return each crystal with its verdict and the lines of its table, as text."""
    found, lines = data.vibrations, []
    if found is None:
        return []
    for crystal in found.crystals:
        judged, own = verdict(crystal, found.limits), crystal.by("")
        if judged is None or own is None:
            continue
        by = own.comparison
        rows = [("frequencies (THz, RMS)", "", "", f"{by.phonons.rmse_THz:.3f}")]
        lowest = (by.phonons.reference_lowest_THz, by.phonons.potential_lowest_THz)
        if not (by.phonons.reference_stable and by.phonons.potential_stable):
            rows.append(
                ("lowest mode (THz), imaginary below zero", f"{lowest[0]:.2f}", f"{lowest[1]:.2f}", "")
            )
        for r in by.rows():
            digits = 4 if r["unit"] == "Å" else 1
            error = "–" if r["error_percent"] is None else f"{r['error_percent']:+.2f} %"
            theirs, ours = (f"{r[who]:.{digits}f}" for who in ("reference", "potential"))
            rows.append((f"{r['quantity']} ({r['unit']})", theirs, ours, error))
        lines.append((crystal.title, "passes" if judged[0] else "fails", rows))
    return lines
