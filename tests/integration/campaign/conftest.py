"""What tests of whole campaigns share."""

from __future__ import annotations

import pytest


@pytest.fixture
def stored():
    """Return a function that opens the database of a place; all are closed afterwards."""
    from launchpad.database.connection import open_database
    from launchpad.embedded import ensure_running

    opened = []

    def open_(place):
        opened.append(open_database(ensure_running(place.data)))
        return opened[-1]

    yield open_
    for database in opened:
        database.client.close()
