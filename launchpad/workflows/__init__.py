"""Translators from a protocol's plan to FireWorks, and their idempotent submission."""

from __future__ import annotations
