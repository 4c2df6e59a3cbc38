"""What the dashboard's child processes work out (`launchpad.dashboard.compute`); nothing here is loaded by a server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Takes what is being done, and how much of how much.
    Tell = Callable[[str, int, int], None]

__all__ = ["Made", "as_json"]


@dataclass(frozen=True)
class Made:
    """A result: its parts by name, and small numbers that go with it."""

    parts: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def as_json(found: object) -> bytes:
    """Return data as browsers read them: without numbers that are none."""
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()
