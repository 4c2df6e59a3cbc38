"""The figures of 2018 on a campaign's pages: the numbers of the command, worked out once and beside the pages."""

from __future__ import annotations

import csv
import io
import time

import pytest
from gf_yardstick import stretched

from launchpad.dashboard.charts.published import PUBLISHED
from launchpad.figure_data import gather
from launchpad.figure_data.request import Request

pytestmark = pytest.mark.database
ROOT = "/g/si/campaigns/tiny/figures"


@pytest.fixture(scope="module")
def client(uri):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("si", uri)
    app = create_app([group], DashboardSettings(), b"k" * 32, ticket="t" * 32)
    app.testing = True
    found = app.test_client()
    assert found.get("/login?ticket=" + "t" * 32).status_code in {302, 303}
    yield found
    group.close()


def fetched(client, path, seconds=90.0):
    """Ask until it is worked out."""
    end = time.monotonic() + stretched(seconds)
    while (answer := client.get(path, buffered=True)).status_code == 202:
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() < end, path
        time.sleep(0.2)
    return answer


def test_nobody_waits_for_the_page_or_a_figure(client, stored):
    stored.dashboard_results.delete_many({"kind": "figures"})
    started = time.monotonic()
    page = client.get(f"{ROOT}/").text
    for name in PUBLISHED:
        assert f'data-chart="{ROOT}/{name}.json"' in page
        assert client.get(f"{ROOT}/{name}.json").status_code == 202
    assert time.monotonic() - started < stretched(2.0)
    assert "This campaign made none" in page


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_figure_has_the_numbers_of_the_command(client, stored, name):
    found = fetched(client, f"{ROOT}/{name}.json").json
    wanted = gather(stored, name, Request("tiny"))
    assert found["missing"] == ""
    assert found["rows"] == [pytest.approx(list(row.values()), nan_ok=True) for row in wanted.rows]
    assert found["n_rows"] == len(wanted.rows)
    for note in wanted.notes:
        assert note[1:] in found["caption"]
    answer = client.get(f"{ROOT}/{name}.csv", buffered=True)
    assert f'filename="tiny-{name}.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == found["header"]
    assert [list(row.values()) for row in rows] == [
        ["" if value is None else str(value) for value in row] for row in found["rows"]
    ]
    assert client.get(f"{ROOT}/{name}.png", buffered=True).data.startswith(b"\x89PNG\r\n\x1a\n")
    drawing = client.get(f"{ROOT}/{name}.svg", buffered=True)
    assert drawing.mimetype == "image/svg+xml"
    assert drawing.data.rstrip().endswith(b"</svg>")
    again = client.get(f"{ROOT}/{name}.json")
    assert (
        client.get(f"{ROOT}/{name}.json", headers={"If-None-Match": again.headers["ETag"]}).status_code == 304
    )


def test_everything_is_two_pieces_of_work(client, stored):
    for name in PUBLISHED:
        fetched(client, f"{ROOT}/{name}.json")
    results = {
        row["_id"]: row for row in stored.dashboard_results.find({"_id": {"$regex": "^figures/tiny/"}})
    }
    assert set(results) == {"figures/tiny/stored", "figures/tiny/potentials"}
    parts = {part["name"] for row in results.values() for part in row["content"]["parts"]}
    assert parts == {f"{name}.{kind}" for name in PUBLISHED for kind in ("json", "csv", "png", "svg")}


def test_points_of_the_database_lead_to_their_structures(client, stored):
    found = fetched(client, f"{ROOT}/energy-volume.json").json
    shown = [name for trace in found["figure"]["data"] for name in trace["customdata"]]
    assert stored.structures.count_documents({"_id": {"$in": shown}}) == len(shown) == 12
    assert found["header"][0] == "structure"


def test_what_a_campaign_does_not_have_is_said_with_what_to_do(client, stored):
    record = stored.campaigns.find_one({"_id": "tiny"})
    stored.campaigns.insert_one(record | {"_id": "empty", "settings": record["settings"] | {"name": "empty"}})
    try:
        for name in ("energy-boxes", "distorted-crystals"):
            path = f"{ROOT.replace('tiny', 'empty')}/{name}"
            found = fetched(client, f"{path}.json").json
            assert found["figure"] is None
            assert "'gapfactory campaign status empty' shows how far it is." in found["missing"]
            assert client.get(f"{path}.png").status_code == 404
            assert client.get(f"{path}.csv").status_code == 200
    finally:
        stored.campaigns.delete_one({"_id": "empty"})
        stored.dashboard_results.delete_many({"_id": {"$regex": "^figures/empty/"}})


def test_what_is_no_figure_is_not_found(client):
    for path in ("hull.json", "energy-volume.exe", "mixed-occupations.json", "..%2f..%2fpasswd.csv"):
        assert client.get(f"{ROOT}/{path}").status_code == 404, path
    assert client.get("/g/si/campaigns/nobody/figures/").status_code == 404
    assert client.get("/g/si/campaigns/nobody/figures/energy-volume.json").status_code == 404
    assert client.get("/g/si/campaigns/nobody/figures/searches.csv").status_code == 404


def test_searches_are_a_table(client, stored):
    counted = {
        "target": "Si-diamond", "attempts": 40, "found": 3, "rate": 0.075, "rate_low_95": 0.026, "rate_high_95": 0.199,
        "first_labels": 12, "first": "tiny/g001/relaxation/000002", "rank": 1,
        "by_labels": [{"labels": 12, "attempts": 40, "found": 3}],
    }  # fmt: skip
    none = counted | {
        "attempts": 0,
        "found": 0,
        "rate_low_95": 0.0,
        "rate_high_95": 1.0,
        "first": "",
        "by_labels": [],
    }
    searches = {
        "look": {"cells": 44, "ends": 40, "targets": {"Si-diamond": counted}},
        # every relaxation failed: what the potential was trained on is known all the same
        "tight": {"cells": 9, "ends": 0, "potential": 1, "labels": 55, "targets": {"Si-diamond": none}},
    }
    before = stored.metrics.find_one({"_id": "tiny/g001"})["evidence"]["searches"]
    stored.metrics.update_one({"_id": "tiny/g001"}, {"$set": {"evidence.searches": searches}})
    try:
        page = client.get(f"{ROOT}/").text
        assert "This campaign made none" not in page
        line = page.split('<th scope="row">Si-diamond</th>')[1].split("</tr>")[0]
        assert "<td>12</td>" in line
        assert "<td>3</td><td>40</td>" in line
        assert "7.5&nbsp;%" in line
        assert "/structures/of/tiny/g001/relaxation/000002" in line
        line = page.split('<th scope="row">Si-diamond</th>')[2].split("</tr>")[0]
        assert (
            "<td>55</td><td>tight <small>generation 1, potential of 1</small></td><td>0</td><td>0</td>"
            in line
        )
        rows = list(csv.DictReader(io.StringIO(client.get(f"{ROOT}/searches.csv", buffered=True).text)))
        assert [
            tuple(row[key] for key in ("search", "target", "labels", "attempts", "found", "cells", "first"))
            for row in rows
        ] == [
            ("look", "Si-diamond", "12", "40", "3", "44", "tiny/g001/relaxation/000002"),
            ("tight", "Si-diamond", "55", "0", "0", "9", ""),
        ]
    finally:
        stored.metrics.update_one({"_id": "tiny/g001"}, {"$set": {"evidence.searches": before}})
