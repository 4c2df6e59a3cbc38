"""The structure matcher: any setting, small strain, near misses, and agreement with pymatgen's."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal

from gapfactory.analysis.matching import MatchSettings, StructureMatcher, same_structure
from gapfactory.analysis.phases import named_phases
from gapfactory.build.distorted import DistortedSettings, distorted_crystal
from gapfactory.errors import InputError

PHASES = {p.name: p.atoms for e in ("B", "C", "Si", "Ti") for p in named_phases(e) if len(p.atoms) <= 28}
#: random unimodular changes of cell, by composition of shears
SHEARS = [np.array(m) for m in ([[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, -1], [0, 0, 1]])]


def recut(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return the same crystal in another cell, orientation, origin and order of atoms."""
    cell = np.eye(3, dtype=int)
    for _ in range(3):
        cell = cell @ SHEARS[rng.integers(2)][np.ix_(p := rng.permutation(3), p)]
    other = make_supercell(atoms, cell)
    other = other[rng.permutation(len(other))]
    other.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    other.positions += rng.normal(size=3)
    other.wrap()
    return other


def dhcp() -> Atoms:
    """Stacking ABAC, ideal spacing."""
    return crystal(
        ["Ti", "Ti"],
        [(0, 0, 0), (1 / 3, 2 / 3, 0.25)],
        spacegroup=194,
        cellpar=[2.95, 2.95, 9.634, 90, 90, 120],
    )


def stacked_graphite(*, layers: str) -> Atoms:
    shift = {"A": (0.0, 0.0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    n = len(layers)
    points = [
        ((x + shift[s][0]) % 1, (y + shift[s][1]) % 1, k / n)
        for k, s in enumerate(layers)
        for x, y in ((0, 0), (1 / 3, 2 / 3))
    ]
    return Atoms(f"C{2 * n}", scaled_positions=points, cell=[2.464, 2.464, 3.3555 * n, 90, 90, 120], pbc=True)


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_is_found_in_any_cell_and_orientation(name):
    rng = np.random.default_rng(1)
    phase = PHASES[name]
    matcher = StructureMatcher([phase])
    forms = [recut(phase, rng) for _ in range(4)]
    mirrored = phase.copy()
    mirrored.set_cell(phase.cell.array * [1, 1, -1], scale_atoms=True)
    forms += [mirrored, recut(phase * (2, 1, 1), rng), recut(phase * (1, 2, 1), rng)]
    for match in matcher.match(forms):
        assert match is not None
        assert match.strain < 1e-6
        assert match.volume_ratio == pytest.approx(1.0)


@pytest.mark.parametrize("name", PHASES)
def test_small_strain_and_shaken_atoms(name):
    """Strains of up to 3 % in each component, 8 % in volume, and 0.04 Å in each coordinate."""
    rng = np.random.default_rng(2)
    settings = DistortedSettings(strain=0.03, displacement=0.04, volume_low=0.92, volume_high=1.08)
    matcher = StructureMatcher(list(PHASES.values()))
    forms = [recut(distorted_crystal(PHASES[name], rng, settings).atoms, rng) for _ in range(6)]
    index = list(PHASES).index(name)
    matches = matcher.match(forms)
    assert [None if m is None else m.target for m in matches] == [index] * 6
    assert all(m is not None and m.strain > 1e-3 for m in matches)


def test_a_target_that_is_itself_a_minimum():
    """A repeated cell, its atoms off their places by what a relaxation leaves: found from either side."""
    rng = np.random.default_rng(10)
    for name in ("Si-beta-tin", "C-lonsdaleite", "B-alpha-Ga"):
        single, double = PHASES[name], PHASES[name] * (1, 2, 1)
        double.positions += rng.normal(scale=0.003, size=(len(double), 3))
        assert same_structure(double, single)
        assert same_structure(single, double)


def test_large_strain_is_another_structure():
    diamond = PHASES["Si-diamond"]
    stretched = diamond.copy()
    stretched.set_cell(diamond.cell.array @ np.diag([1, 1, 1.25]), scale_atoms=True)
    assert not same_structure(diamond, stretched)
    assert not same_structure(diamond, stretched, MatchSettings(least_similarity=0.0))
    swollen = diamond.copy()
    swollen.set_cell(diamond.cell * 1.15, scale_atoms=True)
    assert not same_structure(diamond, swollen)
    assert same_structure(diamond, swollen, MatchSettings(volume_tolerance=0.5))


NEAR_MISSES = {
    "hcp and dhcp": (bulk("Ti", "hcp", a=2.95, c=4.817), dhcp()),
    "fcc and hcp": (bulk("Ti", "fcc", a=4.172), bulk("Ti", "hcp", a=2.95, c=4.817)),
    "fcc and dhcp": (bulk("Ti", "fcc", a=4.172), dhcp()),
    "hcp, doubled, and dhcp": (bulk("Ti", "hcp", a=2.95, c=4.817) * (1, 1, 2), dhcp()),
    "diamond and lonsdaleite": (PHASES["C-diamond"], PHASES["C-lonsdaleite"]),
    "graphite AB and ABC": (stacked_graphite(layers="AB"), stacked_graphite(layers="ABC")),
    "graphite AB and AA": (stacked_graphite(layers="AB"), stacked_graphite(layers="AA")),
    "graphite ABAC and AB": (stacked_graphite(layers="ABAC"), stacked_graphite(layers="ABAB")),
    "alpha-B12 and gamma-B28": (PHASES["B-alpha-B12"], PHASES["B-gamma-B28"]),
    "diamond and beta-tin": (PHASES["Si-diamond"], PHASES["Si-beta-tin"]),
    "rock salt and zinc blende": (bulk("SiC", "rocksalt", a=4.1), bulk("SiC", "zincblende", a=4.36)),
}


@pytest.mark.parametrize("which", NEAR_MISSES)
def test_near_misses(which):
    """Neither with the prefilter nor by positions alone."""
    first, second = NEAR_MISSES[which]
    bare = MatchSettings(least_similarity=0.0, volume_tolerance=0.5)
    for settings in (MatchSettings(), bare):
        assert not same_structure(first, second, settings)
        assert not same_structure(second, first, settings)


def test_species_matter():
    blende = bulk("SiC", "zincblende", a=4.36)
    swapped = blende.copy()
    swapped.numbers = blende.numbers[::-1]
    diamond = bulk("C", "diamond", a=4.36)
    # exchanging the two sublattices of zinc blende gives its mirror image
    assert same_structure(blende, swapped)
    assert not same_structure(blende, diamond)
    assert not same_structure(diamond, blende)
    fluorite = bulk("CaF2", "fluorite", a=5.46)
    anti = fluorite.copy()
    anti.symbols[:] = ["F", "Ca", "Ca"]
    assert not same_structure(fluorite, anti)


def random_cells(n: int, n_atoms: int, volume: float, seed: int) -> list[Atoms]:
    """Return random cells with no contact below 0.8 of the mean spacing: the same volume as the target, no order."""
    from gapfactory.build import build_cell
    from gapfactory.build.settings import BuildSettings
    from gapfactory.elements import species

    settings = BuildSettings(atoms_min=n_atoms, atoms_max=n_atoms, odd_fraction=0)
    cells = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        cell = build_cell(
            rng, composition={"B": 1}, species={"B": species("B")}, generation=1, settings=settings
        ).atoms
        cell.set_cell(cell.cell * (volume * n_atoms / cell.get_volume()) ** (1 / 3), scale_atoms=True)
        cells.append(cell)
    return cells


def test_no_random_cell_is_alpha_boron():
    """300 cells of 12 atoms at the very volume of alpha-B12: none passes, with or without the prefilter."""
    target = PHASES["B-alpha-B12"]
    cells = random_cells(300, 12, target.get_volume() / 12, seed=3)
    matcher = StructureMatcher([target])
    assert matcher.match(cells) == [None] * 300
    passed = (matcher.similarities(cells)[:, 0] >= matcher.settings.least_similarity).mean()
    assert passed < 0.1
    assert StructureMatcher([target], MatchSettings(least_similarity=0.0)).match(cells[:60]) == [None] * 60


def test_disorder_in_the_same_cell_is_not_alpha_boron():
    """Atoms at random in the very cell of alpha-B12: here the lattice agrees, and positions alone decide."""
    target = PHASES["B-alpha-B12"]
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    rng = np.random.default_rng(9)
    cells: list[Atoms] = []
    while len(cells) < 25:
        points = np.empty((0, 3))
        for trial in rng.random((400, 3)):
            images = (points[:, None, :] + shifts - trial).reshape(-1, 3) @ target.cell.array
            if np.linalg.norm(images, axis=1).min(initial=9.0) >= 1.3:
                points = np.vstack([points, trial])
        if len(points) >= 12:
            cells.append(Atoms("B12", scaled_positions=points[:12], cell=target.cell, pbc=True))
    bare = StructureMatcher([target], MatchSettings(least_similarity=0.0))
    assert bare.match(cells) == [None] * 25


def test_the_parts_of_the_check_that_are_replaced():
    """ASE's own search for operations finds doubled hcp equal to dhcp; its repeats at faces lose a shaken atom."""
    from ase.utils.structure_comparator import SymmetryEquivalenceCheck

    hcp, other = NEAR_MISSES["hcp, doubled, and dhcp"]
    stock = SymmetryEquivalenceCheck(angle_tol=0.5, ltol=4e-3, stol=0.15, vol_tol=1e-3)
    same_cell = other.copy()
    same_cell.set_cell(hcp.cell, scale_atoms=True)
    assert stock.compare(same_cell.copy(), hcp.copy())
    assert not same_structure(same_cell, hcp)
    target = PHASES["B-alpha-B12"].copy()
    target.set_cell(target.cell.standard_form()[0], scale_atoms=True)
    rng = np.random.default_rng(1)
    forms = [target.copy() for _ in range(10)]
    for form in forms:
        form.positions += rng.normal(scale=0.03, size=(12, 3))
    stock = SymmetryEquivalenceCheck(angle_tol=0.5, ltol=12e-3, stol=0.15, vol_tol=1e-3)
    assert sum(stock.compare(target.copy(), form.copy()) for form in forms) < 5
    assert all(same_structure(target, form) for form in forms)


def test_a_needle_is_found_among_random_cells():
    target = PHASES["B-alpha-B12"]
    rng = np.random.default_rng(4)
    cells = random_cells(40, 12, target.get_volume() / 12, seed=5)
    cells[17] = recut(
        distorted_crystal(target, rng, DistortedSettings(strain=0.02, displacement=0.03)).atoms, rng
    )
    found = StructureMatcher([PHASES["B-gamma-B28"], target]).match(cells)
    assert [i for i, m in enumerate(found) if m is not None] == [17]
    match = found[17]
    assert match is not None
    assert match.target == 1


def test_results_do_not_depend_on_cores_or_company():
    rng = np.random.default_rng(6)
    forms = [recut(PHASES[name], rng) for name in PHASES]
    matcher = StructureMatcher(list(PHASES.values()))
    together = matcher.match(forms, cores=2)
    assert together == [matcher.match([f])[0] for f in forms]
    assert [m.target for m in together if m is not None] == list(range(len(PHASES)))


def test_what_cannot_be_matched():
    slab = PHASES["C-graphite"].copy()
    slab.pbc = (True, True, False)
    with pytest.raises(InputError, match="periodic in three directions"):
        StructureMatcher([slab])
    assert StructureMatcher([PHASES["C-graphite"]]).match([slab, Atoms(), PHASES["Si-diamond"]]) == [None] * 3
    assert StructureMatcher([PHASES["C-graphite"]]).match([]) == []


@pytest.fixture(scope="module")
def pymatgen_matcher():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure_matcher = pytest.importorskip("pymatgen.analysis.structure_matcher")
        from pymatgen.io.ase import AseAtomsAdaptor
    matcher = structure_matcher.StructureMatcher()
    return lambda a, b: matcher.fit(*(AseAtomsAdaptor.get_structure(x) for x in (a, b)))


@pytest.mark.filterwarnings("ignore")
def test_same_verdict_as_pymatgen(pymatgen_matcher):
    """Pairs of phases of one element; each phase with re-cut, repeated, strained and shaken forms of itself."""
    rng = np.random.default_rng(7)
    mild = DistortedSettings(strain=0.02, displacement=0.03, volume_low=0.95, volume_high=1.05)
    pairs = []
    for name, phase in PHASES.items():
        if len(phase) > 12:
            continue
        pairs += [(phase, recut(phase, rng)), (phase, recut(distorted_crystal(phase, rng, mild).atoms, rng))]
        pairs += [(phase, recut(phase * (2, 1, 1), rng))] if len(phase) < 12 else []
        pairs += [
            (phase, other)
            for also, other in PHASES.items()
            if also > name and also.split("-")[0] == name.split("-")[0]
        ]
    pairs += list(NEAR_MISSES.values())
    target = PHASES["B-alpha-B12"]
    pairs += [(target, c) for c in random_cells(20, 12, target.get_volume() / 12, seed=8)]
    ours = [same_structure(a, b) for a, b in pairs]
    theirs = [bool(pymatgen_matcher(a, b)) for a, b in pairs]
    assert ours == theirs
    assert 20 < sum(ours) < len(ours) - 20
