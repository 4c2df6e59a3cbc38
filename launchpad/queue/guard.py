"""The allow-list of task names: nothing else from the database is ever imported, built or run.

Write access to a FireWorks database is code execution on every worker that trusts it: a spec may name any
importable class. Documents are therefore made inert *before* FireWorks deserializes them, and a worker
refuses to run a Firework that asks for anything outside the list.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["DEFAULT_ALLOWED", "AllowList", "Inert"]

#: Tasks of this package, by FireWorks' explicit names ``{{module.Class}}``.
DEFAULT_ALLOWED = ("launchpad.tasks.*",)

#: What FireWorks itself puts into documents that our workers read back; none of these runs a task.
_STRUCTURAL = frozenset({"FWAction", "FWorker"})

#: Reserved keys of a spec that our launcher honours. The others make a launcher change directories, copy
#: files or start threads.
_SPEC_KEYS = frozenset(
    {
        "_tasks",
        "_category",
        "_priority",
        "_fworker",
        "_fw_env",
        "_allow_fizzled_parents",
        "_fizzled_parents",
        "_add_launchpad_and_fw_id",
        "_add_fworker",
        "_pass_job_info",
        "_job_info",
        "_preserve_fworker",
        "_queueadapter",
        "_exception_details",
    }
)

_EXPLICIT = re.compile(r"\{\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)\s*\}\}")


class Inert:
    """Stands for a serialized object that is not on the list: kept as it is, never imported."""

    _fw_name = "gapfactory.inert"

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = dict(raw)

    def to_dict(self) -> dict[str, Any]:
        """Return what was stored, unchanged, so that writing the document back loses nothing."""
        return self.raw

    as_dict = to_dict

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Refuse."""
        msg = f"task {self.raw.get('_fw_name')!r} is not on this worker's allow-list"
        raise PermissionError(msg)


@dataclass(frozen=True)
class AllowList:
    """Names of tasks that may be loaded and run.

    Parameters
    ----------
    names
        ``package.*`` allows every explicit name ``{{package.module.Class}}`` of a Firetask that is defined below the
        package; anything else is an exact ``_fw_name`` (``ScriptTask``) or a dotted class (``package.module.Class``).
    """

    names: tuple[str, ...] = DEFAULT_ALLOWED

    def allows(self, fw_name: object) -> bool:
        """Return whether an object of this ``_fw_name`` may be loaded."""
        if not isinstance(fw_name, str):
            return False
        if fw_name in self.names:
            return True
        match = _EXPLICIT.fullmatch(fw_name)
        if match is None:
            return False
        dotted = match.group(1)
        return dotted in self.names or (self._below(dotted) and _is_task(dotted))

    def _below(self, dotted: str) -> bool:
        """Return whether a class is of a package that is allowed as a whole."""
        return any(name.endswith(".*") and dotted.startswith(name[:-1]) for name in self.names)

    def inert(self, value: Any) -> Any:
        """Return the document with every object that is not on the list replaced by an `Inert` one."""
        if isinstance(value, dict):
            name = value.get("_fw_name")
            foreign = name is not None and name not in _STRUCTURAL and not self.allows(name)
            if foreign or ("@module" in value and "@class" in value):
                return Inert(value)
            return {key: self.inert(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.inert(item) for item in value]
        return value

    def refusal(self, spec: Mapping[str, Any]) -> str | None:
        """Return why a Firework of this (raw) spec must not run here, or None if it may."""
        tasks = spec.get("_tasks") or []
        if not tasks:
            return "its spec holds no task"
        for task in tasks:
            name = task.get("_fw_name") if isinstance(task, dict) else None
            if not self.allows(name):
                match = _EXPLICIT.fullmatch(name) if isinstance(name, str) else None
                broken = _import_error(match.group(1)) if match and self._below(match.group(1)) else ""
                if broken:
                    return (
                        f"task {name!r} cannot be loaded here: {broken}. Is the installation whole, and was it changed "
                        "while this worker ran? Mend it, then start the workers again"
                    )
                return (
                    f"task {name!r} is not on this worker's allow-list ({', '.join(self.names)}). "
                    "If the task is yours, start the workers with its package on the list"
                )
        for name in _serialized(spec):
            if name not in _STRUCTURAL and not self.allows(name):
                return f"its spec holds a serialized {name!r}, which is not on this worker's allow-list"
        foreign = sorted(key for key in spec if key.startswith("_") and key not in _SPEC_KEYS)
        if foreign:
            return (
                f"its spec asks for {', '.join(foreign)}, which these workers do not honour; "
                "FireWorks' own rlaunch does"
            )
        return None


@cache
def _is_task(dotted: str) -> bool:
    """Return whether a class is a Firetask of the module that is named; the module is one of an allowed package.

    What such a module has imported for its own use is no task, and FireWorks would build it like one.
    """
    from fireworks import FiretaskBase

    module, _, name = dotted.rpartition(".")
    if _import_error(dotted):
        return False
    found = getattr(importlib.import_module(module), name, None)
    return isinstance(found, type) and issubclass(found, FiretaskBase) and found.__module__ == module


@cache
def _import_error(dotted: str) -> str:
    """Return why the module of a class cannot be imported; empty where it can."""
    try:
        importlib.import_module(dotted.rpartition(".")[0])
    except ImportError as error:
        return str(error)
    return ""


def _serialized(value: Any) -> Iterator[str]:
    """Yield the name of every serialized object inside a raw document."""
    if isinstance(value, dict):
        if "_fw_name" in value:
            yield str(value["_fw_name"])
        if "@module" in value and "@class" in value:
            yield f"{value['@module']}.{value['@class']}"
        for item in value.values():
            yield from _serialized(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _serialized(item)
