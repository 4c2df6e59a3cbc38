"""What campaigns share of the reference's work: what is done, never what failed; and what a killed task leaves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gapfactory import reference
from gapfactory.analysis.phases import named_phases
from gapfactory.campaign import campaign_from_mapping
from gapfactory.reference import CurvePoint, Label, LabelOutcome
from gapfactory.search.phases import scaled_to_volume
from launchpad import labelling
from launchpad.database.curves import curve_of, curve_points, forget_failed_curves
from launchpad.database.dataset import atom_items, label_key, store_atoms, with_labels
from launchpad.tasks import reference as tasks

pytestmark = [pytest.mark.database]

PHASE = "Si-diamond"


class KilledError(BaseException):
    """As little caught as SIGKILL."""


def campaign(name, **more):
    return campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": name, **more})


def context(database, name, tmp_path):
    return SimpleNamespace(campaign=campaign(name), database=database, workdir=tmp_path, generation=0)


def label(n, energy=-1.0):
    return Label(energy, np.zeros((n, 3)), None, 1.5, "ase", "1", {})


@pytest.fixture
def labeller(monkeypatch):
    """The reference method, which fails while `works` is false and notes what it was asked for."""
    state = SimpleNamespace(works=True, asked=[])

    def label_structures(items, settings, workdir, on_result):
        for name, atoms in items:
            state.asked.append(name)
            made = label(len(atoms)) if state.works else None
            on_result(LabelOutcome(name, made, "" if state.works else "exceeded the time limit", 1))

    monkeypatch.setattr(reference, "label_structures", label_structures)
    return state


def label_atoms(database, name, tmp_path):
    here = context(database, name, tmp_path)
    store_atoms(database, here.campaign)
    items = atom_items(database, here.campaign)
    done = labelling.label_items(here, items)
    return done, with_labels(database, here.campaign, items)


def test_a_failed_label_counts_only_for_its_campaign(database, labeller, tmp_path) -> None:
    labeller.works = False
    done, entries = label_atoms(database, "one", tmp_path)
    n = len(entries)
    assert done == {"reused": 0, "labelled": 0, "failed": n}
    assert {(e.label.status, e.label.campaign) for e in entries} == {("failed", "one")}
    # the same campaign does not try again by itself
    assert label_atoms(database, "one", tmp_path)[0] == {"reused": n, "labelled": 0, "failed": 0}
    # another one does, and its own failure then counts for it
    assert label_atoms(database, "two", tmp_path)[0] == {"reused": 0, "labelled": 0, "failed": n}
    assert label_atoms(database, "two", tmp_path)[0] == {"reused": n, "labelled": 0, "failed": 0}
    labeller.works = True
    done, entries = label_atoms(database, "three", tmp_path)
    assert done == {"reused": 0, "labelled": n, "failed": 0}
    assert {e.label.status for e in entries} == {"done"}
    # what is done is shared, and no failure takes its place
    labeller.works = False
    assert label_atoms(database, "four", tmp_path)[0] == {"reused": n, "labelled": 0, "failed": 0}
    assert database.labels.count_documents({"status": "done"}) == n
    # those that failed keep their own records: what others add does not change their fits
    assert label_atoms(database, "one", tmp_path)[0] == {"reused": n, "labelled": 0, "failed": 0}
    assert {e.label.status for e in label_atoms(database, "two", tmp_path)[1]} == {"failed"}


def test_a_failure_that_comes_late_leaves_what_is_done(database, labeller, tmp_path) -> None:
    """Two campaigns label the same structure at the same time; the slower one fails."""
    _, entries = label_atoms(database, "one", tmp_path)
    labeller.works = False
    here = context(database, "two", tmp_path)
    counts = {"reused": 0, "labelled": 0, "failed": 0}
    labelling._compute(here, {label_key(here.campaign, e.item): e.item for e in entries}, counts)
    assert len(labeller.asked) == 2 * len(entries)
    assert counts["failed"] == 0
    assert database.labels.count_documents({"status": "failed"}) == 0


@pytest.fixture
def curves(monkeypatch):
    """The reference method for curves, with a minimum at the published volume; dies after `left` points."""
    state = SimpleNamespace(works=True, left=None, asked=[])
    phase = next(p.atoms for p in named_phases("Si") if p.name == PHASE)
    published = phase.get_volume() / len(phase)

    def energy_volume_reference(atoms, volumes, settings, workdir, *, relax_settings, on_point=None):
        points = []
        for volume in volumes:
            if state.left is not None:
                if state.left == 0:
                    raise KilledError
                state.left -= 1
            state.asked.append(volume)
            if state.works:
                energy = (volume - published) ** 2 - 4.0
                outcome = LabelOutcome("x", label(len(atoms), energy * len(atoms)), "", 1)
                points.append(CurvePoint(volume, energy, scaled_to_volume(atoms, volume), outcome, 0))
            else:
                points.append(CurvePoint(volume, None, None, LabelOutcome("x", None, "too slow", 1), 0))
            if on_point is not None:
                on_point(points[-1])
        return points

    monkeypatch.setattr(reference, "energy_volume_reference", energy_volume_reference)
    return state


def test_a_killed_curve_goes_on_where_it_was(database, curves, tmp_path) -> None:
    here = context(database, "one", tmp_path)
    curves.left = 3
    with pytest.raises(KilledError):
        tasks._label_phase(here, PHASE)
    key = tasks.curve_key(here.campaign, PHASE)
    assert curve_of(database, key) is None
    assert len(curve_points(database, key, "one")) == 3
    curves.left = None
    # points that are done are taken over by any campaign, in any launch directory
    other = context(database, "two", tmp_path / "elsewhere")
    wanted = tasks.curve_volumes(here.campaign, PHASE)
    assert tasks._label_phase(other, PHASE) == {"phase": PHASE, "points": len(wanted), "failed": 0}
    assert curves.asked == wanted
    stored = curve_of(database, key)
    assert stored["volumes"] == wanted
    assert min(stored["energies"]) == pytest.approx(-4.0)
    assert stored["seconds"] == pytest.approx(1.5 * len(wanted))
    assert tasks._label_phase(here, PHASE) == {"phase": PHASE, "reused": 1}


def test_a_curve_that_failed_is_not_for_ever(database, curves, tmp_path) -> None:
    one, two = (context(database, name, tmp_path) for name in ("one", "two"))
    n = len(tasks.curve_volumes(one.campaign, PHASE))
    curves.works = False
    assert tasks._label_phase(one, PHASE)["failed"] == n
    assert tasks._label_phase(one, PHASE) == {"phase": PHASE, "reused": 1}
    assert tasks._label_phase(two, PHASE)["failed"] == n
    assert len(curves.asked) == 2 * n
    # the document is that of the second campaign by now: the first one's request leaves it alone
    assert forget_failed_curves(database, "one") == n
    assert forget_failed_curves(database, "two") == n + 1
    curves.works = True
    assert tasks._label_phase(two, PHASE) == {"phase": PHASE, "points": n, "failed": 0}
    assert forget_failed_curves(database, "two") == 0
    assert tasks._label_phase(one, PHASE) == {"phase": PHASE, "reused": 1}


def test_the_key_of_a_curve_follows_how_far_it_may_be_extended() -> None:
    plain = tasks.curve_key(campaign("one"), PHASE)
    assert tasks.curve_key(campaign("two"), PHASE) == plain
    fewer = campaign("one", evidence={"curves": {"extra_volumes": 1}})
    assert tasks.curve_key(fewer, PHASE) != plain
