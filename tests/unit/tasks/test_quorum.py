"""When a generation may be fitted: the quorum, isolated atoms, and words that say what is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ase import Atoms

from gapfactory.campaign import campaign_from_mapping
from gapfactory.errors import StateError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.dataset import Item, LabelledItem
from launchpad.database.labels import StoredLabel
from launchpad.database.packing import pack_atoms
from launchpad.tasks import training


def stored(status="done", fault="", **more):
    atoms = pack_atoms(Atoms("Si"))
    return StoredLabel(
        "x", status, "SCF did not converge", "crystal", atoms, -1.0, None, None, 0.0, fault=fault, **more
    )


def entry(name, role="train", label=None, generation=0):
    return LabelledItem(Item(name, Atoms("Si"), "hash", role, generation, {}), label)


@pytest.fixture
def said(monkeypatch):
    reasons: list[str] = []
    monkeypatch.setattr(training, "set_state", lambda database, name, state, reason: reasons.append(reason))
    return reasons


def campaign(n, **schedule):
    return campaign_from_mapping(
        {
            "preset": "quickstart-Si-analytic",
            "name": "made-up",
            "schedule": schedule,
            "select": {"labels_per_generation": n, "held_out_per_generation": 0},
            "stop": {"label_budget": n},
        }
    )


def context(n, **schedule):
    return SimpleNamespace(campaign=campaign(n, **schedule), generation=0, database=None)


def picks(good, bad):
    every = [stored()] * good + [stored("failed", "scf")] * bad
    return [entry(f"s{k}", label=label) for k, label in enumerate(every)]


@pytest.mark.parametrize(("good", "bad"), [(20, 0), (19, 1), (38, 2), (95, 5)])
def test_95_of_100_are_enough(said, good, bad) -> None:
    training._require_quorum(context(good + bad), picks(good, bad))
    assert said == []


@pytest.mark.parametrize(("good", "bad"), [(18, 2), (9, 1), (94, 6)])
def test_less_halts_with_words(said, good, bad) -> None:
    with pytest.raises(StateError) as error:
        training._require_quorum(context(good + bad), picks(good, bad))
    for words in (
        f"{bad} of {good + bad} picks of generation 0 could not be labelled ({bad} scf)",
        "schedule.quorum is 0.95",
        "campaign why made-up",
        "campaign retry made-up --run",
        "lower schedule.quorum",
        f"First reason: s{good}: SCF did not converge",
    ):
        assert words in str(error.value)
    assert said == [str(error.value)]


def test_fractions_are_not_missed_by_rounding(said) -> None:
    assert 0.56 * 25 > 14
    training._require_quorum(context(25, quorum=0.56), picks(14, 11))
    with pytest.raises(StateError):
        training._require_quorum(context(25, quorum=0.56), picks(13, 12))


def test_isolated_atoms_must_be_there_and_dimers_need_not(said) -> None:
    good = picks(20, 0)
    training._require_quorum(context(20), [*good, entry("d", "dimer", stored("failed", "scf"))])
    with pytest.raises(StateError, match=r"the isolated atom of generation 0 .*\(1 scf\)"):
        training._require_quorum(context(20), [*good, entry("a", "isolated", stored("failed", "scf"))])


def test_nothing_is_fitted_before_everything_is_decided(said) -> None:
    with pytest.raises(StateError, match=r"no label yet.*campaign resume made-up"):
        training._require_quorum(context(20), [*picks(20, 0), entry("late")])
    assert said == []


def test_a_late_label_is_no_part_of_earlier_training_sets() -> None:
    late = stored(enters=2)
    assert [late.usable_in(generation) for generation in (1, 2, 3)] == [False, True, True]
    assert training.training_data([entry("a", label=late)], recipe_of(campaign(1), 1)) == []
    assert not stored("failed", retry_in=3).wanted_in(2)
    assert stored("failed", retry_in=3).wanted_in(3)
