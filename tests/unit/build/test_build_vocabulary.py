"""What can be asked of the builder beyond the 2019 paper, checked by ASE's neighbour lists and by spglib."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.data import atomic_masses
from ase.neighborlist import neighbor_list
from pydantic import ValidationError

from gapfactory._spglib import quiet_spglib
from gapfactory.build import (
    BuildSettings,
    BuiltCell,
    atom_counts,
    best_structures,
    build_cell,
    measure,
    measured_settings,
)
from gapfactory.build.sites import fill, fillings, sites
from gapfactory.build.symmetry import candidates, crystal_system, is_symmorphic, space_group
from gapfactory.build.volumes import draw_contents, draw_separations, volume_per_atom
from gapfactory.elements import species
from gapfactory.errors import BuildError, InputError
from gapfactory.seeds import Stage, stream

GRAMS_PER_AMU = 1.66053906660e-24


def kinds(*symbols: str) -> dict[str, object]:
    return {symbol: species(symbol) for symbol in symbols}


def build(
    index: int, unit: dict[str, int] | None = None, generation: int = 1, **settings: object
) -> BuiltCell:
    unit = unit or {"B": 1}
    return build_cell(
        stream(11, generation, Stage.CELL, index),
        composition=unit,
        species=kinds(*unit),  # type: ignore[arg-type]
        generation=generation,
        settings=BuildSettings(**settings),  # type: ignore[arg-type]
    )


def shortest(atoms: Atoms, one: str, other: str, reach: float = 6.0) -> float:
    """Shortest distance of two species by ASE, periodic images included."""
    symbols = np.array(atoms.get_chemical_symbols())
    i, j, d = neighbor_list("ijd", atoms, reach)
    here = (symbols[i] == one) & (symbols[j] == other)
    return float(d[here].min()) if here.any() else np.inf


def assert_symmetric(cell: BuiltCell) -> None:
    """Every operation that was imposed is among those that spglib finds."""
    assert len(cell.rotations) == cell.symmetry_operations
    data = (cell.atoms.cell.array, cell.atoms.get_scaled_positions(), cell.atoms.numbers)
    with quiet_spglib():
        found = spglib.get_symmetry(data, symprec=1e-3)
    assert found is not None
    for rotation, translation in zip(cell.rotations, cell.translations, strict=True):
        same = (found["rotations"] == np.rint(rotation)).all(axis=(1, 2))
        delta = found["translations"][same] - translation
        delta -= np.rint(delta)
        assert len(delta)
        assert np.abs(delta @ cell.atoms.cell.array).max(axis=1).min() < 2e-3


def digest(cells: list[BuiltCell]) -> str:
    """Digest of cells to 1e-4 Å: the same on every machine."""
    h = hashlib.sha256()
    for cell in cells:
        h.update(cell.atoms.numbers.astype("<i4").tobytes())
        # a little off the middle of the grid, so that exact fractions do not sit on an edge
        values = np.concatenate([cell.atoms.cell.array, cell.atoms.positions]) + 3.3e-5
        h.update(np.floor(values * 1e4).astype("<i8").tobytes())
    return h.hexdigest()[:16]


@pytest.mark.parametrize(
    ("unit", "generation", "settings", "expected"),
    [
        ({"Si": 1}, 0, {}, "98a84025f45553ae"),
        ({"Ti": 1}, 1, {}, "72169f3dcfe095ea"),
        ({"Ti": 1, "O": 2}, 0, {}, "3d14f03c8851d7b0"),
        (
            {"B": 1},
            0,
            {"volume": {"per_atom": [6, 9]}, "separations": {"value": [1.4, 1.7]}},
            "9e207336f7611ef8",
        ),
        (
            {"B": 2, "O": 3},
            0,
            {"contents": {"composition": "random"}, "symmetry": {"extra_sites": 3}},
            "5c19255bbe1f1db8",
        ),
    ],
    ids=["Si", "Ti", "TiO2", "ranges", "stochastic"],
)
def test_a_seed_fixes_each_cell(
    unit: dict[str, int], generation: int, settings: dict[str, object], expected: str
) -> None:
    """The first three are cells of earlier versions: default settings keep their draws."""
    assert digest([build(i, unit, generation, **settings) for i in range(8)]) == expected


# volume


def test_a_volume_range_is_drawn_uniformly_and_kept() -> None:
    volumes = []
    for index in range(60):
        cell = build(index, generation=0, volume={"per_atom": [6.0, 9.0]}, separations={"value": 1.4})
        assert cell.volume_range == "given"
        volumes.append(cell.atoms.get_volume() / len(cell.atoms))
    assert 6.0 <= min(volumes) < 6.4
    assert 8.6 < max(volumes) <= 9.0
    assert np.mean(volumes) == pytest.approx(7.5, abs=0.4)


def test_a_single_volume_is_varied_or_exact() -> None:
    varied = [build(i, volume={"per_atom": 8.0}).atoms for i in range(30)]
    relative = np.array([a.get_volume() / len(a) / 8.0 - 1 for a in varied])
    assert 0.03 < np.abs(relative).max() <= 0.05 + 1e-9
    exact = [build(i, generation=0, volume={"per_atom": 8.0, "exact": True}) for i in range(10)]
    assert all(c.atoms.get_volume() / len(c.atoms) == pytest.approx(8.0) for c in exact)


def test_volume_per_formula_unit_and_density() -> None:
    rutile = {"Ti": 1, "O": 2}
    loose = {"minimum_separation_in_r": 1.2}
    for index in range(10):
        cell = build(index, rutile, volume={"per_formula_unit": [30.0, 34.0]}, **loose)
        assert 30.0 <= cell.atoms.get_volume() / (len(cell.atoms) / 3) <= 34.0
        cell = build(index, rutile, volume={"density_g_cm3": 4.2, "exact": True}, **loose)
        density = cell.atoms.get_masses().sum() * GRAMS_PER_AMU / (cell.atoms.get_volume() * 1e-24)
        assert density == pytest.approx(4.2, rel=1e-6)
    given = BuildSettings(volume={"density_g_cm3": [2.0, 4.0]})
    boron = float(atomic_masses[5]) * 1.6605390666
    assert volume_per_atom([species("B")], [12], given) == pytest.approx(boron * (1 / 2 + 1 / 4) / 2)


# separations


def test_separations_per_pair() -> None:
    for index in range(15):
        cell = build(
            index,
            {"B": 2, "O": 3},
            atoms_max=15,
            volume={"per_atom": 11.0},
            separations={"value": 1.5, "pairs": {"O-B": 1.3, "O-O": 2.2}},
            slack=0.0,
        )
        assert shortest(cell.atoms, "B", "B") >= 1.5 - 1e-6
        assert shortest(cell.atoms, "B", "O") >= 1.3 - 1e-6
        assert shortest(cell.atoms, "O", "O") >= 2.2 - 1e-6


def test_separations_are_drawn_for_each_cell_and_pair() -> None:
    rng = np.random.default_rng(3)
    both = [species("B"), species("O")]
    settings = BuildSettings(separations={"value": [1.0, 2.0], "pairs": {"O-O": [2.0, 3.0]}})
    drawn = np.array([draw_separations(rng, both, settings) for _ in range(500)])
    assert np.array_equal(drawn, drawn.transpose(0, 2, 1))
    assert 1.0 <= drawn[:, 0, :].min() < 1.05
    assert 1.95 < drawn[:, 0, :].max() <= 2.0
    assert 2.0 <= drawn[:, 1, 1].min() < 2.05
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.15
    cells = [build(i, separations={"value": [1.2, 1.6]}, volume={"per_atom": 8.0}) for i in range(25)]
    nearest = np.array([shortest(c.atoms, "B", "B") for c in cells])
    assert nearest.min() >= 1.2 - 1e-6
    assert nearest.max() - nearest.min() > 0.2


def test_separations_and_volume_measured_from_structures() -> None:
    rock_salt = Atoms(
        "TiO", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=2.1 * (np.ones((3, 3)) - np.eye(3)), pbc=True
    )
    found = measure([rock_salt])
    assert found.separations == pytest.approx({"O-O": 2.1 * 2**0.5, "O-Ti": 2.1, "Ti-Ti": 2.1 * 2**0.5})
    assert found.volume_per_atom == pytest.approx(2.1**3)
    longer = rock_salt.copy()
    longer.set_cell(1.1 * rock_salt.cell.array, scale_atoms=True)
    both = measure([longer, rock_salt])
    assert both.separations["O-Ti"] == pytest.approx(2.1)
    assert both.volume_per_atom == pytest.approx(2.1**3 * (1 + 1.1**3) / 2)
    written = BuildSettings(separations={"value": 1.0, "pairs": {"O-Ti": 1.9, "B-B": 1.5}})
    assert measured_settings(written, found) is written
    auto = BuildSettings(separations={"value": 1.0, "pairs": {"O-Ti": 1.9, "B-B": 1.5}, "auto": True})
    assert measured_settings(auto, None) is auto
    taken = measured_settings(auto, found)
    assert taken.separations.pairs["O-Ti"] == pytest.approx((2.1, 2.1))
    assert taken.separations.pairs["B-B"] == (1.5, 1.5)
    assert taken.volume.per_atom == pytest.approx((2.1**3, 2.1**3))
    assert BuildSettings.model_validate(taken.model_dump(mode="json")) == taken
    one_way = Atoms("Ti", cell=[2.0, 9.0, 9.0], pbc=True)
    assert measure([one_way]).separations == pytest.approx({"Ti-Ti": 2.0})
    with pytest.raises(InputError, match="no structure"):
        measure([])
    with pytest.raises(InputError, match="not periodic"):
        measure([Atoms("Ti")])


def test_the_best_structures_are_the_lowest_of_each_composition() -> None:
    def crystal(symbols: str) -> Atoms:
        return Atoms(symbols, cell=[5.0] * 3, pbc=True, positions=np.eye(len(symbols), 3))

    lone = Atoms("BB", positions=np.eye(2, 3))
    pool = [
        ("d", crystal("BB"), -6.0),  # -3.0 eV/atom
        ("c", crystal("B"), -3.0),  # as low, and the id decides
        ("b", crystal("BBB"), -8.0),
        ("a", crystal("BO"), -1.0),
        ("e", crystal("BBOO"), -3.0),
        ("f", lone, -99.0),
    ]
    assert [key for key, _, _ in best_structures(pool, 1)] == ["c", "e"]
    assert [key for key, _, _ in best_structures(pool[::-1], 2)] == ["a", "c", "d", "e"]
    assert best_structures([("f", lone, -99.0)], 3) == []


# contents


def test_formula_units_take_the_place_of_the_range() -> None:
    settings = BuildSettings(contents={"formula_units": [1, "3-4"]})
    assert atom_counts({"B": 2, "O": 3}, settings) == [5, 15, 20]
    drawn = Counter(
        len(
            build(
                i, {"B": 2, "O": 3}, contents={"formula_units": [1, "3-4"]}, minimum_separation_in_r=1.3
            ).atoms
        )
        for i in range(40)
    )
    assert set(drawn) == {5, 15, 20}


def test_stochastic_composition() -> None:
    rng = np.random.default_rng(5)
    table = kinds("B", "O", "Ti")

    def drawn(**contents: object) -> np.ndarray:
        settings = BuildSettings(atoms_min=12, atoms_max=12, contents=contents)
        rows = []
        for _ in range(1500):
            c = draw_contents(
                rng, composition={"B": 1, "O": 2, "Ti": 1}, species=table, generation=1, settings=settings
            )  # type: ignore[arg-type]
            counts = dict(zip((s.symbol for s in c.species), c.counts, strict=True))
            assert min(c.counts) > 0
            rows.append([counts.get(s, 0) for s in ("B", "O", "Ti")])
        assert (np.sum(rows, axis=1) == 12).all()
        return np.array(rows)

    # two cuts, each uniform in 0..12: thirds on average, and one species alone is possible
    free = drawn(composition="random")
    assert np.abs(free.mean(axis=0) - 4).max() < 0.35
    assert (free == 12).any()
    assert np.abs(drawn(composition="weighted").mean(axis=0) - [3, 6, 3]).max() < 0.2
    weighted = drawn(composition="weighted", weights={"B": 3, "Ti": 1})
    assert weighted[:, 1].max() == 0
    assert weighted[:, 0].mean() == pytest.approx(9, abs=0.2)
    assert ((drawn(composition="random", species_present=[2]) > 0).sum(axis=1) == 2).all()
    with pytest.raises(BuildError, match="species_present"):
        drawn(composition="random", species_present=[7])
    with pytest.raises(InputError, match="weights names Si"):
        drawn(composition="weighted", weights={"Si": 1})
    cell = build(0, {"B": 1, "O": 1}, contents={"composition": "random"}, minimum_separation_in_r=1.2)
    assert 6 <= len(cell.atoms) <= 24


# symmetry


def test_groups_by_kind() -> None:
    def asked(**symmetry: object) -> set[int]:
        return {n for groups in candidates(BuildSettings(symmetry=symmetry)) for n in groups}

    assert asked(space_groups=[2, "225-227"]) == {2, 225, 226, 227}
    assert asked(point_groups=["m-3m"]) == set(range(221, 231))
    assert asked(crystal_systems=["hexagonal"]) == set(range(168, 195))
    assert asked(operations=[4]) == {*range(10, 47), *range(75, 83)}
    assert asked(operations="1-2", symmorphic=True) == {1, 2, 3, 5, 6, 8}
    assert asked(crystal_systems=["cubic"], operations=24, symmorphic=True) == {
        200,
        202,
        204,
        207,
        209,
        211,
        215,
        216,
        217,
    }
    assert [len(c) for c in candidates(BuildSettings())] == [1, 8, 4, 45, 22, 68]
    assert [crystal_system(n) for n in (1, 3, 16, 75, 143, 168, 195)] == [
        "triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic",
    ]  # fmt: skip


def test_symmorphic_groups_have_a_point_of_full_symmetry() -> None:
    """73 groups; a group is symmorphic exactly when all its operations fix one point."""
    symmorphic = [n for n in range(1, 231) if is_symmorphic(n)]
    assert len(symmorphic) == 73
    for n in (*range(1, 60), 75, 143, 146, 155, 160, 168, 191, 194, 197, 199, 216, 220, 225, 227, 229, 230):
        assert is_symmorphic(n) == (min(s.multiplicity for s in sites(space_group(n))) == 1), n


def test_the_groups_asked_for_are_imposed() -> None:
    drawn = Counter()
    for index in range(40):
        cell = build(index, symmetry={"space_groups": [2, "146-148"]}, minimum_separation_in_r=1.6)
        assert_symmetric(cell)
        drawn[cell.space_group] += 1
    assert set(drawn) == {2, 146, 147, 148}
    cell = build(
        0, atoms_min=16, atoms_max=16, symmetry={"crystal_systems": ["cubic"]}, minimum_separation_in_r=1.4
    )
    assert cell.space_group >= 195
    assert_symmetric(cell)


def test_general_positions_only() -> None:
    """4 operations and 9 to 11 atoms: two general orbits that obey them, and the rest anywhere."""
    for index in range(20):
        cell = build(
            index,
            atoms_min=9,
            atoms_max=11,
            symmetry={"operations": 4, "positions": "general"},
            slack=0.0,
        )
        n = len(cell.atoms)
        assert shortest(cell.atoms, "B", "B") >= 1.8 * 0.84 - 1e-6
        positions = cell.atoms.get_scaled_positions()
        images = np.einsum("gab,nb->gna", cell.rotations, positions) + cell.translations[:, None]
        delta = images[:, :, None] - positions[None, None]
        delta -= np.rint(delta)
        hits = (np.abs(delta).max(axis=3) < 1e-6).any(axis=2).all(axis=0)
        assert hits.sum() == 8, index
        assert n - 8 in (1, 2, 3)
    with pytest.raises(ValidationError, match="drop one"):
        BuildSettings(symmetry={"positions": "general", "extra_sites": 1})


def test_extra_sites_bring_special_positions() -> None:
    rng = np.random.default_rng(1)
    pmmm = space_group(47)
    assert fill(pmmm, (16,)) == ((8, 8),)
    assert fillings(rng, pmmm, (16,), 0) == ((8, 8),)
    drawn = Counter(fillings(rng, pmmm, (16,), 2) for _ in range(300))
    lengths = Counter(len(row[0]) for row in drawn.elements())
    assert set(lengths) == {2, 3, 4}
    assert min(lengths.values()) > 60
    for (row,) in drawn:
        assert sum(row) == 16
        assert list(row) == sorted(row, reverse=True)
    # eight sites of multiplicity 1 in Pmmm, none with freedom: shared between the species
    for ways in (fillings(rng, pmmm, (6, 6), 6) for _ in range(200)):
        assert ways is not None
        assert sum(row.count(1) for row in ways) <= 8
    special = [
        build(
            i,
            atoms_min=16,
            atoms_max=16,
            symmetry={"operations": 8, "extra_sites": 4},
            minimum_separation_in_r=1.5,
        )
        for i in range(12)
    ]
    for cell in special:
        assert_symmetric(cell)


# shape


def test_shape_limits() -> None:
    def lengths(**shape: object) -> np.ndarray:
        cells = [
            build(
                i,
                symmetry={"space_groups": 1},
                shape={"compact": False, **shape},
                minimum_separation_in_r=1.0,
            )
            for i in range(40)
        ]
        return np.array([c.atoms.cell.cellpar() for c in cells])

    usual = lengths()[:, :3]
    ratio = usual.max(axis=1) / usual.min(axis=1)
    assert 2.5 < ratio.max() <= 4 + 1e-9
    assert np.ptp(lengths(equal_lengths=1.0)[:, :3], axis=1).max() < 1e-9
    cosines = np.cos(np.radians(lengths(flatness=0.9)[:, 3:]))
    flatness = np.sqrt(1 - (cosines**2).sum(axis=1) + 2 * cosines.prod(axis=1))
    assert flatness.min() >= 0.9 - 1e-9


def test_compact_cells_have_the_shortest_vectors() -> None:
    plain = [build(i, symmetry={"space_groups": 1}, shape={"compact": False}).atoms for i in range(30)]
    short = [build(i, symmetry={"space_groups": 1}).atoms for i in range(30)]
    total = [sum(np.linalg.norm(a.cell.array, axis=1).sum() for a in atoms) for atoms in (plain, short)]
    assert total[1] < total[0]


@pytest.mark.parametrize(
    ("cell", "group"),
    [
        ([5.0, 5.0, 5.0, 90.0, 90.0, 90.0], 195),
        ([5.0, 5.0, 5.0, 60.0, 60.0, 60.0], 216),  # face-centred cubic, primitive
        ([4.0, 6.0, 5.0, 90.0, 90.0, 90.0], 26),
        ([5.0, 4.0, 6.0, 105.0, 90.0, 90.0], 4),  # unique axis a
        ([5.0, 5.0, 6.0, 90.0, 90.0, 120.0], 147),
    ],
)
def test_a_fixed_cell_takes_the_groups_it_obeys(cell: list[float], group: int) -> None:
    settings = {"shape": {"cell": cell}, "atoms_min": 12, "atoms_max": 12, "minimum_separation_in_r": 1.5}
    for index in range(4):
        built = build(index, symmetry={"space_groups": [group]}, **settings)
        assert built.atoms.cell.cellpar() == pytest.approx(cell)
        assert built.volume_range == "given"
        assert_symmetric(built)
    if cell[0] != cell[1]:
        with pytest.raises(BuildError, match="is obeyed by the fixed cell"):
            build(0, symmetry={"crystal_systems": ["cubic"]}, **settings)


def test_conditions_on_the_cell() -> None:
    for index in range(8):
        cell = build(index, shape={"cellcon": [0, 0, 4.0, 90, 90, 0]}, minimum_separation_in_r=1.4)
        assert cell.atoms.cell.cellpar()[2:5] == pytest.approx((4.0, 90.0, 90.0))
        assert_symmetric(cell)
        mean = 14.5 * 0.84**3
        assert abs(cell.atoms.get_volume() / len(cell.atoms) / mean - 1) <= 0.05 + 1e-9
        cell = build(index, shape={"cellcon": [-1, -1, -1, -1, -1, -1]}, minimum_separation_in_r=1.4)
        parameters = cell.atoms.cell.cellpar()
        assert np.ptp(parameters[:3]) < 1e-6
        assert np.ptp(parameters[3:]) < 1e-5
        assert_symmetric(cell)
    with pytest.raises(BuildError, match=r"cellcon = .* does not go with the symmetry"):
        build(0, shape={"cellcon": [0, 0, 0, 80, 85, 95]}, symmetry={"crystal_systems": ["cubic"]}, tries=3)


# settings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"volume": {"per_atom": 8, "density_g_cm3": 2.3}}, "both given"),
        ({"volume": {"exact": True}}, "exact needs a volume"),
        ({"volume": {"per_atom": [9, 8]}}, "low <= high"),
        ({"separations": {"pairs": {"B-B-B": 1.0}}}, "not a pair"),
        ({"separations": {"pairs": {"B-O": 1.0, "O-B": 2.0}}}, "given twice"),
        ({"symmetry": {"operations": "8-1"}}, "smaller one first"),
        ({"symmetry": {"operations": 0}}, "integers from 1"),
        ({"symmetry": {"space_groups": 231}}, "no space group 231"),
        ({"symmetry": {"point_groups": []}}, "name at least one"),
        ({"contents": {"formula_units": []}}, "at least one integer"),
        ({"contents": {"formula_units": 2, "composition": "random"}}, "no formula units"),
        ({"contents": {"weights": {"B": 1}}}, "composition: weighted"),
        ({"shape": {"cell": [1, 1, 1, 10, 10, 90]}}, "right-handed"),
        ({"shape": {"cellcon": [4, 4, 4, 0, 0, 0]}}, "all three lengths"),
        ({"shape": {"cellcon": [0, 0, 0, 190, 0, 0]}}, "below 180"),
        ({"shape": {"cell": [5, 5, 5, 90, 90, 90]}, "volume": {"per_atom": 8}}, "leave out `volume`"),
        ({"slack_start": 0.3, "slack": 0.2}, "slack_start = 0.3 is above"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        BuildSettings(**settings)  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    settings = BuildSettings(
        contents={"formula_units": "1-3"},
        volume={"per_atom": 8},
        separations={"value": [1.4, 1.6], "pairs": {"O-B": 1.3}},
        symmetry={"operations": [1, "3-4"], "point_groups": ["mm2"]},
        shape={"cellcon": [0, 0, -1, -1, 90, 0]},
    )
    assert settings.contents.formula_units == (1, 2, 3)
    assert settings.separations.pairs == {"B-O": (1.3, 1.3)}
    assert BuildSettings.model_validate_json(settings.model_dump_json()) == settings
    vectors = BuildSettings(shape={"cell": [[5, 0, 0], [0, 5, 0], [0, 0, 5]]})
    assert BuildSettings.model_validate_json(vectors.model_dump_json()) == vectors


def test_failures_say_what_to_change() -> None:
    with pytest.raises(
        BuildError, match=r"minimum separation 2\.500 Å \(slack.*raise the volume \(`volume`\).*lower `sep"
    ):
        build(0, separations={"value": 2.5}, volume={"per_atom": 7.0})
    with pytest.raises(BuildError, match=r"space_groups: \(230,\) holds B7: widen `symmetry`"):
        build(0, atoms_min=7, atoms_max=7, symmetry={"space_groups": 230})
