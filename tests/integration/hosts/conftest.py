"""Hosts made of namespaces, where that is permitted."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for place in (HERE, HERE.parent / "remote"):  # where sshd is run for tests
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


def _needs(why: str) -> None:
    """Skip if something is missing; fail where the test environment promises everything."""
    if why and os.environ.get("GAPFACTORY_REQUIRE_CODES") == "1":
        pytest.fail(why)
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def namespaces():
    """Hosts can be made here."""
    from gf_netns import missing

    _needs(missing())


@pytest.fixture(scope="session")
def programs():
    """A server for SSH and a wrong clock can be had here."""
    from gf_clock import faketime_library

    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in ("sshd", "ssh") if shutil.which(name, path=path) is None]
    lacking += [] if faketime_library() else ["libfaketime"]
    _needs(f"not installed: {', '.join(lacking)} (openssh-server, faketime)" if lacking else "")
