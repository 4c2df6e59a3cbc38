"""What `gapfactory campaign status` prints of the assessments of a campaign."""

from __future__ import annotations

from typing import Any

from launchpad.cli.output import say, table

__all__ = ["show_assessments"]


def show_assessments(status: dict[str, Any]) -> None:
    """Print the assessments in the status of a campaign, as `launchpad.service.status` returns it."""
    if status["ranking"] is not None:
        _ranking(status["ranking"])
    elif status["assessments"]:
        _assessments(status["assessments"])
        _levels(status["assessments"][-1])
        _tried(status["assessments"])
    _searches(status["searches"])


def _ranking(ranking: dict[str, Any], most: int = 15) -> None:
    """Print the lowest structures of the newest generation of a search."""
    table(
        f"{ranking['title']}, ranked at {ranking['pressure_GPa']:g} GPa: {ranking['considered']} structures, "
        f"{ranking['failed']} failed",
        [
            "formula",
            "atoms",
            "space group",
            "eV/at",
            "above\nmeV/at",
            "before\nmeV/at",
            "Å^3/at",
            "met",
            "from",
        ],
        [
            [
                row["composition"],
                row["atoms"],
                row["space_group"],
                row["enthalpy_eV_per_atom"],
                1000 * row["above_eV_per_atom"],
                None if row["before_eV_per_atom"] is None else 1000 * row["before_eV_per_atom"],
                row["volume_A3_per_atom"],
                row["encounters"],
                row["id"].split("/", 1)[1].split("/frame/")[0],
            ]
            for row in ranking["rows"][:most]
        ],
    )
    if len(ranking["rows"]) > most:
        say(f"... and {len(ranking['rows']) - most} more (--json)")


def _assessments(entries: list[dict[str, Any]]) -> None:
    """Print the headline of every generation; names short enough for several phases on 80 columns."""
    phases = [
        key.removesuffix("_meV")
        for key in dict.fromkeys(key for entry in entries for key in entry)
        if key.endswith("_meV") and key not in {"energy_rmse_meV", "level_energy_rms_meV"}
    ]
    short = [phase.split("-", 1)[-1] for phase in phases]
    table(
        "assessments: held-out RMS errors; energy and volume of named phases against the reference",
        ["gen", "labels", "E\nmeV/at", "F\neV/Å", *(f"{name}\nmeV/at, V %" for name in short)],
        [
            [
                entry["generation"],
                entry["labels"],
                entry.get("energy_rmse_meV"),
                entry.get("force_rmse_eV_A"),
                *(_phase_cell(entry, phase) for phase in phases),
            ]
            for entry in entries
        ],
    )


def _levels(entry: dict[str, Any]) -> None:
    """Print how far labels moved from those of the campaign that had the structures first."""
    if entry.get("level_energy_rms_meV") is not None:
        say(
            f"against the other level (RMS, without constants per species):\nenergies "
            f"{entry['level_energy_rms_meV']:.3g} meV/atom, forces {entry['level_force_rms_eV_A']:.3g} eV/Å"
        )


def _tried(entries: list[dict[str, Any]]) -> None:
    """Print what became of the newest potential that was tried in molecular dynamics and close contacts."""
    import textwrap

    tried = [entry for entry in entries if entry.get("stability")]
    if tried:
        text = f"potential of generation {tried[-1]['generation']}: {tried[-1]['stability']}"
        say(textwrap.fill(text, 80, break_long_words=False))


def _searches(rows: list[dict[str, Any]]) -> None:
    """Print how often diagnostic searches found what they look for."""
    if rows:
        table(
            "diagnostic searches: relaxations that ended in the target",
            ["gen", "search", "potential\nof gen", "labels", "target", "found", "of", "95 %"],
            [
                [
                    row["generation"],
                    row["search"],
                    row["potential"],
                    row["labels"],
                    row["target"],
                    row["found"],
                    row["attempts"],
                    f"{100 * row['rate_low_95']:.2g}-{100 * row['rate_high_95']:.2g} %",
                ]
                for row in rows
            ],
        )


def _phase_cell(entry: dict[str, Any], phase: str) -> str | None:
    energy, volume = entry.get(f"{phase}_meV"), entry.get(f"{phase}_volume_percent")
    if energy is None:
        return None
    return f"{energy:.4g}, " + ("-" if volume is None else f"{volume:.2g}")
