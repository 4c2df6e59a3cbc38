"""What goes wrong in a campaign: each fault gives a clear reason on one screen, nothing is lost, `resume` continues."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.database, pytest.mark.timeout(600)]

FAULTY = Path(__file__).parents[1] / "reference"
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("shedule: {generations: 2}", ["'shedule'", "did you mean 'schedule'?"]),
        ("stop: {label_budget: 3}", ["label_budget is 3", "raise it"]),
        ("element: Sj", ["Sj"]),
        ("gap: {soap: {n_spars: 3}}", ["'gap.soap.n_spars'", "did you mean 'gap.soap.n_sparse'?"]),
        ("relax: {max_steps: many}", ["relax.max_steps", "'many'"]),
        ("element: [Si", ["not valid YAML"]),
        ("schedule: {generations: 0}", ["schedule.generations", "greater than or equal to 1"]),
    ],
)
def test_mistakes_in_the_file_are_found_before_anything_is_started(place, change, words) -> None:
    base = "" if change.startswith("element") else "element: Si\n"
    place.write("c.yaml", f"{base}{change}\n")
    for command in ("check", "run") if change.startswith("shedule") else ("run",):
        text = place.refused("campaign", command, "c.yaml")
        assert all(word in text for word in words), text
    assert not any(place.data.iterdir()), "a server was started for a file that cannot be used"


def test_a_missing_code_is_named_with_its_remedy(place) -> None:
    (place.directory / "blocked" / "gpaw").mkdir(parents=True)
    (place.directory / "blocked" / "gpaw" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'gpaw'\", name='gpaw')\n"
    )
    path = f"{place.directory / 'blocked'}:{ROOT}"
    place.write("si.yaml", "preset: quickstart-Si\nname: si\n")
    for command in ("check", "submit", "run"):
        text = place.refused("campaign", command, "si.yaml", PYTHONPATH=path)
        assert "gpaw" in text
        assert "pip install" in text, text
    assert place.json("campaign", "status") == [], "a campaign that cannot run was stored"


def test_a_database_that_is_not_there(place, tiny) -> None:
    place.write("tiny.yaml", tiny())
    gone = "mongodb://user:very-secret@127.0.0.1:9/gapfactory?serverSelectionTimeoutMS=500"
    for command in (("run", "tiny.yaml"), ("status",)):
        text = place.refused("campaign", *command, GAPFACTORY_DB=gone)
        assert "does not answer" in text
        assert "db start" in text
        assert "secret" not in text
    text = place.refused("campaign", "status", "--db", "http://example.org/x")
    assert "not a usable MongoDB URI" in text
    assert "Nothing that was stored is lost" in place.refused("campaign", "why", "tiny", GAPFACTORY_DB=gone)


@pytest.mark.slow
@pytest.mark.gap
def test_a_task_that_fails_ends_the_run_with_its_reason(place, tiny) -> None:
    program = "gap:\n  backend: gap_fit\n  program: {executable: %s}\n"
    place.write("lacking.yaml", tiny(more="").replace("gap:\n", program % "no-such-gap-fit"))
    for command in ("check", "submit"):
        assert "'no-such-gap-fit' was not found" in place.refused("campaign", command, "lacking.yaml")
    place.write("tiny.yaml", tiny(more="").replace("gap:\n", program % shutil.which("false")))
    began = time.monotonic()
    done = place.run("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
    assert done.returncode == 1
    assert time.monotonic() - began < 240
    assert "Traceback" not in done.stdout + done.stderr
    assert "stopped early (exit status 1)" in done.stdout
    assert "campaign resume tiny --run" in done.stdout
    found = place.json("campaign", "why", "tiny")
    assert found["state"] == "halted"
    (failed,) = found["failed_tasks"]
    assert failed["name"] == "tiny g000 fit"
    assert "stopped early" in failed["error"]
    assert Path(failed["directory"]).is_dir()
    # the same again says the same, at once
    again = place.run("campaign", "run", "tiny.yaml", "--workers", "1", "--no-report")
    assert again.returncode == 1
    assert "stopped early" in again.stdout


def faulty(place, tiny, quorum: float):
    """Return a campaign file whose reference returns NaN forces once, for the first crystal of three atoms."""
    place.environment["PYTHONPATH"] = f"{FAULTY}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"
    once = place.directory / "once"
    once.mkdir()
    reference = (
        "reference: {engine: ase, calculator: gf_faulty_calculators.Faulty, max_attempts: 1, "
        f"parameters: {{faults: {{'3': nanforce, '4': nanforce}}, once: {once}}}}}"
    )
    place.write("tiny.yaml", tiny(quorum=quorum, more=reference))


@pytest.mark.slow
@pytest.mark.long
def test_nan_forces_quarantine_a_structure_and_the_quorum_decides(place, tiny, first_digests) -> None:
    faulty(place, tiny, quorum=1.0)
    done = place.run("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "forces is not finite" in done.stdout
    assert "campaign retry tiny --run" in " ".join(done.stdout.split())
    found = place.json("campaign", "why", "tiny")
    assert found["state"] == "halted"
    assert "could not be labelled (" in found["reason"]
    assert "schedule.quorum is 1" in found["reason"]
    assert found["quarantined"]
    assert all("not finite" in entry["reason"] for entry in found["quarantined"])
    assert all(entry["fault"] == "nan" and entry["history"] for entry in found["quarantined"])
    # without labelling again nothing is better, and it says so again
    again = place.run("campaign", "resume", "tiny", "--run", "--workers", "1", "--no-report")
    assert again.returncode == 1
    assert "campaign retry tiny --run" in " ".join(again.stdout.split())
    # the fault is over (it happens once): the same labels, hence the same potential, as if it had never been
    assert "report:" in place.good("campaign", "retry", "tiny", "--fault", "nan", "--run", "--workers", "2")
    digests = place.json("campaign", "digest", "tiny")
    assert digests == first_digests
    assert place.json("campaign", "why", "tiny")["quarantined"] == []


@pytest.mark.slow
@pytest.mark.long
def test_a_campaign_goes_on_when_the_quorum_is_met(place, tiny) -> None:
    faulty(place, tiny, quorum=0.3)
    assert "report:" in place.good("campaign", "run", "tiny.yaml", "--workers", "2")
    found = place.json("campaign", "why", "tiny")
    assert found["state"] == "done"
    assert found["quarantined"]
    assert all("not finite" in entry["reason"] for entry in found["quarantined"])
    text = place.good("campaign", "why", "tiny")
    assert "not labelled:" in text
