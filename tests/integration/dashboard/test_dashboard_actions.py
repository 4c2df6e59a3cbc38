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


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/g/si/\\evil", "/g/other/"])
def test_an_action_leads_back_to_this_group_only(log_in, tasks, back):
    answer = do(log_in("operator"), "pause", tasks[3], back=back)
    assert answer.headers["Location"] == "/g/si/queue"


def events(database, *names):
    from launchpad.database.audit import read_audit

    return [(entry.event, entry.who, entry.details) for entry in read_audit(database) if entry.event in names]


def question(client, action, *ids, **more):
    """Ask for an action and return the form of the answer, as a browser would send it back."""
    page = do(client, action, *ids, confirmed=False, **more)
    assert page.status_code == 200, page.text
    main = page.text.partition("<main")[2]
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', main))
    form |= dict(re.findall(r'<button class="act" name="(action)" value="(\w+)"', main))
    return form | more


def send(client, form):
    answer = client.post("/g/si/queue/act", data=form, headers=ORIGIN)
    assert answer.status_code == 303, answer.text
    return client.get("/g/si/queue").text


#: Action -> (state before, state after in the order of the tasks, event): of one task and of all four.
CASES = {
    "rerun": ("FIZZLED", ["READY", "WAITING", "WAITING", "READY"], "task.rerun"),
    "pause": (None, ["PAUSED"] * 4, "task.paused"),
    "resume": ("PAUSED", ["READY", "WAITING", "WAITING", "READY"], "task.resumed"),
    "cancel": (None, ["DEFUSED"] * 4, "task.cancelled"),
    "priority": (None, ["READY", "WAITING", "WAITING", "READY"], "task.priority"),
}


@pytest.mark.parametrize("bulk", [False, True], ids=["one", "bulk"])
@pytest.mark.parametrize("action", CASES)
def test_each_action(log_in, database, tasks, action, bulk):
    """Asked first, by an operator only, done on the queue, in the trail; twice does it once."""
    before, after, event = CASES[action]
    chosen = tasks if bulk else [tasks[3]]
    for key in tasks if before == "FIZZLED" else ():
        fail(database, key)
    if before == "PAUSED":
        do(log_in("operator"), "pause", *tasks)
    start = states(database)
    more = {"priority": "77"} if action == "priority" else {}
    refused = do(log_in("viewer"), action, *chosen, **more)
    assert refused.status_code == 403
    client = log_in("operator")
    form = question(client, action, *chosen, **more)
    assert form["ids"] == ",".join(map(str, chosen))
    assert states(database) == start
    assert events(database, event) == []

    shown = send(client, form)
    assert f"{len(chosen)} task{'s' if bulk else ''} " in shown
    assert "left alone" not in shown
    found = states(database)
    assert [found[key] for key in chosen] == (after if bulk else after[3:])
    assert [found[key] for key in tasks if key not in chosen] == [
        start[key] for key in tasks if key not in chosen
    ]
    workflows = {key: state for flow in database.workflows.find() for key, state in flow["fw_states"].items()}
    assert workflows == {str(key): state for key, state in found.items()}
    details = {"tasks": chosen} | ({"priority": 77} if more else {})
    assert events(database, event) == [(event, "operator (dashboard) as local", details)]
    if more:
        assert {t["spec"]["_priority"] for t in database.fireworks.find({"fw_id": {"$in": chosen}})} == {77}

    # the same form again, as by a second click
    again = send(client, form)
    assert states(database) == found
    if not more:
        assert f"{len(chosen)} task{'s' if bulk else ''} left alone: {chosen[0]} (it is " in again
        assert len(events(database, event)) == 1


def test_a_stale_question_runs_nothing_that_ran_since(log_in, database, tasks):
    """Two see the same failure; what the first had run failed once more, and halted its campaign again."""
    database.campaigns.insert_one({"_id": "si", "state": "halted", "reason": "task failed"})
    fail(database, tasks[3])
    first, second = log_in("operator"), log_in("admin")
    forms = [question(client, "rerun", tasks[3]) for client in (first, second)]
    send(first, forms[0])
    database.campaigns.update_one({"_id": "si"}, {"$set": {"state": "halted"}})
    database.fireworks.update_one({"fw_id": tasks[3]}, {"$set": {"state": "FIZZLED", "launches": [999]}})
    shown = send(second, forms[1])
    assert f"1 task left alone: {tasks[3]} (it has changed meanwhile)" in shown
    assert '<p class="happened bad" role="status">1 task left alone' in shown
    assert states(database)[tasks[3]] == "FIZZLED"
    assert database.campaigns.find_one({"_id": "si"})["state"] == "halted"
    send(second, question(second, "rerun", tasks[3]))
    assert states(database)[tasks[3]] == "READY"
    assert do(second, "rerun", tasks[3], seen="1,2").status_code == 400
    assert do(second, "rerun", tasks[3], seen="x").status_code == 400


def test_two_who_run_a_task_again_at_once_run_it_once(application, database, database_uri, tasks):
    """In two server processes, so that only the workflow's lock stands between them."""
    import threading

    from launchpad.dashboard.actions import act_on_tasks, task_action
    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import Account
    from launchpad.dashboard.groups import Group

    groups = [Group("si", database_uri) for _ in range(2)]
    for number in range(5):
        fail(database, tasks[3], f"fault {number}")
        start, outcomes = threading.Barrier(2), []

        def act(group, start=start, outcomes=outcomes):
            start.wait()
            outcomes.append(
                act_on_tasks(group, Account("x", Role.OPERATOR), task_action("rerun"), [tasks[3]])
            )

        both = [threading.Thread(target=act, args=(group,)) for group in groups]
        for one in both:
            one.start()
        for one in both:
            one.join(30)
        assert sorted(len(outcome.done) for outcome in outcomes) == [0, 1]
        assert states(database)[tasks[3]] == "READY"
        database.launches.delete_many({})
    for group in groups:
        group.close()


def test_each_task_of_many_has_its_own_result(log_in, database, tasks, monkeypatch):
    """One of each kind: done, in another state, gone, in a busy workflow, in none."""
    from launchpad.dashboard import groups

    monkeypatch.setattr(groups, "_LOCK_S", 0.2)
    lease = {"token": "x", "since": 1e12, "host": "elsewhere", "pid": 1}
    database.workflows.update_one({"nodes": tasks[0]}, {"$set": {"locked": True, "lock_lease": lease}})
    fail(database, tasks[1])
    database.fireworks.insert_one(
        {"fw_id": 80, "state": "FIZZLED", "name": "lost", "spec": {"_tasks": []}, "launches": []}
    )
    database.fireworks.insert_one({"fw_id": 81, "state": "RUNNING", "name": "runs", "spec": {"_tasks": []}})
    fail(database, tasks[3])
    answer = log_in("operator").post(
        "/g/si/api/v1/tasks/actions",
        json={"action": "rerun", "ids": [tasks[1], tasks[3], 80, 81, 999]},
        headers=ORIGIN,
    )
    assert answer.status_code == 200, answer.text
    assert {key: answer.json[key] for key in ("done", "late", "locked", "missing")} == {
        "done": [tasks[3]],
        "late": [81],
        "locked": [tasks[1], 80],
        "missing": [999],
    }
    assert answer.json["reasons"] == {
        str(tasks[1]): "its workflow is busy: try again",
        "80": "it belongs to no workflow",
        "81": "it is running",
        "999": "there is no such task",
    }
    assert events(database, "task.rerun")[0][2] == {"tasks": [tasks[3]]}


def test_a_request_ends_though_every_workflow_is_busy(log_in, database, tasks, monkeypatch):
    from launchpad.dashboard import actions, groups

    monkeypatch.setattr(groups, "_LOCK_S", 0.2)
    monkeypatch.setattr(actions, "PATIENCE_S", 0.3)
    lease = {"token": "x", "since": 1e12, "host": "elsewhere", "pid": 1}
    database.workflows.update_many({}, {"$set": {"locked": True, "lock_lease": lease}})
    client = log_in("operator")
    do(client, "cancel", *tasks)
    shown = client.get("/g/si/queue").text
    assert "4 tasks left alone" in shown
    assert f"{tasks[3]} (there was no time left for it: try again)" in shown
    # a task itself can be paused though its workflow is busy; the reaper lets the workflow follow
    do(client, "pause", tasks[0])
    assert "1 task paused." in client.get("/g/si/queue").text
    assert states(database)[tasks[0]] == "PAUSED"


def test_many_results_fit_a_message(log_in, database, tasks):
    client = log_in("operator")
    missing = [10**14 + number for number in range(400)]
    assert do(client, "pause", tasks[3], *missing).status_code == 303
    assert len(client.get_cookie("gapfactory").value) < 3000
    shown = client.get("/g/si/queue").text
    assert "1 task paused." in shown
    assert "400 tasks left alone" in shown
    assert "and 388 more" in shown


def campaign_act(client, action, **data):
    return client.post(
        "/g/si/campaigns/one/act", data={"action": action, "confirmed": "yes"} | data, headers=ORIGIN
    )


@pytest.mark.parametrize(
    ("action", "state", "event"),
    [
        ("cancel", "cancelled", "campaign.cancelled"),
        ("resume", "running", "campaign.resumed"),
        ("retry", "running", "campaign.retried"),
    ],
)
def test_each_action_on_a_campaign(stocked, log_in, database, action, state, event):
    def tasks_of():
        return {t["fw_id"]: t["state"] for t in database.fireworks.find({"spec.campaign": "one"})}

    started = tasks_of()
    if action != "cancel":
        assert campaign_act(log_in("admin"), "cancel").status_code == 303
        assert set(tasks_of().values()) == {"DEFUSED"}
    before = database.campaigns.find_one({"_id": "one"})["state"]
    assert campaign_act(log_in("viewer"), action).status_code == 403
    client = log_in("operator")
    asked = campaign_act(client, action, confirmed="")
    assert asked.status_code == 200
    assert "campaign one?" in asked.text
    assert database.campaigns.find_one({"_id": "one"})["state"] == before
    assert events(database, event) == []
    assert campaign_act(client, action).status_code == 303
    assert database.campaigns.find_one({"_id": "one"})["state"] == state
    assert tasks_of() == (dict.fromkeys(started, "DEFUSED") if action == "cancel" else started)
    shown = client.get("/g/si/queue").text
    assert ("is cancelled" if action == "cancel" else "goes on") in shown
    # sent twice, it finds nothing left to do
    found = tasks_of()
    assert campaign_act(client, action).status_code == 303
    assert tasks_of() == found
    assert events(database, event)[0][1] == "operator (dashboard) as local"
    assert events(database, event)[0][2]["campaign"] == "one"
    # a page from before it ended
    database.campaigns.update_one({"_id": "one"}, {"$set": {"state": "done", "reason": "converged"}})
    assert campaign_act(client, action).status_code == 409
    assert tasks_of() == found
    assert campaign_act(client, "delete").status_code == 400
    missing = client.post(
        "/g/si/campaigns/two/act", data={"action": action, "confirmed": "yes"}, headers=ORIGIN
    )
    assert missing.status_code == 404


def test_a_campaign_whose_workflow_is_busy_is_no_fault(stocked, log_in, database, monkeypatch):
    from launchpad.dashboard import groups

    monkeypatch.setattr(groups, "_LOCK_S", 0.2)
    lease = {"token": "x", "since": 1e12, "host": "elsewhere", "pid": 1}
    database.workflows.update_many({}, {"$set": {"locked": True, "lock_lease": lease}})
    client = log_in("operator")
    for action, state, event in (
        ("cancel", "cancelled", "campaign.cancelled"),
        ("resume", "running", "campaign.resumed"),
    ):
        answer = campaign_act(client, action)
        assert answer.status_code == 409
        assert "busy" in answer.text
        # as far as it came it was done, by somebody
        assert database.campaigns.find_one({"_id": "one"})["state"] == state
        assert [who for _, who, _ in events(database, event)] == ["operator (dashboard) as local"]
        database.fireworks.update_one({"spec.campaign": "one"}, {"$set": {"state": "FIZZLED"}})


def test_a_log_is_shown_as_far_as_the_database_has_it(log_in, database, tasks):
    """And what it has not is said to lie where it does, on a machine that the dashboard does not read."""
    fail(database, tasks[3])
    client = log_in("viewer")
    kept = f"on node7 in /scratch/failed/{tasks[3]}-{100 + tasks[3]}, as long as it is among the last failed"
    for path in ("/g/si/queue", f"/g/si/tasks/{tasks[3]}"):
        shown = client.get(path).text
        assert "Traceback\nRuntimeError: the cell exploded" in shown
        assert "As much as the database has" in shown
        assert kept in shown
    launch = {"launch_id": 100 + tasks[3]}
    database.launches.update_one(launch, {"$unset": {"action": ""}})
    assert "The database has nothing of its log." in client.get("/g/si/queue").text
    shown = client.get(f"/g/si/tasks/{tasks[3]}").text
    assert "its process was killed" in shown
    assert "The database has no more of its log." in shown
    for changes, said in (
        ({"state": "COMPLETED"}, "removed: workers keep the files of failed launches only"),
        ({"state": "RUNNING"}, f"on node7 in /scratch/launches/{100 + tasks[3]}"),
        (
            {"state": "FIZZLED", "launch_dir": "/home/x/block"},
            "where another program than our workers ran it",
        ),
        ({"state": "FIZZLED", "launch_dir": None}, "nothing is known of its files"),
    ):
        database.launches.update_one(launch, {"$set": changes})
        assert said in client.get(f"/g/si/tasks/{tasks[3]}").text


def test_a_reference_task_shows_the_calculations_that_failed_in_it(stocked, log_in, database):
    from launchpad.database.documents import generation_id

    structures = list(database.structures.find({}).sort("_id", 1).limit(4))
    chosen = [one["_id"] for one in structures]
    database.selections.insert_one(
        {"_id": generation_id("one", 0), "campaign": "one", "generation": 0, "train": chosen, "test": []}
    )
    files = [{"name": "vasp.out", "text": "x" * 9000 + " <b>EDWAV</b>"}]
    for number, more in ((1, {"files": files}), (2, {}), (3, {"files": files})):
        database.labels.insert_one(
            {"_id": f"l{number}", "structure_hash": structures[number]["hash"], "status": "failed", "campaign": "one",
             "fault": "scf", "reason": "it did not converge"} | more
        )  # fmt: skip
    step = {"_fw_name": "{{launchpad.tasks.reference.ReferenceTask}}", "what": "picks", "start": 0, "stop": 3}
    spec = {"_category": "reference", "campaign": "one", "generation": 0, "_tasks": [step]}
    database.fireworks.insert_one(
        {"fw_id": 500, "name": "labels", "state": "COMPLETED", "spec": spec, "launches": []}
    )
    shown = log_in("viewer").get("/g/si/tasks/500").text
    assert "Calculations that gave no label" in shown
    assert f"/structures/of/{chosen[1]}#label" in shown
    assert "End of vasp.out" in shown
    assert "&lt;b&gt;EDWAV" in shown
    assert "x" * 8001 not in shown
    assert "The database has nothing of its files." in shown
    assert f"/structures/of/{chosen[3]}#label" not in shown
    # steps that others wrote
    for step in ({"what": "picks"}, {"what": "picks", "start": "a", "stop": []}, "x"):
        database.fireworks.update_one({"fw_id": 500}, {"$set": {"spec._tasks": [step]}})
        assert log_in("viewer").get("/g/si/tasks/500").status_code == 200
