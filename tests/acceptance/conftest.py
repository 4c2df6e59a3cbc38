"""Paths of helpers of the acceptance tests, own ones and those shared with the queue's."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for _place in (HERE, HERE.parent / "integration" / "queue"):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))
