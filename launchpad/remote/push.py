"""The push worker: near the database, it carries tasks to a site and their results back.

A carried task is an ordinary launch whose ``process`` names the site. Its heartbeat is kept by the push worker as long
as the site has it; a push worker that starts again adopts it. Each turn is: take what there is room for, look at the
site (`launchpad.remote.exchange`), store what came back, ask for runners. Any of it can be cut off anywhere: results
stay at the site until they are stored, bundles stay here until their results are.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gapfactory.errors import DatabaseError
from launchpad.logs import event
from launchpad.queue.enrolment import Enrolment
from launchpad.queue.identity import ProcessIdentity
from launchpad.remote.adopt import adopt_known, adopt_strangers
from launchpad.remote.errors import RemoteError
from launchpad.remote.exchange import NO_SPACE, Look, ask, look
from launchpad.remote.ledger import Entry, Ledger
from launchpad.remote.transport import Transport
from launchpad.retry import Backoff
from launchpad.stopping import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fireworks.core.fworker import FWorker

    from launchpad.queue.launchpad import Queue
    from launchpad.remote.settings import PushSite

__all__ = ["PushWorker"]

logger = logging.getLogger("launchpad.remote")


class PushWorker:
    """Carries the tasks of one database to one site.

    Parameters
    ----------
    queue
        The queue; used by one thread for everything but heartbeats.
    site
        The site.
    ledger
        What is on the way; it is opened here.
    transport
        The way to the site (default: over SSH as the site says).
    report
        Called with the status after every turn.
    register
        Called every few seconds, by another thread, with whether it has been told to stop: writes that it lives, and
        returns whether somebody asks it to stop.
    ensure_database
        Called when the database does not answer; brings a local one back, at the same address.
    """

    def __init__(
        self,
        queue: Queue,
        site: PushSite,
        ledger: Ledger,
        *,
        transport: Transport | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
        register: Callable[[bool], bool] | None = None,
        ensure_database: Callable[[], str] | None = None,
    ) -> None:
        self.queue = queue
        self.site = site
        self.ledger = ledger
        self.transport = transport or Transport(site)
        queue.enrolment = Enrolment(queue.db, site.campaigns)
        self.report = report
        self.register = register
        self.ensure_database = ensure_database
        self.stop = StopFlag()
        self.recall = False
        self.last: Look | None = None
        self.trouble: RemoteError | None = None
        self.done = 0
        self.failed = 0
        self.handed_back = 0
        self._seen_at = time.monotonic()
        self._forget: set[str] = set()
        self._gone: set[str] = set()
        self._unsent: dict[str, float] = {}
        self._unfit: set[int] = set()
        self._next_pilots = 0.0
        self._pilots: dict[str, Any] = {}
        self._ready = 0
        #: whether launches of this site that nobody has were looked for
        self.looked_for_orphans = False

    @property
    def identity(self) -> ProcessIdentity:
        """Who runs the carried launches: nobody can look this process up, so its heartbeat counts alone."""
        site = self.site
        return ProcessIdentity(site.name, f"push/{site.name}/{site.host}:{site.directory}", 0, 0)

    def ownership(self) -> dict[str, Any]:
        """Return what marks a launch as carried: the site as its process, a lease that outlasts a restart of ours."""
        return {"process": self.identity.document(), "lease_s": self.site.timing.lease_s}

    @property
    def fworker(self) -> FWorker:
        """FireWorks' description of what this worker takes."""
        from fireworks.core.fworker import FWorker

        return FWorker(name=self.site.name, category=list(self.site.categories))

    def open(self) -> None:
        """Lock the ledger and take over what an earlier push worker left."""
        self.ledger.open(self.queue.database_identity)
        adopt_known(self)

    def run(self, *, pulse: bool = True) -> None:
        """Work until `stop` is set, then end in order."""
        beats = threading.Thread(target=self._beats, name="push heartbeat", daemon=True)
        self._ended = threading.Event()
        threading.Thread(target=self._hurry, name="push end", daemon=True).start()
        if pulse:
            beats.start()
        pauses = self._backoff()
        try:
            while not self.stop.is_set():
                try:
                    try:
                        more = self.turn()
                    except (RemoteError, OSError) as error:
                        self._in_trouble(error)
                        pause = next(pauses)
                    else:
                        pauses = self._backoff()
                        pause = 0.0 if more else self.site.timing.poll_s
                except Exception as error:
                    if not self.queue.database_lost(error):
                        raise
                    pause = next(pauses)
                    logger.warning(
                        "the database is away, next try in %.1f s: %s",
                        pause,
                        error,
                        extra=event("database.away"),
                    )
                    if not self.stop.is_set():
                        self._ensure()
                self.stop.wait(pause)
            self._end()
        finally:
            self.stop.set()
            self._ended.set()
            if pulse:
                beats.join(timeout=5.0)
            self.ledger.close()

    def _backoff(self) -> Any:
        timing = self.site.timing
        return Backoff(first_s=timing.retry_first_s, largest_s=timing.retry_largest_s).pauses()

    def _ensure(self) -> None:
        if self.ensure_database is not None:
            try:
                self.ensure_database()
            except (DatabaseError, OSError) as error:
                logger.warning(
                    "the database could not be brought back: %s", error, extra=event("database.away")
                )

    def turn(self) -> bool:
        """Make one turn; return whether another one should follow at once.

        Raises
        ------
        RemoteError
            The site could not be looked at.
        pymongo.errors.PyMongoError
            The database is away.
        """
        self._drop_gone()
        first = self.last is None
        if not first and self.trouble is None:
            self._refill()
        found = self._look()
        stored = self._collect(found)
        self._require_same_version(found)
        if found.failed:
            raise RemoteError("space", next(iter(found.failed.values())))
        if self.trouble is not None:
            logger.info("%s answers again", self.site.name, extra=event("site.answers", site=self.site.name))
        self.trouble = None
        self._bring_runners(found)
        self._tell()
        return bool(first or stored or self._forget) or len(found.results) > len(found.fetched)

    def _look(self, *, withdraw: tuple[str, ...] = (), recall: tuple[str, ...] = ()) -> Look:
        first = self.last is None
        sending = [] if first or self.stop.is_set() else self._to_send()
        forgotten = sorted(self._forget)
        found = look(
            self.transport,
            bundles=[self.ledger.bundle(name) for name in sending],
            forget=forgotten,
            withdraw=withdraw,
            recall=recall,
            into=self.ledger.results,
            mine=self._mine,
        )
        self._forget -= set(forgotten)
        self._seen_at, self.last = time.monotonic(), found
        for name in found.known:
            self._unsent.pop(name, None)
        return found

    def _require_same_version(self, found: Look) -> None:
        from gapfactory import __version__

        if found.version != __version__:
            raise RemoteError(
                "missing",
                f"gapfactory is {found.version} at {self.site.name} and {__version__} here: install the same version "
                "at both ends; nothing is sent until then.",
            )

    def _to_send(self) -> list[str]:
        known = self.last.known if self.last is not None else frozenset()
        return [e.name for e in self.ledger if e.name not in known and self.ledger.bundle(e.name).exists()]

    def _refill(self) -> None:
        """Take tasks for the cores that are there and a few ahead."""
        assert self.last is not None  # noqa: S101 - looked before
        cores = sum(int(entry.get("cores", 1)) for entry in self.last.living)
        room = min(self.site.bundles, cores + self.site.ahead) - len(self.ledger)
        while room > 0 and not self.stop.is_set() and self._take():
            room -= 1

    def query(self) -> dict[str, Any]:
        """Return which tasks are taken."""
        wanted = dict(self.fworker.query)
        assert self.queue.enrolment is not None  # noqa: S101 - set at the beginning
        wanted |= self.queue.enrolment.query() | self.site.offer().query()
        if self._unfit:
            wanted["fw_id"] = {"$nin": sorted(self._unfit)}
        return wanted

    def _take(self) -> bool:
        from gapfactory.errors import GapFactoryError
        from launchpad.queue.checkout import take
        from launchpad.remote.bundle import ClaimedElsewhere, make_bundle

        place = f"{self.site.host}:{self.site.directory}"
        taken = take(self.queue, self.query(), self.fworker, place)
        if taken is None:
            return False
        assert self.queue.enrolment is not None  # noqa: S101 - set at the beginning
        spec = taken.raw["spec"]
        reason = self.queue.allowed.refusal(spec) or self.queue.enrolment.refusal(spec)
        if reason is not None:
            self.queue.refuse(taken, reason)
            return True
        name = self.name_of(taken.launch_id)
        try:
            manifest = make_bundle(self.queue, taken, self.ledger.bundle(name))
        except ClaimedElsewhere as error:
            self.queue.hand_back(
                taken.launch_id, str(error), kind="drained", delay_s=self.site.timing.claimed_s
            )
            return True
        except OSError as error:
            # the disk of this machine, whatever the task is
            self.queue.hand_back(taken.launch_id, f"no bundle can be written: {error}", kind="drained")
            raise
        except GapFactoryError as error:
            if self.queue.database_lost(error):
                raise
            # this one is for workers that reach the database, which say what is wrong with it if something is
            told = event("carry.unfit", fw_id=taken.fw_id, reason=error)
            logger.warning("Firework %d stays here: %s", taken.fw_id, error, extra=told)
            self._unfit.add(taken.fw_id)
            self.queue.hand_back(
                taken.launch_id, f"it cannot be carried to {self.site.name}: {error}", kind="drained"
            )
            return True
        task = str(taken.raw.get("name", ""))
        entry = Entry(name, taken.fw_id, taken.launch_id, taken.history_index, task, time.time())
        self.ledger.add(replace(entry, manifest=manifest.model_dump(mode="json")))
        # until here it belongs to this process, and is given back when this process is killed
        self.queue.launches.update_one(
            {"launch_id": taken.launch_id, "state": "RUNNING"},
            {"$set": self.ownership()},
        )
        self.queue.show_running(taken.fw_id)
        self._unsent[name] = time.monotonic()
        return True

    def name_of(self, launch_id: int) -> str:
        """Return the name at the site of a launch; names sort by age."""
        return f"{self._mine}{launch_id:09d}"

    @property
    def _mine(self) -> str:
        """How names of this database's tasks begin: a directory may serve several."""
        return f"{self.queue.database_identity[:8]}-"

    def _collect(self, found: Look) -> int:
        """Store results, hand back what was given up, adopt what nobody knew; return how many results there were."""
        adopt_strangers(self, found)
        ended = 0
        for name, path in sorted(found.fetched.items()):
            self._apply(name, path)
            ended += 1
            path.unlink(missing_ok=True)
        for name, about in found.refused.items():
            if name in self.ledger:
                if not about["died"]:
                    self._unfit.add(self.ledger.entries[name].fw_id)
                self.abandon(
                    name, f"{self.site.name}: {about['reason']}", kind="dead" if about["died"] else "drained"
                )
        late = time.monotonic() - self.site.timing.unsent_limit_s
        for name, since in list(self._unsent.items()):
            if name in self.ledger and since < late:
                self.abandon(name, f"it could not be brought to {self.site.name}", kind="drained")
        return ended

    def _apply(self, name: str, path: Path) -> None:
        """Store a result; also one that comes too late may hold labels."""
        from launchpad.remote.replay import apply_result

        try:
            applied = apply_result(self.queue, path)
        except Exception as error:
            # a disk that is full here is no fault of the result, which waits at the site
            if self.queue.database_lost(error) or (isinstance(error, OSError) and error.errno in NO_SPACE):
                raise
            logger.exception("the result of %s is not used", name, extra=event("carry.unused", name=name))
            if name in self.ledger:
                self.abandon(name, f"its result is not used: {type(error).__name__}: {error}", kind="dead")
            self.forget(name)
            return
        about = {"fw_id": applied.fw_id, "launch_id": applied.launch_id, "site": self.site.name}
        said = (applied.fw_id, self.site.name, applied.message)
        if applied.state == "HANDED BACK":
            self.handed_back += 1
            told = event("carry.handed_back", **about, reason=applied.message)
            logger.info("Firework %d comes back from %s: %s", *said, extra=told)
        elif applied.state == "FIZZLED":
            self.failed += 1
            told = event("carry.failed", **about, reason=applied.message)
            logger.error("Firework %d failed at %s: %s", *said, extra=told)
        else:
            self.done += 1
            logger.info("Firework %d was done at %s", *said[:2], extra=event("carry.done", **about))
        self.settle(name)

    def forget(self, name: str) -> None:
        """Remove something from the site with the next look."""
        self._forget.add(name)

    def settle(self, name: str) -> None:
        """Forget a task, here and at the site."""
        self._forget.add(name)
        self._unsent.pop(name, None)
        entry = self.ledger.entries.get(name)
        if entry is not None:
            self.queue.held.pop(entry.launch_id, None)
        self.ledger.remove(name)

    def abandon(self, name: str, reason: str, *, kind: str) -> None:
        """Hand a task back to the queue, without a result of this site."""
        from launchpad.remote.archive import Manifest
        from launchpad.remote.bundle import abandon_bundle

        entry = self.ledger.entries[name]
        told = event("carry.abandoned", fw_id=entry.fw_id, launch_id=entry.launch_id, reason=reason)
        logger.warning("Firework %d goes back to the queue: %s", entry.fw_id, reason, extra=told)
        self.queue.hand_back(entry.launch_id, reason, kind=kind)
        if entry.manifest is not None:
            # its launch has ended; now its claims
            abandon_bundle(self.queue, Manifest.model_validate(entry.manifest), reason)
        self.handed_back += 1
        self.settle(name)

    def _drop_gone(self) -> None:
        """Forget tasks that the database gave to somebody else, or to nobody any more."""
        gone, self._gone = self._gone, set()
        for name in sorted(gone):
            if name in self.ledger:
                entry = self.ledger.entries[name]
                told = event("launch.taken_away", fw_id=entry.fw_id, launch_id=entry.launch_id)
                logger.warning("launch %d is no longer ours", entry.launch_id, extra=told)
                self.settle(name)

    def _bring_runners(self, found: Look) -> None:
        site, now = self.site, time.monotonic()
        if site.scheduler is None or not site.pilots or not self.ledger or now < self._next_pilots:
            return
        most = site.pilots * site.at_once
        self._ready = self.queue.fireworks.count_documents({**self.query(), "state": "READY"}, limit=most)
        wanted = min(site.pilots, math.ceil((len(self.ledger) + self._ready) / site.at_once))
        if len(found.living) >= wanted:
            return
        self._next_pilots = now + site.timing.pilots_s
        self._pilots = ask(
            self.transport,
            "launchpad.remote.pilots",
            {
                "site": site.pilot().model_dump(mode="json"),
                "wanted": wanted,
                "silent_s": site.timing.silent_runner_s,
            },
            fields=("submitted", "living", "pending"),
        )
        if self._pilots["submitted"]:
            jobs = ", ".join(map(str, self._pilots["submitted"]))
            logger.info(
                "asked for runners: job %s", jobs, extra=event("site.runners", site=site.name, jobs=jobs)
            )

    def _in_trouble(self, failure: RemoteError | OSError) -> None:
        """Say what is wrong, and give up what has waited for too long.

        Raises
        ------
        pymongo.errors.PyMongoError
            The database is away as well.
        """
        error = _as_trouble(failure)
        if self.trouble is None or str(self.trouble) != str(error):
            told = event("site.trouble", site=self.site.name, kind=error.kind)
            logger.warning("%s (%s)", error, error.kind, extra=told)
        self.trouble = error
        timing = self.site.timing
        now = time.monotonic()
        blind = now - self._seen_at > timing.blind_limit_s
        for entry in self.ledger:
            late = now - self._unsent.get(entry.name, now) > timing.unsent_limit_s
            if late or blind:
                what = "it could not be brought there" if late else f"not seen for {timing.blind_limit_s:g} s"
                self.abandon(entry.name, f"{self.site.name}: {what}", kind="drained")
        self._tell()

    def _hurry(self) -> None:
        """From the moment at which somebody says stop, a site that does not answer is not waited for at length."""
        self.stop.wait()
        timing = self.site.timing
        self.transport.hasten(timing.drain_s, timing.drain_s + timing.connect_s)

    def _beats(self) -> None:
        """Say that this process and the carried launches are alive; no error of the database ends it.

        Not between two turns: a turn takes as long as the site does, and who is silent for long is taken for dead.
        """
        timing, settings = self.site.timing, self.queue.settings
        every = min(timing.beat_s, settings.heartbeat_s)
        beat_at = time.monotonic() + every
        while True:
            self._register()
            if self._ended.wait(min(timing.report_s, every)):
                return
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + every
                self.beat()

    def _register(self) -> None:
        if self.register is None:
            return
        try:
            asked = self.register(self.stop.is_set())
        except Exception as error:  # noqa: BLE001 - as for heartbeats
            logger.warning("heartbeat: %s", error, extra=event("heartbeat.missed"))
            return
        if asked and not self.stop.is_set():
            logger.info("told to stop", extra=event("worker.draining"))
            self.stop.set()

    def beat(self) -> None:
        """Renew the heartbeat of every carried launch, and its claims on labels."""
        from launchpad.remote.archive import Manifest
        from launchpad.remote.bundle import keep_claims

        if time.monotonic() - self._seen_at > self.site.timing.blind_limit_s:
            return
        try:
            self.queue.clock.synchronise()
            for entry in self.ledger:
                if not self.queue.beat(entry.launch_id, entry.history_index):
                    self._gone.add(entry.name)
                elif entry.manifest is not None and entry.manifest["kind"] == "reference":
                    keep_claims(self.queue, Manifest.model_validate(entry.manifest))
        except Exception as error:  # noqa: BLE001 - if it died of an error, living tasks would run twice
            logger.warning("heartbeat: %s", error, extra=event("heartbeat.missed"))

    def _end(self) -> None:
        """Take back what has not begun, collect what ends soon; leave the rest running, or recall it."""
        self.recall = self.recall or self.ledger.recalled
        told = event("worker.draining")
        logger.info("stopping: %d tasks are at %s", len(self.ledger), self.site.name, extra=told)
        end = time.monotonic() + self.site.timing.drain_s
        try:
            while True:
                waiting = tuple(e.name for e in self.ledger)
                running = waiting if self.recall else ()
                found = self._look(withdraw=waiting, recall=running)
                self._collect(found)
                for name in waiting:
                    if name in self.ledger and (name in found.withdrawn or name not in found.known):
                        self.abandon(name, "the push worker was stopped before it began", kind="drained")
                self._tell()
                if not self.ledger or time.monotonic() > end:
                    break
                time.sleep(min(1.0, self.site.timing.poll_s))
            if self.recall:
                for entry in self.ledger:
                    self.abandon(entry.name, "the push worker was stopped", kind="drained")
            if self._forget:
                self._look()
        except (RemoteError, OSError) as error:
            self.trouble = _as_trouble(error)
            logger.warning("what is at %s stays there: %s", self.site.name, error, extra=told)
        except Exception as error:
            if not self.queue.database_lost(error):
                raise
            logger.warning(
                "the database is away; what is at the site stays there: %s",
                error,
                extra=event("database.away"),
            )
        self.beat()
        self._tell()
        if self.ledger:
            logger.info(
                "%d tasks go on at %s: start again within %g minutes to keep them",
                len(self.ledger),
                self.site.name,
                self.site.timing.lease_s / 60.0,
            )

    def _tell(self) -> None:
        status = self.status()
        try:
            self.ledger.report(status)
        except OSError as error:
            logger.warning("the status cannot be written: %s", error, extra=event("status.unwritten"))
        if self.report is not None:
            self.report(status)

    def status(self) -> dict[str, Any]:
        """Return how everything stands, as plain data."""
        found = self.last
        mine = set(self.ledger.entries)
        running = set(found.running) & mine if found else set()
        return {
            "site": self.site.name,
            "time": time.time(),
            "stopping": self.stop.is_set(),
            "carried": len(mine),
            "waiting": len(mine & found.waiting - running) if found else 0,
            "running": len(running),
            "done": self.done,
            "failed": self.failed,
            "handed_back": self.handed_back,
            "runners": len(found.living) if found else 0,
            "runners_pending": self._pilots.get("pending", 0),
            "cores": sum(int(entry.get("cores", 1)) for entry in found.living) if found else 0,
            "free_mb": found.free_mb if found else None,
            "last_look_s": round(time.monotonic() - self._seen_at, 1) if found else None,
            "calls": self.transport.calls,
            "trouble": {"kind": self.trouble.kind, "message": str(self.trouble)} if self.trouble else None,
        }


def _as_trouble(error: RemoteError | OSError) -> RemoteError:
    if isinstance(error, RemoteError):
        return error
    return RemoteError("local", f"trouble on this machine, where the push worker runs: {error}")
