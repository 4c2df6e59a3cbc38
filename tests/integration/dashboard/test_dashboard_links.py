"""Charts of a campaign that ran lead to its structures, and say what the funnel recorded."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
def report(stored):
    from launchpad.reporting import collect_report

    return collect_report(stored, "tiny", similarity=False)


def test_the_selection_is_drawn_where_nothing_converged(stored, report):
    recorded = stored.selections.find_one({"campaign": "tiny", "generation": 1})["report"]
    assert recorded["counts"]["converged"] == 0
    sizes = {stage.name: stage.size for stage in report.selection}
    assert sizes["all minima"] == recorded["counts"]["minima"] > 0
    assert sizes["frames on the paths to them"] == recorded["counts"]["frames"]
    chosen = report.selection[-1]
    assert chosen.name == "chosen to be labelled"
    assert list(chosen.ids) == [pick["id"] for pick in recorded["picks"]]
    assert min(stage.lowest for stage in report.selection) == pytest.approx(0.0)


def test_every_point_has_the_name_of_a_structure_that_is_there(stored, report):
    from launchpad.dashboard.queries.structures import find

    names = {*report.scatter.ids, *report.hull.ids, *(p.id for p in report.training)}
    assert len(report.scatter.ids) == len(report.scatter.reference) > 0
    assert len(report.hull.ids) == len(report.hull.volumes) > 0
    for name in names:
        assert find(stored, name).id == name
    volumes = {p.id: p.volume for p in report.training}
    for name, volume in zip(report.hull.ids, report.hull.volumes, strict=True):
        assert volumes[name] == pytest.approx(volume)


def test_held_out_structures_carry_the_error_that_the_assessment_found(stored, report):
    import numpy as np

    held_out = [p for p in report.training if p.held_out]
    newest = stored.metrics.find_one({"campaign": "tiny"}, sort=[("generation", -1)])
    assert len(held_out) == newest["evidence"]["held_out"] > 0
    rmse = np.sqrt(np.mean([p.energy_error**2 for p in held_out]))
    (row,) = [r for r in newest["evidence"]["errors"] if (r["quantity"], r["group"]) == ("energy", "all")]
    assert rmse == pytest.approx(row["rmse"])


def test_several_composition_groups_are_counted_together():
    from launchpad.selection_stages import _pooled

    edges, counts = _pooled([([0.0, 0.5, 1.0], [4, 2]), ([0.0, 1.0, 2.0], [3, 1])])
    assert sum(counts) == 10
    assert edges[0] == 0.0
    assert edges[-1] == 2.0
