"""Sites whose nodes cannot reach the database: tasks travel to them as files, and so do their results.

Importing this package is cheap: its modules load when something of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

#: Where each name is defined.
_HOMES = {
    "SENDABLE": "slices",
    "Applied": "replay",
    "BundleError": "archive",
    "BundleSettings": "archive",
    "ClaimedElsewhere": "bundle",
    "Manifest": "archive",
    "abandon_bundle": "bundle",
    "apply_result": "replay",
    "keep_claims": "bundle",
    "make_bundle": "bundle",
    "read_manifest": "bundle",
    "run_bundle": "execute",
    "salvage": "execute",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"launchpad.remote.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
