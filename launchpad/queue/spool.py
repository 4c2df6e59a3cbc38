"""Results that the database could not take yet: kept on the local disk until it does.

One file per launch, written whole or not at all (temporary file, fsync, rename), readable by its owner only,
plain JSON. Delivery is idempotent by launch id, so that a worker and a reaper may deliver the same file.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.logs import event

if TYPE_CHECKING:
    from launchpad.queue.launchpad import Queue

__all__ = ["Spool"]

logger = logging.getLogger("launchpad.queue")

#: What every result says.
_KEYS = frozenset({"database", "launch_id", "state", "action", "moment"})


class Spool:
    """A directory of undelivered results.

    Parameters
    ----------
    directory
        Made (mode 0700) when first needed.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def put(
        self,
        database: str,
        launch_id: int,
        state: str,
        action: dict[str, Any] | None,
        moment: float,
        checkout: str | None = None,
    ) -> Path:
        """Store a result.

        Parameters
        ----------
        database
            Identity of the database that it belongs to.
        launch_id, state, action
            Arguments of ``complete_launch``; the action as its dictionary.
        moment
            When the task ended (server's time, seconds since the epoch).
        checkout
            Token of the checkout that made the launch: after a restore its id may belong to another one.

        Raises
        ------
        OSError
            The disk does not take it; nothing is left of it.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self.directory / f"launch-{database[:8]}-{launch_id}.json"
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        content = {
            "database": database,
            "launch_id": launch_id,
            "state": state,
            "action": action,
            "moment": moment,
            "checkout": checkout,
        }
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)  # half of a file would take the room that the next try needs
            raise
        # the name, too, has to survive a machine that loses its power
        place = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
        return target

    def waiting(self) -> list[Path]:
        """Return the files that wait for delivery, oldest launch first."""
        if not self.directory.is_dir():
            return []
        return sorted(self.directory.glob("launch-*.json"))

    def deliver(self, queue: Queue) -> int:
        """Deliver what belongs to this database; return how many results it took.

        Raises
        ------
        pymongo.errors.PyMongoError
            The database is (still) away; the files stay.
        """
        delivered = 0
        for path in self.waiting():
            try:
                content = _content(path)
            except FileNotFoundError:
                continue  # somebody else delivered it
            except (ValueError, RecursionError) as error:
                logger.error(
                    "spooled result %s is damaged (%s); it is set aside",
                    path,
                    error,
                    extra=event("spool.damaged", path=path),
                )
                path.replace(path.with_suffix(".damaged"))
                continue
            if content["database"] != queue.database_identity:
                continue
            queue.deliver(content)
            path.unlink(missing_ok=True)
            delivered += 1
        return delivered


def _content(path: Path) -> dict[str, Any]:
    """Return a result that waits; raise ValueError where it is none."""
    content = json.loads(path.read_text(encoding="utf-8"))
    missing = _KEYS - content.keys() if isinstance(content, dict) else _KEYS
    if missing:
        raise ValueError(f"it does not say {', '.join(sorted(missing))}")
    return dict(content)
