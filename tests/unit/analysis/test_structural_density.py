"""Structural densities of states, and their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import norm

from gapfactory.analysis.ranking import Candidate, rank_structures
from gapfactory.analysis.structural_density import DensitySettings, structural_density
from gapfactory.errors import EvidenceError
from gapfactory.figures import best_structures, density_of_structures

RNG = np.random.default_rng(5)
PLAIN, HOT = RNG.normal(-80.0, 0.1, 400), RNG.normal(-80.2, 0.05, 100)


def test_density_is_the_sum_of_its_gaussians() -> None:
    data = structural_density({"plain": PLAIN, "hot": HOT}, DensitySettings(smearing=0.03, points=900))
    zero = min(PLAIN.min(), HOT.min())
    for search, energies in zip(data.searches, (PLAIN, HOT), strict=True):
        by_hand = np.mean([norm.pdf(data.axis, e - zero, 0.03) for e in energies], axis=0)
        assert np.allclose(search.density, by_hand, rtol=1e-12, atol=1e-12)
        assert np.trapezoid(search.density, data.axis) == pytest.approx(1.0, abs=2e-4)
        assert search.shown == len(energies)
        assert search.quantile(0.5) == pytest.approx(np.median(energies) - zero)
    rows = data.rows()
    assert len(rows) == 1800
    assert (rows[0]["search"], rows[0]["structures"], rows[0]["smearing_eV_per_atom"]) == ("plain", 400, 0.03)


def test_each_composition_has_its_own_zero_and_encounters_count() -> None:
    a = [("MgO", -6.0, 3), ("Mg2O", -4.0, 1)]
    b = [("MgO", -6.5, 1)]
    data = structural_density({"a": a, "b": b})
    assert data.searches[0].energies.tolist() == [0.0, 0.5, 0.5, 0.5]
    assert data.searches[1].energies.tolist() == [0.0]


def test_a_shorter_axis_leaves_structures_out_of_sight_only() -> None:
    whole = structural_density({"plain": PLAIN})
    cut = structural_density({"plain": PLAIN}, DensitySettings(largest=0.2))
    assert cut.axis[-1] == 0.2
    assert cut.searches[0].shown == int((PLAIN - PLAIN.min() <= 0.2).sum()) < 400
    at = np.interp(cut.axis, whole.axis, whole.searches[0].density)
    assert np.allclose(at, cut.searches[0].density, atol=0.02)
    figure = density_of_structures(cut)
    title = figure.axes[0].get_title(loc="left")
    assert "20 meV/atom" in title
    assert f"{400 - cut.searches[0].shown} structures beyond the axis" in title


def test_picture_has_a_curve_and_ticks_for_each_search() -> None:
    figure = density_of_structures(structural_density({"plain": PLAIN, "hot": HOT}))
    upper, lower = figure.axes
    assert [line.get_label() for line in upper.lines] == ["plain (400)", "hot (100)"]
    assert [len(c.get_segments()) for c in lower.collections] == [40, 10]
    assert "eV/atom" in lower.get_xlabel()


@pytest.mark.parametrize(
    ("searches", "said"),
    [({}, "no search"), ({"a": []}, "'a' has no structures"), ({"a": [1.0, np.nan]}, "'a' has an energy")],
)
def test_what_has_no_density(searches: dict[str, list[float]], said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        structural_density(searches)


def test_sheet_of_the_best_structures() -> None:
    def candidate(name: str, atoms: object, energy: float) -> Candidate:
        return Candidate(name, atoms.numbers, energy, atoms.get_volume() / len(atoms), atoms)

    ranking = rank_structures([candidate("d", bulk("C"), -9.0), candidate("f", bulk("C", "fcc", 3.0), -5.0)])
    figure = best_structures(ranking.entries)
    titles = [ax.get_title() for ax in figure.axes]
    # conventional cells
    assert titles[0].startswith("1. Fd-3m  +0.000 eV  1×\nC8")
    assert titles[1].startswith("2. Fm-3m  +4.000 eV  1×\nC4")
    gone = rank_structures([Candidate("x", bulk("C").numbers, -9.0, 5.0, space_group=1)])
    with pytest.raises(EvidenceError, match="no geometry"):
        best_structures(gone.entries)
