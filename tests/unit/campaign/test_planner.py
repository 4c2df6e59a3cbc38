"""The planner of the 2019 protocol: pure, complete, independent of how work is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapfactory.analysis.learning import Evidence
from gapfactory.campaign import Campaign, campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.protocols.plan import TaskKind, chunks
from gapfactory.protocols.planner import decide, plan_generation, recipe_of


def small(**more: object) -> Campaign:
    return campaign_from_mapping({"preset": "quickstart-Si-analytic", **more})


@given(total=st.integers(0, 500), size=st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_chunks_cover_everything_once(total: int, size: int) -> None:
    found = [i for start, stop in chunks(total, size) for i in range(start, stop)]
    assert found == list(range(total))


@given(relax=st.integers(1, 60), build=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_every_cell_is_built_and_relaxed_once_and_after_it_was_built(relax: int, build: int) -> None:
    campaign = small(execution={"relax_chunk": relax, "build_chunk": build})
    plan = {task.key: task for task in plan_generation(campaign, 1)}
    cells = campaign.cells_of(1)
    for kind in (TaskKind.BUILD, TaskKind.RELAX):
        tasks = [t for t in plan.values() if t.kind is kind]
        covered = sorted(
            i for t in tasks for i in range(int(t.parameters["start"]), int(t.parameters["stop"]))
        )
        assert covered == list(range(cells))
    for task in plan.values():
        if task.kind is TaskKind.RELAX:
            made = {
                i
                for parent in task.parents
                for i in range(int(plan[parent].parameters["start"]), int(plan[parent].parameters["stop"]))
            }
            assert set(range(int(task.parameters["start"]), int(task.parameters["stop"]))) <= made


@pytest.mark.parametrize("generation", [0, 1])
def test_the_plan_is_a_single_ordered_graph_that_ends_in_assess(generation: int) -> None:
    plan = plan_generation(small(), generation)
    seen: set[str] = set()
    for task in plan:
        assert set(task.parents) <= seen, "parents come before children"
        seen.add(task.key)
    children = {parent for task in plan for parent in task.parents}
    assert [t.key for t in plan if t.key not in children] == ["assess"]
    whats = {t.parameters.get("what") for t in plan if t.kind is TaskKind.REFERENCE}
    assert whats == ({"atoms", "picks", "noise", "phase"} if generation == 0 else {"picks"})


def test_the_budget_is_spent_exactly() -> None:
    campaign = small(stop={"label_budget": 50})
    per_generation = [recipe_of(campaign, g).labels for g in range(5)]
    assert per_generation == [21, 21, 8, 0, 0]
    assert decide(campaign, 1, []).action == "continue"
    decision = decide(campaign, 2, [])
    assert (decision.action, "label budget" in decision.reason) == ("stop", True)


def test_convergence_on_held_out_structures_ends_a_campaign_early() -> None:
    campaign = small(
        stop={"convergence": {"energy_error_in_eV": 0.01, "generations": 2, "minimum_structures": 3}}
    )
    good = [Evidence(generation=g, n_labels=20 * g, n_structures=5, energy_rmse=0.005) for g in (0, 1)]
    assert decide(campaign, 1, good).action == "stop"
    bad = [good[0], Evidence(generation=1, n_labels=20, n_structures=5, energy_rmse=0.5)]
    assert decide(campaign, 1, bad).action == "continue"


def test_the_estimate_counts_what_the_plan_holds() -> None:
    campaign = small()
    cost = estimate(campaign)
    assert cost.labels == campaign.stop.label_budget
    tasks = sum(len(plan_generation(campaign, g)) for g in range(campaign.schedule.generations))
    assert sum(row.tasks for row in cost.rows) == tasks
    assert cost.core_hours > 0
    paper = estimate(campaign_from_mapping({"element": "Si"}))
    assert paper.labels == 2500
    assert paper.fit_memory_gb < 4
    assert not any("large node" in warning for warning in paper.warnings)
    program = estimate(campaign_from_mapping({"element": "Si", "gap": {"backend": "gap_fit"}}))
    assert program.fit_memory_gb > 10
    assert any("large node" in warning for warning in program.warnings)
    assert 4.0 < next(row.core_hours for row in paper.rows if row.what == "relax") < 12.0
    (ours, theirs) = (row for cost in (paper, program) for row in cost.rows if row.what == "fit")
    assert ours.core_hours < theirs.core_hours / 20
