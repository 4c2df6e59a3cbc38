"""Tables of a search: minima that are one structure are encounters of it, the lowest stands for all."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.analysis.stage_ranking import Calculated, chosen, table


def shaken(atoms, seed, amount=0.003):
    moved = atoms.copy()
    moved.positions += amount * np.random.default_rng(seed).normal(size=(len(atoms), 3))
    return moved


DIAMOND = bulk("Si", "diamond", a=5.43)
FCC = bulk("Si", "fcc", a=3.9)
SC = bulk("Si", "sc", a=2.5)


def found():
    return [
        Calculated("sc", SC, -3.9, status="unconverged"),
        Calculated("diamond-1", shaken(DIAMOND, 1), -4.325),
        Calculated("fcc-1", FCC, -3.85, start="before"),
        Calculated("diamond-2", DIAMOND.repeat((1, 2, 1)), -4.33, encounters=3),
        Calculated("fcc-2", shaken(FCC.repeat((2, 1, 1)), 2), -3.845),
    ]


def test_encounters_are_counted_and_the_lowest_stands_for_all() -> None:
    rows = table(found(), pressure_GPa=0.0, most=10)
    assert [(r["id"], r["encounters"]) for r in rows] == [("diamond-2", 4), ("sc", 1), ("fcc-1", 2)]
    assert [r["above_eV_per_atom"] for r in rows] == pytest.approx([0.0, 0.43, 0.48])
    assert [r["space_group"] for r in rows] == ["Fd-3m (227)", "Pm-3m (221)", "Fm-3m (225)"]
    assert [(r["status"], r["start"]) for r in rows] == [
        ("done", ""),
        ("unconverged", ""),
        ("done", "before"),
    ]
    turned = table(found()[::-1], pressure_GPa=0.0, most=10)
    assert turned == rows


def test_pressure_favours_what_is_denser() -> None:
    # diamond has 20.01, fcc 14.83 Å^3 per atom: 0.48 eV are made up for from 14.8 GPa on
    order = {p: table(found(), pressure_GPa=p, most=1)[0]["id"] for p in (14.5, 15.2)}
    assert order == {14.5: "diamond-2", 15.2: "fcc-1"}


def test_each_composition_has_its_own_lowest() -> None:
    carbon = Atoms("C", cell=3 * np.eye(3), pbc=True)
    more = [Calculated("sic", bulk("SiC", "zincblende", a=4.36), 5.0), Calculated("c", carbon, 0.0)]
    rows = table([*found(), *more], pressure_GPa=0.0, most=1)
    assert [(r["id"], r["above_eV_per_atom"]) for r in rows] == [("c", 0), ("sic", 0), ("diamond-2", 0)]


def test_the_next_stage_takes_the_lowest_of_each_composition_in_turn() -> None:
    rows = [
        {"id": name, "composition": formula, "above_eV_per_atom": above}
        for formula, name, above in (
            ("A", "a0", 0.0), ("A", "a1", 0.1), ("A", "a2", 0.2), ("B", "b0", 0.0), ("B", "b1", 0.9),
        )
    ]  # fmt: skip
    assert [r["id"] for r in chosen(rows, within_eV=0.5, most=3)] == ["a0", "b0", "a1"]
    assert [r["id"] for r in chosen(rows, within_eV=1.0, most=9)] == ["a0", "b0", "a1", "b1", "a2"]
