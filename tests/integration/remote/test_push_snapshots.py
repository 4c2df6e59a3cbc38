"""The protocol of 2018 through a site reached by SSH: snapshots, crystals of a file, a search after the last fit."""

from __future__ import annotations

import os
import signal

import pytest
from gf_push_site import end_runners, eventually, site_text, stand_in
from gf_sshd import SSHD, start_sshd

from launchpad.database.location import locate_database
from launchpad.queue import Queue

pytestmark = [
    pytest.mark.long,
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(SSHD is None, reason="no sshd is installed"),
]

SMALL = """
preset: boron-2018-prl
name: small
element: Si
components:
  free: {cells: 2, initial_cells: 4, build: {atoms_max: 3}}
  ordered: null
  look:
    {cells: 2, labelled: false, targets: [diamond], potential: final, pressure_scale_GPa: 0,
     build: {atoms_min: 2, atoms_max: 2}}
crystals: {alpha: null, beta: null, gamma: null, alpha-Ga: null, given: {file: given.extxyz, count: 2, joins: first}}
schedule: {generations: 2, quorum: 0.5}
final_fit: null
dimers: {bond_lengths: 4}
select: {noise_cells: 1}
relax: {max_steps: 8}
gap:
  two_body: {n_sparse: 6}
  three_body: {n_sparse: 6, cutoff_covalent_in_r: 2.9}
  soap: {n_sparse: 10, n_max: 3, l_max: 2}
reference: {engine: ase, calculator: stillinger-weber}
evidence: {phases: none, stability: {enabled: false}}
execution: {reference_chunk: 12}
"""
GIVEN = """2
Lattice="0 2.7 2.7 2.7 0 2.7 2.7 2.7 0" Properties=species:S:1:pos:R:3 pbc="T T T"
Si 0 0 0
Si 1.35 1.35 1.35
"""


def write_campaign(place) -> None:
    place.write("given.extxyz", GIVEN)
    place.write("small.yaml", SMALL)


def test_everything_but_the_assessment_is_done_at_the_site(place, tmp_path) -> None:
    local = type(place)(tmp_path / "local")
    try:
        write_campaign(local)
        local.good("campaign", "run", "small.yaml", "--workers", "1", "--no-report")
        expected = local.json("campaign", "digest", "small")
    finally:
        local.close()

    directory, cache = tmp_path / "site", local.directory / "cache"
    setup = stand_in(tmp_path / "slurm", "sbatch", "squeue")
    place.environment |= {"XDG_STATE_HOME": str(place.directory / "state"), "GAPFACTORY_CACHE": str(cache)}
    write_campaign(place)
    with start_sshd(tmp_path / "sshd") as gate:
        more = {"scheduler": "slurm", "walltime": "01:00:00", "queue": "main", "more_setup": setup}
        place.write("site.yaml", site_text(gate, directory, cache, **more))
        place.good("push", "init", "site.yaml")
        place.good("campaign", "submit", "small.yaml")
        (place.directory / "given.extxyz").unlink()
        assess = place.start("worker", "start", "-n", "1", "-c", "assess")
        push = place.start("push", "start", "site.yaml", log="push.log")
        try:

            def ended() -> bool:
                state = place.json("campaign", "status", "small")["state"]
                assert state != "halted", place.log()
                return state == "done"

            eventually(ended, why=lambda: (place.directory / "push.log").read_text()[-3000:] + place.log())
        finally:
            for process in (push, assess):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
            end_runners(directory, signal.SIGKILL)
    assert place.json("campaign", "digest", "small") == expected
    assert place.json("db", "check") == {"findings": []}
    with Queue.from_uri(locate_database(None, place.data).uri) as queue:
        snapshots = [d["info"]["snapshot"] for d in queue.db.structures.find({"stage": "frame"})]
        assert "end" in snapshots
        assert queue.db.structures.count_documents({"stage": "distorted"}) == 2
        found = queue.db.metrics.find_one({"generation": 1})["evidence"]["searches"]["look"]
        assert (found["cells"], found["potential"]) == (2, 1)
        kinds = {
            f["fw_id"]: f["spec"]["_category"] for f in queue.fireworks.find({}, {"fw_id": 1, "spec": 1})
        }
        for launch in queue.launches.find({"state": "COMPLETED"}):
            away = launch["process"]["node"].startswith("push/site/")
            assert away == (kinds[launch["fw_id"]] != "assess")
        # relaxations before the fit and after it
        assert sorted(kinds.values()).count("relax") == 2
