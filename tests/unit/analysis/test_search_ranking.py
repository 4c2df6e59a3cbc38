"""Ranking: minima that are one structure are encounters of it, the lowest stands for all."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.analysis.stage_ranking import Candidate, chosen, rank


def shaken(atoms, seed, amount=0.003):
    moved = atoms.copy()
    moved.positions += amount * np.random.default_rng(seed).normal(size=(len(atoms), 3))
    return moved


DIAMOND = bulk("Si", "diamond", a=5.43)
FCC = bulk("Si", "fcc", a=3.9)
SC = bulk("Si", "sc", a=2.5)


def candidates():
    return [
        Candidate("sc", SC, -3.9),
        Candidate("diamond-1", shaken(DIAMOND, 1), -4.30),
        Candidate("fcc-1", shaken(FCC.repeat((2, 1, 1)), 2), -3.85),
        Candidate("diamond-2", DIAMOND.repeat((1, 2, 1)), -4.33, encounters=3),
        Candidate("fcc-2", FCC, -3.7),
    ]


def test_encounters_are_counted_and_the_lowest_stands_for_all() -> None:
    found = rank(candidates(), pressure_GPa=0.0, most=10)
    assert [(r.candidate.id, r.encounters) for r in found] == [("diamond-2", 4), ("sc", 1), ("fcc-1", 2)]
    assert [r.above for r in found] == pytest.approx([0.0, 0.43, 0.48])
    assert found[0].as_dict()["space_group"] == "Fd-3m (227)"
    assert found[1].as_dict()["space_group"] == "Pm-3m (221)"


def test_the_order_does_not_matter() -> None:
    plain = rank(candidates(), pressure_GPa=0.0, most=10)
    turned = rank(candidates()[::-1], pressure_GPa=0.0, most=10)
    assert [(r.candidate.id, r.encounters) for r in plain] == [(r.candidate.id, r.encounters) for r in turned]


def test_pressure_favours_what_is_denser() -> None:
    # diamond has 20.01, fcc 14.83 Å^3 per atom: 0.48 eV are made up for from 14.8 GPa on
    order = {p: rank(candidates(), pressure_GPa=p, most=1)[0].candidate.id for p in (14.5, 15.2)}
    assert order == {14.5: "diamond-2", 15.2: "fcc-1"}


def test_window_and_number_limit_each_composition() -> None:
    assert [r.candidate.id for r in rank(candidates(), pressure_GPa=0, most=10, within_eV=0.45)] == [
        "diamond-2",
        "sc",
    ]
    two = [
        *candidates(),
        Candidate("sic", bulk("SiC", "zincblende", a=4.36), 5.0),
        Candidate("c", Atoms("C", cell=3 * np.eye(3), pbc=True), 0.0),
    ]
    found = rank(two, pressure_GPa=0.0, most=1)
    assert [r.candidate.id for r in found] == ["c", "sic", "diamond-2"]


def test_the_next_stage_takes_the_lowest_of_each_composition_in_turn() -> None:
    rows = [
        {"id": name, "composition": formula, "above_eV_per_atom": above}
        for formula, name, above in (
            ("A", "a0", 0.0), ("A", "a1", 0.1), ("A", "a2", 0.2), ("B", "b0", 0.0), ("B", "b1", 0.9),
        )
    ]  # fmt: skip
    assert [r["id"] for r in chosen(rows, within_eV=0.5, most=3)] == ["a0", "b0", "a1"]
    assert [r["id"] for r in chosen(rows, within_eV=1.0, most=9)] == ["a0", "b0", "a1", "b1", "a2"]
