"""What groups share: read access by MongoDB's own roles, labels taken over with their origin, copies of campaigns."""

from __future__ import annotations

from datetime import UTC
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from gapfactory import reference
from gapfactory.campaign import campaign_from_mapping
from gapfactory.errors import DatabaseError, InputError, NotFoundError
from gapfactory.reference import Label, LabelOutcome
from launchpad import labelling
from launchpad.database import sharing
from launchpad.database.audit import audit, read_audit
from launchpad.database.campaigns import create_campaign
from launchpad.database.connection import open_database
from launchpad.database.dataset import atom_items, label_hash, store_atoms, with_labels
from launchpad.database.indexes import ensure_indexes
from launchpad.database.users import add_user, elsewhere, user_uri

pytestmark = [pytest.mark.database]


@pytest.fixture
def administrator(database_server):
    with MongoClient(database_server, tz_aware=True) as client:
        yield client


@pytest.fixture
def groups(administrator, database_server):
    """Two groups, and a function that returns the database of a group as one of its users sees it."""
    names = SimpleNamespace(silicon=f"si{uuid4().hex[:8]}", copper=f"cu{uuid4().hex[:8]}")
    opened = {}

    def login(group: str, role: str):
        if (group, role) not in opened:
            password = add_user(administrator, group, role, role)
            opened[group, role] = open_database(user_uri(database_server, group, role, password))
        return opened[group, role]

    names.login = login
    yield names
    for database in opened.values():
        database.client.close()
    for name in administrator.list_database_names():
        if name.startswith((names.silicon, names.copper)):
            administrator[name].command("dropAllUsersFromDatabase")
            administrator[name].command("dropAllRolesFromDatabase")
            administrator.drop_database(name)


def refused(action) -> None:
    with pytest.raises(OperationFailure) as caught:
        action()
    assert caught.value.code == 13, caught.value


# --- labels


@pytest.fixture
def labeller(monkeypatch):
    """A reference method whose energy is a number of its own at every call, so that nobody can make the same label."""
    state = SimpleNamespace(asked=0, data={})

    def label_structures(items, settings, workdir, on_result):
        for name, atoms in items:
            state.asked += 1
            made = Label(-float(state.asked), np.ones((len(atoms), 3)), None, 1.5, "ase", "1", {})
            on_result(LabelOutcome(name, made, "", 1))

    monkeypatch.setattr(reference, "label_structures", label_structures)
    monkeypatch.setattr(reference, "data_hashes", lambda *_: state.data)
    return state


def label_atoms(database, tmp_path, name="si"):
    campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": name})
    here = SimpleNamespace(campaign=campaign, database=database, workdir=tmp_path, generation=0)
    store_atoms(database, campaign)
    items = atom_items(database, campaign)
    counts = labelling.label_items(here, items)
    return counts, [entry.label for entry in with_labels(database, campaign, items)]


def test_labels_are_reused_only_where_they_are_granted_and_accepted(groups, labeller, tmp_path) -> None:
    silicon, copper = groups.login(groups.silicon, "worker"), groups.login(groups.copper, "worker")
    owner, other_owner = groups.login(groups.silicon, "owner"), groups.login(groups.copper, "owner")
    made, theirs = label_atoms(silicon, tmp_path)
    n = made["labelled"]
    # neither granted nor accepted
    assert label_atoms(copper, tmp_path, "a")[0]["labelled"] == n
    # accepted, and not granted: no error, no reuse
    sharing.accept(other_owner, groups.silicon)
    other_owner.labels.delete_many({})
    assert label_atoms(copper, tmp_path, "b")[0]["labelled"] == n
    # granted and accepted: every label comes from there, and is what a label of one's own would be
    sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["worker"])
    other_owner.labels.delete_many({})
    asked = labeller.asked
    counts, labels = label_atoms(copper, tmp_path, "c")
    assert counts == {"reused": n, "labelled": 0, "failed": 0}
    assert labeller.asked == asked
    assert [label.energy for label in labels] == [label.energy for label in theirs]
    assert all(np.array_equal(a.forces, b.forces) for a, b in zip(labels, theirs, strict=True))
    assert {(label.origin["group"], label.origin["campaign"]) for label in labels} == {(groups.silicon, "si")}
    assert {label.origin["label"] for label in labels} == {label.id for label in theirs}
    assert {label.campaign for label in labels} == {"c"}
    # other campaigns of the group find them like any label of it
    assert label_atoms(copper, tmp_path, "d")[0]["reused"] == n
    # taken back: what is there stays, nothing new comes
    sharing.revoke(owner.client, groups.silicon, groups.copper, ["labels"])
    refused(lambda: copper.client[groups.silicon].labels.find_one({}))
    assert label_atoms(copper, tmp_path, "e")[0]["reused"] == n
    other_owner.labels.delete_many({})
    assert label_atoms(copper, tmp_path, "f")[0]["labelled"] == n


def test_a_declined_group_is_not_asked(groups, labeller, tmp_path) -> None:
    silicon, copper = groups.login(groups.silicon, "worker"), groups.login(groups.copper, "worker")
    owner, other_owner = groups.login(groups.silicon, "owner"), groups.login(groups.copper, "owner")
    n = label_atoms(silicon, tmp_path)[0]["labelled"]
    sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["worker"])
    sharing.accept(other_owner, groups.silicon)
    assert sharing.decline(other_owner, groups.silicon)
    assert not sharing.decline(other_owner, groups.silicon)
    assert label_atoms(copper, tmp_path)[0]["labelled"] == n


@pytest.mark.parametrize(
    "spoil",
    [
        {"energy": float("nan")},
        {"forces": None},
        {"details": "no mapping"},
        {"status": "failed"},
    ],
)
def test_a_label_of_another_group_is_not_trusted_blindly(
    groups, labeller, administrator, tmp_path, spoil
) -> None:
    silicon, copper = groups.login(groups.silicon, "worker"), groups.login(groups.copper, "worker")
    n = label_atoms(silicon, tmp_path)[0]["labelled"]
    administrator[groups.silicon].labels.update_many({}, {"$set": spoil})
    sharing.grant(administrator, groups.silicon, groups.copper, ["labels"])
    sharing.accept(groups.login(groups.copper, "owner"), groups.silicon)
    assert label_atoms(copper, tmp_path)[0]["labelled"] == n


def test_labels_of_other_data_sets_are_left_alone(groups, labeller, administrator, tmp_path) -> None:
    silicon, copper = groups.login(groups.silicon, "worker"), groups.login(groups.copper, "worker")
    labeller.data = {"Si": "one file"}
    n = label_atoms(silicon, tmp_path)[0]["labelled"]
    sharing.grant(administrator, groups.silicon, groups.copper, ["labels"])
    sharing.accept(groups.login(groups.copper, "owner"), groups.silicon)
    labeller.data = {"Si": "another file"}
    assert label_atoms(copper, tmp_path, "a")[0]["labelled"] == n
    administrator[groups.copper].labels.delete_many({})
    administrator[groups.copper].label_data.delete_many({})
    labeller.data = {"Si": "one file"}
    assert label_atoms(copper, tmp_path, "b")[0]["reused"] == n
    assert administrator[groups.copper].label_data.count_documents({"sha256": "one file"}) > 0


# --- who may grant what


def test_a_grant_reaches_what_was_granted_and_nothing_else(groups, administrator) -> None:
    owner, member = groups.login(groups.silicon, "owner"), groups.login(groups.silicon, "member")
    other = groups.login(groups.copper, "member")
    theirs = other.client[groups.silicon]
    administrator[groups.silicon].labels.insert_one({"_id": "x"})
    # a member grants nothing; an owner names whom, because he does not see the other group's users
    refused(lambda: sharing.grant(member.client, groups.silicon, groups.copper, ["labels"], ["member"]))
    with pytest.raises(InputError, match="--user"):
        sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"])
    with pytest.raises(NotFoundError, match="no user 'nobody'"):
        sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["nobody"])
    assert sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["member"]) == ["member"]
    assert theirs.labels.find_one({"_id": "x"})
    refused(lambda: theirs.labels.insert_one({"_id": "y"}))
    refused(lambda: theirs.labels.delete_many({}))
    refused(lambda: theirs.potentials.find_one({}))
    refused(lambda: theirs.campaigns.find_one({}))
    refused(theirs.list_collection_names)
    (share,) = sharing.list_shares(owner)
    assert (share.direction, share.group, share.what) == ("to", groups.copper, "labels")
    assert share.users == (f"member@{groups.copper}",)
    # one's own list says what the server grants; nobody but an owner writes it
    refused(lambda: member.shares.delete_many({}))
    sharing.grant(owner.client, groups.silicon, groups.copper, ["potentials"], ["member"])
    theirs.potentials.find_one({})
    assert sharing.revoke(
        owner.client, groups.silicon, groups.copper, ["labels", "potentials", "labels"]
    ) == [
        "labels",
        "potentials",
    ]
    refused(lambda: theirs.labels.find_one({}))
    assert sharing.list_shares(owner) == []


def test_one_campaign_is_a_copy_in_a_database_of_its_own(groups, administrator) -> None:
    source = administrator[groups.silicon]
    groups.login(groups.silicon, "owner")
    ensure_indexes(source)
    for name in ("si", "secret"):
        campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": name})
        create_campaign(source, campaign, "file", {})
        store_atoms(source, campaign)
        for item in atom_items(source, campaign):
            key = f"{item.hash}-{label_hash(campaign, item)}"
            source.labels.update_one({"_id": key}, {"$setOnInsert": {"status": "done"}}, upsert=True)
    source.labels.insert_one({"_id": "of nobody", "status": "done"})
    viewer, outsider = groups.login(groups.copper, "viewer"), groups.login(groups.copper, "worker")
    copy = sharing.grant_campaign(administrator, groups.silicon, groups.copper, "si", ["viewer"])
    assert copy == f"{groups.silicon}--si"
    theirs = viewer.client[copy]
    assert [d["_id"] for d in theirs.campaigns.find()] == ["si"]
    assert {d["campaign"] for d in theirs.structures.find()} == {"si"}
    assert theirs.labels.find_one({"_id": "of nobody"}) is None
    assert theirs.labels.count_documents({}) > 3
    refused(lambda: theirs.campaigns.delete_many({}))
    refused(lambda: viewer.client[groups.silicon].campaigns.find_one({}))
    refused(lambda: outsider.client[copy].campaigns.find_one({}))
    # granting again brings the copy up to date; an owner cannot make databases
    source.campaigns.update_one({"_id": "si"}, {"$set": {"generation": 3}})
    sharing.grant_campaign(administrator, groups.silicon, groups.copper, "si", ["viewer"])
    assert theirs.campaigns.find_one({})["generation"] == 3
    owner = groups.login(groups.silicon, "owner")
    with pytest.raises(DatabaseError, match="only the server's administrator can make"):
        sharing.grant_campaign(owner.client, groups.silicon, groups.copper, "si", ["viewer"])
    # with the last reader the copy goes
    assert sharing.revoke(administrator, groups.silicon, groups.copper, ["campaign si"]) == ["campaign si"]
    assert copy not in administrator.list_database_names()
    refused(lambda: theirs.campaigns.find_one({}))


def test_a_database_that_is_no_copy_is_not_touched(groups, administrator) -> None:
    campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": "si"})
    groups.login(groups.copper, "viewer")
    create_campaign(administrator[groups.silicon], campaign, "file", {})
    administrator[f"{groups.silicon}--si"].campaigns.insert_one({"_id": "of somebody else"})
    with pytest.raises(InputError, match="no snapshot"):
        sharing.grant_campaign(administrator, groups.silicon, groups.copper, "si")
    assert administrator[f"{groups.silicon}--si"].campaigns.count_documents({}) == 1
    for name in ("with.dot", "x" * 60):
        with pytest.raises(InputError, match="database"):
            sharing.snapshot_name(groups.silicon, name)


def test_what_was_granted_before_an_error_can_be_seen_and_taken_back(groups) -> None:
    owner, other = groups.login(groups.silicon, "owner"), groups.login(groups.copper, "member")
    owner.labels.insert_one({"_id": "x"})
    with pytest.raises(NotFoundError, match="no user 'nobody'; labels can be read by member so far"):
        sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["member", "nobody"])
    assert other.client[groups.silicon].labels.find_one({"_id": "x"})
    (share,) = sharing.list_shares(owner)
    assert share.users == (f"member@{groups.copper}",)
    (entry,) = [entry for entry in read_audit(owner) if entry.event == "share.granted"]
    assert entry.details["users"] == ["member"]
    assert sharing.revoke(owner.client, groups.silicon, groups.copper, ["labels"]) == ["labels"]
    refused(lambda: other.client[groups.silicon].labels.find_one({}))


def test_a_copy_of_another_groups_campaign_is_left_alone(groups, administrator) -> None:
    # group a with campaign b--c, and group a--b with campaign c: one name of a database
    second = f"{groups.silicon}--b"
    for group, name in ((groups.silicon, "b--c"), (second, "c")):
        administrator[group].campaigns.drop()
        campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": name})
        create_campaign(administrator[group], campaign, "file", {})
    viewer = groups.login(groups.copper, "viewer")
    copy = sharing.grant_campaign(administrator, groups.silicon, groups.copper, "b--c", ["viewer"])
    with pytest.raises(InputError, match="no snapshot of this campaign"):
        sharing.grant_campaign(administrator, second, groups.copper, "c", ["viewer"])
    assert [d["_id"] for d in viewer.client[copy].campaigns.find()] == ["b--c"]


def test_an_owners_list_does_not_make_an_administrator_drop_what_is_not_the_groups(
    groups, administrator
) -> None:
    owner, other = groups.login(groups.silicon, "owner"), groups.login(groups.copper, "owner")
    other.labels.insert_one({"_id": "x"})
    record = {"_id": f"to/{groups.copper}/campaign y", "direction": "to", "group": groups.copper}
    record |= {"what": "campaign y", "users": [f"owner@{groups.copper}"], "database": groups.copper}
    owner.shares.insert_one(record)
    sharing.revoke(administrator, groups.silicon, groups.copper, ["campaign y"])
    assert other.labels.find_one({"_id": "x"})


def test_a_revocation_that_was_cut_off_is_repeated(groups, administrator, monkeypatch) -> None:
    campaign = campaign_from_mapping({"preset": "quickstart-Si-analytic", "name": "si"})
    create_campaign(administrator[groups.silicon], campaign, "file", {})
    groups.login(groups.copper, "viewer")
    copy = sharing.grant_campaign(administrator, groups.silicon, groups.copper, "si", ["viewer"])
    with monkeypatch.context() as patch:
        patch.setattr(MongoClient, "drop_database", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            sharing.revoke(administrator, groups.silicon, groups.copper, ["campaign si"])
    assert sharing.revoke(administrator, groups.silicon, groups.copper, ["campaign si"]) == ["campaign si"]
    assert copy not in administrator.list_database_names()


# --- the audit trail


def test_the_trail_says_who_did_what_by_the_servers_clock(groups, administrator) -> None:
    owner = groups.login(groups.silicon, "owner")
    groups.login(groups.copper, "worker")
    add_user(owner.client, groups.silicon, "anna", "member")
    sharing.grant(owner.client, groups.silicon, groups.copper, ["labels"], ["worker"])
    sharing.revoke(owner.client, groups.silicon, groups.copper, ["labels"])
    sharing.accept(owner, groups.copper)
    entries = read_audit(owner)
    assert [entry.event for entry in entries] == [
        "user.added",
        "user.added",
        "share.granted",
        "share.revoked",
        "share.accepted",
    ]
    me = f"owner@{groups.silicon}"
    assert [entry.who for entry in entries[1:]] == [me] * 4
    assert entries[2].details == {"group": groups.copper, "what": "labels", "users": ["worker"]}
    moments = [entry.when for entry in entries]
    assert moments == sorted(moments)
    now = administrator.admin.command("hello")["localTime"].replace(tzinfo=UTC)
    assert 0 <= (now - moments[0]).total_seconds() < 60
    assert [entry.event for entry in read_audit(owner, newest=1)] == ["share.accepted"]
    with pytest.raises(KeyError):
        audit(owner, "no such event")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://a:b@h/copper", "mongodb://a:b@h/si--x?authSource=copper"),
        (
            "mongodb://a:b@h/copper?tls=true&authSource=copper",
            "mongodb://a:b@h/si--x?tls=true&authSource=copper",
        ),
        ("mongodb://%2Frun%2Fs.sock/copper", "mongodb://%2Frun%2Fs.sock/si--x"),
    ],
)
def test_the_uri_of_a_copied_campaign(uri, expected) -> None:
    assert elsewhere(uri, "si--x") == expected
