"""Published recipes as pure planners: the state of a campaign in, the next tasks out."""

from __future__ import annotations
