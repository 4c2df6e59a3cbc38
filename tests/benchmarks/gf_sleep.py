"""The task of bench_latency.py; imported by its workers."""

import time

from fireworks import FiretaskBase, FWAction, explicit_serialize


@explicit_serialize
class Sleep(FiretaskBase):
    """Sleep for `seconds`."""

    def run_task(self, fw_spec):
        time.sleep(self["seconds"])
        return FWAction(stored_data={"slept": self["seconds"]})
