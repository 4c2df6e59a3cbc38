"""The self-test of a reference engine as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapfactory.reference.selfcheck_judge import LadderResult
    from gapfactory.reference.selfcheck_run import CheckResult

__all__ = ["check_report"]

_NAMES = {"kpoint_density": "k-point density (1/Å, with 2 pi)", "cutoff_eV": "cutoff (eV)"}


def check_report(result: CheckResult, *, figure: str | None = None) -> str:
    """Return the result as Markdown.

    Parameters
    ----------
    result
        Of the self-test.
    figure
        File name of the plot beside the text.
    """
    found, allowed = result.installation, result.tolerances
    lines = [
        f"# Self-test of the reference engine {found.engine}",
        "",
        f"{found.engine} {found.version}, {', '.join(result.symbols)}: {'passed' if result.passed else 'FAILED'}.",
        "",
        "| question | verdict | |",
        "| --- | --- | --- |",
        *(f"| {v.question} | {v.state} | {_cell(v.text)} |" for v in result.verdicts),
        "",
        "## Recommendation",
        "",
        *_recommendation(result),
        "",
        "## What was found",
        "",
        f"- data sets: {_pairs({s: h[:12] for s, h in found.data_sha256.items()}) or 'none'} (sha256)",
        f"- site: {_pairs(found.site) or 'the engine runs no program'}",
        f"- settings: {_pairs(result.settings)}",
        "",
        "## Forces and stress against finite differences of the energy",
        "",
        "| element | direction | from the label | finite difference | difference | allowed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for entry in result.derivatives:
        unit = "eV/Å" if entry.direction.startswith("force") else "GPa"
        lines.append(
            f"| {entry.symbol} | {entry.direction} | {entry.label:.4f} | {entry.finite_difference:.4f} | "
            f"{entry.difference:.4f} {unit} | {entry.tolerance:g} {unit} |"
        )
    for ladder in (result.density, result.cutoff):
        if ladder is not None:
            lines += _ladder(ladder)
    lines += [
        "",
        (
            f"Allowed noise: {allowed.noise_energy_meV:g} meV/atom, {allowed.noise_force:g} eV/Å, "
            f"{allowed.noise_stress_GPa:g} GPa."
        ),
    ]
    if figure is not None:
        lines += ["", f"![noise and time of labels at every level]({figure})"]
    if result.drill is not None:
        lines += ["", "## Recovery drill", "", f"- starts of the program: {result.drill.attempts}"]
        lines += [f"- {text}" for text in result.drill.history]
    if result.unlabelled:
        lines += ["", "## Structures without label", ""]
        lines += [f"- {name}: {reason}" for name, reason in result.unlabelled.items()]
    return "\n".join(lines) + "\n"


def _recommendation(result: CheckResult) -> list[str]:
    advice = result.recommendation
    lines = ["```yaml", "reference:", f"  engine: {result.installation.engine}"]
    lines += [f"  {key}: {value:g}" for key, value in advice.settings.items()]
    lines += [
        "```",
        "",
        (
            f"A label of {advice.atoms_per_label:.1f} atoms takes about {advice.seconds_per_label:.3g} s on "
            f"{result.installation.cores} core(s)."
        ),
    ]
    if advice.core_hours is not None:
        lines.append(
            f"The campaign's labels take about {advice.core_hours:.2g} core-hours (the time of a label taken as "
            "proportional to its atoms; right within a factor of two or three)."
        )
    return lines


def _ladder(ladder: LadderResult) -> list[str]:
    lines = [
        "",
        f"## Noise over the {_NAMES[ladder.key]}",
        "",
        f"Against {ladder.levels[-1].value:g}; relative energies: the mean difference of a composition is taken out.",
        "",
        "| level | energies, meV/atom | largest | shift of all | forces, eV/Å | stress, GPa | s per label | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for level in ladder.levels:
        marks = [
            word
            for word, value in (("present", ladder.current), ("recommended", ladder.recommended))
            if value == level.value
        ]
        numbers = (
            level.energy_noise_meV,
            level.energy_largest_meV,
            level.energy_shift_meV,
            level.force_noise,
        )
        cells = ["-" if n is None else f"{n:.3g}" for n in (*numbers, level.stress_noise_GPa, level.seconds)]
        lines.append(f"| {level.value:g} | {' | '.join(cells)} | {', '.join(marks)} |")
    return lines


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {_plain(value)}" for key, value in values.items() if value not in (None, [], {}, "")
    )


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
