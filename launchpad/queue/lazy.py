"""Fireworks loaded only when needed, made inert first, and with the state from which a change is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fireworks.core.firework import Firework, Launch
from fireworks.core.launchpad import LazyFirework, get_action_from_gridfs

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

__all__ = ["GuardedFirework", "build_firework", "load_firework", "load_launches"]

_LAUNCH_LISTS = ("launches", "archived_launches")


def load_launches(queue: Queue, launch_ids: list[int]) -> list[Launch]:
    """Return launches by id, in order of id, with their actions and with foreign objects made inert."""
    if not launch_ids:
        return []
    launches = []
    for raw in queue.launches.find({"launch_id": {"$in": launch_ids}}, sort=[("launch_id", 1)]):
        raw["action"] = get_action_from_gridfs(raw.get("action"), queue.gridfs_fallback)
        launches.append(Launch.from_dict(queue.allowed.inert(raw)))
    return launches


def build_firework(queue: Queue, raw: dict[str, Any]) -> Firework:
    """Return the Firework of a raw document without its launches, foreign objects made inert (no command)."""
    content = {name: value for name, value in raw.items() if name not in _LAUNCH_LISTS}
    return Firework.from_dict(queue.allowed.inert(content))


def load_firework(queue: Queue, raw: dict[str, Any]) -> Firework:
    """Return the Firework of a raw document with its launches, foreign objects made inert."""
    firework = build_firework(queue, raw)
    for name in _LAUNCH_LISTS:
        setattr(firework, name, load_launches(queue, raw.get(name, [])))
    return firework


class GuardedFirework(LazyFirework):
    """FireWorks' lazy Firework, which never imports what is not on the allow-list.

    Parameters
    ----------
    queue
        The queue.
    fw_id
        Its id.
    """

    def __init__(self, queue: Queue, fw_id: int) -> None:
        super().__init__(fw_id, queue.fireworks, queue.launches, queue.gridfs_fallback)
        self._fw: Firework | None = None
        self._queue = queue
        #: ``state`` and ``updated_on`` as loaded, or None as long as nothing was loaded
        self.before: dict[str, Any] | None = None

    @property
    def partial_fw(self) -> Firework:
        """The Firework without its launches, loaded at the first use."""
        # `not` would be wrong: a Firework without tasks has the length 0, and would be loaded anew at every use
        if self._fw is None:
            raw = self._fwc.find_one({"fw_id": self.fw_id})
            if raw is None:
                msg = f"Firework {self.fw_id} belongs to a workflow but does not exist"
                raise ValueError(msg)
            self.before = {"state": raw["state"], "updated_on": raw.get("updated_on")}
            self._lids = {name: raw.get(name, []) for name in _LAUNCH_LISTS}
            self._fw = build_firework(self._queue, raw)
        return self._fw

    def _get_launch_data(self, name: str) -> Any:
        firework = self.partial_fw
        if not self._launches[name]:
            setattr(firework, name, load_launches(self._queue, self._lids[name]))
            self._launches[name] = True
        return getattr(firework, name)
