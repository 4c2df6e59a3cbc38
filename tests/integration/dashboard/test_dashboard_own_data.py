"""What came with its label, on the pages: no label of the budget, and where it is from."""

from __future__ import annotations

import pytest
from gf_own_data import choose_given, labelled_silicon, write_data

pytestmark = [pytest.mark.database]

FILE = """
preset: quickstart-Si-analytic
name: own
schedule: {cells_per_generation: 6, initial_cells: 0, generations: 2}
select: {noise_cells: 1, labels_per_generation: 4, held_out_per_generation: 2}
stop: {label_budget: 6}
data: {mine: {file: mine.xyz}}
"""


@pytest.fixture
def given(application, database, database_uri, tmp_path):
    """A campaign that has chosen what it was given."""
    from gapfactory.campaign import load_campaign
    from launchpad.queue import Queue
    from launchpad.service import submit

    write_data(tmp_path / "mine.xyz", labelled_silicon())
    (tmp_path / "own.yaml").write_text(FILE)
    campaign = load_campaign(tmp_path / "own.yaml")
    with Queue.from_uri(database_uri) as queue:
        submit(queue, campaign, FILE, tmp_path)
    choose_given(database, campaign)
    return database


def test_they_are_not_of_the_budget(given):
    from launchpad.dashboard.queries.overview import labels_now
    from launchpad.service import status

    assert labels_now(given, "own") == 0
    assert status(given, "own")["labels"] == 0
    # nor when the generation has been assessed
    from launchpad.database.documents import MetricsDocument

    given.metrics.insert_one(
        MetricsDocument(
            id="own/g000",
            campaign="own",
            generation=0,
            labels=0,
            decision="continue",
            reason="budget is left",
            evidence={"headline": {}},
        ).to_bson()
    )
    assert status(given, "own")["labels"] == 0


def test_a_page_says_where_they_are_from(given, log_in):
    client = log_in("viewer")
    listed = client.get("/g/si/api/v1/structures?campaign=own&generation=0&stage=data")
    assert listed.status_code == 200, listed.text
    assert {row["stage"] for row in listed.json["structures"]} == {"data"}
    page = client.get("/g/si/structures/of/own/g000/data/mine/000003")
    assert page.status_code == 200
    assert "Given with its label" in page.text
    assert "own data" in page.text
