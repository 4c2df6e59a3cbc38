"""Hosts made of namespaces, where that is permitted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def namespaces():
    """Skip without namespaces; fail where the test environment promises them."""
    from gf_netns import missing

    why = missing()
    if why and os.environ.get("GAPFACTORY_REQUIRE_CODES") == "1":
        pytest.fail(why)
    if why:
        pytest.skip(why)
