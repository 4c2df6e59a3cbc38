"""A search that ends with vibrations, its tasks carried to a site as files: the same bits as without."""

from __future__ import annotations

import pytest
from bundle_help import other_database, run_campaign, submit
from pymongo import MongoClient

from launchpad.database.digest import campaign_digests
from launchpad.queue import Queue

pytestmark = [pytest.mark.long, pytest.mark.database, pytest.mark.timeout(300)]

CAMPAIGN = """
name: seek
element: Si
seed: 2
schedule: {cells_per_generation: 6, initial_cells: 6, generations: 2}
build: {atoms_min: 2, atoms_max: 2}
select: {labels_per_generation: 4, held_out_per_generation: 1, noise_cells: 1}
stop: {label_budget: 10}
relax: {max_steps: 40}
dimers: {bond_lengths: 2}
vibrations:
  minima: 1
  parents: {dia: {prototype: diamond}, path: {bain: {of: dia, eta: 0.5}, trained: false}}
  frames: {primitives: 2, variants: 1, supercells: {divisions: [1, 1, 2]}}
  held_out: 1
  unlabelled: 2
  most_frames: 4
  phonons: {supercells: diagonal, grid: [1, 1, 1], dos_mesh: [2, 2, 2], compare_mesh: [2, 2, 2]}
  studies: {diagonal: true, single: {divisions: [1, 1, 2]}}
gap:
  two_body: {enabled: false}
  three_body: {enabled: false}
  soap: {n_sparse: 15, n_max: 4, l_max: 3}
  sigma: {rule: adaptive}
reference: {engine: ase, calculator: stillinger-weber}
evidence: {phases: none, stability: {enabled: false}}
execution: {evidence_parts: 1, build_chunk: 6, relax_chunk: 6, reference_chunk: 12}
"""


def test_crystals_frames_and_evidence_away_as_here(database_server, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    name = f"gf_vib_{tmp_path.name}"[:60]
    digests, structures, vibrations, sent = {}, {}, {}, {}
    with MongoClient(database_server) as client:
        try:
            for away in (False, True):
                with Queue.from_uri(other_database(database_server, f"{name}_{away}")) as queue:
                    submit(queue, CAMPAIGN)
                    sent[away] = run_campaign(queue, tmp_path / str(away), bundles=away)
                    digests[away] = campaign_digests(queue.db, "seek")
                    structures[away] = {d["_id"]: d["hash"] for d in queue.db.structures.find({})}
                    vibrations[away] = {d["_id"]: d["comparison"] for d in queue.db.vibrations.find({})}
        finally:
            for away in (False, True):
                client.drop_database(f"{name}_{away}")
    assert {"parent", "vibrations", "diagonal"} <= {what for _, what in sent[True]}
    assert digests[True] == digests[False]
    assert structures[True] == structures[False]
    assert {key.split("/")[2] for key in structures[True]} >= {"parent", "displaced", "evidence", "diagonal"}
    assert vibrations[True] == vibrations[False]
    # one atom on a grid of one point has no vibration: that is said, and ends nothing
    assert {key for key, comparison in vibrations[True].items() if comparison is None} >= {
        "seek/g002/vibrations/path/potential"
    }
    assert vibrations[True]["seek/g002/vibrations/dia/potential"]["rmse_THz"] > 0
