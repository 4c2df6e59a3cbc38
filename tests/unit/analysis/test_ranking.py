"""Rankings: order, groups of equal structures, hull, windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal

from gapfactory.analysis.ranking import Candidate, RankSettings, rank_structures
from gapfactory.errors import InputError


def candidate(name: str, atoms: Atoms, enthalpy: float, **more: object) -> Candidate:
    volume = float(atoms.get_volume()) / len(atoms)
    return Candidate(name, atoms.numbers, enthalpy, volume, atoms, **more)


def recut(atoms: Atoms, seed: int, shake: float = 0.005) -> Atoms:
    """Return the same crystal in another cell and orientation, its atoms and cell slightly off."""
    rng = np.random.default_rng(seed)
    matrices = (
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[2, 0, 0], [0, 1, 0], [1, 0, 1]],
        [[1, 0, 1], [0, 1, 1], [0, 0, -1]],
    )
    found = make_supercell(atoms, matrices[seed % 3], wrap=False)
    found.rotate(float(rng.uniform(10, 80)), rng.normal(size=3), rotate_cell=True)
    found.positions += rng.normal(scale=shake, size=found.positions.shape) + rng.normal(size=3)
    found.set_cell(found.cell.array @ (np.eye(3) + rng.normal(scale=1e-3, size=(3, 3))), scale_atoms=True)
    return found[rng.permutation(len(found))]


DIAMOND = bulk("C", "diamond", 3.57)
LONSDALEITE = crystal(
    "C", [(1 / 3, 2 / 3, 0.0625)], spacegroup=194, cellpar=[2.522, 2.522, 4.119, 90, 90, 120]
)
BCT = crystal("C", [(0.18, 0.18, 0.0)], spacegroup=139, cellpar=[4.37, 4.37, 2.51, 90, 90, 90])


def carbon() -> list[Candidate]:
    found = [candidate(f"d{k}", recut(DIAMOND, k), -9.0 + 1e-4 * k) for k in range(7)]
    # nearly the same energy and volume as diamond, and another structure
    found += [candidate(f"l{k}", recut(LONSDALEITE, k), -8.998 + 1e-4 * k) for k in range(4)]
    found += [candidate(f"b{k}", recut(BCT, k), -8.8 + 1e-4 * k, copies=2) for k in range(3)]
    return found


def test_equal_structures_are_one_line_with_their_number_and_space_group() -> None:
    ranking = rank_structures(carbon())
    assert [e.members for e in ranking.entries] == [
        tuple(f"d{k}" for k in range(7)),
        tuple(f"l{k}" for k in range(4)),
        tuple(f"b{k}" for k in range(3)),
    ]
    assert [e.copies for e in ranking.entries] == [7, 4, 6]
    assert [(e.symbol, e.number, e.primitive_atoms) for e in ranking.entries] == [
        ("Fd-3m", 227, 2),
        ("P6_3/mmc", 194, 4),
        ("I4/mmm", 139, 4),
    ]
    assert [round(e.relative, 6) for e in ranking.entries] == [0, 0.002, 0.2]
    assert [e.above_hull for e in ranking.entries] == [None] * 3
    assert (ranking.considered, ranking.within, ranking.compositions) == (14, 14, 1)
    row = ranking.entries[2].row(3)
    assert (row["rank"], row["formula"], row["copies"], row["space_group_number"]) == (3, "C", 6, 139)


def test_the_order_given_changes_nothing() -> None:
    found = carbon()
    shuffled = [found[k] for k in np.random.default_rng(3).permutation(len(found))]
    first, second = rank_structures(found), rank_structures(shuffled)
    assert [(e.members, e.relative) for e in first.entries] == [
        (e.members, e.relative) for e in second.entries
    ]


def test_tolerances_keep_structures_apart() -> None:
    found = [candidate("a", DIAMOND, -9.0), candidate("b", recut(DIAMOND, 1), -8.985)]
    assert len(rank_structures(found).entries) == 2
    assert len(rank_structures(found, RankSettings(enthalpy_tolerance=0.02)).entries) == 1
    swollen = recut(DIAMOND, 1)
    swollen.set_cell(swollen.cell.array * 1.01, scale_atoms=True)
    found[1] = candidate("b", swollen, -9.0)
    assert len(rank_structures(found).entries) == 2
    assert len(rank_structures(found, RankSettings(volume_tolerance=0.05)).entries) == 1


def test_window_top_and_every() -> None:
    found = carbon()
    assert [e.structure.name for e in rank_structures(found, within=0.01).entries] == ["d0", "l0"]
    (only,) = rank_structures(found, top=1).entries
    # those that are the same as the last line are still counted
    assert (only.structure.name, only.copies) == ("d0", 7)
    every = rank_structures(found, unite=False)
    assert [e.structure.name for e in every.entries][:8] == [*(f"d{k}" for k in range(7)), "l0"]
    assert [e.copies for e in every.entries] == [1] * 11 + [2] * 3
    seen: list[tuple[int, int]] = []
    rank_structures(found, progress=lambda *n: seen.append(n))
    assert seen[-1] == (14, 14)


def test_without_geometry_the_space_group_decides() -> None:
    found = carbon()
    gone = [
        replace(found[2], name="x", atoms=None, space_group=227),
        replace(found[2], name="y", atoms=None, space_group=1),
        replace(found[2], name="z", atoms=None, space_group=None),
    ]
    entries = rank_structures([*found[:2], *gone]).entries
    assert [e.members for e in entries] == [("d0", "d1", "x"), ("y",), ("z",)]
    assert [(e.number, e.symbol, e.primitive_atoms) for e in entries[1:]] == [(1, "", None), (None, "", None)]
    # the same where the lowest one has no geometry
    lower = replace(gone[0], enthalpy=-9.001)
    assert [e.members for e in rank_structures([*found[:2], lower]).entries] == [("x", "d0", "d1")]


def binary(name: str, formula: str, enthalpy: float) -> Candidate:
    numbers = Atoms(formula).numbers
    return Candidate(name, numbers, enthalpy, 10.0, space_group=1)


def test_heights_above_the_hull_of_several_compositions() -> None:
    found = [
        binary("Mg", "Mg2", -1.0),
        binary("Si", "Si", -5.0),
        binary("Mg2Si", "Mg2Si", -3.0),
        binary("MgSi", "Mg2Si2", -3.1),
        binary("MgSi high", "MgSi", -2.9),
    ]
    ranking = rank_structures(found)
    heights = {e.structure.name: e.above_hull for e in ranking.entries}
    # on the line from Mg2Si (x = 1/3, -3.0) to Si (x = 1, -5.0) MgSi at x = 1/2 would have -3.5
    assert heights == pytest.approx({"Mg": 0, "Si": 0, "Mg2Si": 0, "MgSi": 0.4, "MgSi high": 0.6})
    assert {e.structure.name: e.relative for e in ranking.entries}["MgSi high"] == pytest.approx(0.2)
    assert ranking.compositions == 4
    assert [e.structure.name for e in ranking.entries] == ["Mg", "Mg2Si", "Si", "MgSi", "MgSi high"]
    assert [e.structure.name for e in rank_structures(found, within=0.5).entries][-1] == "MgSi"
    best = rank_structures(found, best_per_composition=True)
    assert [e.structure.name for e in best.entries] == ["Mg", "Mg2Si", "Si", "MgSi"]
    assert [e.structure.formula_units for e in best.entries] == [2, 1, 1, 2]


def test_hull_in_three_elements_agrees_with_that_of_qhull() -> None:
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(11)
    formulas = sorted({f"Mg{a}Al{b}Si{c}" for a, b, c in rng.integers(1, 7, size=(25, 3))})
    formulas = [*formulas, "Mg", "Al", "Si"]
    found = [binary(f, f, float(-3 + rng.normal(scale=0.3))) for f in formulas]
    heights = {e.structure.name: e.above_hull for e in rank_structures(found, unite=False).entries}
    # compositions as points of the plane, energies above them; facets that face down are the hull
    of = {c.name: np.array([np.mean(c.numbers == z) for z in (12, 13, 14)]) for c in found}
    best: dict[tuple[float, float], float] = {}
    for c in found:
        key = tuple(np.round(of[c.name][:2], 12))
        best[key] = min(best.get(key, np.inf), c.enthalpy)
    points = np.array([[*xy, e] for xy, e in best.items()])
    equations = np.array([q for q in ConvexHull(points).equations if q[2] < 0])
    for c in found:
        x, y = of[c.name][:2]
        hull = max(-(q[0] * x + q[1] * y + q[3]) / q[2] for q in equations)
        assert heights[c.name] == pytest.approx(c.enthalpy - hull, abs=1e-8)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "no structures to rank"),
        ([replace(carbon()[0], enthalpy=float("nan"))], "d0: enthalpy nan"),
        ([replace(carbon()[0], volume=0.0)], "d0: .* volume 0.0"),
        (
            [candidate("slab", Atoms("C", cell=[3, 3, 3], pbc=[True, True, False]), -1.0)],
            "slab is not periodic",
        ),
    ],
)
def test_what_cannot_be_ranked(found: list[Candidate], said: str) -> None:
    with pytest.raises(InputError, match=said):
        rank_structures(found)
