"""Whether the kernel has killed processes for want of memory."""

from __future__ import annotations

from pathlib import Path

__all__ = ["oom_kills"]


def oom_kills() -> int:
    """Return how many processes the kernel killed for want of memory: of this control group, else of the machine.

    Only differences mean anything; 0 where the kernel does not tell.
    """
    group = _own_group()
    for path in (group / "memory.events" if group else None, Path("/proc/vmstat")):
        if path is None:
            continue
        try:
            lines = path.read_text().splitlines()
        except OSError:
            # not on this kernel, or hidden in a container: the next source may tell
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def _own_group() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        # no control groups
        return None
    for line in lines:
        if line.startswith("0::"):
            return Path("/sys/fs/cgroup") / line[3:].lstrip("/")
    return None
