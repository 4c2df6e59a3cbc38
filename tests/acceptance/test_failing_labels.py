"""A campaign in which a tenth of the labels cannot be made ends by the quorum rule, and says which and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
CALCULATORS = ROOT / "tests" / "integration" / "reference"

CAMPAIGN = """
preset: quickstart-Si-analytic
name: unlucky
seed: 5
schedule: {cells_per_generation: 24, initial_cells: 24, generations: 1%(quorum)s}
select: {noise_cells: 0, labels_per_generation: 17, held_out_per_generation: 3}
stop: {label_budget: 20}
build: {atoms_min: 2, atoms_max: 4}
dimers: {bond_lengths: 4}
gap:
  two_body: {n_sparse: 6}
  three_body: {n_sparse: 6}
  soap: {n_sparse: 12, n_max: 3, l_max: 2}
reference: {engine: ase, calculator: gf_faulty_calculators.Unlucky, parameters: {every: 10, offset: %(offset)d}, max_attempts: 2}
evidence: {phases: none, stability: {enabled: false}}
execution: {build_chunk: 24, reference_chunk: 5}
"""  # noqa: E501 - a line of the file
#: Of the 20 structures that this seed chooses, two have a volume per atom with this last digit (in 0.001 Å^3).
OFFSET, FAILING = 8, 2


def test_a_tenth_of_the_labels_fails(place) -> None:
    place.environment["PYTHONPATH"] = f"{CALCULATORS}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"

    # 18 of 20 are less than 95 %: the campaign halts, with words, and asks a person
    place.write("unlucky.yaml", CAMPAIGN % {"quorum": "", "offset": OFFSET})
    done = place.run("campaign", "run", "unlucky.yaml", "--workers", "2")
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert f"{FAILING} of 20 picks of generation 0 could not be labelled ({FAILING} unknown)" in said
    assert "schedule.quorum is 0.95" in said
    assert "SCF did not converge" in said
    why = place.json("campaign", "why", "unlucky")
    assert why["state"] == "halted"
    assert len(why["quarantined"]) == FAILING
    for entry in why["quarantined"]:
        assert entry["attempts"] == 2
        assert entry["fault"] == "unknown"
        assert "SCF did not converge" in entry["reason"]
        assert len(entry["history"]) == 2
    named = why["quarantined"][0]["id"]

    # the same fault again: another try changes nothing, and only what was named is tried
    again = place.run("campaign", "retry", "unlucky", "--label", named, "--run", "--workers", "1")
    assert again.returncode == 1
    assert "1 labels to be tried again" in " ".join(again.stdout.split())
    assert len(place.json("campaign", "why", "unlucky")["quarantined"]) == FAILING

    # a person accepts 18 of 20: the campaign goes on from where it was and ends
    place.write("unlucky.yaml", CAMPAIGN % {"quorum": ", quorum: 0.9", "offset": OFFSET})
    assert "operational settings were updated" in place.good("campaign", "submit", "unlucky.yaml")
    assert "report:" in place.good("campaign", "resume", "unlucky", "--run", "--workers", "2")
    status = place.json("campaign", "status", "unlucky")
    assert status["state"] == "done"
    assert status["labels"] == 20 - FAILING
    assert status["potential"]["generation"] == 0

    report = json.loads((place.directory / "unlucky-report" / "report.json").read_text())
    assert {entry["id"] for entry in report["quarantined"]} == {entry["id"] for entry in why["quarantined"]}
    assert {entry["fault"] for entry in report["quarantined"]} == {"unknown"}
    assert f"{FAILING} structures could not be labelled." in report["summary"]["failed"]
    page = (place.directory / "unlucky-report" / "index.html").read_text()
    assert f"{FAILING} × unknown" in page
    assert named in page
    assert (place.directory / "unlucky-report" / "quarantine.png").stat().st_size > 5000
