"""The settings file of a site's workers: how long the queue waits for what, how workers and supervisors behave.

::

    queue: {heartbeat_s: 20, lease_s: 90}
    worker: {drain_grace_s: 120}
    supervisor: {reap_s: 5}

Keys that are not given keep their defaults. The file is named by ``GAPFACTORY_SETTINGS`` or by ``--settings``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import ValidationError, model_validator

from gapfactory.errors import InputError
from gapfactory.settings import Settings
from launchpad.queue.settings import QueueSettings
from launchpad.workers.settings import SupervisorSettings, WorkerSettings

__all__ = ["ServiceSettings", "service_settings"]


class ServiceSettings(Settings):
    """What a settings file may hold."""

    queue: QueueSettings = QueueSettings()
    """Leases, heartbeats, locks, retries."""

    worker: WorkerSettings = WorkerSettings()
    """One worker process."""

    supervisor: SupervisorSettings = SupervisorSettings()
    """The supervisor of the workers of one host."""

    @model_validator(mode="after")
    def _lease_spans_heartbeats(self) -> Self:
        if self.queue.lease_s < 2.0 * self.queue.heartbeat_s:
            msg = (
                f"queue.lease_s = {self.queue.lease_s:g} is below two heartbeats (queue.heartbeat_s = "
                f"{self.queue.heartbeat_s:g}): one lost message would give a living task away; raise the one or lower "
                "the other"
            )
            raise ValueError(msg)
        return self


def service_settings(path: Path | str | None = None) -> ServiceSettings:
    """Return the settings of a file, or the defaults.

    Parameters
    ----------
    path
        A YAML file (default: the one that ``GAPFACTORY_SETTINGS`` names, if any).

    Raises
    ------
    InputError
        The file cannot be read, or a key or value in it cannot be used.
    """
    named = path or os.environ.get("GAPFACTORY_SETTINGS")
    if not named:
        return ServiceSettings()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(Path(named).read_text(encoding="utf-8"))
        return ServiceSettings.model_validate(content or {})
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        msg = f"settings file {named} cannot be read: {error}"
        raise InputError(msg) from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'file'}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        ]
        msg = f"settings file {named}: {'; '.join(problems)}. See docs/reference/worker-settings.md for the keys."
        raise InputError(msg) from error
