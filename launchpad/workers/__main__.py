"""``python -m launchpad.workers [--supervise]``: a worker or a supervisor, configured by JSON on stdin."""

from __future__ import annotations

import os
import sys

# before anything can import numpy: the libraries read these once
for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"


def main(arguments: list[str]) -> int:
    """Run what the configuration on standard input describes; return the exit code."""
    import json

    from launchpad.logs import configure_logs

    configure_logs()
    configuration = json.load(sys.stdin)
    os.close(sys.stdin.fileno())
    os.open(os.devnull, os.O_RDONLY)  # descriptor 0 again, so that no task gets it for something else
    return _supervise(configuration) if "--supervise" in arguments else _work(configuration)


def _work(configuration: dict[str, object]) -> int:
    from pathlib import Path

    from launchpad.queue.settings import QueueSettings
    from launchpad.workers.process import Worker
    from launchpad.workers.settings import WorkerSettings

    parent = configuration.get("supervisor")
    return Worker(
        str(configuration["uri"]),
        settings=WorkerSettings.model_validate(configuration["worker"]),
        queue_settings=QueueSettings.model_validate(configuration["queue"]),
        scratch=Path(str(configuration["scratch"])),
        parent=None if parent is None else str(parent),
        watch_parent=bool(configuration.get("watch_parent")),
    ).run()


def _supervise(configuration: dict[str, object]) -> int:
    from launchpad.queue.settings import QueueSettings
    from launchpad.workers.settings import SupervisorSettings, WorkerSettings
    from launchpad.workers.supervisor import Supervisor

    data_dir = configuration.get("data_dir")
    ensure = None
    if data_dir is not None:
        from pathlib import Path

        from launchpad.embedded import ensure_running

        def ensure() -> str:
            return ensure_running(Path(str(data_dir)))

    categories = configuration["categories"]
    assert isinstance(categories, list)  # noqa: S101 - written by start_background
    return Supervisor(
        str(configuration["uri"]),
        int(str(configuration["n"])),
        tuple(str(name) for name in categories),
        str(configuration["scratch"]),
        worker_settings=WorkerSettings.model_validate(configuration["worker"]),
        queue_settings=QueueSettings.model_validate(configuration["queue"]),
        settings=SupervisorSettings.model_validate(configuration["supervision"]),
        ensure_database=ensure,
    ).run_forever()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
