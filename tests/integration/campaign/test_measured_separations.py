"""`separations: {auto: true}`: each generation builds with what the best labelled structures of earlier ones have."""

from __future__ import annotations

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

pytestmark = [pytest.mark.long, pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]

AUTO = """
element: Si
name: auto
seed: 5
schedule: {cells_per_generation: 10, initial_cells: 16, generations: 3}
select: {minima: all, noise_cells: 0, labels_per_generation: 6, held_out_per_generation: 1}
stop: {label_budget: 21}
build:
  atoms_min: 2
  atoms_max: 6
  volume: {per_atom: [26.0, 30.0]}
  separations: {value: 1.7, auto: true, auto_structures: 3}
dimers: {bond_lengths: 3}
execution: {reference_chunk: 12, build_chunk: 4}
relax: {max_steps: 20}
gap:
  two_body: {n_sparse: 8}
  three_body: {n_sparse: 10}
  soap: {enabled: false}
reference: {engine: ase, calculator: stillinger-weber}
evidence: {phases: [diamond], stability: {duration_ps: 0.02, nve_ps: 0.02, n_atoms: 8}}
"""


def test_separations_are_measured_on_the_best_labelled_structures(place) -> None:
    from gapfactory.build import build_cell
    from gapfactory.build.settings import VolumeSettings
    from gapfactory.seeds import Stage, stream
    from gapfactory.structures import structure_hash
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.connection import open_database
    from launchpad.database.dataset import pick_items, with_labels
    from launchpad.database.packing import unpack_atoms
    from launchpad.embedded import ensure_running

    place.write("auto.yaml", AUTO)
    assert "generation 0 uses the stated separations and volume" in " ".join(
        place.json("campaign", "plan", "auto.yaml")["warnings"]
    )
    place.good("campaign", "run", "auto.yaml", "--workers", "2", "--no-report")
    database = open_database(ensure_running(place.data))
    try:
        campaign = campaign_of(require_campaign(database, "auto"))
        cells = {
            g: list(database.structures.find({"stage": "cell", "generation": g}).sort("index", 1))
            for g in range(3)
        }
        for cell in cells[0]:
            atoms = unpack_atoms(cell["atoms"])
            assert 26.0 <= atoms.get_volume() / len(atoms) <= 30.0
            assert "separations_of" not in cell["info"]
        pool = []
        for generation in (1, 2):
            entries = with_labels(database, campaign, pick_items(database, campaign, generation - 1))
            pool += [
                (e.label.energy / len(e.item.atoms), e.item.id, e.item.atoms) for e in entries if e.label
            ]
            best = sorted(pool, key=lambda row: row[:2])[:3]
            stored = database.metrics.find_one({"generation": generation - 1})["evidence"]["measured"][
                "random"
            ]
            assert stored["structures"] == sorted(key for _, key, _ in best)
            nearest = min(neighbor_list("d", atoms, 6.0).min() for _, _, atoms in best)
            assert stored["separations"] == {"Si-Si": pytest.approx(nearest)}
            volume = np.mean([atoms.get_volume() / len(atoms) for _, _, atoms in best])
            assert stored["volume_per_atom"] == pytest.approx(volume)
            # the same cells follow from what is stored
            settings = campaign.build.model_copy(
                update={
                    "volume": VolumeSettings(per_atom=stored["volume_per_atom"]),
                    "separations": campaign.build.separations.model_copy(
                        update={"pairs": {"Si-Si": (stored["separations"]["Si-Si"],) * 2}}
                    ),
                }
            )
            assert len(cells[generation]) == 10
            for cell in cells[generation]:
                assert cell["info"]["separations_of"] == generation - 1
                again = build_cell(
                    stream(5, generation, Stage.CELL, cell["index"]),
                    composition={"Si": 1},
                    species=campaign.species_table,
                    generation=generation,
                    settings=settings,
                )
                assert structure_hash(again.atoms) == cell["hash"]
                assert abs(again.atoms.get_volume() / len(again.atoms) / volume - 1) <= 0.05 + 1e-9
    finally:
        database.client.close()
