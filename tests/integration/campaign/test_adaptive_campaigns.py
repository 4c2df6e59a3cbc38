"""A campaign with SOAP alone, adaptive errors and sparse points of structures without labels."""

from __future__ import annotations

import pytest
from ase.build import bulk
from ase.io import write

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]

GAP = """
  sigma: {rule: adaptive, adaptive: {force_fraction: 0.02}}
  unlabelled: {file: frames.xyz}
"""


@pytest.mark.long
def test_a_campaign_with_adaptive_errors(place, tiny) -> None:
    from launchpad.database.connection import open_database
    from launchpad.embedded import ensure_running

    frames = [bulk("Si", a=5.3 + 0.05 * k, cubic=True) for k in range(5)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=k)
    text = tiny().replace("two_body: {n_sparse: 6}", "two_body: {enabled: false}")
    text = text.replace("three_body: {n_sparse: 6}", "three_body: {enabled: false}" + GAP.rstrip())
    text = text.replace("evidence: {", "evidence: {phases: none, ")
    place.write("tiny.yaml", text)
    write(place.directory / "frames.xyz", frames, format="extxyz")
    place.good("campaign", "run", "tiny.yaml", "--workers", "2", "--out", "report")
    database = open_database(ensure_running(place.data))
    try:
        (potential,) = database.potentials.find({})
        report = potential["report"]
        assert [stage["name"] for stage in report["stages"]] == ["soap"]
        assert report["sparse_pool"] == len(potential["trained_on"]) + len(frames)
        # components are worked out of the labels; the database holds one number of each kind
        for sigma in report["sigmas"].values():
            assert set(sigma) == {"energy", "force", "virial", "above_hull"}
    finally:
        database.client.close()
    assert (place.directory / "report").is_dir()
