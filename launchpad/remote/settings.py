"""What a file about a site reached by SSH says, and every time limit of it with its default. Times are in seconds."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from gapfactory.errors import InputError
from gapfactory.settings import Settings
from launchpad.queue.guard import DEFAULT_ALLOWED
from launchpad.sites.model import Scheduler, Site

if TYPE_CHECKING:
    from pathlib import Path

    from launchpad.queue.offer import Offer

__all__ = ["CARRIED", "PushSite", "RunnerSettings", "Timing", "load_push_site"]

#: Kinds of task that can be carried; ``assess`` puts the next generation on the queue and needs the database.
Carried = Literal["build", "relax", "select", "reference", "train", "fit"]
CARRIED: tuple[Carried, ...] = ("build", "relax", "select", "reference", "train", "fit")

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,30}$"


class RunnerSettings(Settings):
    """The runner: the program on a compute node that takes bundles from the directory of the site."""

    cores: int = Field(default=1, ge=1)
    """Bundles that run at the same time, each with one thread."""
    idle_s: float | None = Field(default=900.0, gt=0)
    """It ends after this long without work (None: never)."""
    drain_grace_s: float = Field(default=30.0, ge=0)
    """When told to stop, it gives a task this long to finish before the task is handed back."""
    stop_before_s: float = Field(default=90.0, ge=0)
    """It stops this long before the end of the allocation (`GAPFACTORY_JOB_END`)."""
    poll_s: float = Field(default=1.0, gt=0)
    """It looks for bundles this often."""
    beat_s: float = Field(default=10.0, gt=0)
    """It renews its heartbeat file this often."""
    min_free_mb: float = Field(default=100.0, ge=0)
    """It takes nothing while less than this is free where launches are (MB)."""
    allowed: tuple[str, ...] = DEFAULT_ALLOWED
    """Tasks that it may load and run: ``package.*`` or exact names."""


class Timing(Settings):
    """How long the push worker waits for what, and how often it looks."""

    poll_s: float = Field(default=10.0, gt=0)
    """It looks at the site this often; each look is one command over the open connection."""
    connect_s: float = Field(default=30.0, gt=0)
    """A connection that is not open by then has failed."""
    call_s: float = Field(default=300.0, gt=0)
    """A command at the site that has not ended by then has failed; a transfer is such a command."""
    keepalive_s: float = Field(default=15.0, gt=0)
    """The connection is probed this often when nothing goes through it."""
    keepalive_misses: int = Field(default=8, ge=1)
    """It is given up after this many probes without an answer."""
    persist_s: float = Field(default=8 * 3600.0, gt=0)
    """The shared connection stays open for this long after its last use."""
    retry_first_s: float = Field(default=2.0, gt=0)
    """First pause after a failed call; the pauses double up to `retry_largest_s`."""
    retry_largest_s: float = Field(default=60.0, gt=0)
    """See `retry_first_s`."""
    beat_s: float = Field(default=60.0, gt=0)
    """The heartbeats of all carried tasks are renewed in the database this often."""
    report_s: float = Field(default=2.0, gt=0)
    """It reports itself to the list of workers, and looks whether it was told to stop, this often."""
    lease_s: float = Field(default=1800.0, gt=0)
    """Tasks at the site are lost to others when no push worker has renewed their heartbeats for this long: the time to
    start one again after it was stopped or killed."""
    blind_limit_s: float = Field(default=24 * 3600.0, gt=0)
    """Without any look at the site for this long, its tasks are handed back to the queue."""
    silent_runner_s: float = Field(default=300.0, gt=0)
    """A runner on another node whose heartbeat file is older than this is lost, and its bundles go back."""
    tries: int = Field(default=3, ge=1)
    """A task whose runner died this often at the site goes back to the queue, which counts its own tries."""
    claimed_s: float = Field(default=10.0, ge=0)
    """A task one of whose labels another worker computes just now is looked at again after this time."""
    pilots_s: float = Field(default=60.0, gt=0)
    """The batch system is asked for runners at most this often."""
    drain_s: float = Field(default=60.0, ge=0)
    """When told to stop, it collects results for this long before it leaves (or, recalling, hands back) the rest. A
    command that is under way has this long as well; all together ends `connect_s` later."""
    unsent_limit_s: float = Field(default=600.0, gt=0)
    """A task that could not be brought to the site for this long is handed back to the queue."""


class PushSite(Settings):
    """A site that is reached by SSH only: how to log in, where bundles go, how runners are started."""

    name: str = Field(pattern=_NAME)
    """Name of the site: of its launches, its journal and its jobs."""
    host: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:%-]*$")
    """Login node, or an alias from your ssh configuration."""
    user: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")
    """User there (default: your ssh configuration's)."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Port (default: your ssh configuration's)."""
    jump: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_\[][A-Za-z0-9_.:@,%\[\]-]*$")
    """Jump hosts on the way, as in ``ssh -J``: ``user@gate.example.org`` or several with commas."""
    ssh_config: str | None = None
    """An ssh configuration file in place of the user's own."""
    directory: str
    """Directory at the site, on a file system that login and compute nodes share; ``~/`` is your home there."""
    python: str = "python3"
    """Python at the site that has gapfactory; ``~/`` is your home there."""
    setup: tuple[str, ...] = ()
    """Shell lines that prepare the environment at the site, such as ``module load``; on the login node and in jobs."""
    categories: tuple[Carried, ...] = CARRIED
    """Kinds of task that are carried there."""
    campaigns: tuple[str, ...] = ()
    """Only tasks of these campaigns (names, or shell patterns such as ``boron-*``); none given means all."""
    bundles: int = Field(default=256, ge=1)
    """At most this many tasks are at the site at one time."""
    ahead: int = Field(default=4, ge=1)
    """Tasks that wait at the site beyond what its runners have cores for: they start without waiting for a look."""
    transfer_mb: float = Field(default=256.0, gt=0)
    """At most this much goes each way in one transfer (MB); the rest follows with the next one."""

    scheduler: Scheduler | None = "shell"
    """Who starts runners: a batch system, ``shell`` (a process on the login node), or null: nobody, you do."""
    pilots: int = Field(default=1, ge=0)
    """Runners queued or running at one time, at most."""
    cores: int = Field(default=1, ge=1)
    """Cores of a runner, all on one node."""
    workers: int | None = Field(default=None, ge=1)
    """Tasks that a runner runs at the same time, which share its cores and memory; by default one per core."""
    memory_gb: int | None = Field(default=None, ge=1)
    """Memory of a runner (GB); None leaves it to the scheduler's default."""
    walltime: str | None = None
    """Time limit of a runner's job, ``HH:MM:SS``; None only for a plain shell."""
    queue: str | None = None
    """Queue or partition."""
    account: str | None = None
    """Account or project."""
    parallel_environment: str = "smp"
    """SGE only: the parallel environment that gives several slots of one node."""
    idle_minutes: float = Field(default=15.0, gt=0)
    """A runner ends after this long without work."""
    scratch: str | None = None
    """Directory for launches at the compute node; ``$NAMES`` are replaced there. None: below `directory`."""
    timing: Timing = Timing()
    """Time limits."""

    @field_validator("directory", "python", "ssh_config")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(~/|\.?/)?[\w.,@%+=:/-]+", value):
            raise ValueError(f"{value!r}: letters, digits and . , _ @ % + = : / - only (~/ at the beginning)")
        return value

    @field_validator("directory")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith(("/", "~/")):
            raise ValueError(f"directory {value!r}: an absolute path, or one that begins with ~/")
        return value.rstrip("/")

    @field_validator("setup")
    @classmethod
    def _lines(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            if "\n" in line or "\r" in line:
                raise ValueError(f"setup line {line!r}: one line of shell each")
        return value

    @model_validator(mode="after")
    def _complete(self) -> PushSite:
        if self.at_once > self.cores:
            raise ValueError(
                f"workers {self.workers}: a runner has {self.cores} cores, and a task uses at least one"
            )
        if self.scheduler is not None:
            self.pilot()  # what the scheduler would refuse is said now
        return self

    @property
    def at_once(self) -> int:
        """Tasks that a runner runs at the same time."""
        return self.workers or self.cores

    def offer(self) -> Offer:
        """Return what one task may use of a runner; runners that somebody else starts have whatever they have."""
        from launchpad.queue.offer import Offer

        if self.scheduler is None:
            return Offer()
        pilot = self.pilot()
        return Offer(
            cores=self.cores // self.at_once,
            memory_gb=self.memory_gb and self.memory_gb / self.at_once,
            until=time.time() + pilot.seconds - pilot.stop_before_s if pilot.seconds else None,
        )

    def pilot(self) -> Site:
        """Return what the scheduler is asked for."""
        return Site(
            scheduler=self.scheduler or "shell",
            name=re.sub(r"^[^A-Za-z]+", "", self.name) or "push",
            categories=(),
            cores=self.cores,
            workers=self.workers,
            memory_gb=self.memory_gb,
            walltime=self.walltime,
            queue=self.queue,
            account=self.account,
            parallel_environment=self.parallel_environment,
            idle_minutes=self.idle_minutes,
            scratch=self.scratch,
            setup=self.setup,
        )


def load_push_site(path: Path) -> PushSite:
    """Read a site's file (YAML).

    Raises
    ------
    InputError
        It cannot be read, or a value in it cannot be used.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): docs/how-to/site-by-ssh.md shows one.") from error
    except YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys with values: docs/how-to/site-by-ssh.md shows one.")
    try:
        return PushSite.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}".removeprefix(": ").replace(
                "Value error, ", ""
            )
            for item in error.errors()
        ]
        raise InputError(f"{path}: " + "; ".join(lines)) from error
