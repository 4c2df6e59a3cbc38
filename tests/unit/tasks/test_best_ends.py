"""Which relaxed cells the chain of EDDPs takes."""

from __future__ import annotations

from launchpad.tasks.ends import best_ends

GPA = 160.2176634


def row(name, energy, volume=20.0, status="converged", composition="Si"):
    return {
        "_id": name,
        "status": status,
        "composition": composition,
        "final_energy_per_atom": energy,
        "final_volume_per_atom": volume,
    }


def names(rows, pressure=0.0, best=10, window=5.0, uncertain=0.0):
    return [r["_id"] for r in best_ends(rows, pressure, best, window, uncertain=uncertain)]


def test_the_lowest_within_the_window_and_none_that_failed() -> None:
    rows = [
        row("a", -1.0),
        row("b", -4.0, status="failed"),
        row("c", -3.0),
        row("d", -2.5, status="unconverged"),
    ]
    assert names(rows) == ["c", "d", "a"]
    assert names(rows, best=2) == ["c", "d"]
    assert names(rows, window=1.0) == ["c", "d"]


def test_enthalpies_are_compared_at_one_pressure() -> None:
    rows = [row("open", -3.0, 30.0), row("dense", -2.8, 15.0)]
    assert names(rows) == ["open", "dense"]
    # 15 Å^3 at 0.2 eV / 15 Å^3 and more
    assert names(rows, pressure=0.21 / 15.0 * GPA) == ["dense", "open"]


def test_each_composition_has_its_own_lowest() -> None:
    rows = [row("a", -9.0, composition="A"), row("b", -1.0, composition="B"), row("c", -0.9, composition="B")]
    assert names(rows, best=2) == ["a", "b"]
    assert names(rows, window=0.05) == ["a", "b"]


def test_the_least_certain_have_their_share_before_the_lowest() -> None:
    rows = [
        row("low", -4.0) | {"uncertainty": 0.1},
        row("odd", -2.0) | {"uncertainty": 0.9},
        row("lower", -3.0) | {"uncertainty": 0.3},
        row("far", 9.0) | {"uncertainty": 2.0},
        row("lost", -9.0, status="failed") | {"uncertainty": 3.0},
        row("silent", -2.5) | {"uncertainty": None},
    ]
    assert names(rows) == ["low", "lower", "silent", "odd"]
    # beyond the window, or failed, nothing is taken however uncertain it is
    assert names(rows, uncertain=0.25, best=4) == ["odd", "low", "lower", "silent"]
    assert names(rows, uncertain=0.5, best=3) == ["odd", "lower", "low"]
    assert names(rows, uncertain=1.0, best=2) == ["odd", "lower"]
    assert names(rows, uncertain=1.0, best=9) == ["odd", "lower", "low", "silent"]
