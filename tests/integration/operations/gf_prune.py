"""Prune a database and be killed at one write: python gf_prune.py URI DIRECTORY NUMBER."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pymongo import MongoClient, monitoring

from launchpad.database.connection import durable
from launchpad.operations import retention
from launchpad.operations.settings import RetentionPolicy, Rule

NOW = Rule(after_days=0)
HARSHEST = RetentionPolicy(
    trajectories=NOW,
    cells=NOW,
    launches=NOW,
    label_files=NOW,
    potentials=NOW,
    journal=NOW,
    keep_potentials=1,
    keep_generations=0,
)


class Killer(monitoring.CommandListener):
    """Kills its process when the so-and-so-manieth write is about to be sent."""

    def __init__(self, number: int) -> None:
        self.left = number

    def started(self, event) -> None:
        if event.command_name in {"insert", "update", "delete", "findAndModify"}:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event) -> None:
        pass

    def failed(self, event) -> None:
        pass


if __name__ == "__main__":
    uri, directory, number = sys.argv[1:]
    retention.BATCH = 2
    client = MongoClient(uri, tz_aware=True, event_listeners=[Killer(int(number))])
    retention.prune(
        durable(client.get_default_database()),
        lambda name: HARSHEST,
        Path(directory),
        by="test",
        file_age_s=0.0,
    )
