"""What people do to tasks and campaigns: asked first, done to what allows it, refused to viewers, and audited."""

from __future__ import annotations

import re

import pytest

ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def tasks(database_uri, application):
    """Put a chain of three tasks and one of its own on the queue; return their ids."""
    from fireworks import Firework, ScriptTask, Workflow

    from launchpad.queue import Queue

    def made(name, **spec):
        return Firework(
            ScriptTask(script="true"), name=name, spec={"_category": "build", "_priority": 20, **spec}
        )

    with Queue.from_uri(database_uri) as queue:
        chain = [made("first"), made("second"), made("third")]
        for number, task in enumerate(chain, start=1):
            task.fw_id = number
        first = queue.add_wf(Workflow(chain, {chain[0]: [chain[1]], chain[1]: [chain[2]]}, name="chain"))
        alone = queue.add_wf(made("alone <b>", campaign="si", generation=0))
    return [*sorted(first.values()), *alone.values()]


def states(database):
    return {task["fw_id"]: task["state"] for task in database.fireworks.find({}, {"fw_id": 1, "state": 1})}


def do(client, action, *ids, confirmed=True, **more):
    data = {"action": action, "id": [str(key) for key in ids], **more}
    if confirmed:
        data["confirmed"] = "yes"
    return client.post("/g/si/queue/act", data=data, headers=ORIGIN)


def fail(database, fw_id, message="RuntimeError: the cell exploded"):
    """Leave a task as a worker leaves one that failed."""
    launch = 100 + fw_id
    database.launches.insert_one(
        {
            "launch_id": launch,
            "fw_id": fw_id,
            "state": "FIZZLED",
            "host": "node7",
            "ip": "10.0.0.7",
            "launch_dir": f"/scratch/launches/{launch}",
            "time_start": "2026-01-01T00:00:00+00:00",
            "time_end": "2026-01-01T00:01:00+00:00",
            "state_history": [],
            "fworker": {"name": "w", "category": "", "query": "{}", "env": {}},
            "action": {
                "stored_data": {
                    "_message": message,
                    "_task": "BuildTask",
                    "_exception": {"_stacktrace": f"Traceback\n{message}", "_details": None},
                },
                "exit": True, "update_spec": {}, "mod_spec": [], "additions": [], "detours": [],
                "defuse_children": False, "defuse_workflow": False, "append_wfs": [], "propagate": False,
            },
            "trackers": [],
        }
    )  # fmt: skip
    database.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED", "launches": [launch]}})
    database.workflows.update_one(
        {"nodes": fw_id}, {"$set": {f"fw_states.{fw_id}": "FIZZLED", "state": "FIZZLED"}}
    )


def test_nothing_happens_before_it_is_confirmed(log_in, database, tasks):
    before = states(database)
    asked = do(log_in("operator"), "pause", tasks[0], tasks[3], confirmed=False)
    assert asked.status_code == 200
    assert "Pause: 2 tasks?" in asked.text
    assert f'value="{tasks[0]},{tasks[3]}"' in asked.text
    assert "alone &lt;b&gt;" in asked.text
    assert states(database) == before


def test_pause_resume_cancel_and_priority_in_bulk(log_in, database, tasks):
    client = log_in("operator")
    assert do(client, "pause", *tasks).status_code == 303
    assert set(states(database).values()) == {"PAUSED"}
    do(client, "resume", *tasks)
    assert [states(database)[key] for key in tasks] == ["READY", "WAITING", "WAITING", "READY"]
    do(client, "priority", tasks[3], priority="77")
    assert database.fireworks.find_one({"fw_id": tasks[3]})["spec"]["_priority"] == 77
    do(client, "cancel", tasks[3])
    assert states(database)[tasks[3]] == "DEFUSED"
    do(client, "resume", tasks[3])
    assert states(database)[tasks[3]] == "READY"


def test_a_failed_task_runs_again_and_its_launch_is_kept(log_in, database, tasks):
    from launchpad.states import CampaignState

    database.campaigns.insert_one({"_id": "si", "state": "halted", "reason": "task failed"})
    fail(database, tasks[3])
    client = log_in("operator")
    page = client.get("/g/si/queue").text
    assert "the cell exploded" in page
    assert f"/g/si/tasks/{tasks[3]}" in page
    do(client, "rerun", tasks[3])
    task = database.fireworks.find_one({"fw_id": tasks[3]})
    assert (task["state"], task["launches"], task["archived_launches"]) == ("READY", [], [100 + tasks[3]])
    assert database.campaigns.find_one({"_id": "si"})["state"] == CampaignState.RUNNING
    shown = client.get(f"/g/si/tasks/{tasks[3]}").text
    assert "archived" in shown
    assert "the cell exploded" in shown
    assert f"/scratch/failed/{tasks[3]}-{100 + tasks[3]}" in shown


def test_what_an_action_does_not_apply_to_is_left_alone_and_said(log_in, database, tasks):
    client = log_in("operator")
    database.fireworks.update_one({"fw_id": tasks[0]}, {"$set": {"state": "RUNNING"}})
    asked = do(client, "pause", tasks[0], tasks[3], 999, confirmed=False).text
    assert "Pause: 1 task?" in asked
    assert "No such task: 999" in asked
    done = do(client, "pause", tasks[0], tasks[3])
    assert done.status_code == 303
    assert states(database)[tasks[0]] == "RUNNING"
    assert "1 task paused." in client.get("/g/si/queue").text


def test_all_of_a_filter_means_what_the_server_reads_of_it(log_in, database, tasks):
    client = log_in("operator")
    asked = do(client, "pause", confirmed=False, scope="filter", filter="?campaign=si").text
    assert re.findall(r'name="ids" value="([\d,]*)"', asked) == [str(tasks[3])]
    everything = do(client, "pause", confirmed=False, scope="filter", filter="?where=1&state[$ne]=READY").text
    assert re.findall(r'name="ids" value="([\d,]*)"', everything) == [",".join(map(str, tasks))]
    assert do(client, "pause", scope="filter", filter="?state=$ne").status_code == 400


def test_a_filter_is_capped_and_says_so(log_in, database, tasks, monkeypatch):
    from launchpad.dashboard import actions

    monkeypatch.setattr(actions, "LIMIT", 2)
    client = log_in("operator")
    asked = do(client, "pause", confirmed=False, scope="filter", filter="?").text
    assert "these are the newest 2" in asked
    assert do(client, "pause", *tasks[:3]).status_code == 400


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"action": "delete", "id": "1"},
        {"action": "pause"},
        {"action": "pause", "id": "1; drop"},
        {"action": "pause", "ids": "1,{}"},
        {"action": "pause", "id": "٣"},
        {"action": "pause", "id": "9" * 400},
        {"action": "priority", "id": "1", "priority": "high"},
        {"action": "priority", "id": "1", "priority": "5000", "confirmed": "yes"},
    ],
)
def test_what_cannot_be_meant_is_refused(log_in, tasks, data):
    assert log_in("operator").post("/g/si/queue/act", data=data, headers=ORIGIN).status_code == 400


def test_a_viewer_sees_no_buttons_and_cannot(log_in, database, tasks):
    client = log_in("viewer")
    before = states(database)
    for path in ("/g/si/queue", f"/g/si/tasks/{tasks[0]}", "/g/si/workers", "/g/si/"):
        assert 'name="action"' not in client.get(path).text, path
    assert do(client, "pause", *tasks).status_code == 403
    assert client.post("/g/si/workers/stop", data={"id": "x"}, headers=ORIGIN).status_code == 403
    assert states(database) == before


def test_the_trail_names_the_person(log_in, database, tasks):
    from launchpad.database.audit import read_audit

    do(log_in("operator"), "pause", tasks[0], tasks[1])
    do(log_in("admin"), "priority", tasks[3], priority="5")
    entries = [
        (entry.event, entry.who, entry.details)
        for entry in read_audit(database)
        if entry.event.startswith("task.")
    ]
    assert entries[0] == ("task.paused", "operator (dashboard) as local", {"tasks": tasks[:2]})
    assert entries[1][1:] == ("admin (dashboard) as local", {"tasks": [tasks[3]], "priority": 5})


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/g/si/\\evil", "/g/other/"])
def test_an_action_leads_back_to_this_group_only(log_in, tasks, back):
    answer = do(log_in("operator"), "pause", tasks[3], back=back)
    assert answer.headers["Location"] == "/g/si/queue"
