"""One core of a runner: a process that runs bundle after bundle, watched from outside. ``-m launchpad.remote.slot``.

The process is kept between bundles (its libraries take seconds to load) and replaced when it dies or holds too much
memory. It gets one line of JSON for each bundle and answers with one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.logs import configure_logs, event
from launchpad.remote.depot import BUNDLE, RECALL

if TYPE_CHECKING:
    from launchpad.remote.runner import Runner

__all__ = ["Slot"]

logger = logging.getLogger("launchpad.remote")

#: A task that was told to hand back and does not return gets this long (s) before its process is killed.
_LAST_WAIT_S = 10.0
#: A process that holds more than this (GB) after a bundle is replaced, as a worker's is.
_MEMORY_GB = 2.0
#: A bundle whose process died this often is given up at the site.
_TRIES = 3


class Slot:
    """The runner's side.

    Parameters
    ----------
    index
        Number of the core.
    runner
        Whose it is.
    """

    def __init__(self, index: int, runner: Runner) -> None:
        self.index = index
        self.runner = runner
        self.bundle: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._recalled: float | None = None
        self._told = b""

    def begin(self, bundle: Path) -> None:
        """Start a bundle."""
        self.bundle, self._asked, self._told, self._recalled = bundle, False, b"", None
        name = bundle.name.removesuffix(BUNDLE)
        self._result = self.runner.depot.unfinished(name, self.runner.id)
        order = {
            "bundle": str(bundle),
            "result": str(self._result),
            "workdir": str(self.runner.scratch / name),
            "allowed": list(self.runner.settings.allowed),
        }
        process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it just died, which tend() sees
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        logger.info("%s begins", name, extra=event("bundle.begun", name=name))

    def tend(self, draining_since: float | None) -> bool:
        """Look whether the bundle ended, was taken away, or must be handed back; return whether it ended."""
        assert self.bundle is not None  # noqa: S101 - asked only then
        if self._process is None:
            return self._ended(None)
        answer = self._answer()
        if answer is not None:
            return self._ended(answer)
        if self._process.poll() is not None:
            return self._ended(None)
        if not self.bundle.exists():
            told = event("bundle.taken_away", name=self.bundle.name)
            logger.warning("%s was taken away: ending it", self.bundle.name, extra=told)
            self.close()
            self._clear()
            return True
        if self._recalled is None and self.bundle.with_suffix(RECALL).exists():
            self._recalled = time.monotonic()
        if draining_since is not None or self._recalled is not None:
            late = time.monotonic() - (
                self._recalled
                if self._recalled is not None
                else (draining_since or 0.0) + self.runner.settings.drain_grace_s
            )
            if late > _LAST_WAIT_S:
                told = event("bundle.killed", name=self.bundle.name)
                logger.error("%s does not end: killing it", self.bundle.name, extra=told)
                self.close()
                self.runner.depot.give_back(self.bundle)
                self._clear()
                return True
            if late >= 0 and not self._asked:
                self._asked = True
                self._process.send_signal(signal.SIGUSR1)
        return False

    def close(self) -> None:
        """End the process, and what it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _start(self) -> subprocess.Popen[bytes]:
        from launchpad.workers.supervisor import THREADS

        with (self.runner.depot.logs / f"{self.runner.id}-{self.index}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "launchpad.remote.slot"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.runner.scratch,
                env={**os.environ, **THREADS},
                start_new_session=True,
            )
        return self._process

    def _answer(self) -> dict[str, Any] | None:
        """Return what the process said, if a whole line is there."""
        assert self._process is not None  # noqa: S101 - looked at before
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            if ready.select(0):
                self._told += os.read(self._process.stdout.fileno(), 65_536)
        if not self._told.endswith(b"\n"):
            return None
        found = json.loads(self._told)
        return dict(found)

    def _ended(self, answer: dict[str, Any] | None) -> bool:
        bundle, runner = self.bundle, self.runner
        assert bundle is not None  # noqa: S101 - it was given
        name = bundle.name.removesuffix(BUNDLE)
        try:
            if answer is None:
                code = self._process.wait() if self._process is not None else None
                self.close()
                runner.failed += 1
                logger.error(
                    "%s: its process ended with %s", name, code, extra=event("bundle.died", name=name)
                )
                reason = f"the process that ran it on runner {runner.id} ended with {code}"
                runner.depot.give_back(bundle, reason, tries=_TRIES)
            elif answer.get("error"):
                # not the task's own failure, which is a result: the bundle or this node is at fault
                runner.failed += 1
                told = event("bundle.given_back", name=name, reason=answer["error"])
                logger.error("%s: %s", name, answer["error"], extra=told)
                if answer.get("stopped"):
                    runner.depot.give_back(bundle)
                elif answer.get("node"):
                    runner.depot.give_back(bundle, answer["error"], tries=_TRIES)
                    runner.fault(answer["error"])
                else:
                    runner.depot.refuse(bundle, answer["error"])
            elif runner.depot.finish(bundle, self._result):
                runner.done += 1
                shutil.rmtree(runner.scratch / name, ignore_errors=True)
                logger.info("%s ends", name, extra=event("bundle.done", name=name))
            if answer is not None and answer.get("gb", 0.0) > _MEMORY_GB:
                self.close()
        except OSError as error:
            runner.fault(error)
            runner.depot.give_back(bundle)
        self._clear()
        return True

    def _clear(self) -> None:
        self._result.unlink(missing_ok=True)
        self.bundle = None


def main() -> int:
    """Run the bundles that standard input names, until it ends."""
    orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # no task gets the two pipes for its own input and output
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    configure_logs()
    from launchpad.workers.rocket import HandBack

    working, told = threading.Event(), threading.Event()

    def hand_back(_number: int, _frame: object) -> None:
        told.set()
        if working.is_set():
            working.clear()
            raise HandBack

    signal.signal(signal.SIGUSR1, hand_back)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the runner decides
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()
    for line in orders:
        answer = _run(json.loads(line), working, told)
        told.clear()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        answer["gb"] = pages * os.sysconf("SC_PAGE_SIZE") / 1e9
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _run(order: dict[str, Any], working: threading.Event, told: threading.Event) -> dict[str, Any]:
    from launchpad.queue.guard import AllowList
    from launchpad.remote.execute import run_bundle
    from launchpad.workers.rocket import HandBack

    workdir, home = Path(order["workdir"]), Path.cwd()
    try:
        workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _wait_for(workdir)
        working.set()
        if told.is_set():
            raise HandBack
        run_bundle(Path(order["bundle"]), Path(order["result"]), workdir, AllowList(tuple(order["allowed"])))
    except HandBack:
        return {"error": "its runner was stopped", "stopped": True}
    except OSError as error:
        return {"error": f"{type(error).__name__}: {error}", "node": True}
    except Exception as error:
        logger.exception("%s cannot be run", order["bundle"])
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        working.clear()
        os.chdir(home)
    return {}


def _wait_for(workdir: Path) -> None:
    """Wait for a process that is about to end: that of a runner which was killed, or lost this bundle, a moment ago.

    Raises
    ------
    TimeoutError
        It does not end: its node hangs. That is no fault of the bundle.
    """
    end = time.monotonic() + _LAST_WAIT_S
    with (workdir / "lock").open("ab") as lock:
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return
    raise TimeoutError(f"another process is still at {workdir.name}")


def _watch(parent: int) -> None:
    """End this process and what it started when its runner is gone: its bundle is given to another."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
