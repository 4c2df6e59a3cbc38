"""The batch job that a process belongs to, so that its scheduler can be asked whether it still runs."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BatchJob"]


@dataclass(frozen=True)
class BatchJob:
    """A job of a scheduler.

    Parameters
    ----------
    scheduler
        ``slurm``, ``pbs``, ``lsf`` or ``sge``.
    where
        Whose scheduler: ``site:`` and the id of a site directory, or ``cluster:`` and the name that SLURM gives its
        cluster. The first is unique; names of clusters are not (see `launchpad.sites.schedulers`). Empty: unknown.
    id
        As the scheduler's commands take it, elements of arrays included.
    """

    scheduler: str
    where: str
    id: str

    @classmethod
    def current(cls, environment: Mapping[str, str] | None = None) -> BatchJob | None:
        """Return the job that the calling process runs in, or None; our pilots say what schedulers do not."""
        given = os.environ if environment is None else environment
        told = given.get("GAPFACTORY_SCHEDULER")
        for scheduler, number in _jobs(given):
            if told in {None, "", scheduler}:
                site, cluster = given.get("GAPFACTORY_SITE_ID"), given.get("SLURM_CLUSTER_NAME")
                where = f"site:{site}" if site else ""
                if not where and scheduler == "slurm" and cluster:
                    where = f"cluster:{cluster}"
                return cls(scheduler, where, number)
        return None

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> BatchJob | None:
        """Return the job stored in a document, or None."""
        if not document or not {"scheduler", "where", "id"} <= set(document):
            return None
        return cls(str(document["scheduler"]), str(document["where"]), str(document["id"]))

    def document(self) -> dict[str, Any]:
        """Return the job as a document to store."""
        return asdict(self)


def _jobs(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the jobs that an environment speaks of."""
    found = []
    if given.get("SLURM_JOB_ID"):
        found.append(
            ("slurm", given["SLURM_JOB_ID"])
        )  # of an array's element too: each has a number of its own
    if given.get("PBS_JOBID"):
        found.append(("pbs", given["PBS_JOBID"]))
    if given.get("LSB_JOBID"):
        element = given.get("LSB_JOBINDEX", "0")
        found.append(("lsf", given["LSB_JOBID"] + (f"[{element}]" if element not in {"", "0"} else "")))
    if given.get("JOB_ID") and ("SGE_TASK_ID" in given or "SGE_ROOT" in given):
        element = given.get("SGE_TASK_ID", "")
        found.append(("sge", given["JOB_ID"] + (f".{element}" if element.isdigit() else "")))
    return found
