"""A finished campaign to operate on; helpers of these tests are plain modules beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def exported(tiny_campaign, tmp_path_factory):
    """An archive of a finished campaign of two generations."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.tar.gz"
    tiny_campaign.good("db", "export", str(path))
    return path


@pytest.fixture
def finished(database, exported):
    """A database with a finished campaign of two generations."""
    from launchpad.database.transfer import import_database

    import_database(database, exported)
    return database
