"""Every read command on one finished campaign: text for people, JSON for programs, nothing else on stdout."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

READ = [
    ("campaign", "check", "tiny.yaml"),
    ("campaign", "show", "tiny.yaml"),
    ("campaign", "show", "tiny"),
    ("campaign", "plan", "tiny.yaml"),
    ("campaign", "status"),
    ("campaign", "status", "tiny"),
    ("campaign", "why", "tiny"),
    ("campaign", "digest", "tiny"),
    ("worker", "list"),
    ("db", "status"),
    ("db", "check"),
]


@pytest.mark.parametrize("command", READ, ids=" ".join)
def test_json_is_all_that_is_printed(tiny_campaign, command) -> None:
    done = tiny_campaign.run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) is not None


@pytest.mark.parametrize("command", [READ[3], READ[4], READ[5], READ[8]], ids=" ".join)
def test_tables_fit_eighty_columns(tiny_campaign, command) -> None:
    text = tiny_campaign.good(*command)
    assert "─" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_status_has_the_numbers_whole(tiny_campaign) -> None:
    found = tiny_campaign.json("campaign", "status", "tiny")
    assert found["state"] == "done"
    assert found["labels"] == found["label_budget"] == 12
    assert [entry["generation"] for entry in found["assessments"]] == [0, 1]
    text = tiny_campaign.good("campaign", "status", "tiny")
    for entry in found["assessments"]:
        assert f"{entry['energy_rmse_meV']:.4g}" in text
        assert f"{entry['Si-diamond_meV']:.4g}" in text
    assert "diamond" in text


def test_only_the_last_potential_is_tried_in_dynamics_and_the_words_are_everywhere(
    tiny_campaign, tmp_path
) -> None:
    first, last = tiny_campaign.json("campaign", "status", "tiny")["assessments"]
    assert "stability" not in first
    assert "survive" in last["stability"]
    # whatever became of it, the campaign is done
    text = " ".join(tiny_campaign.good("campaign", "status", "tiny").split())
    assert f"potential of generation 1: {last['stability']}" in text
    tiny_campaign.good("campaign", "report", "tiny", "-o", str(tmp_path))
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["survival"] == ("stable" if written["stability"]["survives"] else "not stable")
    assert any(last["stability"] in sentence for sentence in written["summary"]["judgement"])
    assert written["stability"]["temperature_K"] == pytest.approx(0.8 * 1687)
    dimer, pair, crystal = written["stability"]["contacts"]
    assert (dimer["kind"], pair["kind"], crystal["kind"]) == ("dimer", "pair", "crystal")
    assert (tmp_path / "close_contacts.png").is_file()


def test_why_has_nothing_to_complain_about(tiny_campaign) -> None:
    found = tiny_campaign.json("campaign", "why", "tiny")
    assert (found["failed_tasks"], found["quarantined"], found["open_tasks"]) == ([], [], [])


def test_unknown_names_are_answered_with_the_nearest(tiny_campaign) -> None:
    for command in ("status", "why", "resume", "cancel", "report", "export", "digest", "show"):
        text = tiny_campaign.refused("campaign", command, "tinny")
        assert "did you mean 'tiny'?" in text, command


def test_finished_campaigns_cannot_be_resumed_or_cancelled(tiny_campaign) -> None:
    assert "is done" in tiny_campaign.refused("campaign", "resume", "tiny")
    assert "is done already" in tiny_campaign.refused("campaign", "cancel", "tiny")


def test_the_same_file_again_only_writes_the_report(tiny_campaign) -> None:
    before = tiny_campaign.json("campaign", "digest", "tiny")
    assert "nothing changed" in tiny_campaign.good("campaign", "submit", "tiny.yaml")
    assert "report:" in tiny_campaign.good("campaign", "run", "tiny.yaml", "--workers", "1")
    assert tiny_campaign.json("campaign", "digest", "tiny") == before


def test_same_name_with_other_settings_is_refused(tiny_campaign) -> None:
    text = (tiny_campaign.directory / "tiny.yaml").read_text()
    tiny_campaign.write("other.yaml", text.replace("seed: 11", "seed: 12"))
    for command in ("run", "submit"):
        refusal = tiny_campaign.refused("campaign", command, "other.yaml")
        assert "a campaign 'tiny' with other settings is in this database already" in refusal
        assert "name: ..." in refusal
    # how work is cut changes no result, so it may be changed, and changed back
    tiny_campaign.write("cut.yaml", text.replace("relax_chunk: 3", "relax_chunk: 1"))
    for file in ("cut.yaml", "tiny.yaml"):
        assert "operational settings were updated" in tiny_campaign.good("campaign", "submit", file)
        assert "nothing changed" in tiny_campaign.good("campaign", "submit", file)


def test_report_and_export_are_complete(tiny_campaign, tmp_path) -> None:
    tiny_campaign.good("campaign", "report", "tiny", "-o", str(tmp_path / "report"))
    assert (tmp_path / "report" / "index.html").stat().st_size > 1000
    assert list((tmp_path / "report").rglob("*.png"))
    assert list((tmp_path / "report").rglob("*.csv"))
    tiny_campaign.good("campaign", "export", "tiny", "-o", str(tmp_path / "export"))
    written = json.loads((tmp_path / "export" / "campaign.json").read_text())
    assert written["potential"]["generation"] == 1
    for entry in written["potential"]["files"]:
        content = (tmp_path / "export" / "potential" / entry["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert len(read(tmp_path / "export" / "held-out.xyz", index=":")) == 4
    assert len(read(tmp_path / "export" / "train.xyz", index=":")) == 1 + 4 + 8


def test_report_where_nothing_can_be_written(tiny_campaign) -> None:
    text = tiny_campaign.refused("campaign", "report", "tiny", "-o", "/proc/nowhere/report")
    assert "/proc/nowhere" in text


def test_fireworks_own_commands_see_the_campaign(tiny_campaign) -> None:
    path = tiny_campaign.good("db", "launchpad-file").strip()
    assert Path(path).stat().st_mode & 0o777 == 0o600
    lpad = Path(sys.executable).with_name("lpad")
    for command in ("get_wflows", "get_fws"):
        found = subprocess.run(
            [str(lpad), "-l", path, command, "-d", "ids" if command == "get_fws" else "less"],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=True,
        )
        content = json.loads(found.stdout)
        # one workflow per generation, each with its tasks
        assert len(content) == 2 if command == "get_wflows" else len(content) > 10
