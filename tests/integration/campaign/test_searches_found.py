"""What a campaign's searches found: ranked, drawn, thinned by policy and brought back, on a real database."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from gapfactory.campaign.load import parse_campaign
from gapfactory.errors import InputError, NotFoundError
from gapfactory.io.res import read_res, res_from_atoms, write_res
from gapfactory.protocols.planner import recipe_of
from gapfactory.search.trajectory import Trajectory
from launchpad.cli.app import app
from launchpad.database.campaigns import create_campaign
from launchpad.database.digest import campaign_digests
from launchpad.database.documents import MetricsDocument, generation_id, now
from launchpad.database.results import save_metrics, save_relaxation
from launchpad.figure_data import FIGURES, SEARCHES, gather
from launchpad.figure_data.request import Request
from launchpad.operations import retention
from launchpad.operations.settings import RetentionPolicy, SearchRule
from launchpad.ranking import failed_relaxations
from launchpad.searches import searches_in
from launchpad.tasks.relax import relaxation_document

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]

CAMPAIGN = """
protocol: boron-2018
name: c
element: Si
components:
  free: {cells: 3, initial_cells: 3}
  hot: {cells: 6, labelled: false, pressure_scale_GPa: 0}
  plain: {cells: 5, labelled: false, pressure_scale_GPa: 0}

schedule: {generations: 4}
reference: {engine: ase, calculator: stillinger-weber}
evidence: {phases: none}
"""
DIAMOND, FCC, BCC = bulk("Si"), bulk("Si", "fcc", 3.9), bulk("Si", "bcc", 3.1)
GPA = 160.2176634


def ended(
    database, index, atoms, energy, *, generation=1, pressure=0.0, status="converged", uncertainty=None
):
    """Store a relaxation of two frames that ends in a structure; energy in eV/atom."""
    frames = 0 if status == "failed" else 2
    n = len(atoms)
    energies = np.array([energy * n + 1.0, energy * n])[:frames]
    trajectory = Trajectory(
        status=status,
        reason="",
        pressure_GPa=pressure,
        numbers=atoms.numbers,
        steps=np.arange(frames),
        positions=np.array([atoms.positions + 0.3, atoms.positions])[:frames],
        cells=np.array([atoms.cell.array] * 2)[:frames],
        energies=energies,
        enthalpies=energies + pressure * atoms.get_volume() / GPA,
        max_forces=np.zeros(frames),
        cell_forces=np.zeros(frames),
        n_steps=frames,
        n_evaluations=frames,
        left_known_space=False,
        uncertainty=uncertainty,
    )
    save_relaxation(database, relaxation_document("c", generation, index, "Si", trajectory, 0.0))


@pytest.fixture
def searched(database):
    """A campaign whose first search has ended: the labelled component, then `hot` and `plain`."""
    campaign = parse_campaign(CAMPAIGN)
    create_campaign(database, campaign, CAMPAIGN, {})
    at = {part.component: part.start for part in recipe_of(campaign, 1).cells}
    for k, (atoms, energy) in enumerate([(DIAMOND, -4.30), (FCC, -4.00), (BCC, -4.10)]):
        ended(database, at["free"] + k, atoms, energy, pressure=0.1 * k)
    hot = [(DIAMOND, -4.3), (DIAMOND, -4.2995), (FCC, -4.0), (FCC, -3.9999), (BCC, -4.15)]
    for k, (atoms, energy) in enumerate(hot):
        ended(database, at["hot"] + k, atoms, energy)
    ended(database, at["hot"] + 5, BCC, 0.0, status="failed")
    for k, (atoms, energy) in enumerate(
        [(FCC, -4.0), (FCC, -4.0001), (BCC, -4.12), (BCC, -4.1), (BCC, -4.1001)]
    ):
        ended(database, at["plain"] + k, atoms, energy, status="unconverged" if k == 2 else "converged")
    return database


def assess(database, generation=1):
    more = {"labels": 3, "decision": "continue", "reason": "", "evidence": {}}
    save_metrics(
        database,
        MetricsDocument(id=generation_id("c", generation), campaign="c", generation=generation, **more),
    )


def rank(uri, *words):
    done = CliRunner().invoke(app, ["structures", "rank", *words, "--db", uri, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    found = json.loads(done.stdout)
    return [
        (e["space_group_number"], e["copies"], round(e["relative_eV_per_atom"], 4)) for e in found["entries"]
    ], found


def test_components_are_ranked_and_written(searched, database_uri, tmp_path):
    shown, found = rank(database_uri, "c/hot", "--write", str(tmp_path / "best"))
    assert shown == [(227, 2, 0), (229, 1, 0.15), (225, 2, 0.3)]
    assert [e["search"] for e in found["entries"]] == ["c/hot"] * 3
    assert "1 of 6 relaxations of hot failed or did not converge, and are left out" in found["notes"]
    best = {s.symmetry: s for s in read_res(tmp_path / "best")}
    assert (best["Fd-3m"].copies, best["Fd-3m"].enthalpy) == (2, pytest.approx(-8.6))
    # a person reads the common beginning of the names once
    table = CliRunner().invoke(app, ["structures", "rank", "c/hot", "--db", database_uri]).output
    assert table.splitlines()[0].split() == ["c/hot:", "c/g001/relaxation/..."]
    assert table.count("relaxation/") == 1
    shown, found = rank(database_uri, "c", "--component", "plain", "--unconverged", "--within", "0.05")
    assert shown == [(229, 1, 0), (229, 2, 0.0199)]
    shown, _ = rank(database_uri, "c", "--component", "hot", "--component", "plain")
    assert shown == [(227, 2, 0), (229, 1, 0.15), (229, 2, 0.1999), (225, 4, 0.2999)]
    _, found = rank(database_uri, "c/free@1")
    assert "relaxed at pressures from 0 to 0.2 GPa, compared by energy at none" in found["notes"][0]
    pressed, _ = rank(database_uri, "c/free", "--pressure", "20")
    volumes = {227: DIAMOND.get_volume() / 2, 225: FCC.get_volume(), 229: BCC.get_volume()}
    by_hand = {g: e + 20 / GPA * volumes[g] for g, e in ((227, -4.3), (225, -4.0), (229, -4.1))}
    assert [g for g, _, _ in pressed] == sorted(by_hand, key=by_hand.get)
    assert pressed[1][2] == pytest.approx(sorted(by_hand.values())[1] - min(by_hand.values()), abs=1e-4)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("d",), NotFoundError, "no campaign 'd'"),
        (("c/cold",), NotFoundError, "has no relaxations of cold"),
        (("c/cold@1",), NotFoundError, "has no component 'cold' in generation 1"),
        (("c@2",), NotFoundError, "has no relaxations in generation 2"),
        (("c/hot/x",), InputError, "is no file here, and no campaign"),
    ],
)
def test_what_is_not_there(searched, database_uri, words, error, said):
    with pytest.raises(error, match=said):
        rank(database_uri, *words)


def test_figures_and_table(searched, tmp_path):
    airss = tmp_path / "airss"
    airss.mkdir()
    write_res(airss, [res_from_atoms(DIAMOND, "a", enthalpy=-8.5, copies=7)])
    found = gather(
        searched, "structural-density", Request("c/hot", also=("c/plain", str(airss)), smearing=0.05)
    )
    summary = {r["search"]: (r["structures"], round(r["lowest_eV_per_atom"], 4)) for r in found.rows}
    assert summary == {"c/hot": (5, 0), "c/plain": (4, 0.1999), "airss": (7, 0.05)}
    assert {r["smearing_eV_per_atom"] for r in found.rows} == {0.05}
    assert len(found.figure.axes) == 2
    whole = gather(searched, "structural-density", Request("c"))
    assert list(dict.fromkeys(r["search"] for r in whole.rows)) == ["c/free", "c/hot", "c/plain"]
    pictures = gather(searched, "best-structures", Request("c/hot", top=2))
    assert [r["space_group"] for r in pictures.rows] == ["Fd-3m", "Im-3m"]
    assert len([ax for ax in pictures.figure.axes if ax.get_title()]) == 2
    rows = gather(searched, "frameworks", Request("c/hot", within=0.2)).rows
    assert [(r["space_group"], r["atoms"], r["energy_eV_per_atom"], r["found"]) for r in rows] == [
        ("Fd-3m", 2, 0.0, 2),
        ("Im-3m", 1, 0.15, 1),
    ]
    assert rows[0]["volume_A3_per_atom"] == pytest.approx(DIAMOND.get_volume() / 2, abs=1e-3)
    assert set(SEARCHES) <= set(FIGURES)
    with pytest.raises(InputError, match="--smearing changes nothing in frameworks"):
        gather(searched, "frameworks", Request("c/hot", smearing=0.1))


def test_a_policy_keeps_the_best_of_diagnostic_searches(searched, database_uri, tmp_path):
    policy = RetentionPolicy(searches=SearchRule(after_days=0, within=0.16))

    def prune(**more):
        return retention.prune(searched, lambda _: policy, tmp_path, by="test", file_age_s=0.0, **more)

    assert prune() is None, "nothing is assessed yet"
    assess(searched)
    later = RetentionPolicy(searches=SearchRule(after_days=2))
    assert retention.plan(searched, lambda _: later) == []
    assert len(retention.plan(searched, lambda _: later, moment=now() + timedelta(days=3))) == 1
    before, digests = (
        rank(database_uri, "c", "--component", "hot", "--component", "plain"),
        campaign_digests(searched, "c"),
    )
    whole = {d["_id"]: d for d in searched.relaxations.find()}
    record = prune()
    # of hot fcc, and what failed; of plain nothing lies 0.16 eV above bcc
    assert record["counts"] == [{"campaign": "c", "kind": "searches", "action": "archive", "documents": 3}]
    thin = {d["_id"]: d for d in searched.relaxations.find({"positions": {"$exists": False}})}
    assert sorted(int(key[-6:]) - 3 for key in thin) == [2, 3, 5]
    assert [d.get("space_group") for _, d in sorted(thin.items())] == [225, 225, None]
    assert all(d["energies"] == whole[key]["energies"] for key, d in thin.items())
    assert campaign_digests(searched, "c") == digests
    assert retention.plan(searched, lambda _: policy) == []
    # counted as before, the group with geometry and the one without united
    shown, found = rank(database_uri, "c", "--component", "hot", "--component", "plain")
    assert shown == before[0]
    assert (
        "hot: the geometry of 2 structures was not kept; they are told apart by space group" in found["notes"]
    )
    assert {s.name: len(s.found) for s in searches_in(lambda: searched, "c")} == {
        "c/free": 3,
        "c/hot": 5,
        "c/plain": 4,
    }
    retention.restore(searched, next(tmp_path.glob("*.tar.gz")))
    again = {
        d["_id"]: {k: v for k, v in d.items() if k != "space_group"} for d in searched.relaxations.find()
    }
    assert again == whole


def test_what_has_not_converged_is_counted_and_the_first_are_listed(database) -> None:
    text = """
name: c
element: Si
protocol: search
reference: {engine: ase, calculator: stillinger-weber}
search: {ranking: [{do: relax}]}
"""
    campaign = parse_campaign(text)
    create_campaign(database, campaign, text, {})
    states = ["failed", "converged", "unconverged", "failed", "failed"]
    for k, status in enumerate(states):
        ended(database, k, FCC, -4.0, generation=0, status=status)
    for k, status in enumerate(["converged", "failed", "unconverged"]):
        ended(database, k, FCC, -4.0, generation=1, status=status)
    found = failed_relaxations(database, campaign, most=2)
    assert found["search"] == {"failed": 3, "unconverged": 1}
    # of the search the first, of its stages all
    assert [(row["id"], row["status"]) for row in found["listed"]] == [
        ("c/g000/relaxation/000000", "failed"),
        ("c/g000/relaxation/000002", "unconverged"),
        ("c/g001/relaxation/000001", "failed"),
        ("c/g001/relaxation/000002", "unconverged"),
    ]


def test_ends_that_the_potential_does_not_know_are_left_out(database, database_uri) -> None:
    text = f"{CAMPAIGN}relax: {{max_uncertainty: 0.3}}\n"
    campaign = parse_campaign(text)
    create_campaign(database, campaign, text, {})
    at = {part.component: part.start for part in recipe_of(campaign, 1).cells}["hot"]
    # the lowest one began where nothing is known, stayed there, and converged
    for k, (atoms, energy, doubt) in enumerate(
        [(DIAMOND, -9.0, 0.8), (DIAMOND, -4.3, 0.1), (FCC, -4.0, 0.3), (BCC, -4.1, None)]
    ):
        ended(database, at + k, atoms, energy, uncertainty=doubt)
    shown, found = rank(database_uri, "c/hot")
    assert shown == [(227, 1, 0), (229, 1, 0.2), (225, 1, 0.3)]
    assert (
        "1 of 4 relaxations of hot ended where the potential is too uncertain, and are left out"
        in found["notes"]
    )
    shown, _ = rank(database_uri, "c/hot", "--unconverged")
    assert shown[0] == (227, 1, 0)
    density = gather(database, "structural-density", Request("c/hot"))
    assert {row["structures"] for row in density.rows} == {3}
