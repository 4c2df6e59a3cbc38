"""The page of vibrations of a campaign: what passes, what is missing, and charts with the numbers of the command."""

from __future__ import annotations

import time

import pytest
from gf_vibrations import aluminium, bain_path, named_database, stored_campaign

from launchpad.dashboard.charts.published import VIBRATIONS
from launchpad.figure_data import gather
from launchpad.figure_data.request import Request

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
def server(database_server):
    """URI and database of a campaign with vibrations and of two without."""
    with named_database(database_server, "gf_test_vibration_page") as (uri, database):
        crystals = [aluminium({"": 1.04, "primitives": 0.6}, name="fcc")]
        crystals += bain_path((0.25,), 1.02, names={0.25: "quarter"})
        stored_campaign(database, "al", "ndsc-2022-Al-Bain", crystals)
        stored_campaign(database, "new", "ndsc-2022-Al", [])
        stored_campaign(database, "plain", "quickstart-Si-analytic", [])
        yield uri, database


@pytest.fixture(scope="module")
def client(server):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    group = Group("al", server[0])
    app = create_app([group], DashboardSettings(), b"k" * 32, ticket="t" * 32)
    app.testing = True
    found = app.test_client()
    assert found.get("/login?ticket=" + "t" * 32).status_code in {302, 303}
    yield found
    group.close()


def page(client, campaign):
    return " ".join(client.get(f"/g/al/campaigns/{campaign}/vibrations/").text.split())


def test_crystals_are_judged_before_any_chart_is_there(client):
    text = page(client, "al")
    fcc = text.split('<th scope="row">fcc</th>')[1].split("</tr>")[0]
    assert "<td>passes</td>" in fcc
    assert "none imaginary" in fcc
    assert "within 4.0&nbsp;%" in fcc
    quarter = text.split('<th scope="row">quarter</th>')[1].split("</tr>")[0]
    assert "imaginary by both" in quarter
    assert "<td>none</td>" in quarter
    assert "quarter: no elastic constants by the reference: not stable against strain" in text
    assert "no more than 0.5&nbsp;THz" in text
    row = text.split('<th scope="row">C44</th>')[1].split("</tr>")[0]
    assert "4.00&nbsp;%" in row


def test_charts_are_those_that_the_campaign_has(client):
    text = page(client, "al")
    shown = {key for key in VIBRATIONS if f'id="{key}"' in text}
    assert shown == {
        "phonons",
        "elastic",
        "elastic-constants",
        "vibration-fits",
        "phonons-primitives",
        "phonons-bain",
    }
    assert "Not in this campaign: Non-diagonal and diagonal supercells, More and more labels" in text


def test_campaigns_without_them_say_how_to_get_them(client):
    assert "This campaign measures no vibrations: a block <code>vibrations</code>" in page(client, "plain")
    assert "Not measured yet" in page(client, "new")
    for campaign in ("plain", "new"):
        assert "data-chart" not in page(client, campaign)
    assert client.get("/g/al/campaigns/nobody/vibrations/").status_code == 404


def test_charts_have_the_numbers_of_the_command(client, server):
    root, end = "/g/al/campaigns/al/figures", time.monotonic() + 120
    while (answer := client.get(f"{root}/elastic.json", buffered=True)).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.2)
    wanted = gather(server[1], "elastic", Request("al"))
    assert answer.json["rows"] == [pytest.approx(list(row.values())) for row in wanted.rows]
    found = client.get(f"{root}/elastic-constants.json").json
    assert found["figure"] is None
    assert found["n_rows"] == 4
    assert client.get(f"{root}/elastic-constants.csv", buffered=True).text.startswith("crystal,method,B_GPa")
    assert client.get(f"{root}/phonons.png", buffered=True).data.startswith(b"\x89PNG")
    # one that the campaign has not says so
    missing = client.get(f"{root}/phonons-static.json").json["missing"]
    assert "no study 'static': switch vibrations.studies.static on" in missing
    # all of them are one piece of work
    results = [row["_id"] for row in server[1].dashboard_results.find({"kind": "figures"})]
    assert results == ["figures/al/vibrations"]
