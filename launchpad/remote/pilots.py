"""At the site: hand in jobs that start runners, as many as there is work for. ``-m launchpad.remote.pilots``.

The batch system is asked through the templates and adapters of `launchpad.sites`; a job starts a runner instead of
workers that need the database.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sys
from typing import IO, TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError
from launchpad.remote.depot import Depot
from launchpad.remote.wire import receive_header, send

if TYPE_CHECKING:
    from launchpad.sites.model import Site

__all__ = ["bring", "serve"]


def bring(depot: Depot, site: Site, wanted: int, *, silent_s: float) -> dict[str, Any]:
    """Hand in jobs until so many runners live or wait in the batch system's queue.

    Parameters
    ----------
    depot
        The directory of the site.
    site
        What a job asks for.
    wanted
        Runners.
    silent_s
        A runner on another node that was silent for longer does not count.

    Returns
    -------
    dict
        ``submitted`` (ids), ``living`` and ``pending`` (numbers, before that).

    Raises
    ------
    ServiceError
        The batch system refused a job.
    """
    from launchpad.sites.submit import count_jobs, submit_pilots
    from launchpad.sites.write import MARK, write_site

    place = depot.place / "pilots" / site.digest()[:12]
    if not (place / MARK).exists():
        shutil.rmtree(place, ignore_errors=True)  # half written
        write_site(place, site, depot=depot.place)
    living = [
        entry
        for entry in depot.census()
        if entry.get("state") == "running" and entry["alive"] is not False and entry["age_s"] <= silent_s
    ]
    records = depot.place / "pilots" / "jobs.json"
    known: list[str] = json.loads(records.read_text(encoding="utf-8")) if records.exists() else []
    unseen = [job for job in known if job not in {str(entry.get("job")) for entry in depot.census()}]
    counted = count_jobs(place, getpass.getuser())
    if site.scheduler == "shell":
        # its processes are counted exactly; runners that somebody started by hand are not among them
        by_hand = sum(entry.get("job") != "shell" for entry in living)
        pending = max(0, (counted or 0) + by_hand - len(living))
    else:
        # the batch system counts all jobs of this user, ours among them: a job of ours that it ended is not waited for
        pending = len(unseen) if counted is None else min(len(unseen), max(0, counted - len(living)))
    missing = max(0, wanted - len(living) - pending)
    submitted = submit_pilots(place, missing, arrays=False) if missing else []
    temporary = records.with_name(f".jobs.{os.getpid()}")
    temporary.write_text(json.dumps([*unseen[-200:], *submitted]), encoding="utf-8")
    temporary.replace(records)
    return {"submitted": submitted, "living": len(living), "pending": pending}


def serve(stream: IO[bytes], out: IO[bytes]) -> None:
    """Answer one request."""
    from launchpad.sites.model import Site

    request = receive_header(stream)
    depot = Depot(request["directory"])
    answer: dict[str, Any]
    try:
        depot.prepare()
        site = Site.model_validate(request["site"])
        answer = bring(depot, site, int(request["wanted"]), silent_s=float(request["silent_s"]))
    except (GapFactoryError, OSError) as error:
        answer = {"kind": "scheduler", "error": str(error)}
    send(out, answer)


if __name__ == "__main__":
    os.umask(0o077)
    # the batch system's commands, and what FireWorks says of them, must not mix with the answer
    answer_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answer_to)
    answer_to.close()
