"""One thin Firetask per kind of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.protocols.plan import TaskKind

if TYPE_CHECKING:
    from launchpad.tasks.base import CampaignTask

__all__ = ["TASKS"]


class _Tasks(dict[TaskKind, "type[CampaignTask]"]):
    """Task kind -> Firetask class, imported when first asked for: FireWorks is heavy."""

    def __missing__(self, kind: TaskKind) -> type[CampaignTask]:
        import importlib

        module: Any = importlib.import_module(f"launchpad.tasks.{kind}")
        self[kind] = getattr(module, f"{kind.capitalize()}Task")
        return self[kind]


TASKS: dict[TaskKind, type[CampaignTask]] = _Tasks()
