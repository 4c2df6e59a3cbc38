"""A finished campaign made of synthetic numbers with known answers, for the tests of figures and report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from gapfactory.analysis.contacts import judge_contacts
from gapfactory.analysis.dynamics import Dynamics
from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.errors import ErrorRecord, error_table
from gapfactory.analysis.learning import LearningPoint, fit_power_law
from gapfactory.analysis.similarity_map import SimilarityMap
from gapfactory.analysis.stability import Stability
from gapfactory.figures import SelectionStage
from gapfactory.report import (
    Failure,
    GenerationSummary,
    HullData,
    PhaseEvidence,
    Quarantined,
    Remedy,
    ReportData,
    ScatterData,
)


def birch_murnaghan(volumes, v0, e0, b0, b1):
    """The textbook formula, written independently of the library's polynomial."""
    eta = (v0 / np.asarray(volumes)) ** (2.0 / 3.0)
    return e0 + 9 * v0 * b0 / 16 * ((eta - 1) ** 3 * b1 + (eta - 1) ** 2 * (6 - 4 * eta))


def curve(phase, method, v0, e0, b0=0.55, b1=4.2, span=0.12):
    volumes = v0 * np.linspace(1 - span, 1 + span, 7)
    return EnergyVolumeCurve(phase, method, volumes, birch_murnaghan(volumes, v0, e0, b0, b1))


def records(rng, n=60, scale=0.01):
    out = []
    for i in range(n):
        energy = -5.4 + rng.exponential(0.35)
        forces = rng.normal(size=(8, 3))
        out.append(
            ErrorRecord(
                f"s{i:03d}",
                "crystal",
                8,
                8 * energy,
                8 * (energy + rng.normal() * scale),
                forces,
                forces + rng.normal(size=(8, 3)) * 10 * scale,
            )
        )
    return out


def stability(reason="", hole=0.0):
    """What became of a potential; with a reason the run ended at 3 ps, with a hole (eV) the pair falls into it."""
    rng = np.random.default_rng(4)
    n = 60 if reason else 400
    run = Dynamics(
        survived=not reason,
        reason=reason,
        n_atoms=64,
        temperature_K=1350.0,
        timestep_fs=2.0,
        duration_ps=20.0,
        reached_ps=3.0 if reason else 20.0,
        times=0.05 * np.arange(1, n + 1),
        temperatures=1350 + 140 * rng.normal(size=n),
        energies=0.18 + 0.02 * rng.normal(size=n),
        shortest=2.15 - 0.06 * rng.random(n),
        displacement=0.31,
        kept_lattice=True,
        drift_meV_per_ps=None if reason else 0.012,
    )
    r = np.linspace(0.5, 1.5, 101)
    dimer = 4.0 * ((0.9 / r) ** 12 - (0.9 / r) ** 6)
    x = r[r <= 1.0] * 2.35
    pair = 30 * (1 - x / 2.35) ** 2 - hole * np.exp(-(((x - 1.55) / 0.12) ** 2))
    return Stability(
        "Si-diamond",
        1350.0,
        1687.0,
        "",
        "",
        run,
        (
            judge_contacts("dimer", "Si-Si", 2.22, 2.22 * r, dimer, wanted=0.6),
            judge_contacts("pair", "Si-Si", 2.35, x, pair, wanted=0.6),
            judge_contacts("crystal", "crystal", 2.35, x, 300 * (1 - x / 2.35) ** 2, wanted=0.6),
        ),
    )


def example(generations=5, **changes):
    rng = np.random.default_rng(1)
    learning, summaries = [], []
    for g in range(generations):
        n = 25 * (g + 1)
        rows = error_table(records(rng, scale=0.25 / (g + 1) ** 1.6), rng=np.random.default_rng(g))
        for quantity, series, unit in (
            ("energy", "held-out energy", "eV/atom"),
            ("forces", "held-out forces", "eV/Å"),
        ):
            s = next(r for r in rows if r.quantity == quantity and r.group == "all").summary
            learning.append(LearningPoint(g, n, series, s.rmse, unit, s.low, s.high))
        learning.append(LearningPoint(g, n, "Si-diamond", 0.3 * 0.25**g + 0.0004, "eV/atom"))
        learning.append(LearningPoint(g, n, "Si-beta-tin", 0.4 * 0.5**g + 0.008, "eV/atom"))
        summaries.append(
            GenerationSummary(
                g,
                built=400,
                relaxed_converged=0 if g == 0 else 371,
                relaxed_unconverged=0 if g == 0 else 22,
                relaxed_failed=0 if g == 0 else 7,
                selected=30,
                labelled=28,
                reused=1,
                quarantined=1 if g == 2 else 0,
                training_set=n,
                relaxation_reasons={"volume fell below half of its start": 7} if g else {},
                quarantine_reasons={"SCF did not converge in 3 attempts": 1} if g == 2 else {},
                errors=rows,
                deltas={"2b": 2.1, "3b": 0.42, "soap": 0.11},
                seconds={
                    "build": 12.0,
                    "relax": 160.0 if g else 0.0,
                    "select": 25.0,
                    "reference": 840.0,
                    "fit": 60.0 + 30 * g,
                    "assess": 40.0,
                },
            )
        )
    energies = {g: -np.log(rng.random(30)) * 0.6 / (1 + 0.3 * g) for g in range(generations)}
    reference = -np.log(rng.random(120)) * 0.35
    volumes = 20 + rng.normal(size=200) * 3
    hull_v = np.array([12.0, 15.5, 20.4, 27.0])
    hull_e = np.array([-4.2, -5.1, -5.42, -4.9])
    distance = -np.log(rng.random(200)) * 0.5
    groups = ("C",) * 40 + ("Si",) * 40 + ("Ti",) * 40
    centre = np.repeat([[-1.2, 0.4], [0.0, -0.6], [1.3, 0.3]], 40, axis=0)
    pool = -np.log(rng.random(2000)) * 0.5
    energy_series = [p for p in learning if p.series == "held-out energy"]
    data = ReportData(
        campaign="quickstart-Si",
        system="Si",
        state="finished",
        state_reason="label budget reached: 145 of 145",
        settings={"element": "Si", "seed": 1, "build": {"atoms_min": 2, "atoms_max": 8}},
        started="2026-11-20 10:00 UTC",
        finished="2026-11-20 10:27 UTC",
        wall_seconds=1620.0,
        label_budget=145,
        generations=tuple(summaries),
        learning=tuple(learning),
        forecasts={
            "held-out energy": fit_power_law(
                [p.n_labels for p in energy_series], [p.error for p in energy_series]
            )
        }
        if generations > 2
        else {},
        phases=(
            PhaseEvidence(
                "Si-diamond",
                "diamond",
                "Wyckoff 1963",
                curve("Si-diamond", "potential", 20.55, -5.417),
                curve("Si-diamond", "reference", 20.45, -5.42),
            ),
            PhaseEvidence(
                "Si-beta-tin",
                "β-tin",
                "Jamieson 1963",
                curve("Si-beta-tin", "potential", 15.0, -5.09, 0.7),
                curve("Si-beta-tin", "reference", 15.3, -5.13, 0.72),
            ),
            PhaseEvidence(
                "Si-oS24",
                "oS24",
                "Kim 2015",
                curve("Si-oS24", "potential", 22.4, -5.31),
                None,
                "not enough time for the reference curve",
            ),
        ),
        stability=stability(),
        stability_generation=generations - 1,
        label_noise=0.004,
        label_noise_note="4 cells at k-point density 4",
        scatter=ScatterData(
            generations - 1, reference, reference + rng.normal(size=120) * 0.03 * (0.2 + reference)
        ),
        energies=energies,
        selection=(
            SelectionStage("all minima", tuple(pool)),
            SelectionStage("flat histogram", tuple(pool[::8])),
            SelectionStage("CUR", tuple(pool[::32])),
        ),
        hull=HullData(volumes, np.interp(volumes, hull_v, hull_e) + distance, hull_v, hull_e, distance),
        similarity=SimilarityMap(
            groups,
            centre + rng.normal(size=(120, 2)) * 0.3,
            np.repeat([3.0, 4.2, 11.0], 40) + rng.random(120),
            np.array([0.48, 0.17]),
            groups,
        ),
        failures=(
            Failure(2, "reference", "g2-s17", "SCF did not converge in 3 attempts"),
            Failure(3, "relax", "g3-r211", "volume fell below half of its start"),
        ),
        quarantined=(
            Quarantined(
                2,
                "quickstart-Si/g002/cell/000017",
                "train",
                "scf",
                "self-consistency not reached: 120 iterations (quarantined after 3 attempts)",
                3,
                ("plain: self-consistency not reached", "slower mixing: self-consistency not reached"),
                Atoms(
                    "Si3", positions=[[0, 0, 0], [1.9, 0.3, 0.2], [2.5, 2.2, 3.0]], cell=[4, 4, 5], pbc=True
                ),
            ),
        ),
        remedies=(Remedy("slower mixing", 9, 8), Remedy("more iterations", 2, 1)),
        unusual=(("quickstart-Si/g001/cell/000003", 31.2, -4.9),),
        potential_files={"gap.xml": "ab" * 32},
        versions={"gapfactory": "0.1.0", "gpaw": "26.7", "quippy": "0.10.3"},
        citations=("N. Bernstein, G. Csányi, V. L. Deringer, npj Comput. Mater. 5, 99 (2019)",),
    )
    return replace(data, **changes)
