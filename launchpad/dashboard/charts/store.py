"""Charts as files: computed once per change of a campaign, shared by all processes of the dashboard.

Nobody waits for a computation: whoever asks gets what is there, though it may be of the state before, and starts the
next one in the background. Each campaign has a directory, in it one per state (the newest alone is kept) and a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.dashboard.groups import Group

__all__ = ["ChartStore", "default_cache"]

_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """Return where computed charts lie unless a directory is set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gapfactory" / "dashboard"


@dataclass
class ChartStore:
    """Computed charts of all campaigns.

    Attributes
    ----------
    root
        Where they lie; readable by this user alone.
    interval_s
        Charts of a campaign that changes all the time are computed no more often.
    timeout_s
        A computation ends after this time.
    campaigns_kept
        Charts of so many campaigns are kept, those looked at last.
    """

    root: Path
    interval_s: float
    timeout_s: float
    campaigns_kept: int
    _problems: dict[Path, str] = field(default_factory=dict, repr=False)
    _busy: set[Path] = field(default_factory=set, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def charts(self, group: Group, campaign: str, state: str) -> Path | None:
        """Return the directory with the newest charts, or None while the first are computed.

        Parameters
        ----------
        group, campaign
            Whose.
        state
            Of the campaign's data; another text means that they have changed.

        Raises
        ------
        ServiceError
            They could not be computed; the text says why.
        """
        place = self._place(group, campaign)
        wanted = place / _stem(state)
        if wanted.is_dir():
            os.utime(place)
            return wanted
        newest = self._newest(place)
        if wanted in self._problems:
            if newest is not None:
                return newest
            raise ServiceError(self._problems[wanted])
        if newest is None or time.time() - newest.stat().st_mtime > self.interval_s:
            self._begin(group, campaign, place, wanted)
        return newest

    def picture(self, group: Group, campaign: str, state: str, key: str, kind: str) -> Path:
        """Return the file of a figure drawn by matplotlib; the first who asks waits for it.

        Raises
        ------
        NotFoundError
            There is no such figure, or nothing to draw.
        ServiceError
            It could not be drawn.
        """
        place = self._place(group, campaign)
        file = place / f"{_stem(state)}.{key}.{kind}"
        if not file.is_file():
            with _locked(place / f"{key}.{kind}.lock", wait=True) as mine:
                if mine and not file.is_file():
                    for old in place.glob(f"*.{key}.{kind}"):
                        old.unlink(missing_ok=True)
                    part = file.with_name(f"{file.name}.part")
                    self._run(group, campaign, part, [key, kind])
                    part.rename(file)
        return file

    def _place(self, group: Group, campaign: str) -> Path:
        place = self.root / _stem(group.uri) / _stem(campaign)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return place

    @staticmethod
    def _newest(place: Path) -> Path | None:
        found = [
            (path.stat().st_mtime, path) for path in place.iterdir() if path.is_dir() and not path.suffix
        ]
        return max(found)[1] if found else None

    def _begin(self, group: Group, campaign: str, place: Path, wanted: Path) -> None:
        with self._guard:
            if place in self._busy:
                return
            self._busy.add(place)
        threading.Thread(
            target=self._compute, args=(group, campaign, place, wanted), name="charts", daemon=True
        ).start()

    def _compute(self, group: Group, campaign: str, place: Path, wanted: Path) -> None:
        try:
            with _locked(place / "lock", wait=False) as mine:
                if not mine or wanted.is_dir():
                    return  # another process is at it
                part = Path(tempfile.mkdtemp(dir=place, suffix=".part"))
                try:
                    self._run(group, campaign, part, None)
                    part.rename(wanted)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
                self._clear(place, wanted)
        except (ServiceError, NotFoundError, OSError) as error:
            _log.warning("charts of campaign %s: %s", campaign, error)
            if len(self._problems) > self.campaigns_kept:
                self._problems.clear()
            self._problems[wanted] = f"The charts of {campaign!r} could not be computed: {error}"
        finally:
            with self._guard:
                self._busy.discard(place)

    def _run(self, group: Group, campaign: str, target: Path, picture: list[str] | None) -> None:
        wanted: dict[str, Any] = {"uri": group.uri, "campaign": campaign, "picture": picture}
        command = [sys.executable, "-m", "launchpad.dashboard.charts.compute", str(target)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command,
                input=json.dumps(wanted),
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"it took longer than {self.timeout_s:g} s (setting charts_timeout_s)"
            ) from error
        if done.returncode == 1 and picture is not None and "Traceback" not in done.stderr:
            raise NotFoundError(done.stderr.strip())
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or [f"the process ended with {done.returncode}"]
            raise ServiceError(last[0])

    def _clear(self, place: Path, keep: Path) -> None:
        """Remove the states before, and the charts of campaigns that nobody has looked at for longest."""
        for path in place.iterdir():
            if path.is_dir() and path != keep:
                shutil.rmtree(path, ignore_errors=True)
        others = sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[self.campaigns_kept :]:
            shutil.rmtree(path, ignore_errors=True)


def _stem(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def _locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock among processes; give False where another one has it and nobody waits."""
    with file.open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
