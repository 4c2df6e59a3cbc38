"""Faults of FireWorks' checkout: each scenario passes with our launcher and fails with FireWorks' own."""

from __future__ import annotations

import pytest
from fireworks import Firework, FWAction
from fireworks.core.firework import Launch
from fireworks.core.fworker import FWorker
from gf_fault_sides import DAY
from gf_fault_tasks import Twin
from queue_tasks import Nothing

pytestmark = pytest.mark.database


def test_killed_after_the_first_write_of_a_checkout(both, forge):
    """The task is RESERVED without a launch: no command of FireWorks ever finds it again."""

    def scenario(side):
        ids = side.add()
        forge.kill(side, "run", "fireworks.findAndModify")
        assert side.state(ids["only"]) == "RESERVED"
        side.recover(30 * DAY)
        side.run_all()
        side.all_completed()

    both(scenario, match="only is RESERVED")


def test_killed_after_the_launch_is_written(both, forge):
    """The launch is given up after its time, the Firework that it belongs to stays RESERVED."""

    def scenario(side):
        side.add()
        forge.kill(side, "run", side.launch_written)
        side.recover(30 * DAY)
        side.run_all()
        side.all_completed()

    both(scenario, match="only is RESERVED")


def test_checkout_by_id_is_exclusive(both):
    """Two jobs for one Firework (a requeued or resubmitted one) both run it."""

    def scenario(side):
        other = side.open()
        ids = side.add()
        got = []
        whole = side.pad.fireworks

        class Slow:
            """Lets somebody else ask for the same task after the first write of the checkout."""

            def __getattr__(self, name):
                real = getattr(whole, name)
                if name != "find_one_and_update" or got:
                    return real

                def write(*arguments, **options):
                    found = real(*arguments, **options)
                    got.append(side.take(other, fw_id=ids["only"]))
                    return found

                return write

        side.pad.fireworks = Slow()
        got.append(side.take(fw_id=ids["only"]))
        assert sum(map(bool, got)) == 1, "two launchers have got the same Firework"

    both(scenario, match="two launchers")


def test_commands_per_task(both):
    """At 50 ms to the database, 38 commands are two seconds for every task."""

    def scenario(side):
        for _ in range(3):
            side.pad.add_wf(Firework(Nothing(), name="only"))
        side.run_one()
        side.wire.clear()
        side.run_one()
        side.run_one()
        assert len(side.wire.names) <= 20, f"{len(side.wire.names) / 2} commands per task"

    both(scenario, match="commands per task")


def test_looking_for_work_changes_nothing(both):
    """Asking whether there is work looks for duplicates, and gives their launches away."""

    def scenario(side):
        spec = {"_dupefinder": Twin().to_dict(), "same": 1}
        side.pad.add_wf(Firework(Nothing(), spec=dict(spec), name="first"))
        launch = Launch(
            "COMPLETED", "/nowhere", FWorker(), "host", "ip", action=FWAction(), launch_id=7, fw_id=1
        ).to_db_dict()
        side.pad.launches.insert_one(launch)
        side.pad.fireworks.update_one(
            {"name": "first"}, {"$set": {"state": "COMPLETED", "launches": [launch["launch_id"]]}}
        )
        side.pad.add_wf(Firework(Nothing(), spec=dict(spec), name="second"))
        before = list(side.pad.fireworks.find())
        side.pad.run_exists(FWorker())
        assert list(side.pad.fireworks.find()) == before, "looking has changed a Firework"

    both(scenario, match="looking has changed")


def test_cost_of_looking_does_not_grow_with_running_tasks(both):
    """A launcher that becomes idle reads the workflow of every running task."""

    def scenario(side):
        for _ in range(12):
            side.pad.add_wf(Firework(Nothing(), name="running"))
            assert side.take()
        side.wire.clear()
        side.looking()
        assert len(side.wire.names) <= 4, f"{len(side.wire.names)} commands to find nothing"

    both(scenario, match="commands to find nothing")


def test_tasks_of_other_categories_are_not_scanned(both):
    """Urgent tasks of another category, and finished ones of one's own, are walked through by every checkout."""

    def scenario(side):
        for number in range(40):
            finished = Firework(Nothing(), spec={"_category": "relax"}, name=f"done{number}")
            side.pad.add_wf(finished)
        side.pad.fireworks.update_many({}, {"$set": {"state": "COMPLETED"}})
        for number in range(40):
            urgent = {"_category": "fit", "_priority": 9}
            side.pad.add_wf(Firework(Nothing(), spec=urgent, name=f"urgent{number}"))
        side.pad.add_wf(Firework(Nothing(), spec={"_category": "relax", "_priority": 1}, name="mine"))
        side.wire.clear()
        assert side.take(worker=FWorker(name="me", category="relax"))
        sent = next(c for c in side.wire.commands if c.get("findAndModify") == "fireworks")
        visited = keys_visited(side.pad.fireworks, sent["query"], list(sent["sort"].items()))
        assert visited <= 2, f"{visited} keys visited for one task"

    both(scenario, match="keys visited")


def keys_visited(collection, query, sort):
    """Return how many index keys the embedded server visits for a checkout, by its own planner."""
    from launchpad.embedded.indexes import Index, build
    from launchpad.embedded.planner import choose

    documents = list(enumerate(collection.find(), start=1))
    specs = (
        {name: value for name, value in spec.items() if name not in {"ns", "v"}}
        for spec in collection.list_indexes()
    )
    indexes = [Index({**spec, "key": dict(spec["key"])}) for spec in specs]
    build(indexes, documents)
    query = {**query, "state": "READY"}
    # the taken one is RESERVED by now: put back, as it was when the query was made
    plan = choose(indexes, query, sort, limited=True, total=len(documents))
    return len(documents) if plan is None else plan.keys + 1
