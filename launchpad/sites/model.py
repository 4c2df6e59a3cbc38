"""What a site directory is made from, and how each scheduler is asked for it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.campaign.model import TaskResources

__all__ = ["CATEGORIES", "SCHEDULERS", "Scheduler", "Site"]

Scheduler = Literal["slurm", "pbs", "lsf", "sge", "shell"]

#: Our name of a scheduler, and FireWorks' ``_fw_q_type`` (``shell`` has an adapter of ours).
SCHEDULERS: Mapping[str, str] = {
    "slurm": "SLURM",
    "pbs": "PBS",
    "lsf": "LoadSharingFacility",
    "sge": "SGE",
    "shell": "shell",
}

#: Kinds of task, as they stand in ``spec._category``.
CATEGORIES = ("build", "relax", "select", "reference", "train", "fit", "assess")

_DAY_MINUTES = 24 * 60

#: FireWorks counts the jobs of these schedulers by the queue's name: without one it counts none, or stops.
_COUNTED_BY_QUEUE = frozenset({"pbs", "lsf"})


class Site(Settings):
    """One kind of pilot job at one cluster: where it queues, what it may use, what its workers take."""

    scheduler: Scheduler
    """The scheduler."""
    name: str = Field(default="gapfactory", pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,30}$")
    """Name of the site: of its directory, its jobs and its FireWorks worker."""
    categories: tuple[Literal["build", "relax", "select", "reference", "train", "fit", "assess"], ...] = ()
    """Kinds of task that its workers take; none given means all."""
    campaigns: tuple[str, ...] = ()
    """Campaigns that its workers work for: names, or shell patterns; none given means all of the database."""
    allowed: tuple[str, ...] = ()
    """Tasks of other packages that its workers may run: ``package.*`` or exact names."""
    cores: int = Field(default=1, ge=1)
    """Cores of a pilot job, all on one node."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes of a pilot job; by default one per core."""
    memory_gb: int | None = Field(default=None, ge=1)
    """Memory of a pilot job (GB); None leaves it to the scheduler's default."""
    walltime: str | None = "24:00:00"
    """Time limit of a pilot job, ``HH:MM:SS``; None only for a plain shell."""
    queue: str | None = None
    """Queue or partition."""
    account: str | None = None
    """Account or project."""
    parallel_environment: str = "smp"
    """SGE only: the parallel environment that gives several slots of one node."""
    idle_minutes: float = Field(default=15.0, gt=0)
    """A pilot job ends after this long without work."""
    stop_before_s: int = Field(default=90, ge=60)
    """Seconds before the end of the job at which its workers hand back what they cannot finish; at least 60: they
    need up to 45 for it."""
    scratch: str | None = None
    """Directory for launches; ``$NAMES`` are replaced inside the job. None: below the site directory."""
    setup: tuple[str, ...] = ()
    """Shell lines that prepare the environment inside the job, such as ``module load``."""

    @field_validator("walltime")
    @classmethod
    def _hours(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d{1,4}:[0-5]\d:[0-5]\d", value):
            raise ValueError(
                f"walltime {value!r}: give hours, minutes and seconds as HH:MM:SS, such as 24:00:00"
            )
        return value

    @field_validator("queue", "account", "parallel_environment")
    @classmethod
    def _word(cls, value: str | None) -> str | None:
        # it becomes part of a line of a job script
        if value is not None and not re.fullmatch(r"[\w.@:+-]+", value):
            raise ValueError(f"{value!r}: letters, digits and . _ @ : + - only")
        return value

    @field_validator("campaigns", "allowed")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not re.fullmatch(r"[\w.*?\[\]!{}-]+", item):
                raise ValueError(f"{item!r}: a name, or a pattern of letters, digits and . _ - * ? [ ]")
        return value

    @field_validator("scratch")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(/|\$\w|\$\{\w)[\w./${}+-]*", value):
            raise ValueError(
                f"scratch {value!r}: an absolute path, or one that begins with a variable such as $TMPDIR, of "
                "letters, digits and . _ / + -"
            )
        return value

    @model_validator(mode="after")
    def _complete(self) -> Site:
        if self.queue is None and self.scheduler in _COUNTED_BY_QUEUE:
            raise ValueError(
                f"queue: FireWorks counts the jobs of {self.scheduler} by the name of their queue: name it "
                "(--queue)"
            )
        if self.walltime is None and self.scheduler != "shell":
            raise ValueError(f"walltime: {self.scheduler} needs one (--walltime HH:MM:SS)")
        if self.walltime is not None and self.seconds < self.stop_before_s + 60:
            raise ValueError(
                f"walltime {self.walltime}: workers stop {self.stop_before_s} s before its end, which leaves less than "
                "a minute for work: ask for more time"
            )
        return self

    @property
    def seconds(self) -> int:
        """The time limit in seconds, 0 without one."""
        if self.walltime is None:
            return 0
        hours, minutes, seconds = (int(part) for part in self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds

    @classmethod
    def needed(
        cls, resources: Mapping[Any, TaskResources], categories: Sequence[str], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what tasks of these kinds (none given: all) need of a pilot, where nothing else is given.

        Parameters
        ----------
        resources
            `execution.resources` of a campaign.
        categories
            Kinds of task that the pilots take.
        given
            Fields that somebody has chosen; ``workers`` tasks run at once, without it one per core, or a single one
            where a task uses several cores.
        """
        wanted = [need for kind, need in resources.items() if not categories or kind in categories]
        cores = max((need.cores or 1 for need in wanted), default=1)
        memory = max((need.memory_gb or 0.0 for need in wanted), default=0.0)
        minutes = max((need.minutes or 0.0 for need in wanted), default=0.0)
        tasks = given.get("workers") or (1 if cores > 1 else given.get("cores") or 1)
        found: dict[str, Any] = {}
        if cores > 1:
            found |= {"cores": tasks * cores, "workers": tasks}
        if memory:
            found["memory_gb"] = math.ceil(tasks * memory)
        spare = given.get("stop_before_s", cls.model_fields["stop_before_s"].default) / 60
        # pilots of a day are right for tasks of minutes as well as of hours
        if minutes + spare > _DAY_MINUTES:
            hours, rest = divmod(math.ceil(minutes + spare), 60)
            found["walltime"] = f"{hours:02d}:{rest:02d}:00"
        return {**found, **given}

    def resources(self) -> dict[str, Any]:
        """Return the keys of the queue adapter that ask the scheduler for this; see the template of each."""
        wanted: dict[str, Any] = {
            "job_name": f"gf-{self.name}",
            "queue": self.queue,
            "account": self.account,
            "walltime": self.walltime,
        }
        memory = self.memory_gb
        if self.scheduler == "slurm":
            wanted |= {"nodes": 1, "ntasks": 1, "cpus_per_task": self.cores, "mem": memory and f"{memory}G"}
            # the pilot watches its time itself; this is for limits that were changed later (SLURM is up to 60 s early)
            wanted["signal"] = "B:TERM@60"
        elif self.scheduler == "pbs":
            wanted["select"] = f"1:ncpus={self.cores}" + (f":mem={memory}gb" if memory else "")
        elif self.scheduler == "lsf":
            assert self.walltime is not None  # noqa: S101 - checked above
            wanted |= {"ntasks": self.cores, "walltime": self.walltime.rsplit(":", 1)[0]}
            wanted["mem"] = memory and f"{memory}G"
        elif self.scheduler == "sge":
            wanted["pe"] = f"{self.parallel_environment} {self.cores}" if self.cores > 1 else None
            # by slot
            wanted["h_vmem"] = memory and f"{-(-1024 * memory // self.cores)}M"
        else:
            wanted = {"job_name": wanted["job_name"], "walltime": self.walltime}
        return {key: value for key, value in wanted.items() if value is not None}
