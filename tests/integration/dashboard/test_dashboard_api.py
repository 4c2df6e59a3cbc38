"""What programs are told is what the database holds, and what its description says."""

from __future__ import annotations

import json

import pytest

from launchpad.dashboard.auth import tokens
from launchpad.dashboard.auth.access import Role
from launchpad.dashboard.auth.accounts import find_account

ROOT = "/g/si/api/v1"


@pytest.fixture
def ask(stocked, database):
    """Return a function that asks with a token of a role."""
    made = {
        str(role): tokens.make_token(database, find_account(database, str(role)), "test", role, 1)[0]
        for role in Role
    }

    def send(path, role="viewer", **more):
        method = "POST" if "json" in more or more.pop("post", False) else "GET"
        headers = {"Authorization": f"Bearer {made[role]}", **more.pop("headers", {})}
        return stocked.test_client().open(ROOT + path, method=method, headers=headers, **more)

    return send


def test_campaigns_and_generations(ask):
    (one,) = ask("/campaigns").json["campaigns"]
    assert (one["campaign"], one["state"], one["label_budget"]) == ("one", "submitted", 6)
    detail = ask("/campaigns/one").json
    assert detail["settings"]["schedule"]["cells_per_generation"] == 4
    (found,) = ask("/campaigns/one/generations").json["generations"]
    assert (found["decision"], found["labels"]) == ("continue", 4)
    # JSON has no NaN
    assert found["headline"] == {"energy_rmse": 0.01, "force_rmse": None}
    assert ask("/campaigns/one/generations/0").json["reason"] == "budget is left"
    assert ask("/campaigns/one/generations/7").json["error"]["code"] == "not-found"
    answer = ask("/campaigns/two")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "not-found")


def test_structures_page_by_page(ask):
    seen, after = [], ""
    while after is not None:
        page = ask("/structures", query_string={"size": "25", "sort": "id", "after": after}).json
        seen += [row["index"] for row in page["structures"]]
        after = page["following"]
    assert seen == list(range(30))
    one = ask("/structure", query_string={"id": page["structures"][0]["id"]}).json
    assert one["symbols"] == ["Si", "Si"]
    assert one["cell"][0][1] == pytest.approx((5.4 + 0.01 * int(one["id"][-6:])) / 2)
    assert [step["name"] for step in one["path"]] == ["Random cell"]
    assert (one["label"], one["fits"]) == (None, [])
    assert ask("/structures?campaign=one&generation=0&stage=frame").json == {
        "structures": [],
        "following": None,
    }
    part = ask("/structures?campaign=one&generation=0&composition=Si&size=25").json
    assert len(part["structures"]) == 25
    assert ask(f"/structures?hash={7:064x}").json["structures"][0]["index"] == 7
    # in whose order to look is not said: a million structures are not read
    for query, missing in (("stage=frame", "campaign"), ("campaign=one&composition=Si", "generation")):
        answer = ask(f"/structures?{query}")
        assert answer.status_code == 400
        assert f"name the {missing} as well" in answer.json["error"]["message"]


def test_tasks_and_queue(ask, database):
    found = ask("/tasks?campaign=one&sort=id").json["tasks"]
    assert len(found) == database.fireworks.count_documents({})
    task = ask(f"/tasks/{found[0]['id']}").json
    assert (task["campaign"], task["attempts"], task["exhausted"]) == ("one", [], False)
    assert len(task["steps"]) == 1
    assert [ask(f"/tasks/{child}").json["parents"][0] for child in task["children"]] == [task["id"]]
    counts = ask("/queue").json["counts"]
    assert sum(sum(row.values()) for row in counts.values()) == len(found)
    assert ask("/workers").json == {"workers": []}


def test_actions_need_the_role_and_do_what_they_say(ask, database):
    assert ask("/campaigns/one/cancel", post=True).status_code == 403
    assert database.campaigns.find_one({"_id": "one"})["state"] == "submitted"
    done = ask("/campaigns/one/cancel", "operator", post=True)
    assert done.status_code == 200, done.text
    assert database.campaigns.find_one({"_id": "one"})["state"] == "cancelled"
    assert done.json["tasks"] == database.fireworks.count_documents({"state": "DEFUSED"}) > 0
    assert [(e["event"], e["who"]) for e in database.audit.find({"event": "campaign.cancelled"})] == [
        ("campaign.cancelled", "operator (dashboard) as local")
    ]
    assert ask("/campaigns/one/resume", "operator", post=True).json["tasks"] > 0
    assert database.campaigns.find_one({"_id": "one"})["state"] == "running"


def test_tasks_are_paused_and_given_a_priority(ask, database):
    ready = [t["fw_id"] for t in database.fireworks.find({"state": "READY"})]
    order = {"action": "pause", "ids": ready}
    assert ask("/tasks/actions", json=order).status_code == 403
    assert sorted(ask("/tasks/actions", "operator", json=order).json["done"]) == sorted(ready)
    assert database.fireworks.count_documents({"state": "READY"}) == 0
    again = ask("/tasks/actions", "operator", json=order).json
    assert again["done"] == []
    assert ask("/tasks/actions", "operator", json={"action": "priority", "ids": ready}).status_code == 400
    done = ask("/tasks/actions", "operator", json={"action": "priority", "ids": ready, "priority": 7}).json
    assert sorted(done["done"]) == sorted(ready)
    assert database.fireworks.distinct("spec._priority", {"fw_id": {"$in": ready}}) == [7]


@pytest.mark.parametrize(
    ("path", "more", "status", "code"),
    [
        ("/tasks?where=1", {}, 400, "input"),
        ("/tasks?state[$ne]=READY", {}, 400, "input"),
        ("/tasks?state=%7B%22%24gt%22%3A%22%22%7D", {}, 400, "input"),
        ("/structure", {}, 400, "input"),
        ("/structure?id[$gt]=", {}, 400, "input"),
        ("/campaigns?x=1", {}, 400, "input"),
        ("/campaigns/one/retry", {"post": True, "data": b"{}"}, 415, "unsupported-media-type"),
        ("/campaigns/one/retry", {"json": {"labels": {"$gt": ""}}}, 400, "input"),
        ("/campaigns/one/retry", {"json": {"fault": {"$ne": None}}}, 400, "input"),
        ("/campaigns/one/retry", {"json": {"fault": None, "$where": "1"}}, 400, "input"),
        ("/campaigns/one/retry", {"json": {"fault": "x" * 300_000}}, 413, "request-entity-too-large"),
        ("/nothing", {}, 404, "not-found"),
        ("/campaigns", {"post": True}, 405, "method-not-allowed"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_shape(ask, path, more, status, code):
    answer = ask(path, "operator", **more)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert answer.json["error"]["message"]


def test_the_description_is_that_of_the_routes(stocked, log_in):
    answer = log_in().get("/api/v1/openapi.json")
    described = answer.json
    assert described["openapi"] == "3.1.0"
    routed = {
        (method.lower(), rule.rule.replace("<int:", "{").replace("<", "{").replace(">", "}"))
        for rule in stocked.url_map.iter_rules()
        if rule.endpoint.startswith("api.")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for path, found in described["paths"].items() for method in found} == routed
    # every reference leads somewhere
    names = set(described["components"]["schemas"])
    text = json.dumps(described)
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= names
    page = log_in().get("/api/v1/")
    assert page.status_code == 200
    assert all(path in page.text for path in described["paths"])
    assert "Set-Cookie" not in page.headers


def test_answers_are_what_the_description_says(ask, log_in):
    import jsonschema

    described = log_in().get("/api/v1/openapi.json").json
    asked = 0
    for path, methods in described["paths"].items():
        if "get" not in methods:
            continue
        place = path.removeprefix("/g/{group}/api/v1")
        filled = (
            place.replace("{name}", "one").replace("/tasks/{number}", "/tasks/1").replace("{number}", "0")
        )
        answer = ask(filled + ("?id=one/g000/cell/000000" if filled == "/structure" else ""))
        assert answer.status_code == 200, (filled, answer.text)
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator(schema | {"components": described["components"]}).validate(
            answer.json
        )
        asked += 1
    assert asked >= 10


def test_numbers_for_prometheus_need_a_token(stocked, database, log_in):
    text, _ = tokens.make_token(database, find_account(database, "viewer"), "prometheus", Role.VIEWER, None)
    client = stocked.test_client()
    assert client.get("/g/si/metrics", headers={"Accept": "text/plain"}).status_code == 401
    answer = client.get("/g/si/metrics", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 200
    assert 'gapfactory_campaigns{state="submitted"} 1.0' in answer.text
    assert client.get("/healthz").json == {"status": "ok"}
