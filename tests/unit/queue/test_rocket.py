"""A task that is told to end does so, whatever its libraries make of it."""

from __future__ import annotations

import pytest
from fireworks import FiretaskBase, Firework, FWorker, explicit_serialize

from launchpad.workers.rocket import HandBack, Rocket


@explicit_serialize
class Interrupted(FiretaskBase):
    """Raises what it is asked for, as compiled code does that a signal interrupts."""

    required_params = ("inside",)

    def run_task(self, fw_spec):
        if not self["inside"]:
            raise HandBack
        try:
            raise HandBack
        except HandBack as error:
            msg = "CPUDispatcher(<function push>) returned a result with an exception set"
            raise SystemError(msg) from error


@pytest.mark.parametrize("inside", [False, True])
def test_an_interrupted_task_is_handed_back_and_has_not_failed(inside, tmp_path) -> None:
    firework = Firework([Interrupted(inside=inside)], fw_id=3)
    with pytest.raises(HandBack):
        Rocket(None, FWorker(), 3).execute(firework, tmp_path)
