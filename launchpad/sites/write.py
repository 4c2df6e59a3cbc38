"""Write and read a site directory."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from launchpad.sites.model import Site

__all__ = ["read_identity", "read_uri", "write_site"]

#: A directory that has this file is a site directory.
MARK = "site.conf"


def write_site(directory: Path, site: Site, uri: str = "", *, depot: Path | None = None) -> Path:
    """Write everything that ``qlaunch``, ``gapfactory site submit`` and the jobs need; return the directory.

    Parameters
    ----------
    directory
        A new or empty directory on a disk that all nodes see; it becomes readable by its owner only.
    site
        What is asked of the scheduler, and what the workers do.
    uri
        The database. It stands in ``my_launchpad.yaml`` (mode 0600) and nowhere else.
    depot
        For a site without a database: its jobs start a runner on this directory of bundles (`launchpad.remote`)
        instead of workers, and there is nothing for ``qlaunch``.

    Raises
    ------
    InputError
        The directory holds something already.
    """
    place = directory.expanduser().resolve()
    if place.exists() and any(place.iterdir()):
        raise InputError(f"{place} is not empty: name another directory, or remove it first.")
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)
    for name in ("jobs", "logs", "scratch", "spool"):
        (place / name).mkdir(mode=0o700)

    # the directory's own: two clusters of one database may have sites of the same name
    site_id = f"{site.name}-{secrets.token_hex(3)}"
    template = f"{site.scheduler}_template.txt"
    _put(place / template, _packed(template))
    _put(place / "pilot.sh", _packed("pilot.sh"), mode=0o700)
    _put(place / "environment.sh", "\n".join(["# sourced inside every job", *site.setup, ""]))
    pilot = shlex.quote(str(place / "pilot.sh"))
    _put(place / "my_qadapter.yaml", _yaml(_adapter(place, site, pilot)))
    if depot is None:
        _for_workers(place, site, site_id, uri, pilot)
    _put(place / MARK, _conf(site, site_id, depot))  # last: it marks a complete directory
    return place


def _for_workers(place: Path, site: Site, site_id: str, uri: str, pilot: str) -> None:
    """Write what concerns the database."""
    from launchpad.queue import write_launchpad_file

    write_launchpad_file(place, uri)
    fworker: dict[str, Any] = {
        "name": site_id,
        "category": list(site.categories) or "",
        "query": "{}",
        "env": {},
    }
    _put(place / "my_fworker.yaml", _yaml(fworker))
    _put(place / "my_qadapter_reserve.yaml", _yaml(_adapter(place, site, f"{pilot} singleshot")))
    described = {**site.model_dump(), "directory": shlex.quote(str(place))}
    _put(place / "README.md", _packed("README.md").format(**described))


def read_uri(directory: Path) -> str:
    """Return the database of a site directory, with its password: for the environment of a process only.

    Raises
    ------
    InputError
        It is no site directory, or others can read its password.
    """
    from ruamel.yaml import YAML

    path = site_directory(directory) / "my_launchpad.yaml"
    try:
        mode = path.stat().st_mode & 0o077
        if mode:
            raise InputError(
                f"{path} holds a password and can be read by others: chmod 600 {shlex.quote(str(path))}, and "
                "change the password if anybody may have seen it."
            )
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): make the site again.") from error
    uri = content.get("host") if isinstance(content, dict) else None
    if not isinstance(uri, str) or "://" not in uri:
        raise InputError(f"{path} names no MongoDB URI as its host: correct it, or make the site again.")
    return uri


def read_identity(directory: Path) -> tuple[str, str]:
    """Return the scheduler of a site directory, and the id by which its jobs are known in the database.

    Raises
    ------
    InputError
        It is no site directory, or an older one that has no id.
    """
    path = site_directory(directory) / MARK
    found = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    if not {"scheduler", "site_id"} <= set(found):
        raise InputError(f"{path} has no site_id: make the site again ('gapfactory site init').")
    return found["scheduler"], found["site_id"]


def site_directory(directory: Path) -> Path:
    """Return the absolute path of a site directory.

    Raises
    ------
    InputError
        It is none.
    """
    place = directory.expanduser().resolve()
    if not (place / MARK).is_file():
        raise InputError(f"{place} is no site directory: 'gapfactory site init' makes one.")
    return place


def _adapter(place: Path, site: Site, command: str) -> dict[str, Any]:
    """Return the content of a FireWorks queue adapter file."""
    from launchpad.sites.model import SCHEDULERS

    template = str(place / f"{site.scheduler}_template.txt")
    kind: dict[str, Any]
    if site.scheduler == "shell":
        from launchpad.sites.shell import ShellAdapter

        kind = {"_fw_name": ShellAdapter._fw_name, "_fw_template_file": template, "jobs": str(place / "jobs")}
    else:
        kind = {
            "_fw_name": "CommonAdapter",
            "_fw_q_type": SCHEDULERS[site.scheduler],
            "_fw_q_name": site.name,
            "_fw_template_file": template,
            # seconds that squeue or qstat may take; FireWorks' default of 5 is short for a busy scheduler
            "_fw_timeout": 30,
        }
    return {**kind, "rocket_launch": command, **site.resources()}


def _conf(site: Site, site_id: str, depot: Path | None) -> str:
    """Return the shell variables that `pilot.sh` reads."""
    values = {
        "site_id": site_id,
        "scheduler": site.scheduler,
        "python": shlex.quote(sys.executable),
        "workers": str(site.workers or site.cores),
        "cores": str(site.cores),
        "memory_gb": "" if site.memory_gb is None else str(site.memory_gb),
        "categories": shlex.quote(" ".join(site.categories)),
        # as arrays: the shell must not take a pattern for names of files
        "campaigns": _array(site.campaigns),
        "allowed": _array(site.allowed),
        "idle_minutes": f"{site.idle_minutes:g}",
        "stop_before_s": str(site.stop_before_s),
        # checked by the model; its variables are those of the job
        "scratch": f'"{site.scratch or ""}"',
        "depot": shlex.quote(str(depot)) if depot is not None else "",
    }
    return "# read by pilot.sh\n" + "".join(f"{name}={value}\n" for name, value in values.items())


def _array(words: Sequence[str]) -> str:
    return f"({shlex.join(words)})"


def _packed(name: str) -> str:
    return (files("launchpad.sites") / "files" / name).read_text(encoding="utf-8")


def _yaml(content: Mapping[str, Any]) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 10_000
    writer.dump(dict(content), stream)
    return stream.getvalue()


def _put(path: Path, text: str, *, mode: int = 0o600) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
