"""Sites whose nodes cannot reach the database: tasks travel to them as files, and so do their results.

Importing this package is cheap: its modules load when something of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory._lazy import lazy_names

if TYPE_CHECKING:
    from launchpad.remote.archive import BundleError, BundleSettings, Manifest
    from launchpad.remote.bundle import (
        ClaimedElsewhere,
        abandon_bundle,
        keep_claims,
        make_bundle,
        read_manifest,
    )
    from launchpad.remote.execute import run_bundle, salvage
    from launchpad.remote.replay import Applied, apply_result
    from launchpad.remote.slices import SENDABLE

__all__ = [
    "SENDABLE",
    "Applied",
    "BundleError",
    "BundleSettings",
    "ClaimedElsewhere",
    "Manifest",
    "abandon_bundle",
    "apply_result",
    "keep_claims",
    "make_bundle",
    "read_manifest",
    "run_bundle",
    "salvage",
]

__getattr__ = lazy_names(
    __name__,
    {
        "archive": ("BundleError", "BundleSettings", "Manifest"),
        "bundle": ("ClaimedElsewhere", "abandon_bundle", "keep_claims", "make_bundle", "read_manifest"),
        "execute": ("run_bundle", "salvage"),
        "replay": ("Applied", "apply_result"),
        "slices": ("SENDABLE",),
    },
)
