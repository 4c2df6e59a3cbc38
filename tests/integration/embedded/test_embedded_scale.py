"""What a task costs the server does not depend on how many tasks are stored: counted, not timed."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for _place in (HERE.parents[1] / "benchmarks", HERE.parent / "queue"):
    sys.path.insert(0, str(_place))

pytestmark = pytest.mark.database

FEW, MANY, TASKS = 50, 2500, 12


@pytest.fixture
def opened(new_database):
    """A function that opens a queue on a new database."""
    from launchpad.queue import Queue
    from launchpad.queue.guard import AllowList

    queues = []

    def make():
        queues.append(Queue.from_uri(new_database(), allowed=AllowList(("queue_tasks.*",))))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()


def examined(client):
    """Commands answered, and index keys and documents looked at so far."""
    status = client.admin.command("serverStatus")
    looked = status["metrics"]["queryExecutor"]
    beside = {"serverStatus", "hello", "isMaster", "ismaster", "ping", "endSessions", "getMore"}
    commands = sum(number for name, number in status["opcounters"].items() if name not in beside)
    return commands, looked["scanned"], looked["scannedObjects"]


def cost_per_task(queue, worker, stored, **spec):
    """Run tasks beside stored ones; return commands, keys and documents per task."""
    from bench_queue import preload
    from fireworks import Firework
    from queue_tasks import Nothing

    from launchpad.workers.rocket import Rocket

    number, state, categories = stored
    preload(queue, number, state)
    for place, category in enumerate(categories):
        # tasks of other categories are more urgent than the timed ones, those of the worker's own are less
        urgency = -1 if category in worker.category else 9
        mine = {"fw_id": {"$mod": [len(categories), place]}}
        queue.fireworks.update_many(mine, {"$set": {"spec._category": category, "spec._priority": urgency}})
    for _ in range(TASKS + 1):
        queue.add_wf(Firework(Nothing(), name="timed", spec={"_priority": 1, **spec}))
    before = (0, 0, 0)
    for index in range(TASKS + 1):
        if index == 1:  # the first one greets, and so on
            before = examined(queue.connection)
        taken = queue.take(worker, "/nowhere")
        assert taken is not None
        assert taken.raw["name"] == "timed"
        outcome = Rocket(queue, worker, taken.fw_id).execute(queue.build(taken), Path("/nowhere"))
        queue.complete_launch(taken.launch_id, outcome.action, "COMPLETED")
    return tuple((b - a) / TASKS for a, b in zip(before, examined(queue.connection), strict=True))


@pytest.mark.parametrize(
    ("state", "categories", "mine"),
    [
        ("READY", (), ()),
        ("COMPLETED", (), ()),
        ("WAITING", (), ()),
        ("READY", ("others",), ("relax",)),
        ("READY", ("others", "build", "fit"), ("relax", "build", "fit")),
    ],
    ids=["waiting for a worker", "done", "waiting for parents", "of another category", "of any category"],
)
def test_cost_of_a_task_does_not_depend_on_how_many_are_stored(opened, state, categories, mine):
    from fireworks.core.fworker import FWorker

    worker = FWorker(name="here", category=list(mine))
    spec = {"_category": "relax"} if mine else {}
    few, many = (
        cost_per_task(opened(), worker, (number, state, categories), **spec) for number in (FEW, MANY)
    )
    assert many == few
    commands, keys, documents = many
    assert commands <= 10
    assert keys <= 2 * commands
    assert documents <= 2 * commands


def test_a_shallow_pass_of_the_reaper_does_not_look_at_stored_tasks(opened):
    from bench_queue import preload

    from launchpad.queue.reaper import reap

    looked = []
    for number in (FEW, MANY):
        queue = opened()
        preload(queue, number, "READY")
        preload(queue, number, "COMPLETED")
        before = examined(queue.connection)
        assert reap(queue, deep=False).quiet
        looked.append([b - a for a, b in zip(before, examined(queue.connection), strict=True)])
    assert looked[0] == looked[1]


def test_several_categories_are_read_side_by_side_in_the_order_of_priority(db):
    """A worker of three categories gets the most urgent task of all three without a sort of all of them."""
    rows = db.rows
    rows.create_index([("state", 1), ("category", 1), ("priority", -1), ("made", 1)])
    rows.insert_many(
        {"_id": n, "state": "READY", "category": "abcd"[n % 4], "priority": n * 7 % 11, "made": n % 5}
        for n in range(400)
    )
    query = {"state": "READY", "category": {"$in": ["a", "c", "d"]}}
    found = list(rows.find(query).sort([("priority", -1), ("made", 1)]))
    assert [(-f["priority"], f["made"]) for f in found] == sorted((-f["priority"], f["made"]) for f in found)
    assert len(found) == 300
    back = list(rows.find(query).sort([("priority", 1), ("made", -1)]))
    assert [(f["priority"], -f["made"]) for f in back] == sorted((f["priority"], -f["made"]) for f in back)
    before = examined(db.client)
    first = rows.find_one(query, sort=[("priority", -1), ("made", 1)])
    after = examined(db.client)
    assert first == found[0]
    assert after[1] - before[1] <= 4
