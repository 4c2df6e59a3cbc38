"""Which frames of a relaxation are labelled."""

from __future__ import annotations

import pytest

from launchpad.tasks.snapshots import snapshots


@pytest.mark.parametrize(
    ("steps", "status", "found"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 8, 20], "converged", [(5, "step 5"), (8, "end")]),
        ([0, 1, 2, 3, 4, 5, 6, 8, 20], "unconverged", [(5, "step 5"), (8, "end")]),
        # one that failed has no end, but what it came to before is sound
        ([0, 1, 2, 3, 4, 5, 6], "failed", [(5, "step 5")]),
        ([0, 1, 2, 3, 4, 5], "failed", [(5, "step 5")]),
        ([0, 1], "failed", []),
        ([], "failed", []),
        # a relaxation that ended there or before gives its end, once
        ([0, 1, 2, 3, 4, 5], "converged", [(5, "end")]),
        ([0, 1, 2], "converged", [(2, "end")]),
    ],
)
def test_early_frames_and_the_end(steps: list[int], status: str, found: list[tuple[int, str]]) -> None:
    assert snapshots(steps, status, (5,)) == found


def test_ends_only() -> None:
    assert snapshots([0, 1, 2, 3, 4, 5, 6], "converged", ()) == [(6, "end")]
    assert snapshots([0, 1, 2, 3, 4, 5, 6], "failed", ()) == []
