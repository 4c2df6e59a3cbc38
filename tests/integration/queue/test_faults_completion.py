"""Faults of FireWorks when a task ends, or cannot: ours must pass, FireWorks' own must fail."""

from __future__ import annotations

import pytest
from fireworks import Firework, FWAction
from fireworks.features.background_task import BackgroundTask
from fireworks.utilities.fw_serializers import SAVED_FW_MODULES
from gf_fault_sides import DAY, Breaking, Ours
from gf_fault_tasks import Breaks
from pymongo.errors import PyMongoError
from queue_tasks import Nothing, Once

pytestmark = pytest.mark.database


def test_connection_lost_once_at_completion(both):
    """FireWorks throws the finished result away and leaves the task FIZZLED with the network's traceback."""

    def scenario(side):
        ids = side.add(Firework(Nothing(), spec={"x": 42}, name="only"))
        whole = side.pad.launches
        # FireWorks pings with update_one once more, from its thread
        methods = {"find_one_and_replace" if side.name == "stock" else "update_one"}

        def end(*arguments, **options):
            side.pad.complete_launch = original
            side.pad.launches = Breaking(whole, methods)
            return original(*arguments, **options)

        original, side.pad.complete_launch = side.pad.complete_launch, end
        side.run_one()
        side.pad.launches = whole
        assert side.stored(ids["only"]) == [{"x": 42}], "the finished result was thrown away"

    both(scenario, match="thrown away")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_database_away_when_a_task_ends(both):
    """The rocket dies with its result; ours waits on the disk, and the task need not run again."""

    def scenario(side):
        ids = side.add(Firework(Once(file=str(side.directory / "runs")), name="only"))
        broken = [side.pad.launches, side.pad.fireworks, side.pad.workflows]
        methods = {"find_one_and_replace", "update_one", "find_one", "find_one_and_update", "find"}

        def end(*arguments, **options):
            for name in ("launches", "fireworks", "workflows"):
                setattr(side.pad, name, Breaking(getattr(side.pad, name), methods, times=1000))
            return original(*arguments, **options)

        original, side.pad.complete_launch = side.pad.complete_launch, end
        try:
            side.run_one()
        except PyMongoError:
            assert side.name == "stock"
        side.pad.launches, side.pad.fireworks, side.pad.workflows = broken
        side.pad.complete_launch = original
        side.recover(DAY)
        side.run_all()
        side.all_completed()
        assert side.stored(ids["only"]) == [{"run": 1}], "the task had to run once more"

    both(scenario, match="had to run once more")


def test_nothing_that_others_wrote_is_undone(both):
    """After an error at completion, FireWorks writes its old copy of the launch over what is there."""

    def scenario(side):
        ids = side.add()
        _, launch_id = side.take(fw_id=ids["only"])
        side.pad.launches.update_one({"launch_id": launch_id}, {"$set": {"trackers": ["new"]}})
        side.pad.restore_backup_data(launch_id, ids["only"])
        assert side.pad.launches.find_one({"launch_id": launch_id})["trackers"] == ["new"], "undone"

    both(scenario, match="undone")


def test_a_launcher_keeps_no_copy_of_every_task(both):
    """The copies are kept under wrong keys (None where no id was asked for) and for as long as the launcher lives."""

    def scenario(side):
        for _ in range(4):
            side.pad.add_wf(Firework(Nothing(), name="only"))
        side.run_all()
        assert None not in side.pad.backup_fw_data, "kept where nobody finds it"
        assert len(side.pad.backup_launch_data) <= 1

    both(scenario, match="kept where nobody finds it")


def test_faults_of_the_machine_are_tried_again(both):
    """A full disk is no fault of the task; FireWorks leaves it FIZZLED until a person runs it again."""

    def scenario(side):
        side.add(Firework(Once(file=str(side.directory / "runs"), full=1), name="only"))
        side.run_all()
        side.recover(600)
        side.run_all()
        side.all_completed()

    both(scenario, match="only is FIZZLED")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_task_starts_in_the_background_is_not_lost_silently(both, monkeypatch):
    """A background task that fails ends its thread, and the Firework is COMPLETED as if nothing had been."""

    # found by name, FireWorks would import all that is installed with it, its tests included
    monkeypatch.setitem(SAVED_FW_MODULES, "BackgroundTask", BackgroundTask.__module__)

    def scenario(side):
        wrong = BackgroundTask(Breaks(), num_launches=1, sleep_time=0)
        task = Once(file=str(side.directory / "runs"), sleep=0.3)
        ids = side.add(Firework(task, {"_background_tasks": [wrong]}, name="only"))
        side.run_one()
        assert side.state(ids["only"]) == "FIZZLED", "nobody learns that the background task failed"

    both(scenario, match="nobody learns")


def test_late_finisher_after_the_rerun(both):
    """A worker that was silent for too long finishes after another one: two COMPLETED launches, one of them hidden."""

    def scenario(side):
        other = side.open()
        ids = side.add()
        _, late = side.take(fw_id=ids["only"])
        side.pad.launches.update_one({"launch_id": late}, {"$set": {"process.node": "elsewhere"}})
        side.recover(DAY)
        side.run_all()
        side.complete(late, FWAction(stored_data={"late": True}), pad=other)
        side.all_completed()

    both(scenario, match="has launches")


def test_late_valid_result_before_the_rerun(both):
    """A result that arrives while its task waits to run again is a result: nothing is to be run again."""

    def scenario(side):
        other = side.open()
        ids = side.add()
        _, late = side.take(fw_id=ids["only"])
        side.pad.launches.update_one({"launch_id": late}, {"$set": {"process.node": "elsewhere"}})
        side.recover(DAY)
        assert side.state(ids["only"]) == "READY"
        side.complete(late, FWAction(stored_data={"late": True}), pad=other)
        side.run_all()
        side.all_completed()
        assert side.stored(ids["only"]) == [{"late": True}], "the late result was thrown away"

    both(scenario, match="has launches|thrown away")


def test_half_written_spool_files_stop_nothing(make_side):
    """What a worker left that was killed while it wrote, or a disk that lost half of a file."""
    side = make_side(Ours)
    ids = side.add()
    _, launch_id = side.take(fw_id=ids["only"])
    (side.directory / "spool").mkdir()
    half = side.directory / "spool" / f"launch-{side.pad.database_identity[:8]}-{launch_id}.123.tmp"
    half.write_text('{"database": "')
    damaged = side.directory / "spool" / f"launch-{side.pad.database_identity[:8]}-{launch_id}.json"
    damaged.write_text('{"database": "')
    side.recover(0)
    assert not damaged.exists(), "set aside"
    side.complete(launch_id, FWAction())
    side.all_completed()
