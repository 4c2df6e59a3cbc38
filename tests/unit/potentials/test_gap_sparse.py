"""Sparse points: equal to QUIP's descriptors, independent of the order of rows, spread out, without duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.elements import species
from gapfactory.errors import FitError
from gapfactory.potentials.gap.settings import GapSettings, SoapSettings, ThreeBodySettings, TwoBodySettings
from gapfactory.potentials.gap.sparse import (
    choose,
    descriptor_values,
    distance_range,
    farthest_points,
    leverage_points,
    read_sparse_file,
    uniform_points,
    write_sparse_file,
)
from gapfactory.potentials.gap.terms import largest_cutoff, terms

if TYPE_CHECKING:
    from pathlib import Path


def _cells(n: int = 6) -> list[Atoms]:
    rng = np.random.default_rng(3)
    cells = []
    for k in range(n):
        atoms = bulk("SiC", "zincblende", a=4.4 + 0.1 * k, cubic=bool(k % 2))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        cells.append(atoms)
    return cells


@pytest.mark.parametrize("name", ["3b-Si-Si-Si", "3b-Si-C-C", "3b-Si-C-Si", "3b-C-C-Si", "soap-C", "2b-C-Si"])
def test_descriptors_equal_quips(name: str) -> None:
    from quippy.descriptors import Descriptor

    settings = GapSettings(
        soap=SoapSettings(n_max=4, l_max=3), three_body=ThreeBodySettings(cutoff_covalent_in_r=4.0)
    )
    (term,) = [t for t in terms([species("Si"), species("C")], settings) if t.name == name]
    cells = _cells(4)
    theirs = np.vstack([Descriptor(term.descriptor).calc(atoms)["data"] for atoms in cells])
    assert theirs.shape[1] > 0
    ours = np.vstack(list(descriptor_values(term, cells)))
    assert len(ours) == len(theirs) > 0
    if term.stage == 2:
        assert np.allclose(ours, theirs, atol=1e-11)  # one per centre, in the same order
    else:
        assert np.allclose(
            np.unique(np.round(ours, 7), axis=0), np.unique(np.round(theirs, 7), axis=0), atol=2e-7
        )


def test_a_structure_that_cannot_be_described_is_named() -> None:
    (term,) = [t for t in terms([species("Si"), species("C")], GapSettings()) if t.name == "soap-Si"]
    broken = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]], cell=[5] * 3, pbc=True)
    with pytest.raises(FitError, match=r"structure 4 \(Si2\).*quarantine"):
        list(descriptor_values(term, [*_cells(4), broken, *_cells(2)]))


def test_distance_range_equals_quips() -> None:
    from quippy.descriptors import Descriptor

    cells = _cells()
    for pair in ((14, 14), (14, 6), (6, 14)):
        descriptor = Descriptor(
            f"distance_2b Z1={pair[0]} Z2={pair[1]} cutoff=7.0 cutoff_transition_width=0.5"
        )
        expected = min(descriptor.calc(atoms)["data"].min() for atoms in cells)
        low, high = distance_range(cells, pair, 7.0)
        assert low == pytest.approx(expected, abs=1e-9)
        assert high == 7.0
    dimers = [Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]], cell=[30] * 3) for d in (2.0, 2.9)]
    assert distance_range(dimers, (14, 14), 7.0) == pytest.approx((2.0, 2.9))
    low, high = distance_range(dimers, (14, 6), 7.0)
    assert low == np.inf
    assert high == -np.inf


def test_choice_does_not_depend_on_the_order_of_structures() -> None:
    si, c = species("Si"), species("C")
    settings = GapSettings(soap=SoapSettings(n_sparse=9, n_max=3, l_max=3))
    cells = _cells()
    for term in terms([si, c], settings):
        if term.stage == 2:
            continue  # drawn from rows in the order of ids: see the integration test on whole fits
        one = choose(term, cells, settings, np.random.default_rng(0))
        two = choose(term, cells[::-1], settings, np.random.default_rng(1))
        assert np.array_equal(one, two), term.name
        assert (len(one) > 1) == (term.name not in {"3b-C-C-C", "3b-C-C-Si"}), term.name


def test_two_body_points_do_not_crowd() -> None:
    si = species("Si")
    settings = GapSettings(two_body=TwoBodySettings(n_sparse=30, least_spacing_in_sigma=0.2))
    dimers = [Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]], cell=[30] * 3) for d in (2.0, 2.5)]
    points = choose(terms([si], settings)[0], dimers, settings, np.random.default_rng(0))
    assert len(points) == 6
    assert np.diff(points[:, 0]).min() >= 0.1 - 1e-12
    assert len(choose(terms([si], settings)[0], [Atoms("Si")], settings, np.random.default_rng(0))) == 0


def test_farthest_points_cover_and_stop() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(2000, 3))
    picked = farthest_points(values, 60, 0.01)
    assert len(picked) == 60
    gap = np.linalg.norm(values[:, None] - picked[None], axis=2).min(axis=1)
    random = values[rng.choice(2000, 60, replace=False)]
    assert gap.max() < np.linalg.norm(values[:, None] - random[None], axis=2).min(axis=1).max()
    assert np.array_equal(picked, farthest_points(values[rng.permutation(2000)], 60, 0.01))
    assert len(farthest_points(np.zeros((10, 3)), 5, 0.01)) == 1


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_leverage_prefers_rare_environments_and_refuses_duplicates() -> None:
    rng = np.random.default_rng(0)
    common = np.tile(_unit(rng.normal(size=(1, 12))), (5000, 1)) + 1e-3 * rng.normal(size=(5000, 12))
    rare = rng.normal(size=(12, 12))
    vectors = _unit(np.vstack([common, rare]))
    hits = [(leverage_points(vectors, 24, np.random.default_rng(s), 1e-9) >= 5000).sum() for s in range(20)]
    # a uniform draw would find 24 * 12 / 5012 = 0.06 of them
    assert np.mean(hits) > 6
    doubled = np.repeat(_unit(rng.normal(size=(7, 12))), 50, axis=0)
    picked = leverage_points(doubled, 40, np.random.default_rng(1), 1e-9)
    assert sorted(picked // 50) == list(range(7))
    assert len(leverage_points(np.empty((0, 5)), 3, rng, 1e-9)) == 0


def test_leverage_draw_is_seeded_and_in_order() -> None:
    vectors = _unit(np.random.default_rng(2).normal(size=(9000, 20)))
    one = leverage_points(vectors, 50, np.random.default_rng(4), 1e-9)
    assert np.array_equal(one, leverage_points(vectors, 50, np.random.default_rng(4), 1e-9))
    assert not np.array_equal(one, leverage_points(vectors, 50, np.random.default_rng(5), 1e-9))
    assert np.array_equal(one, np.unique(one))
    assert len(one) == 50


def test_leverage_probability_is_the_score() -> None:
    """Scores 1, 1/4, 1/4, 1/4, 1/4 by construction: the first row is in a draw of two with odds 1/2 + 1/2 / 1.75."""
    vectors = np.array([[1.0, 0.0]] + [[0.0, 0.5]] * 4)
    draws = [leverage_points(vectors, 2, np.random.default_rng(s), -1.0) for s in range(3000)]
    assert np.mean([0 in draw for draw in draws]) == pytest.approx(0.5 + 0.5 / 1.75, abs=0.03)


def test_sparse_file_keeps_every_digit(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(4, 3))
    write_sparse_file(tmp_path / "s.txt", points)
    read = np.loadtxt(tmp_path / "s.txt").reshape(4, 4)
    assert np.array_equal(read[:, 0], np.ones(4))
    assert np.array_equal(read[:, 1:], points)
    assert np.array_equal(read_sparse_file(tmp_path / "s.txt", 3), points)


def test_table_1_cutoffs_and_terms() -> None:
    """Table 1 with the paper's radii: Si 1.11 A covalent, Ti 1.47 A metallic."""
    si, ti = species("Si", radius=1.11, bonding="covalent"), species("Ti", radius=1.47, bonding="metallic")
    settings = GapSettings()
    assert [t.cutoff for t in terms([si], settings)] == pytest.approx([9 * 1.11, 2.925 * 1.11, 4.5 * 1.11])
    assert [t.cutoff for t in terms([ti], settings)] == pytest.approx([8.2 * 1.47, 2.665 * 1.47, 4.1 * 1.47])
    both = terms([ti, si], settings)
    assert [t.name for t in both if t.stage == 0] == ["2b-Si-Si", "2b-Si-Ti", "2b-Ti-Ti"]
    assert len([t for t in both if t.stage == 1]) == 6
    assert [t.name for t in both if t.stage == 2] == ["soap-Si", "soap-Ti"]
    assert largest_cutoff([ti, si], settings) == pytest.approx(8.2 * 1.47)
    soap = both[-1].descriptor
    assert "n_species=2 species_Z={14 22}" in soap
    assert "n_max=8" in soap
    assert "l_max=8" in soap
    assert "atom_sigma=0.75" in soap


@pytest.mark.parametrize("text", ["", "1.0 2.0", "1.0 2.0 nan 3.0", "1.0 2.0 x 3.0", None])
def test_a_file_without_whole_points_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "s.txt").write_text(text)
    with pytest.raises(FitError, match=r"s\.txt"):
        read_sparse_file(tmp_path / "s.txt", 3)


def test_points_given_by_file_are_taken(tmp_path: Path) -> None:
    write_sparse_file(tmp_path / "pairs", np.array([[1.9], [2.5], [4.0]]))
    settings = GapSettings(sparse_files={"2b-Si-Si": str(tmp_path / "pairs")})
    (term,) = [t for t in terms([species("Si")], settings) if t.stage == 0]
    assert choose(term, [], settings, np.random.default_rng(0))[:, 0].tolist() == [1.9, 2.5, 4.0]
    (angles,) = [t for t in terms([species("Si")], settings) if t.stage == 1]
    wrong = GapSettings(sparse_files={angles.name: str(tmp_path / "pairs")})
    with pytest.raises(FitError, match="3 finite numbers"):
        choose(angles, [], wrong, np.random.default_rng(0))


def test_uniform_points_span_the_data() -> None:
    values = np.random.default_rng(0).uniform(size=(3000, 3)) * [1, 10, 0.1]
    picked = uniform_points(values, 60)
    assert 50 <= len(picked) <= 60
    assert np.array_equal(picked, uniform_points(values[::-1], 60))
    # no half of the range along any axis holds nearly all of them
    assert (np.abs((picked < [0.5, 5, 0.05]).mean(axis=0) - 0.5) < 0.2).all()
    assert len(uniform_points(np.zeros((5, 3)), 4)) == 1
    assert len(uniform_points(np.empty((0, 3)), 4)) == 0
    settings = GapSettings(three_body=ThreeBodySettings(n_sparse=7, sparse_method="uniform"))
    term = terms([species("Si")], settings)[1]
    cells = [bulk("Si", cubic=True, a=a) for a in (5.0, 5.2, 5.4, 5.6)]
    assert 2 <= len(choose(term, cells, settings, np.random.default_rng(0))) <= 7
