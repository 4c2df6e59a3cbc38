"""`campaign relabel`: the same structures at another level, in a campaign of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gapfactory.campaign import campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.load import settings_from
from gapfactory.errors import CampaignFileError, InputError, NotFoundError, StateError
from gapfactory.protocols.planner import plan_generation
from launchpad import service
from launchpad.cli.relabel import changes_from
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.transfer import import_database
from launchpad.queue import Queue
from launchpad.relabel import relabel

pytestmark = [pytest.mark.database, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[3]
STRONGER = {"calculator": "gf_faulty_calculators.Stronger", "parameters": {"strength": 1.02}}


@pytest.mark.slow
@pytest.mark.long
def test_another_level_is_fitted_judged_and_compared(tiny_campaign, place, tmp_path) -> None:
    tiny_campaign.good("db", "export", str(tmp_path / "tiny.tar.gz"))
    place.good("db", "import", str(tmp_path / "tiny.tar.gz"))
    before = place.json("campaign", "digest", "tiny")
    place.environment["PYTHONPATH"] = f"{ROOT / 'tests' / 'integration' / 'reference'}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"
    options = ("--set", f"calculator={STRONGER['calculator']}", "--set", "parameters.strength=1.02")
    said = place.good("campaign", "relabel", "tiny", *options, "--as", "strong", "--run", "--workers", "2")
    assert "12 structures of 'tiny' at the new level" in said
    status = place.json("campaign", "status", "strong")
    assert (status["state"], status["labels"], status["generations"]) == ("done", 12, 1)
    (assessed,) = status["assessments"]
    # energies differ by two per cent and a constant, which is taken out; forces by two per cent
    assert 0 < assessed["level_energy_rms_meV"] < 1000
    report = json.loads((place.directory / "strong-report" / "report.json").read_text())
    levels = report["levels"]
    assert (levels["of"], levels["n_structures"]) == ("tiny", 12)
    assert levels["energy_rms_meV"] > 90_000
    assert levels["force_rms"] == pytest.approx(assessed["level_force_rms_eV_A"])
    assert (place.directory / "strong-report" / "levels.png").stat().st_size > 5000
    assert "against the other level" in place.good("campaign", "status", "strong")
    assert place.json("campaign", "why", "strong")["quarantined"] == []
    # the other campaign is what it was
    assert place.json("campaign", "digest", "tiny") == before
    assert place.json("db", "check") == {"findings": []}
    place.good("campaign", "export", "strong", "-o", "exported")
    exported = json.loads((place.directory / "exported" / "campaign.json").read_text())
    assert exported["settings"]["source"] == {"campaign": "tiny", "which": "all"}
    assert "submitted before" in place.good("campaign", "relabel", "tiny", *options, "--as", "strong")


@pytest.mark.slow
@pytest.mark.gpaw
@pytest.mark.long
def test_a_real_code_and_then_a_denser_mesh(place, tiny) -> None:
    """From an analytic reference to density-functional theory, and from there to more k-points."""
    pytest.importorskip("gpaw")
    text = (
        tiny()
        .replace("evidence: {", "evidence: {phases: none, ")
        .replace("bond_lengths: 4", "bond_lengths: 2")
    )
    place.write("tiny.yaml", text)
    place.good("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
    place.write(
        "gpaw.yaml",
        "{engine: gpaw, cutoff_eV: 150, kpoint_density: 1, vacuum_isolated: 2.5, vacuum_dimer: 2.5, spin_dimer: none}",
    )
    choice = ("--engine-file", "gpaw.yaml", "--lowest", "4", "--as", "dft", "--run", "--workers", "2")
    place.good("campaign", "relabel", "tiny", *choice)
    first = place.json("campaign", "status", "dft")
    assert (first["state"], first["labels"]) == ("done", 4)
    done = place.good(
        "campaign", "relabel", "dft", "--k-density", "2.0", "--as", "dense", "--run", "--workers", "2"
    )
    assert "report:" in done
    second = place.json("campaign", "status", "dense")
    assert (second["state"], second["labels"]) == ("done", 4)
    # more k-points are a smaller step than from one method to another, and not nothing
    noise, change = (s["assessments"][0]["level_energy_rms_meV"] for s in (second, first))
    assert 0.1 < noise < change
    levels = json.loads((place.directory / "dense-report" / "report.json").read_text())["levels"]
    assert (levels["of"], levels["n_structures"]) == ("dft", 4)
    place.good("campaign", "export", "dense", "-o", "exported")
    settings = json.loads((place.directory / "exported" / "campaign.json").read_text())["settings"]
    assert settings["reference"]["kpoint_density"] == 2.0


@pytest.fixture
def copy(tiny_campaign, database, tmp_path):
    tiny_campaign.good("db", "export", str(tmp_path / "tiny.tar.gz"))
    import_database(database, tmp_path / "tiny.tar.gz")
    return database


@pytest.mark.slow
def test_structures_are_chosen_and_mistakes_refused(copy, database_uri, monkeypatch) -> None:
    monkeypatch.setenv("GAPFACTORY_CALCULATOR_MODULES", "gf_faulty_calculators")
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "integration" / "reference"))
    picks = {s["_id"]: s for s in copy.selections.find({"campaign": "tiny"})}
    with Queue.from_uri(database_uri) as queue:
        with pytest.raises(InputError, match="are the settings of campaign 'tiny' already"):
            relabel(queue, "tiny", "new", {"max_attempts": 3})
        with pytest.raises(CampaignFileError, match="kpoint_density"):
            relabel(queue, "tiny", "new", {"kpoint_density": 4.0})
        with pytest.raises(NotFoundError, match="is not among the 12 structures"):
            relabel(queue, "tiny", "new", STRONGER, labels=["tiny/g000/cell/999999"])
        with pytest.raises(InputError, match="no such structures yet"):
            # no relaxation of this campaign converged
            relabel(queue, "tiny", "new", STRONGER, which="minima")
        with pytest.raises(InputError, match="none of the chosen structures"):
            relabel(queue, "tiny", "new", STRONGER, labels=picks["tiny/g000"]["test"])
        with pytest.raises(StateError, match="other settings"):
            relabel(queue, "tiny", "tiny", STRONGER)
        assert copy.campaigns.count_documents({}) == 1
        assert copy.selections.count_documents({"campaign": "new"}) == 0
        assert {s["_id"]: s for s in copy.selections.find({"campaign": "tiny"})} == picks

        made, said = relabel(queue, "tiny", "new", STRONGER, lowest=3)
        assert said == "new"
        assert made.source.which == "lowest 3"
        chosen = copy.selections.find_one({"_id": "new/g000"})
        assert len([*chosen["train"], *chosen["test"]]) == made.stop.label_budget == 3
        assert relabel(queue, "tiny", "new", STRONGER, lowest=3)[1] == "unchanged"
        names = {fw["name"].split()[-1] for fw in copy.fireworks.find({"spec.campaign": "new"})}
        assert not any(name.startswith(("build", "select", "relax")) for name in names)
        assert {"reference-atoms", "reference-000000", "fit", "assess"} <= names
        ready = {
            fw["name"].split()[-1] for fw in copy.fireworks.find({"spec.campaign": "new", "state": "READY"})
        }
        assert "reference-000000" in ready
        # a file that asks for structures which nobody chose
        lost = campaign_from_mapping({**made.model_dump(mode="json"), "name": "lost"})
        with pytest.raises(StateError, match="campaign relabel"):
            service.submit(queue, lost, "")
    stored = campaign_of(require_campaign(copy, "new"))
    assert stored.source == made.source
    assert estimate(stored).labels == 3


def test_a_campaign_with_a_source_has_one_generation_without_cells() -> None:
    content = {
        "preset": "quickstart-Si-analytic",
        "name": "again",
        "source": {"campaign": "other"},
        "select": {"labels_per_generation": 6, "held_out_per_generation": 2, "noise_cells": 0},
        "stop": {"label_budget": 8},
        "schedule": {"generations": 1},
        "execution": {"reference_chunk": 5},
    }
    campaign = campaign_from_mapping(content)
    keys = [task.key for task in plan_generation(campaign, 0)]
    first, *others = keys
    assert first == "reference-atoms"
    assert others[0] == "reference-phase-Si-diamond"
    assert others[1:] == ["reference-000000", "reference-000005", "fit", "assess"]
    assert all(not task.parents for task in plan_generation(campaign, 0) if task.kind == "reference")
    with pytest.raises(CampaignFileError, match="one generation"):
        campaign_from_mapping({**content, "schedule": {"generations": 2}})


def test_changes_are_laid_over_the_settings(tmp_path) -> None:
    file = tmp_path / "engine.yaml"
    file.write_text("reference: {engine: gpaw, xc: PBE, cutoff_eV: 400}\n")
    found = changes_from(5.0, ["xc=PBEsol", "a.b=[1, 2]"], file)
    assert found == {
        "engine": "gpaw",
        "xc": "PBEsol",
        "cutoff_eV": 400,
        "kpoint_density": 5.0,
        "a": {"b": [1, 2]},
    }
    file.write_text("engine: ase\ncalculator: emt\n")
    assert changes_from(None, [], file) == {"engine": "ase", "calculator": "emt"}
    for density, changes, content in (
        (None, [], None),
        (None, ["xc"], None),
        (None, ["=1"], None),
        (None, ["a=[1"], None),
        (None, [], "- 1\n"),
        (None, [], "a: [\n"),
    ):
        if content is not None:
            file.write_text(content)
        with pytest.raises(InputError):
            changes_from(density, changes, None if content is None else file)
    gpaw = campaign_from_mapping(
        {"preset": "quickstart-Si", "name": "x", "reference": {"kpoint_grid": [2, 2, 2]}}
    )
    # a density replaces a fixed grid; another engine replaces everything
    denser = settings_from(gpaw, {"kpoint_density": 5.0})
    assert (denser["kpoint_density"], denser["kpoint_grid"], denser["xc"]) == (5.0, None, "PBE")
    assert settings_from(gpaw, {"engine": "ase", "calculator": "emt"}) == {
        "engine": "ase",
        "calculator": "emt",
    }
