"""What is kept of a label, labels at altered settings, data sets that differ, and faults of the machine that repeat."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gapfactory import reference
from gapfactory.campaign import campaign_from_mapping
from gapfactory.errors import StateError
from gapfactory.reference import GpawSettings, Label, LabelOutcome, settings_hash
from gapfactory.reference.faults import Diagnosis, Fault, MachineFaultError
from launchpad import hand_backs, labelling, quarantine
from launchpad.database import labels as store
from launchpad.database.check import check_database
from launchpad.database.dataset import atom_items, label_hash, label_key, store_atoms, with_labels
from launchpad.database.documents import label_id
from launchpad.database.labels import count_done, labels_of
from launchpad.retry import TransientFault, is_transient
from launchpad.tasks.base import TaskContext

pytestmark = [pytest.mark.database]


def campaign(name, *, altered=False, **reference_settings):
    settings = {"engine": "gpaw", "allow_energy_changes": altered, **reference_settings}
    return campaign_from_mapping(
        {"preset": "quickstart-Si", "name": name, "dimers": {"bond_lengths": 3}, "reference": settings}
    )


class Reference:
    """The reference method: `answer` gives the outcome of a structure by (id, attempt), or raises."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = lambda name, atoms: LabelOutcome(name, label(len(atoms)), "", 1)
        self.hashes = {"Si": "a" * 64}

    def label_structures(self, items, settings, workdir, on_result):
        for name, atoms in items:
            self.asked.append(name)
            on_result(self.answer(name, atoms))

    def data_hashes(self, settings, symbols):
        return {symbol: self.hashes[symbol] for symbol in symbols}


def label(n, energy=-1.0, **details):
    return Label(energy, np.zeros((n, 3)), None, 1.5, "gpaw", "26.7", details)


@pytest.fixture
def method(monkeypatch):
    made = Reference()
    monkeypatch.setattr(reference, "label_structures", made.label_structures)
    monkeypatch.setattr(reference, "data_hashes", made.data_hashes)
    return made


def run(database, mine, generation=0):
    store_atoms(database, mine)
    context = TaskContext(SimpleNamespace(db=database), mine, generation, Path("/nowhere"))
    return labelling.label_items(context, atom_items(database, mine))


def entries(database, mine):
    return with_labels(database, mine, atom_items(database, mine))


def test_a_failed_label_keeps_its_story_within_bounds(database, method) -> None:
    custodian = (
        {"job": {"@module": "x", "a.b": 1}, "corrections": [{"actions": [{"remedy": "x" * 40_000}]}]},
    ) * 5
    method.answer = lambda name, atoms: LabelOutcome(
        name,
        None,
        "self-consistency not reached: 120 iterations (quarantined after 2 attempts)",
        2,
        ("plain: self-consistency not reached: a", "slower mixing: self-consistency not reached: b"),
        "scf",
        custodian=custodian,
        files={"out.txt": "x" * 90_000 + "the end", "err.txt": "y" * 90_000},
    )
    mine = campaign("one")
    run(database, mine)
    found = entries(database, mine)
    (entry, *_) = found
    assert entry.label.fault == "scf"
    assert entry.label.attempts == 2
    assert [line.split(":")[0] for line in entry.label.history] == ["plain", "slower mixing"]
    assert {file["name"] for file in entry.label.files} == {"out.txt", "err.txt"}
    assert next(f["text"] for f in entry.label.files if f["name"] == "out.txt").endswith("the end")
    document = database.labels.find_one({"_id": entry.label.id})
    assert sum(len(f["text"]) for f in document["files"]) <= store.FILES_LIMIT
    assert len(document["custodian"]) <= store.CUSTODIAN_LIMIT
    assert isinstance(json.loads(document["custodian"]), list)
    rows = quarantine.quarantined(found, files=True, labels=[entry.item.id])
    assert [row["id"] for row in rows] == [entry.item.id]
    assert rows[0]["files"]["out.txt"].endswith("the end")
    assert "smearing" in rows[0]["advice"]
    assert "files" not in quarantine.quarantined(found)[0]
    (use,) = quarantine.remedies_used(found)
    assert (use.name, use.used, use.helped) == ("slower mixing", len(found), 0)


def test_every_kind_of_fault_has_its_advice() -> None:
    for fault in Fault:
        short = fault.name.lower()
        assert len(quarantine.fault_advice(short)) > 20, fault
        assert "--files" not in quarantine.fault_advice(short, kept=False)
    assert "time_limit_s" in quarantine.fault_advice("time")
    # earlier versions stored no kind
    assert "--files" in quarantine.fault_advice("")
    assert set(quarantine._advice()) == {fault.name for fault in Fault}


def test_a_label_keeps_version_data_and_what_helped(database, method) -> None:
    method.answer = lambda name, atoms: LabelOutcome(
        name,
        label(len(atoms), recovery="slower mixing", data_sha256={"Si": "a" * 64}),
        "",
        3,
        ("plain: self-consistency not reached: a", "more iterations: self-consistency not reached: b"),
        custodian=({"corrections": [1]},),
    )
    mine = campaign("one")
    run(database, mine)
    found = entries(database, mine)
    assert {(e.label.engine, e.label.version, e.label.attempts) for e in found} == {("gpaw", "26.7", 3)}
    assert found[0].label.details["data_sha256"] == {"Si": "a" * 64}
    assert json.loads(database.labels.find_one({"_id": found[0].label.id})["custodian"]) == [
        {"corrections": [1]}
    ]
    uses = {use.name: (use.used, use.helped) for use in quarantine.remedies_used(found)}
    assert uses == {"slower mixing": (len(found), len(found)), "more iterations": (len(found), 0)}


def test_an_altered_label_is_found_by_those_who_allow_it_only(database, method) -> None:
    method.answer = lambda name, atoms: LabelOutcome(
        name, label(len(atoms), -7.0), "", 4, ("plain: x",), altered={"smearing_width_eV": 0.4}
    )
    allows = campaign("allows", altered=True)
    n = run(database, allows)["labelled"]
    found = entries(database, allows)
    assert {(e.label.status, e.label.flags, e.label.energy) for e in found} == {("done", ("altered",), -7.0)}
    assert found[0].label.altered == {"smearing_width_eV": 0.4}
    # it stands where a campaign with just these settings looks for it, and not under the key that was asked for
    item = found[0].item
    asked = label_id(item.hash, label_hash(allows, item))
    real = settings_hash(allows.reference.model_copy(update={"smearing_width_eV": 0.4}), item.kind)
    assert database.labels.find_one({"_id": asked}) is None
    assert database.labels.find_one({"_id": label_id(item.hash, real)})["flags"] == ["altered"]
    assert count_done(database, [label_key(allows, e.item) for e in found], "allows") == n
    assert count_done(database, [label_key(allows, e.item) for e in found], "strict") == 0
    assert run(database, allows) == {"reused": n, "labelled": 0, "failed": 0}
    wide = campaign("wide", smearing_width_eV=0.4)
    assert run(database, wide) == {"reused": n, "labelled": 0, "failed": 0}
    # another campaign that allows it takes it over; one that does not computes
    assert run(database, campaign("too", altered=True)) == {"reused": n, "labelled": 0, "failed": 0}
    strict = campaign("strict")
    method.answer = lambda name, atoms: LabelOutcome(name, label(len(atoms), -8.0), "", 1)
    before = len(method.asked)
    assert run(database, strict) == {"reused": 0, "labelled": n, "failed": 0}
    assert len(method.asked) == before + n
    assert {e.label.energy for e in entries(database, strict)} == {-8.0}
    # what its fits used stays what it was
    assert {e.label.energy for e in entries(database, allows)} == {-7.0}


def test_another_try_takes_what_others_have_made_meanwhile(database, method) -> None:
    good = method.answer
    method.answer = lambda name, atoms: LabelOutcome(name, None, "too slow", 1, fault="time")
    mine = campaign("one", time_limit_s=1.0)
    n = run(database, mine)["failed"]
    method.answer = good
    assert run(database, campaign("two"))["labelled"] == n
    # it changes nothing for the first by itself
    assert {e.label.status for e in entries(database, mine)} == {"failed"}
    assert run(database, mine)["reused"] == n
    asked = len(method.asked)
    for e in entries(database, mine):
        assert store.ask_again(database, label_key(mine, e.item), "one", 0)
    assert run(database, mine) == {"reused": n, "labelled": 0, "failed": 0}
    assert len(method.asked) == asked
    assert {e.label.status for e in entries(database, mine)} == {"done"}
    assert database.labels.count_documents({"campaign": "one"}) == 0


def test_a_pointer_to_nowhere_is_found(database, method) -> None:
    method.answer = lambda name, atoms: LabelOutcome(
        name, label(len(atoms)), "", 1, altered={"smearing_width_eV": 1.0}
    )
    mine = campaign("one", altered=True)
    run(database, mine)
    assert check_database(database) == []
    database.labels.delete_one({"flags": "altered", "status": "done"})
    (finding,) = check_database(database)
    assert "points to is missing" in finding
    # it is made again
    assert run(database, mine)["labelled"] == 1
    assert check_database(database) == []


def test_labels_of_different_data_sets_are_not_mixed(database, method) -> None:
    run(database, campaign("one"))
    method.hashes = {"Si": "b" * 64}
    # nothing is computed where everything is there
    assert run(database, campaign("two"))["labelled"] == 0
    longer = campaign_from_mapping(
        {**campaign("three").model_dump(mode="json"), "dimers": {"bond_lengths": 5}, "preset": None}
    )
    with pytest.raises(StateError) as refused:
        run(database, longer)
    for words in (
        "of Si",
        "a" * 64,
        "b" * 64,
        "campaign 'one'",
        "Install the same file",
        "campaign resume three",
    ):
        assert words in str(refused.value)
    assert not is_transient(refused.value)
    assert database.label_claims.count_documents({}) == 0
    # at other settings nothing stands against it, but one campaign does not mix atoms and crystals
    other = campaign("four", cutoff_eV=500.0)
    run(database, other)
    method.hashes = {"Si": "a" * 64}
    with pytest.raises(StateError, match="campaign 'four' used bbb"):
        labelling.require_same_data(
            database, "four", "gpaw", [settings_hash(GpawSettings(cutoff_eV=500.0), "crystal")], method.hashes
        )


def machine_fault(fault, text="killed"):
    return MachineFaultError(Diagnosis(fault, text), "Use another machine.")


@pytest.mark.parametrize("fault", [Fault.MEMORY, Fault.NODE])
def test_a_structure_that_meets_machine_faults_again_and_again_is_quarantined(
    database, method, fault
) -> None:
    mine = campaign("one")
    store_atoms(database, mine)
    bad = {item.id for item in atom_items(database, mine)[:2]}

    def answer(name, atoms):
        if name in bad:
            raise machine_fault(fault)
        return LabelOutcome(name, label(len(atoms)), "", 1)

    method.answer = answer
    seen = []
    for _ in range(3 * hand_backs.HAND_BACKS):
        try:
            counts = run(database, mine)
        except TransientFault as handed_back:
            seen.append(handed_back.times)
        else:
            break
    else:
        raise AssertionError("the campaign is blocked")
    # each of the two is handed back so often and no oftener
    assert sorted(seen) == sorted([*range(1, hand_backs.HAND_BACKS + 1)] * 2)
    assert counts["failed"] >= 1
    found = {e.item.id: e.label for e in entries(database, mine)}
    assert {name for name, stored in found.items() if stored.status == "failed"} == bad
    failed = found[min(bad)]
    assert failed.fault == fault.name.lower()
    assert f"after {hand_backs.HAND_BACKS} hand-backs" in failed.reason
    assert len(failed.history) == hand_backs.HAND_BACKS + 1
    assert database.label_hand_backs.count_documents({}) == 0
    # the good ones were not held up: at the second try they came first
    assert method.asked[1:].index(next(n for n in found if n not in bad)) < 3


def test_other_faults_of_the_machine_are_nobodys_own(database, method) -> None:
    """A full disk would quarantine every structure: the queue counts it, and a person mends it."""

    def full(name, atoms):
        raise machine_fault(Fault.DISK)

    method.answer = full
    for _ in range(2 * hand_backs.HAND_BACKS):
        with pytest.raises(MachineFaultError) as error:
            run(database, campaign("one"))
        assert is_transient(error.value)
    assert database.labels.count_documents({}) == 0


def test_the_end_of_one_allocation_counts_once(database, method, monkeypatch) -> None:
    def ends(name, atoms):
        raise machine_fault(Fault.WALLTIME)

    method.answer = ends
    seen = []
    for allocation in (1, 1, 1, 2, 2, 3):
        monkeypatch.setenv("GAPFACTORY_JOB_END", str(1_000_000 * allocation))
        with pytest.raises(TransientFault) as error:
            run(database, campaign("one"))
        assert error.value.ends_worker
        seen.append(error.value.times)
    # the structures come in turn: the one that was handed back least often first
    assert max(seen) <= 3
    assert database.labels.count_documents({}) == 0


def test_success_forgets_earlier_hand_backs(database, method) -> None:
    def first(name, atoms):
        raise machine_fault(Fault.MEMORY)

    good, method.answer = method.answer, first
    with pytest.raises(TransientFault):
        run(database, campaign("one"))
    method.answer = good
    run(database, campaign("one"))
    assert database.label_hand_backs.count_documents({}) == 0
    assert {e.label.status for e in entries(database, campaign("one"))} == {"done"}


def test_outliers_are_flagged_and_kept(database) -> None:
    from ase import Atoms

    rows = [
        SimpleNamespace(
            item=SimpleNamespace(id=f"s{k}", role="train", atoms=Atoms("Si2", cell=[5, 5, 5], pbc=True)),
            label=SimpleNamespace(status="done", energy=2 * (-5.0 + 0.01 * k if k != 7 else 40.0)),
        )
        for k in range(12)
    ]
    (found,) = quarantine.energy_outliers_of(rows)
    assert found["id"] == "s7"
    assert found["energy_eV_per_atom"] == pytest.approx(40.0)
    assert found["median_eV_per_atom"] < -4.8
    assert labels_of(database, [], "one") == {}


def test_a_point_of_a_curve_that_meets_machine_faults_again_and_again_has_failed(
    database, method, monkeypatch, tmp_path
) -> None:
    from gapfactory.analysis.phases import named_phases
    from gapfactory.reference import CurvePoint
    from gapfactory.search.phases import scaled_to_volume
    from launchpad.tasks import reference as tasks

    mine = campaign("one")
    bad = tasks.curve_volumes(mine, "Si-diamond")[1]
    published = next(p.atoms for p in named_phases("Si") if p.name == "Si-diamond")
    lowest = published.get_volume() / len(published)

    def energy_volume_reference(atoms, volumes, settings, workdir, *, relax_settings, on_point):
        for volume in volumes:
            if volume == bad:
                raise machine_fault(Fault.MEMORY)
            energy = (volume - lowest) ** 2 - 4.0
            outcome = LabelOutcome("x", label(len(atoms), energy * len(atoms)), "", 1)
            on_point(CurvePoint(volume, energy, scaled_to_volume(atoms, volume), outcome, 0))

    monkeypatch.setattr(reference, "energy_volume_reference", energy_volume_reference)
    context = TaskContext(SimpleNamespace(db=database), mine, 0, tmp_path)
    for time in range(1, hand_backs.HAND_BACKS + 1):
        with pytest.raises(TransientFault) as error:
            tasks._label_phase(context, "Si-diamond")
        assert error.value.times == time
    assert tasks._label_phase(context, "Si-diamond")["failed"] == 1
    (stored,) = database.curves.find()
    ((volume, reason),) = stored["failures"]
    assert volume == bad
    assert "hand-backs" in reason
    assert database.label_hand_backs.count_documents({}) == 0
