"""What the API sends is read by the functions of the pages: a field that these do not have any more is found here."""

from __future__ import annotations

from dataclasses import fields

import pytest

from launchpad.dashboard import actions
from launchpad.dashboard.api import answers
from launchpad.dashboard.queries import queue, structures, workers
from launchpad.database.labels import StoredLabel


@pytest.mark.parametrize(
    ("answer", "model", "beside"),
    [
        (answers.Attempt, queue.Attempt, set()),
        (answers.Step, structures.Step, set()),
        (answers.Label, StoredLabel, set()),
        (answers.Worker, workers.WorkerRow, {"host"}),
        (answers.TaskOutcome, actions.Outcome, set()),
        (answers.Changed, actions.CampaignOutcome, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_of_an_answer_is_read(answer, model, beside):
    read = {field.name for field in fields(model)}
    assert set(answer.model_fields) - beside <= read
