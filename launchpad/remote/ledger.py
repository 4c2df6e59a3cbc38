"""What a push worker remembers on its own disk: the bundles that it sent, until their results are in the database.

A task is in the ledger from before it leaves until after its result is stored. A push worker that was killed finds here
what to send again and what to wait for; without the ledger (another disk, another host) it still adopts whatever the
database and the site know of its site.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import StateError
from launchpad.remote.depot import BUNDLE, RESULT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Entry", "Ledger", "ledger_directory"]


@dataclass(frozen=True)
class Entry:
    """One task that was taken for a site.

    Parameters
    ----------
    name
        Its name at the site.
    fw_id, launch_id
        Its Firework and its launch.
    history_index
        For the heartbeat, see `launchpad.queue.checkout.Taken`.
    task
        For people.
    taken
        When (s since 1970, this machine's clock).
    manifest
        Of its bundle; None for one that was found at the site.
    """

    name: str
    fw_id: int
    launch_id: int
    history_index: int
    task: str
    taken: float
    manifest: dict[str, Any] | None = None


def ledger_directory(site: str) -> Path:
    """Return where the ledger of a site is kept: beside the scratch of local workers, which survives a reboot."""
    from launchpad.workers.settings import default_scratch

    return default_scratch().parent / "push" / site


class Ledger:
    """The ledger of one site.

    Parameters
    ----------
    directory
        Made, for its owner only, when it is opened.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        self._lock: int | None = None

    def open(self, database: str) -> None:
        """Lock the ledger and read it.

        Parameters
        ----------
        database
            Identity of the database.

        Raises
        ------
        StateError
            Another push worker of this machine has it, or it belongs to another database.
        """
        for path in (self.directory, self.results):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StateError(
                f"another push worker (process {self.holder()}) works for this site: 'gapfactory push stop' ends it."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock = descriptor
        owner = self.directory / "database"
        known = owner.read_text(encoding="utf-8") if owner.exists() else database
        if known != database and any(self.directory.glob(f"*{BUNDLE}")):
            self.close()
            raise StateError(
                f"{self.directory} holds tasks of another database: give this site another 'name', or end the other "
                "work first ('gapfactory push stop --recall' with that database)."
            )
        (self.directory / "recall").unlink(missing_ok=True)
        owner.write_text(database, encoding="utf-8")
        for path in sorted(self.directory.glob("*.json")):
            if path.name == "status.json":
                continue
            self.entries[path.stem] = Entry(**json.loads(path.read_text(encoding="utf-8")))
        for path in self.directory.glob(f"*{BUNDLE}"):
            if path.name.removesuffix(BUNDLE) not in self.entries:
                path.unlink()  # killed before its entry was written: nothing was sent
        for path in self.results.iterdir():
            path.unlink()  # still at the site, since nobody forgot it there

    def close(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def holder(self) -> int | None:
        """Return the process id of the push worker that has the ledger now, or None."""
        try:
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                text = os.pread(descriptor, 32, 0).decode()
                return int(text) if text.isdigit() else None
            return None
        finally:
            os.close(descriptor)

    @property
    def results(self) -> Path:
        """Where results land on their way to the database."""
        return self.directory / "results"

    @property
    def recalled(self) -> bool:
        """Whether the push worker was asked to leave nothing at the site when it ends."""
        return (self.directory / "recall").exists()

    def ask_recall(self) -> None:
        """Ask the push worker to leave nothing at the site when it ends."""
        (self.directory / "recall").touch()

    def bundle(self, name: str) -> Path:
        """Return the path of a bundle."""
        return self.directory / f"{name}{BUNDLE}"

    def add(self, entry: Entry) -> None:
        """Note a task whose bundle has been written."""
        self._write(self.directory / f"{entry.name}.json", asdict(entry))
        self.entries[entry.name] = entry

    def remove(self, name: str) -> None:
        """Forget a task; its entry goes first, so that at worst a bundle without one is left over."""
        self.entries.pop(name, None)
        (self.directory / f"{name}.json").unlink(missing_ok=True)
        self.bundle(name).unlink(missing_ok=True)
        (self.results / f"{name}{RESULT}").unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries.values()))

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def report(self, status: dict[str, Any]) -> None:
        """Write what `gapfactory push status` shows."""
        self._write(self.directory / "status.json", status)

    def status(self) -> dict[str, Any] | None:
        """Return what was reported last."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            found = json.loads((self.directory / "status.json").read_text(encoding="utf-8"))
            return dict(found)
        return None

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
