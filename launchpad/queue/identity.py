"""Processes named so that a reused process id, a reboot or another container is never mistaken for one."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fate", "ProcessIdentity", "process_start"]

Fate = Literal["alive", "dead", "unknown"]

#: Without it, a node cannot be told from another one of the same name.
_PROC = Path("/proc/sys/kernel/random/boot_id")


def process_start(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot, or None if it is gone (or a zombie).

    Read from ``/proc/<pid>/stat``, field 22; the command name in field 2 may itself contain blanks and
    brackets.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _hidden(pid: int) -> bool:
    """Return whether a process of another user exists that ``/proc`` does not show (its option ``hidepid``)."""
    if Path(f"/proc/{pid}").exists() and os.access(f"/proc/{pid}/stat", os.R_OK):
        return False  # it can be judged: a zombie
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


@lru_cache(maxsize=1)
def _node() -> str:
    """Name this kernel and process-id namespace: only inside it can a process id be looked up."""
    try:
        boot = _PROC.read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        # no such /proc: nobody can judge our processes by their id, so they are judged by their heartbeat
        return f"{socket.gethostname()}/{os.urandom(8).hex()}"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on one machine.

    Parameters
    ----------
    host
        Host name, for people.
    node
        Boot and process-id namespace, for comparison.
    pid
        Process id inside the node.
    start
        Start time in clock ticks since boot: a reused pid has another one.
    """

    host: str
    node: str
    pid: int
    start: int

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of the calling process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _node(), pid, process_start(pid) or 0)

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> ProcessIdentity | None:
        """Return the identity stored in a document, or None if there is none (FireWorks' own launches)."""
        if not document or not {"host", "node", "pid", "start"} <= set(document):
            return None
        return cls(str(document["host"]), str(document["node"]), int(document["pid"]), int(document["start"]))

    @property
    def here(self) -> bool:
        """Whether it runs (or ran) on this machine since its last start: host names are not unique among clusters."""
        return self.node == _node() or (self.host == socket.gethostname() and not _PROC.exists())

    @property
    def node_tag(self) -> str:
        """A few characters for the node, for names of files and entries."""
        return hashlib.sha256(self.node.encode()).hexdigest()[:8]

    def document(self) -> dict[str, Any]:
        """Return the identity as a document to store."""
        return asdict(self)

    @property
    def fate(self) -> Fate:
        """Whether the process lives, as far as this process can tell."""
        if self.node != _node():
            return "unknown"
        start = process_start(self.pid)
        if start is None and _hidden(self.pid):
            return "unknown"
        return "alive" if start == self.start else "dead"
