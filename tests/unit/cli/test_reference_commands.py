"""`gapfactory reference`: lists, settings, presets, and a self-test of an engine that costs nothing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from gapfactory.errors import CampaignFileError, InputError, MissingEngineError
from gapfactory.reference import engine_classes
from launchpad.cli.app import app

SILICON = ("check", "ase", "--element", "Si", "--quick")


def call(*words: str, code: int = 0) -> str:
    """Run a command of this group; return what it printed on standard output."""
    done = CliRunner().invoke(app, ["reference", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_every_engine_is_listed_with_version_or_remedy() -> None:
    rows = json.loads(call("list", "--json"))
    assert [row["engine"] for row in rows] == list(engine_classes())
    for row in rows:
        assert row["installed"] is (row["version"] is not None)
        assert row["installed"] or row["remedy"]
    assert next(row for row in rows if row["engine"] == "ase")["installed"]


def test_a_missing_program_has_its_remedy(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = " ".join(call("list").split())
    assert "'pw.x', which is not on PATH" in text
    row = next(row for row in json.loads(call("list", "--json")) if row["engine"] == "espresso")
    assert not row["installed"]


def test_settings_have_defaults_and_units() -> None:
    rows = {row["key"]: row for row in json.loads(call("settings", "espresso", "--json"))}
    assert rows["engine"]["default"] == "espresso"
    assert "eV" in rows["cutoff_eV"]["meaning"]
    assert all(row["meaning"] for row in rows.values())
    assert "kpoint_density" in call("settings", "gpaw")


def test_presets_are_listed_and_shown() -> None:
    assert "pickard-2024-final-C" in call("presets")
    assert "optB88-vdW is not available" in " ".join(call("presets", "bernstein-2019-C").split())
    shown = json.loads(call("presets", "bernstein-2019-Ti", "--json"))
    assert shown["bernstein-2019-Ti"]["engines"]["vasp"]["settings"]["cutoff_eV"] == 285.0


def test_a_check_writes_its_results_and_goes_on_where_it_stopped(tmp_path) -> None:
    output = tmp_path / "check"
    text = call(*SILICON, "--output", output)
    assert "forces and stress" in text
    assert "the labels of the campaign take about" in text
    first = json.loads((output / "result.json").read_text())
    assert first["passed"] is True
    assert (output / "report.md").read_text().startswith("# Self-test of the reference engine ase")
    assert not (output / "convergence.png").exists()
    assert json.loads(call(*SILICON, "--output", output, "--json")) == first


def test_a_failed_verdict_is_exit_code_one(tmp_path, monkeypatch) -> None:
    from gapfactory.reference import selfcheck_judge

    monkeypatch.setattr(selfcheck_judge, "_tensor", lambda voigt: np.zeros((3, 3)))
    found = json.loads(call(*SILICON, "--output", tmp_path / "check", "--json", code=1))
    assert found["passed"] is False
    assert found["verdicts"][0]["state"] == "failed"


def test_derivatives_of_the_datum_cost_need_shorter_steps_and_have_them(tmp_path, monkeypatch) -> None:
    diamond = ("check", "datum", "--element", "C", "--quick", "--json", "--output")
    assert json.loads(call(*diamond, tmp_path / "own"))["verdicts"][0]["state"] == "passed"
    datum = engine_classes()["datum"].settings_class
    monkeypatch.setattr(datum, "force_step", 0.015)
    assert json.loads(call(*diamond, tmp_path / "long", code=1))["verdicts"][0]["state"] == "failed"


def test_a_campaign_file_gives_settings_and_elements(tmp_path) -> None:
    file = tmp_path / "ti.yaml"
    file.write_text(
        "element: Ti\nreference: {engine: ase, calculator: second-moment}\nevidence: {phases: none}\n"
    )
    found = json.loads(call("check", "ase", "--campaign", file, "--quick", "-o", tmp_path / "out", "--json"))
    assert found["symbols"] == ["Ti"]
    assert found["settings"]["calculator"] == "second-moment"
    with pytest.raises(InputError, match="has the engine 'ase', not 'gpaw'"):
        call("check", "gpaw", "--campaign", file)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["check", "ase"], InputError, "give one of --campaign and --element"),
        (["check", "espreso", "--element", "Si"], InputError, "did you mean 'espresso'?"),
        (["settings", "xyz"], InputError, "there are: abinit, ase"),
        (["presets", "bernstein-2019-si"], InputError, "did you mean 'bernstein-2019-Si'"),
        (["check", "ase", "--element", "Si", "--set", "calculator"], InputError, "is not key=value"),
        (["check", "ase", "--element", "Si", "--set", "calculator=[1"], InputError, "cannot be read"),
        (
            ["check", "gpaw", "--element", "Si", "--set", "cutof_eV=1"],
            CampaignFileError,
            "reference.cutoff_eV",
        ),
        (
            ["check", "ase", "--element", "Si", "--set", "calculator=os.system"],
            InputError,
            "which is not allowed",
        ),
    ],
)
def test_wrong_words_are_refused_with_a_remedy(words, error, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(message)):
        call(*words)


def test_a_program_that_is_not_here_is_said_before_anything_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingEngineError, match=r"pw\.x"):
        call("check", "espresso", "--element", "Si", "-o", tmp_path / "out")
