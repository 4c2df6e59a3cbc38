"""Fig. 3 for the boron campaign: models of β-boron's mixed occupations, by its final potential and by its reference.

::

    python tests/benchmarks/boron_occupations.py docs/evidence/boron-2018 [--label WORKDIR]

Small models are the distinct ones of the rhombohedral cell with 105, 104 and 103 atoms (site B13 full, and with one
or two vacancies); large ones are drawn in the hexagonal cell and are the potential's alone. The potential is the one
that was kept (``potential.tar.xz``), the reference that of ``campaign.yaml``. With ``--label`` missing labels are
computed, in that directory; what is found there is taken over, so it may be stopped and given again, and run in
several directories at once with ``--only``. Labels are kept in ``mixed-occupations.extxyz``. Writes
``mixed-occupations.png`` and a section of the page.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import ase.io
import numpy as np
from boron_campaign import MIXED
from gf_evidence import put_section, rows_of

from gapfactory.analysis.mixed_occupation import mixed_occupation
from gapfactory.analysis.phases import occupied_phase
from gapfactory.build.discrete import DiscreteModels, DiscreteSettings
from gapfactory.campaign import load_campaign
from gapfactory.figures import occupation_models
from gapfactory.potentials import load_potential
from gapfactory.reference import label_structures

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.campaign import Campaign
    from gapfactory.reference import LabelOutcome

#: Atoms of the rhombohedral cell whose distinct models are all taken; of the hexagonal one, and how many are drawn.
SMALL = (105, 104, 103)
LARGE, DRAWN = 311, 10
#: Separations below this are never both occupied (Å).
NEAREST = 1.5
#: Mean occupation of site B13 (Callmer 1977, as quoted by Deringer et al. 2018).
B13 = 0.75


def models() -> tuple[dict[str, Atoms], DiscreteModels]:
    """Return the small models by name, and what the large ones are drawn from."""
    beta = occupied_phase("B-beta-B105").with_occupations({"B13": B13})
    small = {}
    for atoms in SMALL:
        found = DiscreteModels(beta, DiscreteSettings(atoms=atoms, minimum_separation=NEAREST)).distinct()
        for number, model in enumerate(found, 1):
            small[f"B{atoms}" + (f"-{number}" if len(found) > 1 else "")] = model.atoms
    settings = DiscreteSettings(setting="hexagonal", atoms=LARGE, minimum_separation=NEAREST)
    return small, DiscreteModels(beta, settings)


def labels(small: dict[str, Atoms], kept: Path) -> dict[str, float]:
    """Return the energies (eV) of the models that were labelled: the same atoms at the same places."""
    if not kept.exists():
        return {}
    found = {}
    for atoms in ase.io.read(kept, ":"):
        name = atoms.info["model"]
        if name in small and np.allclose(atoms.positions, small[name].positions, atol=1e-6):
            found[name] = float(atoms.info["REF_energy"])
    return found


def computed(small: dict[str, Atoms], campaign: Campaign, workdir: Path, kept: Path) -> None:
    """Compute labels that are missing, and keep each as soon as it is there."""

    def take(outcome: LabelOutcome) -> None:
        label, name = outcome.label, outcome.id
        if label is None:
            print(f"{name}: no label; {outcome}", file=sys.stderr)
            return
        atoms = small[name].copy()
        atoms.calc = None
        atoms.info = {"model": name, "REF_energy": label.energy}
        atoms.set_array("REF_forces", label.forces)
        ase.io.write(kept, atoms, format="extxyz", append=kept.exists())
        print(f"{name}: {label.energy / len(atoms):.4f} eV/atom", flush=True)

    label_structures(list(small.items()), campaign.reference, workdir, take)


def main() -> int:
    """Label if asked, and draw."""
    parser = argparse.ArgumentParser(description="Fig. 3 of the boron campaign.")
    parser.add_argument("place", type=Path, help="directory of the campaign's page")
    parser.add_argument(
        "--label", type=Path, metavar="WORKDIR", help="compute missing labels in this directory"
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="label these alone, e.g. B104 B103-1")
    given = parser.parse_args()
    small, large = models()
    campaign = load_campaign(given.place / "campaign.yaml")
    kept = given.place / "mixed-occupations.extxyz"
    if given.label is not None:
        there = labels(small, kept)
        wanted = {k: v for k, v in small.items() if k not in there and k in (given.only or small)}
        computed(wanted, campaign, given.label, kept)
    energies = labels(small, kept)
    drawn = {f"B{LARGE}-{k}": m.atoms for k, m in enumerate(large.draws(DRAWN, seed=campaign.seed), 1)}
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(given.place / "potential.tar.xz") as archive:
            archive.extractall(temporary, filter="data")
        calculator = load_potential(Path(temporary) / f"{campaign.name}-potential" / "potential")
        everything = {**small, **drawn}
        found = calculator.engine.evaluate(list(everything.values()), gradients=False).energies
    predicted = [float(e) / len(a) for e, a in zip(found, everything.values(), strict=True)]
    data = mixed_occupation(
        [(k, len(a), energies[k] / len(a) if k in energies else None) for k, a in everything.items()],
        {"tight fit": predicted},
    )
    whole = large.crystal
    average = ase.Atoms(
        ["B"] * len(whole.positions), cell=whole.cell, scaled_positions=whole.positions, pbc=True
    )
    partial = np.isin(np.arange(len(average)), large.partial)
    occupation_models(data, average, partial).savefig(
        given.place / "mixed-occupations.png", metadata={"Software": None}
    )
    rows = [
        (
            m.id,
            m.n_atoms,
            "" if m.reference is None else f"{1e3 * (m.reference - data.zero_energy):+.1f}",
            f"{1e3 * (m.predicted[0][1] - data.zero_energy):+.1f}",
        )
        for m in data.models
    ]
    lines = [
        "![mixed-occupations](mixed-occupations.png)",
        "",
        "Fig. 3: models of the partly occupied sites of β-boron, by the reference and by the tight fit.",
        "",
        (
            f"Left: the average crystal in the hexagonal cell. Models 1 to {len(small)} are the distinct ones of the "
            f"rhombohedral cell with {', '.join(map(str, SMALL))} atoms (site B13 full, and one or two vacancies on "
            f"it), the others {DRAWN} draws of {LARGE} atoms in the hexagonal cell, by the potential alone: a label of "
            "them is out of reach here. The potential was fitted to one distorted cell of 105 atoms. The published "
            "models have 321 atoms, on sites whose coordinates were not found in a source that can be checked "
            "([partial occupation](../../how-to/partial-occupation.md))."
        ),
        "",
    ]
    lines += rows_of(rows, "model", "atoms", "reference (meV/atom)", "tight fit (meV/atom)")
    lines += [
        f"Counted from {data.zero}. {a.potential}: RMSE {1e3 * a.rmse:.1f} meV/atom over {a.n} models, mean "
        f"{1e3 * a.bias:+.1f}, without it {1e3 * a.spread:.1f}; rank correlation {a.rank_correlation:.2f}."
        for a in data.agreement
    ]
    put_section(given.place / "README.md", MIXED, lines, before="To take away")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
