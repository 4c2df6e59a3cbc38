"""Polymorphs by several methods, and models of mixed occupation, against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gapfactory.analysis.energy_volume import EnergyVolumeCurve
from gapfactory.analysis.mixed_occupation import mixed_occupation
from gapfactory.analysis.polymorphs import polymorphs
from gapfactory.errors import EvidenceError


def curve(phase, method, energies):
    return EnergyVolumeCurve(phase, method, np.arange(len(energies)) + 10.0, np.array(energies, dtype=float))


def test_polymorphs_count_from_the_lowest_of_the_reference():
    curves = [
        curve("x", "tight", [-9.0, -9.5]),
        curve("x", "smooth", [-4.0]),
        curve("x", "reference", [-4.0, -4.5]),
        curve("y", "reference", [-5.0, -4.9]),
        curve("y", "tight", []),
    ]
    data = polymorphs(curves, labels=[("y", "β")])
    assert data.potentials == ("tight", "smooth")
    assert data.phases == ("x", "y")
    assert (data.zero, data.zero_energy) == ("the lowest of β by the reference", -5.0)
    rows = data.rows()
    assert len(rows) == 7
    assert rows[0] == {
        "phase": "x", "method": "tight", "volume_A3_per_atom": 10.0, "energy_eV_per_atom": -9.0,
        "above_zero_eV_per_atom": -4.0, "zero": data.zero,
    }  # fmt: skip
    # without a reference, the lowest of all
    assert polymorphs(curves[:2]).zero == "the lowest of x by tight"


def test_what_are_no_polymorphs():
    with pytest.raises(EvidenceError, match="no energy-volume points"):
        polymorphs([curve("x", "reference", [])])
    with pytest.raises(EvidenceError, match="two curves of 'x' by 'tight'"):
        polymorphs([curve("x", "tight", [1.0]), curve("x", "tight", [2.0])])


MODELS = [("m1", 4, -1.0), ("m2", 4, -1.2), ("m3", 4, -1.1), ("m4", 4, None)]


def test_models_by_hand():
    data = mixed_occupation(MODELS, {"p": [-0.9, -1.1, -1.0, -7.0], "q": [-1.2, -1.0, -1.1, 0.0]})
    assert data.zero == "the mean of the reference"
    assert data.zero_energy == pytest.approx(-1.1)
    p, q = data.agreement
    # off by 0.1 each: all of it in the mean, the order is right
    assert (p.potential, p.n) == ("p", 3)
    assert (p.rmse, p.bias) == (pytest.approx(0.1), pytest.approx(0.1))
    assert p.spread == pytest.approx(0.0, abs=1e-12)
    assert p.rank_correlation == pytest.approx(1.0)
    # off by -0.2, 0.2, 0: right in the mean, in the reverse order
    assert q.bias == pytest.approx(0.0)
    assert q.rmse == q.spread == pytest.approx(math.sqrt(0.08 / 3))
    assert q.rank_correlation == pytest.approx(-1.0)
    assert [row["method"] for row in data.rows()[-5:]] == ["reference", "p", "q", "p", "q"]
    assert data.rows()[0]["above_zero_meV_per_atom"] == pytest.approx(100.0)


def test_a_common_shift_changes_nothing_but_the_zero():
    plain = mixed_occupation(MODELS, {"p": [-0.9, -1.1, -1.05, -7.0]})
    shifted = mixed_occupation(
        [(key, n, None if e is None else e - 50) for key, n, e in MODELS],
        {"p": [-50.9, -51.1, -51.05, -57.0]},
    )
    assert shifted.agreement[0].rmse == pytest.approx(plain.agreement[0].rmse, abs=1e-9)
    for a, b in zip(plain.rows(), shifted.rows(), strict=True):
        assert a["above_zero_meV_per_atom"] == pytest.approx(b["above_zero_meV_per_atom"], abs=1e-8)


def test_models_without_labels_count_from_the_first_potential():
    data = mixed_occupation([("m1", 4, None), ("m2", 4, None)], {"p": [-1.0, -2.0]})
    assert (data.zero, data.zero_energy, data.agreement) == ("the mean of p", -1.5, ())
    assert math.isnan(mixed_occupation(MODELS[:2], {"p": [0.0, 1.0]}).agreement[0].rank_correlation)


@pytest.mark.parametrize("energies", [[1.0, 2.0], [1.0, 2.0, 3.0, float("nan")]])
def test_energies_that_do_not_pair_up(energies):
    with pytest.raises(EvidenceError, match="one finite number each"):
        mixed_occupation(MODELS, {"p": energies})


def test_a_label_that_is_no_number_is_refused_and_named() -> None:
    with pytest.raises(EvidenceError, match="model 'two' has no finite reference energy"):
        mixed_occupation([("one", 3, -1.0), ("two", 3, float("nan"))], {"a": [-1.0, -1.0]})
