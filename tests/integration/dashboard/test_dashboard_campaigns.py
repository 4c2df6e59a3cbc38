"""The pages of a campaign that ran, asked without a browser."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest

from launchpad.dashboard.charts.catalogue import CHARTS

pytestmark = pytest.mark.database
ROOT = "/g/si/campaigns"


@pytest.fixture(scope="module")
def client(uri):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("si", uri)
    settings = DashboardSettings(charts_s=0.0, picture_wait_s=180.0)
    app = create_app([group], settings, b"k" * 32, ticket="t" * 32)
    app.testing = True
    found = app.test_client()
    assert found.get("/login?ticket=" + "t" * 32).status_code in {302, 303}
    yield found
    group.close()


def fetched(client, path, seconds=180.0):
    """Ask until the charts are computed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = client.get(path, buffered=True)
        if answer.status_code != 202:
            return answer
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.2)
    raise AssertionError(f"{path} was not there after {seconds} s")


def test_nobody_waits_for_charts(client, stored, held):
    # other tests may have looked at the same campaign
    stored.dashboard_results.delete_many({"kind": "charts"})
    # it is answered though nothing is computed before the answer is there
    assert client.get(f"{ROOT}/tiny/charts/hull.json").status_code == 202
    held.set()
    assert fetched(client, f"{ROOT}/tiny/charts/hull.json").status_code == 200


def test_the_list_leads_to_the_campaign(client):
    page = client.get(f"{ROOT}/").text
    assert f'href="{ROOT}/tiny/"' in page
    assert "meV/atom" in page
    one = client.get(f"{ROOT}/tiny/").text
    assert "label budget reached: 12 of 12" in one
    assert "Held-out energy" in one
    assert 'data-chart="/g/si/campaigns/tiny/charts/learning_curve.json"' in one


@pytest.mark.parametrize("key", sorted(set(CHARTS) - {"levels"}))
def test_each_chart_has_a_figure_or_a_reason(client, key):
    answer = fetched(client, f"{ROOT}/tiny/charts/{key}.json")
    assert answer.status_code == 200
    found = json.loads(answer.data)
    assert bool(found["figure"]) != bool(found["missing"])
    again = client.get(f"{ROOT}/tiny/charts/{key}.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_charts_say_what_the_database_holds(client, stored):
    found = fetched(client, f"{ROOT}/tiny/charts/learning_curve.json").json
    rows = {row["generation"]: row for row in stored.metrics.find({"campaign": "tiny"})}
    (line,) = [
        t
        for t in found["figure"]["data"]
        if t["name"] == "held-out energy" and "lines" in t["mode"] and "text" in t
    ]
    assert line["x"] == [rows[0]["labels"], rows[1]["labels"]]
    assert line["y"] == pytest.approx([rows[g]["evidence"]["headline"]["energy_rmse_meV"] for g in (0, 1)])


def test_the_csv_has_every_row_of_the_report(client):
    found = fetched(client, f"{ROOT}/tiny/charts/energy_distribution.json").json
    answer = fetched(client, f"{ROOT}/tiny/charts/energy_distribution.csv")
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == found["header"]
    assert len(rows) - 1 == found["n_rows"] > 0


def test_pictures_are_drawn_once(client, monkeypatch):
    from launchpad.dashboard import derived

    first = client.get(f"{ROOT}/tiny/charts/hull.png", buffered=True)
    assert (first.status_code, first.data[:8]) == (200, b"\x89PNG\r\n\x1a\n")
    with monkeypatch.context() as patched:
        # nothing may be begun: what is there is sent
        patched.setattr(derived, "_claim", lambda *_: pytest.fail("it is drawn again"))
        assert client.get(f"{ROOT}/tiny/charts/hull.png", buffered=True).data == first.data
    drawing = client.get(f"{ROOT}/tiny/charts/hull.svg", buffered=True)
    assert drawing.mimetype == "image/svg+xml"
    assert b"<svg" in drawing.data


def test_what_is_not_there_is_not_found(client):
    for path in (
        "nobody/",
        "nobody/charts/hull.json",
        "nobody/charts/hull.png",
        "nobody/settings",
        "tiny/charts/passwd.json",
        "tiny/charts/..%2f..%2flock.csv",
        "tiny/charts/hull.exe",
        "tiny/charts/dynamics.png",
        "tiny/settings?with=nobody",
        "tiny/settings?from=0&to=77",
    ):
        answer = fetched(client, f"{ROOT}/{path}")
        assert answer.status_code == 404, path
    assert client.get(f"{ROOT}/tiny/settings?from=x&to=1").status_code == 400


def test_settings_and_what_the_fits_differ_in(client, stored):
    page = client.get(f"{ROOT}/tiny/settings").text
    assert "gap.soap.n_sparse" in page
    different = client.get(f"{ROOT}/tiny/settings?from=0&to=1").text
    assert "trained_on" in different
    assert "descriptors.soap.delta" in different
    assert "descriptors.soap.l_max" not in different.split("What differs")[1]
    assert "backend" not in different.split("What differs")[1]
    same = client.get(f"{ROOT}/tiny/settings?from=1&to=1").text
    assert "Nothing." in same


def test_another_campaign_differs_by_its_own_settings_alone(client, stored):
    record = stored.campaigns.find_one({"_id": "tiny"})
    other = record | {"_id": "other", "settings": record["settings"] | {"seed": 12, "name": "other"}}
    stored.campaigns.insert_one(other)
    try:
        part = client.get(f"{ROOT}/tiny/settings?with=other").text.split("What differs")[1]
        assert ("seed" in part, "name" in part, "gap.soap" in part) == (True, True, False)
    finally:
        stored.campaigns.delete_one({"_id": "other"})


def test_a_failed_label_is_shown_with_its_cause(stored, client):
    label = stored.labels.find_one({"campaign": "tiny", "kind": "crystal", "status": "done"})
    failed = label | {
        "_id": "quarantined",
        "status": "failed",
        "fault": "scf",
        "reason": "<b>no</b> convergence",
    }
    stored.labels.insert_one(failed | {"history": ["plain: scf", "mixing: scf"], "attempts": 2})
    try:
        page = client.get(f"{ROOT}/tiny/recoveries").text
        assert "&lt;b&gt;no&lt;/b&gt; convergence" in page
        assert "mixing: scf" in page
        structure = stored.structures.find_one({"hash": label["structure_hash"]})["_id"]
        assert f"/structures/of/{structure}" in page
    finally:
        stored.labels.delete_one({"_id": "quarantined"})
    assert "could be labelled" in client.get(f"{ROOT}/tiny/recoveries").text


def test_charts_follow_the_campaign(stored, client):
    """A change is computed anew; until then the charts of the state before are shown."""
    before = fetched(client, f"{ROOT}/tiny/charts/energy_distribution.json").json
    made = stored.dashboard_results.find_one({"_id": "charts/tiny"})["content"]["made"]
    label = stored.labels.find_one({"campaign": "tiny", "kind": "crystal", "status": "done"})
    stored.labels.insert_one(label | {"_id": "another"})
    try:
        assert client.get(f"{ROOT}/tiny/charts/energy_distribution.json").json == before
        end = time.monotonic() + 180
        while (found := stored.dashboard_results.find_one({"_id": "charts/tiny"}))["content"]["made"] == made:
            assert time.monotonic() < end
            assert client.get(f"{ROOT}/tiny/charts/hull.csv", buffered=True).status_code == 200
            time.sleep(0.1)
        # the content of before is not kept once the new one is there
        while stored.dashboard_parts.count_documents({"_id": {"$regex": "hull.csv"}}) > 1:
            assert time.monotonic() < end
            time.sleep(0.1)
        (kept,) = stored.dashboard_parts.find({"_id": {"$regex": "hull.csv"}})
        assert kept["_id"].split("/")[1] == found["content"]["claim"]
    finally:
        stored.labels.delete_one({"_id": "another"})


def test_a_picture_that_takes_long_is_said_to_be_drawn(client, monkeypatch):
    settings = client.application.extensions["gapfactory"]["settings"]
    hasty = settings.model_copy(update={"picture_wait_s": 0.0})
    monkeypatch.setitem(client.application.extensions["gapfactory"], "settings", hasty)
    answer = client.get(f"{ROOT}/tiny/charts/energy_scatter.svg", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "still being drawn" in answer.text
