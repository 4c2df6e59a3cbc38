"""Errors on distorted crystals, against cases worked out by hand; names of potentials after what they learnt."""

from __future__ import annotations

import math

import pytest

from gapfactory.analysis.distorted_errors import TestCrystal, distorted_errors, name_potentials
from gapfactory.errors import EvidenceError

CRYSTALS = [TestCrystal("a1", "a", -5.0), TestCrystal("a2", "a", -4.0), TestCrystal("b1", "b", -3.0)]


def test_errors_by_hand():
    found = distorted_errors(
        CRYSTALS,
        {"0": {"a1": -4.997, "a2": -4.004, "b1": None}, "0 + C": {"a1": -5.0, "a2": -4.0, "b1": -3.001}},
        {"0 + C": ["a1", "b1", "other"]},
    )
    assert (found.phases, found.potentials) == (("a", "b"), ("0", "0 + C"))
    first, second = found.of("a")
    assert first.rmse == pytest.approx(math.sqrt((0.003**2 + 0.004**2) / 2))
    assert first.bias == pytest.approx(-0.0005)
    assert (first.n, first.unusable, first.trained) == (2, 0, 0)
    assert (second.rmse, second.trained) == (0.0, 1)
    refused, last = found.of("b")
    assert (refused.n, refused.unusable) == (0, 1)
    assert math.isnan(refused.rmse)
    assert last.rmse == pytest.approx(0.001)
    assert found.rows()[0]["rmse_meV_per_atom"] == pytest.approx(1000 * first.rmse)
    assert found.rows()[2]["rmse_meV_per_atom"] is None


def test_the_order_of_crystals_does_not_matter():
    predicted = {"0": {"a1": -4.997, "a2": -4.004, "b1": -3.5}}
    one, other = (
        distorted_errors(CRYSTALS, predicted),
        distorted_errors([*CRYSTALS[1::-1], CRYSTALS[2]], predicted),
    )
    assert [e.rmse for e in one.errors] == pytest.approx([e.rmse for e in other.errors], rel=1e-14)


@pytest.mark.parametrize(
    ("crystals", "predicted", "text"),
    [
        ([], {"0": {}}, "0 distorted crystals"),
        (CRYSTALS, {}, "0 potentials"),
        ([CRYSTALS[0]] * 2, {"0": {"a1": 0.0}}, "'a1' is given twice"),
        (CRYSTALS, {"0": {"a1": 0.0, "a2": 0.0}}, "has not been asked for crystal 'b1'"),
        ([TestCrystal("x", "a", float("nan"))], {"0": {"x": 0.0}}, "no finite reference energy"),
    ],
)
def test_what_gives_no_errors(crystals, predicted, text):
    with pytest.raises(EvidenceError, match=text):
        distorted_errors(crystals, predicted)


def test_potentials_are_called_after_what_they_learnt():
    searches = {0: {"s0", "x"}, 1: {"s0", "x", "s1"}}
    assert name_potentials(searches, ["c", "d"]) == {0: "0", 1: "1"}
    joined = searches[1] | {"c", "d"}
    assert name_potentials({**searches, 2: joined, 3: joined}, ["c", "d"]) == {
        0: "0",
        1: "1",
        2: "1 + C",
        3: "final",
    }
    # crystals together with new structures of the search are an ordinary generation
    assert name_potentials({**searches, 2: joined | {"s2"}}, ["c", "d"])[2] == "2"
    # the same data in the middle of a campaign
    assert name_potentials({0: {"a"}, 1: {"a"}, 2: {"a", "b"}}, [])[1] == "0 again"


def test_an_energy_that_is_no_number_is_refused_and_named() -> None:
    crystals = [TestCrystal("one", "diamond", -5.0)]
    with pytest.raises(EvidenceError, match="'2' gives crystal 'one' no finite energy"):
        distorted_errors(crystals, {"1": {"one": None}, "2": {"one": float("nan")}})
