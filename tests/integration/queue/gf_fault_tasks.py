"""Objects that the fault tests put into specs; not on the allow-list of any worker."""

from __future__ import annotations

from pathlib import Path

from fireworks import FiretaskBase, FWAction, explicit_serialize
from fireworks.user_objects.dupefinders.dupefinder_exact import DupeFinderExact


@explicit_serialize
class Twin(DupeFinderExact):
    """FireWorks' finder of equal specs, under a name that is found without importing everything."""


@explicit_serialize
class Foreign(FiretaskBase):
    """A task that nobody has allowed: it leaves a trace."""

    def run_task(self, fw_spec):
        Path(self["file"]).write_text("has run")
        return FWAction()


@explicit_serialize
class Breaks(FiretaskBase):
    """Raise."""

    def run_task(self, fw_spec):
        msg = "wrong"
        raise ValueError(msg)
