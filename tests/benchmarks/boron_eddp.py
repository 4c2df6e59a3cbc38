"""Boron by the chain of EDDPs, a hot search of 28 atoms at 10 GPa with it, what its spread rejects, and phonons.

::

    cd docs/evidence/boron-eddp
    xz -dc ../boron-2018/labels.extxyz.xz > labels.extxyz
    gapfactory campaign run campaign.yaml --data DATA        stop with Ctrl-C, and go on with the same command
    gapfactory campaign run search.yaml --data DATA
    tar xf ../boron-2018/potential.tar.xz -C DATA
    python tests/benchmarks/boron_eddp.py DATA docs/evidence/boron-eddp --gap DATA/boron-2018-potential/potential

The last command writes ``README.md``, the figures and what there is to take away; it can be given again at any time.
With ``--dft`` it calculates structures that the campaigns do not label; single points are kept in ``DATA/checks`` and
are not repeated.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gf_boron_search as search_part
import numpy as np
from gf_boron_search import CHAIN, PRESSURE, Checks, boron, judged, milli, per_atom, potentials_of
from gf_evidence import kept, labels_of, rows_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymongo.database import Database

    from launchpad.database.dataset import LabelledItem

#: Crystals and factors of their volumes, from contacts that no data show to separate atoms.
CRYSTALS: Final = ("alpha-B12", "gamma-B28")
VOLUMES: Final = (0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.5, 4.0)


def labels_section(database: Database[Any]) -> list[str]:
    """Return what was labelled, and the time that it took."""
    done, failed = labels_of(database, CHAIN)
    new = [e for e in done if not e.item.given]
    rows: dict[tuple[int, str], list[LabelledItem]] = {}
    for entry in new:
        info = entry.item.info
        what = str(info.get("snapshot") or info.get("crystal") or "random cell")
        rows.setdefault((entry.item.generation, what), []).append(entry)
    cost = seconds_of(new)
    return [
        "## Labels",
        "",
        (
            f"{len(done) - len(new)} labels came with the campaign: the file of `boron-2018`, of which the two "
            f"smallest structures were labelled again and agreed. {len(new)} are new, {len(failed)} failed. A "
            f"new label took {statistics.median(cost):.0f} s in the median, all of them {sum(cost) / 60:.0f} minutes."
        ),
        "",
        *rows_of(
            (
                (g, what, len(group), f"{np.mean([len(e.item.atoms) for e in group]):.0f}")
                for (g, what), group in sorted(rows.items())
            ),
            *("generation", "what", "new labels", "atoms (mean)"),
        ),
    ]


def errors_of(calculator: Any, entries: Sequence[LabelledItem]) -> tuple[Any, Any]:
    """Return errors of energies and spreads, eV/atom, of labelled structures."""
    structures = [e.item.atoms for e in entries]
    energies, spreads = judged(calculator, structures)
    labels = per_atom([e.label.energy for e in entries if e.label is not None], structures)
    return energies - labels, spreads


def held_out(database: Database[Any]) -> list[LabelledItem]:
    """Return the structures of the file that no potential is trained on."""
    return [e for e in labels_of(database, CHAIN)[0] if e.item.role == "test" and e.item.given]


def networks_section(database: Database[Any]) -> list[str]:
    """Return errors of each potential: on its own sets, and on the labels that are never trained on."""
    held = held_out(database)
    reference = np.array([e.label.energy / len(e.item.atoms) for e in held if e.label is not None])
    low = reference < reference.min() + 1.0
    calculators = potentials_of(database)
    rows = []
    for record in database.potentials.find({"campaign": CHAIN}).sort("generation", 1):
        report = record["report"]
        own = report["errors"]
        error, spread = errors_of(calculators[record["generation"]], held)
        sets = [(own[part]["mae"], own[part]["rmse"]) for part in ("train", "test")]
        sets += [(np.abs(e).mean(), np.sqrt((e**2).mean())) for e in (error, error[low])]
        rows.append(
            (
                record["generation"],
                len(record["trained_on"]) + len(report["tested_on"]),
                f"{report['members']['kept']} of {report['members']['trained']}",
                *(f"{milli(mae)} / {milli(rmse)}" for mae, rmse in sets),
                milli(np.median(spread)),
            )
        )
    return [
        "## Networks",
        "",
        (
            "Mean absolute and root-mean-square errors of energies in meV/atom. *Held out* are the structures of the "
            f"file that no potential is trained on ({len(held)}, {int(low.sum())} of them within 1 eV/atom of the "
            "lowest of them); other structures of the same relaxations are among what is trained on. Networks are "
            "trained on energies only, as the paper's."
        ),
        "",
        *rows_of(
            rows,
            *("generation", "labels", "networks kept", "train", "test", "held out", "held out, within 1 eV"),
            "spread on these (median)",
        ),
    ]


def steering_section(database: Database[Any], out: Path) -> list[str]:
    """Return how far the potential before was off where it was least certain, and where it promised most."""
    calculators = potentials_of(database)
    done = {e.item.id: e for e in labels_of(database, CHAIN)[0]}
    rows = []
    drawn: dict[str, list[tuple[Any, Any]]] = {}
    for chosen in database.selections.find({"campaign": CHAIN}).sort("generation", 1):
        generation = chosen["generation"]
        picked = [done[k] for k in chosen["train"] if k in done]
        ends = [e for e in picked if e.item.info.get("snapshot") == "end"]
        before = calculators.get(generation - 1)
        if not ends or before is None:
            continue
        share = int(chosen["report"]["counts"]["least certain ends"])
        copies = [e for e in picked if e.item.info.get("snapshot") == "shaken"]
        for what, group in (
            ("least certain", ends[:share]),
            ("lowest", ends[share:]),
            ("shaken copies of both", copies),
        ):
            if not group:
                continue
            error, spread = errors_of(before, group)
            after = calculators.get(generation)
            then = None if after is None else errors_of(after, group)[0]
            drawn.setdefault(what, []).append((spread, np.abs(error)))
            rows.append(
                (
                    generation, what, len(group), milli(np.median(spread)), milli(np.median(np.abs(error))),
                    milli(np.abs(error).max()), "not yet" if then is None else milli(np.median(np.abs(then))),
                )
            )  # fmt: skip
    first = calculators[min(calculators)]
    error, spread = errors_of(first, held_out(database))
    drawn["held out"] = [(spread, np.abs(error))]
    spread_figure(drawn, out / "spread.png")
    ranks = [np.argsort(np.argsort(values)) for values in (spread, np.abs(error))]
    return [
        "## The spread steers what is learnt",
        "",
        (
            "Of the ends that a generation labels, half are those of which the networks before are least certain "
            "(`chain.uncertain: 0.5`), the others the lowest. Spread and error of the networks before the labels were "
            "made, and the error of the next ones, which were trained on them, in meV/atom:"
        ),
        "",
        *rows_of(
            rows,
            *("generation", "ends", "labels", "spread (median)", "error (median)", "largest error"),
            "error afterwards (median)",
        ),
        (
            "On the structures held out, the rank correlation of spread and error of the first networks is "
            f"{np.corrcoef(*ranks)[0, 1]:.2f}."
        ),
        "",
        "![spread](spread.png)",
        "",
        "Error before a label was made over the spread of the networks.",
        "",
    ]


def spread_figure(groups: dict[str, list[tuple[Any, Any]]], path: Path) -> None:
    """Draw errors over spreads."""
    from matplotlib.ticker import NullFormatter

    from gapfactory.figures._style import COLOURS, MARKERS, legend_outside, new_figure, style_axes

    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for k, (name, pairs) in enumerate(groups.items()):
        axes.plot(
            1000 * np.concatenate([spread for spread, _ in pairs]),
            1000 * np.maximum(np.concatenate([error for _, error in pairs]), 1e-4),
            linestyle="", marker=MARKERS[k], color=COLOURS[k], markersize=4, alpha=0.75, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log")
    style_axes(axes, "spread of the networks (meV/atom)", "error of the energy (meV/atom)")
    legend_outside(figure, [axes])
    figure.savefig(path, metadata={"Software": None})


def scaled(name: str, factor: float) -> Atoms:
    """Return a crystal of boron with its volume multiplied."""
    atoms = boron(name)
    atoms.set_cell(atoms.cell.array * factor ** (1 / 3), scale_atoms=True)
    return atoms


def strange_crystals() -> dict[str, Atoms]:
    """Return boron in structures of coordinations that no boron has."""
    from ase.build import bulk

    made = {
        "simple cubic (6 neighbours)": ("sc", 1.93),
        "body-centred cubic (8)": ("bcc", 2.45),
        "face-centred cubic (12)": ("fcc", 3.05),
        "diamond (4)": ("diamond", 3.9),
        "one atom in 10 Å": ("sc", 10.0),
    }
    return {name: bulk("B", kind, a=a) for name, (kind, a) in made.items()}


def shortest(atoms: Atoms) -> float:
    """Return the shortest distance of two atoms or images, Å."""
    from ase.neighborlist import neighbor_list

    return float(neighbor_list("d", atoms, 12.0).min())


def pathology_section(potential: Any, gap: Any, checks: Checks, limit: float) -> list[str]:
    """Return spreads and energies of structures that a search must not believe in."""
    every = [(f"{name} x {f:g}", scaled(name, f)) for name in CRYSTALS for f in VOLUMES]
    every += strange_crystals().items()
    # what the plane waves and the cores of the reference are made for
    wanted = [(n, a) for n, a in every if len(a) <= 12 and shortest(a) > 1.4 and a.get_volume() / len(a) < 19]
    dft = checks.energies(wanted)
    base = (
        judged(potential, [scaled("alpha-B12", 1.0)])[0][0],
        search_part.gap_energy(gap, scaled("alpha-B12", 1.0)),
        dft.get("alpha-B12 x 1"),
    )
    rows = []
    for name, atoms in every:
        energy, spread = (values[0] for values in judged(potential, [atoms]))
        by_gap = search_part.gap_energy(gap, atoms)
        by_dft = dft.get(name)
        rows.append(
            (
                name, f"{atoms.get_volume() / len(atoms):.1f}", f"{shortest(atoms):.2f}", f"{spread:.3f}",
                "rejected" if spread > limit else "accepted", f"{energy - base[0]:.2f}",
                "refused" if by_gap is None or base[1] is None else f"{by_gap - base[1]:.2f}",
                None if by_dft is None or base[2] is None else f"{by_dft - base[2]:.2f}",
            )
        )  # fmt: skip
    return [
        "## Pathological structures",
        "",
        (
            "Energies in eV/atom above that of α-B12 at its measured volume by the same method; *rejected*: the spread "
            f"of the networks is beyond the limit of the search, {limit:g} eV/atom. `x 0.3`: its volume times that."
        ),
        "",
        *rows_of(
            rows,
            *("structure", "Å³/atom", "shortest contact (Å)", "spread (eV/atom)", "verdict"),
            *("by the EDDP", "by the GAP", "by DFT"),
        ),
    ]


def phonon_section(database: Database[Any], gap: Any, out: Path) -> list[str]:
    """Return phonons of α-B12 by the networks against those of the GAP, and against phonopy by the ASE calculator."""
    import gf_phonopy

    from gapfactory.analysis.elasticity import ElasticSettings
    from gapfactory.analysis.phonon_settings import PhononSettings
    from gapfactory.analysis.vibrations import compare_vibrations, vibration_cells, vibrations_by
    from gapfactory.figures import phonon_picture
    from gapfactory.search.phases import relax_phase
    from gapfactory.search.settings import PhaseRelaxSettings

    tight = PhaseRelaxSettings(force_threshold=0.001, cell_force_threshold=0.001)
    relaxed = relax_phase(boron("alpha-B12"), gap, settings=tight)
    settings = {"grid": (2, 2, 2), "displacement": 0.02, "dos_mesh": (12, 12, 12), "compare_mesh": (4, 4, 4)}
    planned = vibration_cells(
        relaxed.frame(-1), PhononSettings(symmetry_tolerance=1e-3, **settings), ElasticSettings()
    )
    reference = vibrations_by(gap, planned, method="GAP", relax=tight)
    calculators = potentials_of(database)
    names = {generation: f"EDDP of generation {generation}" for generation in calculators}
    found, rows, words = [], [], []
    for generation, name in names.items():
        own = vibrations_by(calculators[generation], planned, method=name, like=reference, relax=tight)
        compared = compare_vibrations(own, reference)
        found.append(own.phonons)
        bulk = [None if v.elastic is None else v.elastic.tensor.bulk for v in (own, reference)]
        rows.append(
            (
                name, f"{compared.phonons.rmse_THz:.2f}", f"{compared.phonons.largest_THz:+.2f}",
                f"{own.phonons.mesh_frequencies.max():.1f}", f"{own.phonons.mesh_frequencies.min():.2f}",
                f"{own.crystal.get_volume() / 12:.3f}",
                own.no_elastic if bulk[0] is None else f"{bulk[0]:.0f}",
            )
        )  # fmt: skip
    diagonal = vibration_cells(
        relaxed.frame(-1),
        PhononSettings(symmetry_tolerance=1e-3, supercells="diagonal", **settings),
        ElasticSettings(internal="clamped"),
    )
    for generation, name in names.items():
        ours = vibrations_by(calculators[generation], diagonal, method=name, relax=None).phonons
        theirs = gf_phonopy.frequencies(
            diagonal.crystal,
            calculators[generation],
            (2, 2, 2),
            ours.mesh_vectors,
            displacement=0.02,
        )
        words.append(f"{np.abs(ours.mesh_frequencies - theirs).max():.1e} THz ({name})")
    figure = phonon_picture(reference.phonons, found, title="α-B12, relaxed by the GAP")
    figure.savefig(out / "phonons.png", metadata={"Software": None})
    own = reference.elastic
    return [
        "## Phonons of α-B12",
        "",
        (
            "Both potentials know the same labels, so this compares potentials, not potential and DFT. Non-diagonal "
            "supercells of a 2x2x2 grid, displacements of 0.02 Å, of the crystal that the GAP relaxes "
            f"({reference.crystal.get_volume() / 12:.3f} Å³/atom, highest frequency "
            f"{reference.phonons.mesh_frequencies.max():.1f} THz"
            f"{'' if own is None else f', bulk modulus {own.tensor.bulk:.0f} GPa'}). Differences to the GAP's "
            "frequencies over a 4x4x4 mesh:"
        ),
        "",
        *rows_of(
            rows,
            *("potential", "RMS (THz)", "largest (THz)", "highest frequency (THz)", "lowest (THz)"),
            *("own volume (Å³/atom)", "bulk modulus (GPa)"),
        ),
        "![phonons](phonons.png)",
        "",
        (
            "In the diagonal supercell of 96 atoms the frequencies agree with those of phonopy itself by finite "
            f"displacements through the ASE calculator: the largest difference is {' and '.join(words)}."
        ),
        "",
    ]


def state_of(database: Database[Any]) -> str:
    """Return how far the chain is, and what the search was made with."""
    from launchpad.database.campaigns import campaign_of, require_campaign

    total = campaign_of(require_campaign(database, CHAIN)).schedule.generations
    fitted = sorted(potentials_of(database))
    origin = database.potentials.find_one({"campaign": search_part.SEARCH})["report"]["given"]["generation"]
    used = (
        "the markers and the labels of boron-2018 alone" if origin == 0 else f"{origin} searches of the chain"
    )
    return (
        f"Of {total} generations of the chain {len(fitted)} {'is' if len(fitted) == 1 else 'are'} fitted; the search "
        f"of 28 atoms was made with generation {origin}, trained on {used}."
    )


def main() -> int:
    """Write everything."""
    from gapfactory.potentials import load_potential
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    parser = argparse.ArgumentParser(description="Report the boron chain and its hot search.")
    parser.add_argument("data", type=Path, help="data directory of the campaigns' database")
    parser.add_argument("out", type=Path, help="directory to write to")
    parser.add_argument("--dft", action="store_true", help="make single points that are missing")
    parser.add_argument("--gap", type=Path, required=True, help="directory of the GAP of boron-2018")
    given = parser.parse_args()
    database = open_database(locate_database(None, given.data).uri)
    given.out.mkdir(parents=True, exist_ok=True)
    gap = load_potential(given.gap)
    checks = Checks(database, given.data / "checks", make=given.dft)
    used = search_part.search_calculator_of(database)
    limit = search_part.limit_of(database)
    lines = [
        "# Boron by a chain of EDDPs, and a hot search with it",
        "",
        (
            "The recipe of Pickard (Faraday Discuss. 256, 61, 2025, section V) at a size that one core affords: "
            "[campaign.yaml](campaign.yaml) begins with the labels of [boron-2018](../boron-2018/README.md) and adds "
            "markers shaken by 0.1 and two searches under 5 to 15 GPa; [search.yaml](search.yaml) searches hot and "
            f"plain for 28 atoms at {PRESSURE:g} GPa with the result. Labels: GPAW, PBE, 400 eV, 1.5 k-points per Å⁻¹."
        ),
        "",
        (
            f"Written by `tests/benchmarks/boron_eddp.py` on {datetime.now(tz=UTC):%Y-%m-%d} ({platform.machine()}, "
            f"two cores that did other work meanwhile). {state_of(database)}"
        ),
        "",
        *labels_section(database),
        *networks_section(database),
        *steering_section(database, given.out),
        *search_part.search_section(database, used, gap, checks, given.out),
        *pathology_section(used, gap, checks, limit),
        *phonon_section(database, gap, given.out),
    ]
    search_part.keep(database, given.out)
    lines += ["## To take away", "", *(f"- {text}" for text in kept(given.out)), ""]
    (given.out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
