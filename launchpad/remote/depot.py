"""The directory at a site where bundles wait, run, and leave their results; every step is one atomic rename.

::

    inbox/NAME.bundle             waits
    running/RUNNER/NAME.bundle    belongs to a runner
    outbox/NAME.result            waits to be fetched
    refused/NAME.json             given up here, with the reason
    tries/NAME                    one line for every runner that died with it
    scratch/NAME/                 where it runs; what a killed runner had done there is not done again
    runners/RUNNER.json           heartbeat (its time) and identity of a runner
    pilots/                       what the batch system is given

A bundle belongs to whoever holds the file: two runners cannot rename it both, and a runner that lost its bundle
(because it was silent for too long, or the task was withdrawn) sees that the file is gone. Times are those of the file
system, never of a clock of some node.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from launchpad.queue.identity import ProcessIdentity

__all__ = ["BUNDLE", "RECALL", "RESULT", "Depot"]

BUNDLE = ".bundle"
RESULT = ".result"
#: Beside a bundle that runs: it is to be handed back.
RECALL = ".recall"


class Depot:
    """The directory of one site.

    Parameters
    ----------
    directory
        On a file system that login and compute nodes share; ``~/`` is the home of the user there.
    """

    def __init__(self, directory: Path | str) -> None:
        self.place = Path(directory).expanduser()
        for name in ("inbox", "running", "outbox", "refused", "tries", "runners", "logs", "scratch"):
            setattr(self, name, self.place / name)

    inbox: Path
    running: Path
    outbox: Path
    refused: Path
    tries: Path
    runners: Path
    logs: Path
    scratch: Path

    def prepare(self) -> None:
        """Make the directories, for their owner only."""
        self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.place.chmod(0o700)
        for path in (
            self.inbox, self.running, self.outbox, self.refused, self.tries, self.runners, self.logs, self.scratch
        ):  # fmt: skip
            path.mkdir(exist_ok=True, mode=0o700)
        (self.place / "clock").touch()

    def now(self) -> float:
        """Return the time of the file system (seconds since 1970); needs no free space."""
        os.utime(self.place / "clock")
        return (self.place / "clock").stat().st_mtime

    def names(self, where: Path, suffix: str) -> list[str]:
        """Return the names in one of the directories, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(e.name.removesuffix(suffix) for e in os.scandir(where) if _shown(e.name, suffix))
        return []

    def held(self) -> dict[str, str]:
        """Return which runner has which bundle."""
        return {
            name: runner.name
            for runner in sorted(self.running.iterdir())
            for name in self.names(runner, BUNDLE)
        }

    def enlist(self, runner: str, about: dict[str, Any]) -> None:
        """Write, or renew, the heartbeat of a runner."""
        path = self.runners / f"{runner}.json"
        text = json.dumps({**about, **ProcessIdentity.current().document()})
        try:
            if path.read_text(encoding="utf-8") == text:
                os.utime(path)  # needs no free space
                return
        except FileNotFoundError:
            pass
        temporary = self.runners / f".{runner}.{os.getpid()}"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            if not path.exists():
                raise
            os.utime(path)

    def delist(self, runner: str) -> None:
        """Remove a runner that holds nothing."""
        for path in (self.running / runner).glob(f"*{RECALL}"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.running / runner).rmdir()
        (self.runners / f"{runner}.json").unlink(missing_ok=True)

    def claim(self, runner: str) -> Path | None:
        """Take the bundle that has waited longest; return its path, or None if there is none."""
        mine = self.running / runner
        mine.mkdir(exist_ok=True, mode=0o700)
        for name in self.names(self.inbox, BUNDLE):
            if (self.outbox / f"{name}{RESULT}").exists():
                (self.inbox / f"{name}{BUNDLE}").unlink(missing_ok=True)
                continue
            target = mine / f"{name}{BUNDLE}"
            try:
                (self.inbox / f"{name}{BUNDLE}").rename(target)
            except FileNotFoundError:
                continue  # somebody else has it
            return target
        return None

    def finish(self, bundle: Path, result: Path) -> bool:
        """Put a result into the outbox and let go of its bundle; return False if it was not ours any more."""
        if not bundle.exists():
            result.unlink(missing_ok=True)
            return False
        with result.open("rb") as stream:
            os.fsync(stream.fileno())
        result.rename(self.outbox / f"{bundle.name.removesuffix(BUNDLE)}{RESULT}")
        _sync(self.outbox)
        bundle.unlink(missing_ok=True)
        bundle.with_suffix(RECALL).unlink(missing_ok=True)
        return True

    def give_back(self, bundle: Path, reason: str = "", *, tries: int = 0) -> None:
        """Put a bundle back; with a reason, as one whose runner died, which may happen `tries` times."""
        name = bundle.name.removesuffix(BUNDLE)
        bundle.with_suffix(RECALL).unlink(missing_ok=True)
        if reason:
            count = self.tries / name
            with count.open("a", encoding="utf-8") as stream:
                stream.write(reason.replace("\n", " ") + "\n")
            lines = count.read_text(encoding="utf-8").splitlines()
            if len(lines) >= tries:
                self.refuse(bundle, f"{lines[-1]} (time {len(lines)} at this site)", died=True)
                return
        with contextlib.suppress(FileNotFoundError):
            bundle.rename(self.inbox / bundle.name)

    def refuse(self, bundle: Path, reason: str, *, died: bool = False) -> None:
        """Give up a bundle here: one whose runners died, or one that cannot be run."""
        name = bundle.name.removesuffix(BUNDLE)
        temporary = self.refused / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps({"reason": reason, "died": died}), encoding="utf-8")
        temporary.replace(self.refused / f"{name}.json")
        bundle.unlink(missing_ok=True)

    def reasons(self) -> dict[str, dict[str, Any]]:
        """Return what was given up here: ``reason``, and whether its runners ``died``."""
        found: dict[str, dict[str, Any]] = {}
        for name in self.names(self.refused, ".json"):
            with contextlib.suppress(FileNotFoundError):
                text = (self.refused / f"{name}.json").read_text(encoding="utf-8")
                found[name] = dict(json.loads(text))
        return found

    def withdraw(self, name: str) -> bool:
        """Take back a bundle that has not been started; return whether it was still waiting."""
        try:
            (self.inbox / f"{name}{BUNDLE}").unlink()
        except FileNotFoundError:
            return False
        return True

    def forget(self, name: str) -> None:
        """Remove everything of a task; a runner that is at it sees that its file is gone."""
        self.withdraw(name)
        for runner in self.running.iterdir():
            (runner / f"{name}{BUNDLE}").unlink(missing_ok=True)
            (runner / f"{name}{RECALL}").unlink(missing_ok=True)
        self.withdraw(name)  # it may have been put back in between
        (self.outbox / f"{name}{RESULT}").unlink(missing_ok=True)
        (self.refused / f"{name}.json").unlink(missing_ok=True)
        (self.tries / name).unlink(missing_ok=True)
        shutil.rmtree(self.scratch / name, ignore_errors=True)

    def recall(self, name: str) -> None:
        """Ask the runner that has a bundle to hand it back, with what was done so far."""
        for runner in self.running.iterdir():
            if (runner / f"{name}{BUNDLE}").exists():
                (runner / f"{name}{RECALL}").touch()

    def census(self) -> list[dict[str, Any]]:
        """Return the runners: what they said of themselves, the age of their heartbeat, and whether they are dead.

        ``alive`` is None for one on another node.
        """
        now, found = self.now(), []
        for name in self.names(self.runners, ".json"):
            path = self.runners / f"{name}.json"
            with contextlib.suppress(FileNotFoundError):
                age = max(0.0, now - path.stat().st_mtime)
                about = json.loads(path.read_text(encoding="utf-8"))
                identity = ProcessIdentity.from_document(about)
                fate = identity.fate if identity else "unknown"
                alive = {"alive": True, "dead": False}.get(fate)
                found.append({**about, "id": name, "age_s": round(age, 1), "alive": alive})
        return found

    def reclaim(self, *, silent_s: float, tries: int) -> list[str]:
        """Put back the bundles of runners that are dead or silent; return the ids of those runners."""
        known = {entry["id"]: entry for entry in self.census()}
        lost = {
            name: f"runner {name} died"
            if entry["alive"] is False
            else f"runner {name} was silent for {entry['age_s']} s"
            for name, entry in known.items()
            if entry["alive"] is False or (entry["alive"] is None and entry["age_s"] > silent_s)
        }
        for runner in sorted(self.running.iterdir()):
            if runner.name not in known and self.now() - runner.stat().st_mtime > silent_s:
                lost[runner.name] = f"runner {runner.name} left no heartbeat"
        for name, reason in lost.items():
            self._release(name, reason, tries=tries)
        return sorted(lost)

    def unfinished(self, name: str, runner: str) -> Path:
        """Return where a runner has a result written; whole once it is there, since it is put there in one step."""
        return self.outbox / f".{name}.{runner}{RESULT}"

    def _release(self, runner: str, reason: str, *, tries: int) -> None:
        """Put back the bundles of a runner that is lost, or use what it had finished."""
        for name in self.names(self.running / runner, BUNDLE):
            bundle, result = self.running / runner / f"{name}{BUNDLE}", self.unfinished(name, runner)
            if (self.outbox / f"{name}{RESULT}").exists():
                bundle.unlink(missing_ok=True)
            elif result.exists():
                self.finish(bundle, result)
            else:
                self.give_back(bundle, reason, tries=tries)
        for path in self.outbox.glob(f".*.{runner}{RESULT}*"):
            # half of a result, or one whose bundle somebody else has
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.delist(runner)


def _shown(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
