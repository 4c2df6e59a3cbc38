"""The pages, one blueprint each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Blueprint

__all__ = ["blueprints"]


def blueprints() -> tuple[Blueprint, ...]:
    """Return every blueprint of the dashboard."""
    from launchpad.dashboard.api import routes
    from launchpad.dashboard.pages import (
        campaigns,
        login,
        overview,
        programs,
        queue,
        structures,
        tasks,
        users,
        workers,
    )

    return (
        login.blueprint,
        overview.blueprint,
        campaigns.blueprint,
        structures.blueprint,
        queue.blueprint,
        tasks.blueprint,
        workers.blueprint,
        users.blueprint,
        programs.blueprint,
        routes.blueprint,
    )
