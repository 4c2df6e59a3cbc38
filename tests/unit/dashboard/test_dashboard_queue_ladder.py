"""The ladder of a generation: every task is drawn once, bands follow from the dependences, and nothing overlaps."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from launchpad.dashboard.ladder import SIGNS, Rung, arrange, fold
from launchpad.queue.states import FireworkState


def generation(builds, relaxations, references):
    """A generation as the protocol plans it: build, relax, select, reference, fit, assess."""
    rungs = []

    def add(kind, parents=(), state="COMPLETED"):
        rungs.append(Rung(len(rungs) + 1, f"si g001 {kind}-{len(rungs):06d}", kind, state, tuple(parents)))
        return len(rungs)

    built = [add("build") for _ in range(builds)]
    relaxed = [add("relax", [built[number % builds]]) for number in range(relaxations)]
    select = add("select", relaxed)
    labelled = [add("reference", [select], "READY") for _ in range(references)]
    fit = add("fit", labelled, "WAITING")
    add("assess", [fit], "WAITING")
    return rungs


@pytest.mark.parametrize("size", [(1, 2, 3), (10, 10, 10), (60, 200, 250)])
def test_every_task_is_drawn_once_and_apart(size):
    rungs = generation(*size)
    ladder = arrange(rungs)
    cells = [cell for band in ladder.bands for cell in band.cells]
    assert sorted(cell.rung.fw_id for cell in cells) == [rung.fw_id for rung in rungs]
    assert [band.kind for band in ladder.bands] == ["build", "relax", "select", "reference", "fit", "assess"]
    for cell in cells:
        assert ladder.label_width <= cell.x
        assert cell.x + cell.width <= ladder.width
        assert cell.y + cell.height <= ladder.height
    for a, b in combinations(cells, 2):
        assert a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y


def test_few_tasks_have_names_and_a_line_for_each_dependence():
    rungs = generation(1, 2, 3)
    ladder = arrange(rungs)
    assert ladder.boxes
    assert len(ladder.lines) == sum(len(rung.parents) for rung in rungs)
    assert all(y1 < y2 for _, y1, _, y2 in ladder.lines)
    assert ladder.bands[0].cells[0].text == "✓ build-000000"


def test_many_tasks_are_signs_and_lines_join_bands():
    ladder = arrange(generation(60, 200, 250))
    assert not ladder.boxes
    assert len(ladder.lines) == 5
    assert ladder.height < 1500
    assert ladder.bands[3].counts == {"READY": 250}
    assert ladder.bands[3].cells[0].text == SIGNS["READY"]


def test_every_state_has_a_sign_of_its_own():
    assert set(SIGNS) == {state.value for state in FireworkState}
    assert len(set(SIGNS.values())) == len(SIGNS)


def test_odd_workflows_are_drawn_too():
    assert arrange([]).bands == ()
    ladder = arrange([Rung(1, "", "", "READY", (7, 7)), Rung(2, "x" * 99, "build", "READY", (1, 1))])
    assert [len(band.cells) for band in ladder.bands] == [1, 1]


def test_very_many_tasks_are_blocks_by_state_that_do_not_overlap():
    counts = {
        "assess": {"WAITING": 1},
        "relax": {"COMPLETED": 90_000, "FIZZLED": 3, "RUNNING": 20},
        "build": {"COMPLETED": 1000},
    }
    ladder = fold(counts, ("build", "relax", "select", "assess"))
    assert [band.kind for band in ladder.bands] == ["build", "relax", "assess"]
    assert [band.counts for band in ladder.bands] == [counts[band.kind] for band in ladder.bands]
    assert len(ladder.lines) == 2
    for band in ladder.bands:
        edges = [(block.x, block.x + block.width) for block in band.blocks]
        assert edges[0][0] >= ladder.label_width
        assert edges[-1][1] <= ladder.width
        assert all(left[1] < right[0] for left, right in pairwise(edges))
    failed = ladder.bands[1].blocks[1]
    assert (failed.state, failed.text) == ("FIZZLED", f"{SIGNS['FIZZLED']} 3")
