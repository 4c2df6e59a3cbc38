"""Eight workers, two thousand tasks, and everything that can break breaking meanwhile: each result is there once."""

from __future__ import annotations

import os

import pytest
from gf_chaos import Chaos

pytestmark = [pytest.mark.alone, pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]

#: Another one with GAPFACTORY_CHAOS_SEED.
SEED = int(os.environ.get("GAPFACTORY_CHAOS_SEED", "20261121"))


def test_every_result_is_there_once():
    with Chaos(SEED, limit_s=200.0) as chaos:
        chaos.run()
        chaos.check()
        report = chaos.report()
    assert max(report["seconds_until_work_goes_on"].values()) < 30.0, report
