"""A FireWorks queue adapter for machines without a scheduler: jobs are processes in the background."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

from fireworks.queue.queue_adapter import QueueAdapterBase
from fireworks.utilities.fw_serializers import serialize_fw

from launchpad.queue.identity import ProcessIdentity, process_start

__all__ = ["ShellAdapter"]


class ShellAdapter(QueueAdapterBase):
    """Start job scripts as processes of this machine, in sessions of their own.

    Parameters
    ----------
    content
        ``_fw_template_file``, and ``jobs``: a directory with a record of every process that was started; everything
        else goes into the template.

    Notes
    -----
    The processes outlive whoever started them. Their number is limited only by ``qlaunch rapidfire -m``.
    """

    # FireWorks finds classes outside its own package by such a name
    _fw_name = "{{launchpad.sites.shell.ShellAdapter}}"
    q_name = "shell"

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(None, {k: v for k, v in content.items() if not k.startswith("_fw_")})
        self.template_file = str(content["_fw_template_file"])
        self._jobs = Path(str(content["jobs"]))

    def get_script_str(self, launch_dir: str) -> str:
        """Return the job script."""
        given = self.pop("jobs")  # no key of the template
        try:
            return str(super().get_script_str(launch_dir))
        finally:
            self["jobs"] = given

    def submit_to_queue(self, script_file: str) -> str:
        """Start the script; return its process id."""
        script = Path(script_file).absolute()
        with (script.parent / "pilot.out").open("ab") as stream:
            process = subprocess.Popen(
                ["bash", str(script)],
                cwd=script.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        start = process_start(process.pid)
        if start is not None:
            here = ProcessIdentity.current()
            identity = ProcessIdentity(here.host, here.node, process.pid, start)
            self._jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._jobs / f".{process.pid}.{os.getpid()}"
            temporary.write_text(json.dumps(identity.document()), encoding="utf-8")
            temporary.replace(self._jobs / f"{process.pid}.json")
        process.returncode = 0  # it is meant to go on: no warning about a child that still runs
        return str(process.pid)

    def get_njobs_in_queue(self, username: str | None = None) -> int:
        """Return how many of the processes live; records of those that ended are removed."""
        del username  # the directory belongs to one person
        alive = 0
        for path in sorted(self._jobs.glob("*.json")):
            identity = ProcessIdentity.from_document(json.loads(path.read_text(encoding="utf-8")))
            if identity is not None and identity.fate == "alive":
                alive += 1
            elif identity is None or identity.fate == "dead":
                path.unlink(missing_ok=True)
        return alive

    @serialize_fw
    def to_dict(self) -> dict[str, Any]:
        """Return the content of an adapter file."""
        return {**self, "_fw_template_file": self.template_file}

    @classmethod
    def from_dict(cls, m_dict: dict[str, Any]) -> Self:
        """Make it from the content of an adapter file."""
        return cls(m_dict)
