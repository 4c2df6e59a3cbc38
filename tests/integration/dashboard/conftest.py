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
