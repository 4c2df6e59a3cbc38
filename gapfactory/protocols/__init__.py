"""Published recipes, pure: what a generation does, the tasks that do it, and whether another one follows."""

from __future__ import annotations
