"""The card of a potential and its data: what it is, where it may be trusted, how to use and cite it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gapfactory.report.verdict import headline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.report.data import ReportData

__all__ = ["card"]

_FAMILIES = {"gap": "Gaussian approximation potential", "eddp": "ensemble of networks (EDDP)"}
_GAP_USE = """\
LAMMPS with its package ML-QUIP: `potential/in.lammps` has the lines that name it. Whatever reads QUIP's files (quippy,
QUIP itself) reads `potential/gap.xml`, with the files beside it.
"""
_EDDP_USE = """\
`potential/potential.eddp` has all networks and their weights.
"""


def card(
    data: ReportData, generation: int, family: str, reference: str, files: Mapping[str, str], newest: bool
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    data
        What the campaign's report shows.
    generation
        Whose potential it is.
    family
        ``gap`` or ``eddp``.
    reference
        What made the labels, in words.
    files
        File -> what it is, of the data set.
    newest
        Whether it is the campaign's newest potential, which the evidence is of.
    """
    first = headline(data)
    state = f"{data.state} ({data.state_reason})" if data.state_reason else data.state
    lines = [
        f"# {data.campaign}: a potential for {data.system}",
        "",
        f"A {_FAMILIES[family]}, generation {generation} of the campaign `{data.campaign}`, which is {state}.",
        "Made by gapfactory.",
        "",
        "## What it was made from",
        "",
        # the first sentence, and the last, are of the newest potential
        *(f"- {sentence}" for sentence in (first.made if newest else first.made[1:2])),
        f"- Labels by {reference}.",
        *(f"- {sentence}" for sentence in data.own_data),
        "",
        "## Where it may be used",
        "",
        *_range(data, generation),
        "Outside of this range nothing is known of it: label some structures there, and evaluate it on them",
        "(`gapfactory evaluate`).",
        "",
        "## How good it is",
        "",
    ]
    if newest:
        lines += [f"- {sentence}" for sentence in (*first.quality, *first.judgement, *first.failed)]
    else:
        lines += [
            "The evidence is of the campaign's newest potential, not of this one: `gapfactory campaign report`."
        ]
    lines += [
        "",
        "## How to use it",
        "",
        "```python",
        "from pathlib import Path",
        "from gapfactory.potentials import load_potential",
        "",
        'atoms.calc = load_potential(Path("potential"))',
        "```",
        "",
        _GAP_USE if family == "gap" else _EDDP_USE,
        "`potential/manifest.json` has the checksum of every file; they are compared when it is loaded.",
        "",
        "## Data",
        "",
        *(f"- `{name}`: {what}" for name, what in files.items()),
        "",
        "Energies in eV, forces in eV/Å, virials in eV (minus volume times stress), stresses in eV/Å^3 of ASE's sign.",
        "`gapfactory_id` is the name of a structure in the campaign, `config_type` what it is.",
        "",
        "## What to cite",
        "",
        *(f"- {entry}" for entry in data.citations),
        "",
        "## Made with",
        "",
        ", ".join(f"{name} {version}" for name, version in sorted(data.versions.items())),
        "",
    ]
    return "\n".join(lines)


def _range(data: ReportData, generation: int) -> Sequence[str]:
    """Say what the training structures cover."""
    trained = [p for p in data.training if not p.held_out and p.generation <= generation]
    if not trained:
        return ("No crystals of its training set are known here.", "")
    volumes = sorted(p.volume for p in trained)
    energies = [p.energy for p in trained]
    # the middle tells more than the extremes, which random cells stretch
    inner = volumes[len(volumes) // 20 : len(volumes) - len(volumes) // 20]
    above = sorted(energy - min(energies) for energy in energies)
    kinds = Counter(p.origin for p in trained)
    return (
        f"- Labelled crystals by origin: {', '.join(f'{origin} {n}' for origin, n in kinds.most_common())}.",
        f"- Volumes from {volumes[0]:.1f} to {volumes[-1]:.1f} Å^3/atom, 90 % in {inner[0]:.1f}-{inner[-1]:.1f}.",
        f"- Energies up to {above[-1]:.2f} eV/atom above the lowest, half within {above[len(above) // 2]:.2f}.",
        "",
    )
