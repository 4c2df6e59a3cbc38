"""A dashboard on a new database, asked without a browser."""

from __future__ import annotations

import pytest

PASSWORD = "correct horse battery"  # noqa: S105
ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def application(database_uri, database):
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.auth.access import Role
    from launchpad.dashboard.auth.accounts import add_account
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings
    from launchpad.queue import Queue

    Queue.from_uri(database_uri).close()
    for role in Role:
        add_account(database, str(role), PASSWORD, role)
    group = Group("si", database_uri)
    app = create_app(
        [group],
        DashboardSettings(
            login_failures=3, login_failures_address=10, login_failures_name=12, login_pause_s=600
        ),
        b"k" * 32,
    )
    app.testing = True
    yield app
    group.close()


@pytest.fixture
def log_in(application):
    """Return a function that gives a client logged in as somebody (None: nobody)."""

    def enter(name=None):
        client = application.test_client()
        if name is not None:
            answer = client.post(
                "/login", data={"group": "si", "name": name, "password": PASSWORD}, headers=ORIGIN
            )
            assert answer.status_code == 303, answer.text
        return client

    return enter


@pytest.fixture
def held(monkeypatch):
    """Hold back what pages have worked out until this event is set."""
    import threading

    from launchpad.dashboard import derived

    run, go = derived._run, threading.Event()

    def later(group, work, claim, settings):
        go.wait(120)
        run(group, work, claim, settings)

    monkeypatch.setattr(derived, "_run", later)
    yield go
    go.set()


@pytest.fixture(scope="module")
def uri(tiny_campaign):
    """URI of the database of a campaign that ran."""
    from launchpad.embedded import ensure_running

    return ensure_running(tiny_campaign.data)


@pytest.fixture(scope="module")
def stored(uri):
    """The database of a campaign that ran."""
    from launchpad.database.connection import open_database

    database = open_database(uri)
    yield database
    database.client.close()


FILE = """
preset: quickstart-Si-analytic
schedule: {cells_per_generation: 4, initial_cells: 4}
select: {noise_cells: 1, labels_per_generation: 2, held_out_per_generation: 1}
stop: {label_budget: 6}
execution: {build_chunk: 2, relax_chunk: 2, reference_chunk: 2}
"""


@pytest.fixture
def stocked(application, database, database_uri):
    """The dashboard with a campaign that was submitted, three of its structures and an assessment."""
    from ase.build import bulk

    from gapfactory.campaign import parse_campaign
    from launchpad.database.campaigns import create_campaign
    from launchpad.database.documents import MetricsDocument, StructureDocument, generation_id, structure_id
    from launchpad.database.packing import pack_atoms
    from launchpad.queue import Queue
    from launchpad.workflows.generation import submit_generation

    campaign = parse_campaign(f"name: one\n{FILE}")
    create_campaign(database, campaign, FILE, {})
    with Queue.from_uri(database_uri) as queue:
        submit_generation(queue, campaign, 0)
    for index in range(30):
        database.structures.insert_one(
            StructureDocument(
                id=structure_id("one", 0, "cell", index),
                campaign="one",
                generation=0,
                stage="cell",
                index=index,
                composition="Si",
                hash=f"{index:064x}",
                atoms=pack_atoms(bulk("Si", a=5.4 + 0.01 * index)),
            ).to_bson()
        )
    database.metrics.insert_one(
        MetricsDocument(
            id=generation_id("one", 0),
            campaign="one",
            generation=0,
            labels=4,
            decision="continue",
            reason="budget is left",
            evidence={"headline": {"energy_rmse": 0.01, "force_rmse": float("nan")}},
        ).to_bson()
    )
    return application
