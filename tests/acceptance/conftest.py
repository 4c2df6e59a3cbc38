"""Paths of helpers that the acceptance tests share with others."""

from __future__ import annotations

import sys
from pathlib import Path

QUEUE = Path(__file__).parents[1] / "integration" / "queue"
if str(QUEUE) not in sys.path:
    sys.path.insert(0, str(QUEUE))
