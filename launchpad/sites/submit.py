"""Bring pilots: the same scripts and adapters as FireWorks' `qlaunch`, with job arrays and clear errors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError, ServiceError
from launchpad.sites.write import site_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["count_jobs", "submit_pilots"]

#: How a job array is asked for, by FireWorks' name of the scheduler.
_ARRAY_KEYS = {"SLURM": "array", "PBS": "array", "SGE": "array"}

#: Seconds that the scheduler may take to accept one job.
_PATIENCE_S = 120.0


def submit_pilots(directory: Path, pilots: int, *, arrays: bool = True) -> list[str]:
    """Submit pilot jobs; return the scheduler's ids, one per job array or job.

    Parameters
    ----------
    directory
        The site directory.
    pilots
        How many.
    arrays
        Several pilots become one job array, where the scheduler has them.

    Raises
    ------
    InputError
        It is no site directory, or its adapter cannot be used.
    ServiceError
        The scheduler refused a job; those before it were submitted.
    """
    place = site_directory(directory)
    adapter = _load(place / "my_qadapter.yaml")
    kind = getattr(adapter, "q_type", "shell")
    jobs = pilots
    if arrays and pilots > 1 and kind != "shell":
        jobs = 1
        if kind == "LoadSharingFacility":
            adapter["job_name"] = f"{adapter.get('job_name', 'gapfactory')}[1-{pilots}]"
        else:
            adapter[_array_key(kind, adapter)] = f"1-{pilots}"
    ids: list[str] = []
    with _without_secrets():
        for _ in range(jobs):
            ids.append(_submit(adapter, place, ids))
    return ids


def count_jobs(directory: Path, user: str) -> int | None:
    """Return how many jobs of a user the scheduler has (in the queue of a site, if named); None if it does not say.

    Parameters
    ----------
    directory
        The site directory.
    user
        For a plain shell of no importance: its processes are counted.
    """
    found = _load(site_directory(directory) / "my_qadapter.yaml").get_njobs_in_queue(user)
    return None if found is None else int(found)


def _load(path: Path) -> Any:
    """Return the queue adapter that a file describes."""
    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from launchpad.sites.shell import ShellAdapter

    # not FireWorks' own loader: for a short name it imports everything that FireWorks has, its tests included
    kinds = {kind._fw_name: kind for kind in (CommonAdapter, ShellAdapter)}
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return kinds[content["_fw_name"]].from_dict(content)
    except (OSError, YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} describes no queue adapter that is known here ({type(error).__name__}: {error}): correct it; "
            "other adapters work with FireWorks' own qlaunch."
        ) from error


def _array_key(kind: str, adapter: Any) -> str:
    if kind == "PBS" and "ppnode" in adapter:
        return "torque_array"  # nodes=..:ppn=.. is the language of Torque
    return _ARRAY_KEYS[kind]


def _submit(adapter: Any, place: Path, before: list[str]) -> str:
    from launchpad.sites.shell import ShellAdapter

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-")
    (place / "jobs").mkdir(exist_ok=True, mode=0o700)
    work = Path(tempfile.mkdtemp(prefix=stamp, dir=place / "jobs"))
    script = work / "FW_submit.script"
    script.write_text(adapter.get_script_str(str(work)), encoding="utf-8")
    try:
        if isinstance(adapter, ShellAdapter):
            return adapter.submit_to_queue(str(script))
        return _hand_in(adapter, script)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        done = f" {len(before)} were submitted before it: {', '.join(before)}." if before else ""
        raise ServiceError(
            f"the scheduler took no job: {error}. What a job asks for stands in {place / 'my_qadapter.yaml'}; "
            f"the script was {script}.{done}"
        ) from error


def _hand_in(adapter: Any, script: Path) -> str:
    """Give a script to the scheduler; return the job's id.

    The same as the adapter's own ``submit_to_queue``, which returns nothing when the scheduler refuses, and logs why
    where nobody sees it.
    """
    command = [adapter.q_commands[adapter.q_type]["submit_cmd"]]
    by_input = adapter.q_type == "LoadSharingFacility"
    done = subprocess.run(
        command if by_input else [*command, str(script)],
        # LSF reads the directives of its standard input only
        input=script.read_text(encoding="utf-8") if by_input else "",
        cwd=script.parent,  # where schedulers put the output of a job
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise RuntimeError(f"{words or 'it did not say why'} ({command[0]}: exit code {done.returncode})")
    return str(adapter._parse_jobid(done.stdout))


@contextlib.contextmanager
def _without_secrets() -> Iterator[None]:
    """Keep the database's URI out of the environment that schedulers copy into jobs, and some of them show."""
    kept = os.environ.pop("GAPFACTORY_DB", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["GAPFACTORY_DB"] = kept
