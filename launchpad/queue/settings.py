"""Time limits and bounds of the queue: every default in one place."""

from __future__ import annotations

from pydantic import Field

from gapfactory.settings import Settings

__all__ = ["QueueSettings"]


class QueueSettings(Settings):
    """How long the queue waits for what, and how often it tries again. Times are in seconds."""

    heartbeat_s: float = Field(default=60.0, gt=0)
    """A worker says this often that its task is alive."""

    lease_s: float = Field(default=300.0, gt=0)
    """A task on another host whose last heartbeat is older than this is lost and runs again."""

    silent_process_s: float = Field(default=3600.0, gt=0)
    """The same for a task whose process lives on this host: libraries can keep its heartbeat waiting."""

    stock_lease_s: float = Field(default=4 * 3600.0, gt=0)
    """The same for launches made by FireWorks' own `rlaunch`, which pings once an hour."""

    reserved_grace_s: float = Field(default=60.0, gt=0)
    """A checkout begun this long ago by a process of another host, and not finished, is taken back."""

    stock_reserved_grace_s: float = Field(default=300.0, gt=0)
    """The same for a RESERVED Firework without a launch that FireWorks' own launcher left behind."""

    lock_ttl_s: float = Field(default=120.0, gt=0)
    """A workflow lock held longer than this is taken over; that of a process that died on this host at once."""

    stock_lock_ttl_s: float = Field(default=300.0, gt=0)
    """A workflow lock without owner (FireWorks' own), its workflow unchanged for this long, is released."""

    lock_wait_s: float = Field(default=300.0, gt=0)
    """How long to wait for a workflow lock."""

    completion_limit_s: float = Field(default=600.0, ge=0)
    """How long a finished result is offered to an absent database before it is spooled to the local disk."""

    refresh_grace_s: float = Field(default=10.0, ge=0)
    """A finished launch whose workflow has not been brought up to date after this time is repaired."""

    launch_ids_at_once: int = Field(default=10, ge=1)
    """A process sets this many launch ids aside by one command."""

    infrastructure_retries: int = Field(default=10, ge=0)
    """How often one Firework runs again after its worker died, before it is left FIZZLED."""

    transient_delays_s: tuple[float, ...] = (30.0, 300.0, 1200.0)
    """Pauses before the tries that follow a fault of the infrastructure met inside the task; then FIZZLED."""

    reaper_lease_s: float = Field(default=60.0, gt=0)
    """Only one reaper works at a time; a dead one is replaced after this time, on its own host at once."""

    compared_workflows: int = Field(default=2000, ge=1)
    """A deep pass of the reaper compares at most this many workflows that changed, and this many of all, with their
    Fireworks. With a deep pass every 20 s, each of 100 000 waiting workflows is looked at every 17 minutes."""

    server_selection_s: float = Field(default=5.0, gt=0)
    """How long one command looks for a server before it counts as failed."""
