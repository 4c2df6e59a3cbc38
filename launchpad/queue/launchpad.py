"""FireWorks' LaunchPad, its checkout, locks, heartbeat and completion made to survive kills and cuts.

The documents stay FireWorks' own, so that ``lpad``, ``rlaunch`` and ``qlaunch`` work on the same database;
what is added are fields that they ignore (``checkout``, ``process``, ``heartbeat_at``, ``requeue``,
``lock_lease``) and collections of our own (``queue_journal``, ``queue_retries``, ``queue_leases``,
``queue_meta``, ``workers``).
"""

from __future__ import annotations

import logging
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from bson import ObjectId
from fireworks.core.firework import Firework, FWAction, Workflow
from fireworks.core.launchpad import LaunchPad, LockedWorkflowError

from gapfactory.errors import DatabaseError
from launchpad.database.connection import clear_database_errors, redact
from launchpad.database.entry import require_guarded, require_private_files
from launchpad.logs import event
from launchpad.queue import completion, journal, repair
from launchpad.queue.batch import BatchJob
from launchpad.queue.checkout import Taken, heartbeat, ready_query, show_running, take
from launchpad.queue.connection import ServerClock, client_options, database_name, known_identity, prepare
from launchpad.queue.guard import AllowList
from launchpad.queue.identity import ProcessIdentity
from launchpad.queue.lazy import GuardedFirework, build_firework, load_firework
from launchpad.queue.lock import WorkflowLock
from launchpad.queue.settings import QueueSettings
from launchpad.queue.spool import Spool
from launchpad.retry import is_transient_database_error, retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from fireworks.core.fworker import FWorker

    from launchpad.queue.enrolment import Enrolment
    from launchpad.queue.offer import Offer

__all__ = ["Queue"]

logger = logging.getLogger("launchpad.queue")


class Queue(LaunchPad):
    """The queue of tasks on one database.

    Parameters
    ----------
    uri
        A MongoDB URI; its path names the database (default ``gapfactory``).
    settings
        Time limits and bounds.
    allowed
        Names of tasks that may be loaded from the database.
    spool
        Directory for results that the database cannot take; without one, completion raises when its time is
        over.
    read_only
        Only to look: indexes, ids and identity are not made (the identity is empty where there is none).

    Raises
    ------
    DatabaseError
        The URI is not usable, nothing answers, or the credentials are refused.

    Notes
    -----
    One object is used by one thread for everything that changes workflows; the heartbeat may come from
    another.
    """

    def __init__(
        self,
        uri: str,
        *,
        settings: QueueSettings | None = None,
        allowed: AllowList | None = None,
        spool: Path | str | None = None,
        read_only: bool = False,
    ) -> None:
        self.settings = settings or QueueSettings()
        self.allowed = allowed or AllowList()
        self.spool = Spool(spool) if spool is not None else None
        self.uri = uri
        name = database_name(uri)
        require_private_files(uri)
        options = client_options(uri, server_selection_s=self.settings.server_selection_s)
        with clear_database_errors(uri):
            super().__init__(
                host=uri, name=name, uri_mode=True, strm_lvl="CRITICAL", mongoclient_kwargs=options
            )
            self.clock = ServerClock(self.connection)
            try:
                self.connection.admin.command("ping")
                require_guarded(self.connection, uri)
                self.database_identity = known_identity(self.db) if read_only else prepare(self.db)
                self.clock.synchronise()
            except BaseException:
                self.connection.close()
                raise
        self.journal = self.db.queue_journal
        self.retries = self.db.queue_retries
        self.leases = self.db.queue_leases
        self.workers = self.db.workers
        #: asked while a result waits for the database; True sends it to the spool at once
        self.give_up: Callable[[], bool] = lambda: False
        #: which campaigns' tasks may be run here; None: this is asked by somebody who knows what he runs
        self.enrolment: Enrolment | None = None
        #: what a task may need to be taken here; None: anything
        self.offer: Offer | None = None
        #: checkouts of this process that the loss of the database cut off
        self.interrupted: list[str] = []
        #: what this process has taken and not ended, by launch id
        self.held: dict[int, Taken] = {}
        self._launch_ids: list[int] = []
        self.locks: list[WorkflowLock] = []
        self._identity = ProcessIdentity.current()

    @classmethod
    def from_uri(
        cls,
        uri: str,
        *,
        settings: QueueSettings | None = None,
        allowed: AllowList | None = None,
        spool: Path | str | None = None,
        read_only: bool = False,
    ) -> Self:
        """Connect to a database and make sure that it is prepared; see the class for the parameters."""
        return cls(uri, settings=settings, allowed=allowed, spool=spool, read_only=read_only)

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Queue {redact(self.uri)}>"

    @property
    def identity(self) -> ProcessIdentity:
        """The calling process."""
        return self._identity

    def process_document(self) -> dict[str, Any]:
        """Return the calling process as launches record it: with its batch job, if it runs in one."""
        job = BatchJob.current()
        return {**self.identity.document(), **({} if job is None else {"job": job.document()})}

    def now(self) -> float:
        """Return the server's time, seconds since the epoch."""
        return self.clock.now()

    def moment(self) -> datetime:
        """Return the server's time of day: what a host whose own clock is wrong writes must still sort rightly."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def stamp(self) -> str:
        """Return the server's time of day as FireWorks stores it: an ISO string in UTC."""
        return self.moment().isoformat()

    def database_lost(self, error: BaseException) -> bool:
        """Return whether an error means that the database is away for now."""
        return is_transient_database_error(error)

    def add_wf(self, wf: Workflow | Firework, reassign_all: bool = True) -> dict[int, int]:
        """Add a workflow so that it is there either whole or, after a crash, is completed by the reaper.

        Returns
        -------
        dict
            New id of every Firework by its old one.
        """
        if not reassign_all:
            return dict(super().add_wf(wf, reassign_all=False))
        workflow = Workflow.from_firework(wf) if isinstance(wf, Firework) else wf
        return self._add(workflow, uuid.uuid4().hex, keep=False)

    def bulk_add_wfs(self, wfs: Iterable[Workflow | Firework]) -> None:
        """Add workflows one after the other."""
        for wf in wfs:
            self.add_wf(wf)

    def submit_once(self, wf: Workflow | Firework, key: str) -> tuple[int, ...]:
        """Add a workflow under a key that is used at most once, whoever submits it and however often.

        Returns
        -------
        tuple of int
            Ids of its Fireworks (of the first submission), ascending.
        """
        known = self.journal.find_one({"_id": f"add:{key}"})
        if known is None:
            workflow = Workflow.from_firework(wf) if isinstance(wf, Firework) else wf
            self._add(workflow, key, keep=True)
            known = self.journal.find_one({"_id": f"add:{key}"})
        elif known["kind"] == "add":
            journal.finish_additions(self, key)
        assert known is not None  # noqa: S101 - a key is never removed
        return tuple(sorted(known["ids"].values()))

    def _add(self, workflow: Workflow, key: str, *, keep: bool) -> dict[int, int]:
        for fw_id in workflow.root_fw_ids:
            workflow.id_fw[fw_id].state = "READY"
            workflow.fw_states[fw_id] = "READY"
        fireworks = sorted(workflow.id_fw.values(), key=lambda firework: firework.fw_id)
        first = self.get_new_fw_id(quantity=len(fireworks))
        ids = {firework.fw_id: first + index for index, firework in enumerate(fireworks)}
        for firework in fireworks:
            firework.fw_id = ids[firework.fw_id]
        workflow._reassign_ids(ids)
        document = {"_id": ObjectId(), **workflow.to_db_dict()}
        journal.record_addition(
            self,
            key,
            document,
            [firework.to_db_dict() for firework in fireworks],
            ids={str(old): new for old, new in ids.items()},
            keep=keep,
        )
        journal.finish_additions(self, key)
        return ids

    def append_wf(
        self, new_wf: Workflow, fw_ids: Sequence[int], detour: bool = False, pull_spec_mods: bool = True
    ) -> None:
        """Append a workflow to an existing one; unlike FireWorks, read it only after locking it."""
        with WorkflowLock(self, fw_ids[0]):
            wf = self.get_wf_by_fw_id_lzyfw(fw_ids[0])
            updated = wf.append_wf(new_wf, list(fw_ids), detour=detour, pull_spec_mods=pull_spec_mods)
            self._update_wf(wf, updated)

    def get_fw_by_id(self, fw_id: int) -> Firework:
        """Return a Firework; objects that are not on the allow-list stay inert."""
        raw = self.fireworks.find_one({"fw_id": fw_id})
        if raw is None:
            msg = f"No Firework exists with id: {fw_id}"
            raise ValueError(msg)
        return load_firework(self, raw)

    def get_wf_by_fw_id_lzyfw(self, fw_id: int) -> Workflow:
        """Return the workflow that contains a Firework, its Fireworks loaded only when needed."""
        raw = self.workflows.find_one({"nodes": fw_id})
        if raw is None:
            msg = f"Could not find a Workflow with {fw_id=}"
            raise ValueError(msg)
        return self.lazy_workflow(raw)

    def lazy_workflow(self, raw: Mapping[str, Any]) -> Workflow:
        """Return the workflow of a raw document, its Fireworks loaded only when needed."""
        return Workflow(
            [GuardedFirework(self, node) for node in raw["nodes"]],
            raw["links"],
            raw["name"],
            raw["metadata"],
            raw["created_on"],
            raw["updated_on"],
            {int(node): state for node, state in raw["fw_states"].items()},
        )

    def get_new_launch_id(self) -> int:
        """Return an unused launch id; several are set aside by one command, and those left over are never used."""
        if not self._launch_ids:
            number = self.settings.launch_ids_at_once
            counter = self.fw_id_assigner.find_one_and_update({}, {"$inc": {"next_launch_id": number}})
            if counter is None:
                msg = f"database {self.db.name!r} has lost its counter of ids (fw_id_assigner): restore a backup"
                raise DatabaseError(msg)
            first = int(counter["next_launch_id"])
            self._launch_ids = list(range(first, first + number))
        return self._launch_ids.pop(0)

    def forget_launch_ids(self) -> None:
        """Use none of the launch ids that were set aside."""
        self._launch_ids.clear()

    def take(self, fworker: FWorker, launch_dir: Path | str, *, fw_id: int | None = None) -> Taken | None:
        """Check out the next Firework without building it: what it is has not been looked at yet.

        Returns None if there is nothing to do, or if what was found is not ready any more.
        """
        query = fworker.query
        for restriction in (self.enrolment, self.offer) if fw_id is None else ():
            query = {**query, **(restriction.query() if restriction is not None else {})}
        return take(self, query, fworker, str(launch_dir), fw_id=fw_id)

    def run_exists(self, fworker: FWorker | None = None) -> bool:
        """Return whether something is ready; unlike FireWorks, looking changes nothing and builds nothing."""
        query = ready_query(fworker.query if fworker is not None else {})
        return self.fireworks.find_one(query, {"_id": 1}) is not None

    def checkout_fw(
        self,
        fworker: FWorker,
        launch_dir: str,
        fw_id: int | None = None,
        host: str | None = None,
        ip: str | None = None,
        state: str = "RUNNING",
    ) -> tuple[Firework | None, int | None]:
        """Check out the next Firework for FireWorks' launchers; refused ones are FIZZLED and passed over."""
        if state != "RUNNING" or fw_id is not None:
            # reservations belong to qlaunch, and a launcher that asks by id may be starting its reservation
            found, launch_id = super().checkout_fw(fworker, launch_dir, fw_id, host, ip, state)
            return found, launch_id
        while True:
            taken = take(self, fworker.query, fworker, launch_dir)
            if taken is None:
                return None, None
            try:
                firework = self.build(taken)
                show_running(self, taken.fw_id)
                return firework, taken.launch_id
            except PermissionError as error:
                self.refuse(taken, str(error))

    def build(self, taken: Taken) -> Firework:
        """Return the Firework of a checkout, ready to run.

        Raises
        ------
        PermissionError
            It asks for something that is not on the allow-list, its campaign is not one of this worker's, or it cannot
            be built; nothing was imported.
        """
        reason = self.allowed.refusal(taken.raw["spec"])
        if reason is None and self.enrolment is not None:
            reason = self.enrolment.refusal(taken.raw["spec"])
        if reason is not None:
            raise PermissionError(reason)
        try:
            return build_firework(self, taken.raw)
        except Exception as error:
            msg = f"it cannot be built from its document: {type(error).__name__}: {error}"
            raise PermissionError(msg) from error

    def refuse(self, taken: Taken, reason: str) -> None:
        """Leave a checked-out Firework FIZZLED because it must not, or cannot, run here."""
        message = f"refused: {reason}"
        logger.error(
            "Firework %d %s",
            taken.fw_id,
            message,
            extra=event("task.refused", fw_id=taken.fw_id, launch_id=taken.launch_id, reason=reason),
        )
        action = FWAction(stored_data=completion.failure(message), exit=True)
        self.complete_launch(taken.launch_id, action, "FIZZLED")

    def show_running(self, fw_id: int) -> None:
        """Show a Firework as running in its workflow's document, for people."""
        show_running(self, fw_id)

    def beat(self, launch_id: int, history_index: int | None = None) -> bool:
        """Say that a launch is alive; return False if the database no longer regards it as running."""
        return heartbeat(self, launch_id, history_index)

    def ping_launch(
        self, launch_id: int, ptime: datetime | None = None, checkpoint: dict[str, Any] | None = None
    ) -> None:
        """Say that a launch is alive; a missed beat is logged, not raised."""
        try:
            self.launches.update_one(
                {"launch_id": launch_id, "state": "RUNNING"}, {"$set": {"heartbeat_at": self.now()}}
            )
            super().ping_launch(launch_id, ptime, checkpoint)
        except Exception as error:
            if not self.database_lost(error):
                raise
            logger.warning(
                "heartbeat of launch %d not delivered: %s",
                launch_id,
                error,
                extra=event("heartbeat.missed", launch_id=launch_id),
            )

    def change_launch_dir(self, launch_id: int, launch_dir: str) -> None:
        """Record where a launch runs."""
        self.launches.update_one({"launch_id": launch_id}, {"$set": {"launch_dir": launch_dir}})

    def restore_backup_data(self, launch_id: int, fw_id: int) -> None:
        """Do nothing: writing back old copies would undo what others did since (FireWorks does)."""

    def complete_launch(
        self, launch_id: int, action: FWAction | None = None, state: str = "COMPLETED"
    ) -> dict[str, Any]:
        """Store the result of a launch and bring its workflow up to date; idempotent by launch id.

        An absent database is waited for, up to ``completion_limit_s``; then the result goes to the spool.

        Raises
        ------
        pymongo.errors.PyMongoError
            The database stayed away and there is no spool, or it refused the result.
        LockedWorkflowError
            Never for good: a workflow that stays locked is left to the reaper, since the result is stored.
        """
        content = action.to_dict() if action is not None else None
        moment = self.now()
        try:
            return self._complete(launch_id, content, state, moment)
        finally:
            self.held.pop(launch_id, None)

    def _complete(
        self, launch_id: int, content: dict[str, Any] | None, state: str, moment: float
    ) -> dict[str, Any]:
        while True:
            try:
                return retrying(
                    lambda: completion.complete(self, launch_id, content, state, moment),
                    limit_s=self.settings.completion_limit_s,
                    transient=lambda error: self._worth_waiting(error) and not self.give_up(),
                )
            except LockedWorkflowError as error:
                logger.warning(
                    "launch %d is stored; its workflow will be refreshed later: %s",
                    launch_id,
                    error,
                    extra=event("workflow.postponed", launch_id=launch_id),
                )
                break
            except Exception as error:
                if self.spool is None or not self.database_lost(error):
                    raise
                if self._spooled(self.spool, launch_id, state, content, moment):
                    break
                if self.give_up():
                    raise
                time.sleep(0.5)
        return {"launch_id": launch_id, "state": state}

    def _spooled(
        self, spool: Spool, launch_id: int, state: str, content: dict[str, Any] | None, moment: float
    ) -> bool:
        """Put a result on the disk; return False if that cannot take it either: then only this process has it."""
        try:
            taken = self.held.get(launch_id)
            checkout = None if taken is None else taken.token
            path = spool.put(self.database_identity, launch_id, state, content, moment, checkout)
        except OSError as error:
            logger.error(
                "neither the database nor the disk takes the result of launch %d: %s",
                launch_id,
                error,
                extra=event("spool.failed", launch_id=launch_id),
            )
            return False
        logger.warning(
            "the database is away; the result of launch %d waits in %s",
            launch_id,
            path,
            extra=event("spool.kept", launch_id=launch_id, path=path),
        )
        return True

    def _worth_waiting(self, error: BaseException) -> bool:
        return self.database_lost(error) or isinstance(error, LockedWorkflowError)

    def deliver(self, spooled: Mapping[str, Any]) -> None:
        """Store a spooled result; one whose Firework has moved on is noted and dropped."""
        launch_id, action, state = spooled["launch_id"], spooled["action"], spooled["state"]
        completion.complete(self, launch_id, action, state, spooled["moment"], spooled.get("checkout"))

    def hand_back(self, launch_id: int, reason: str, *, kind: str, delay_s: float = 0.0) -> None:
        """End a launch without a result so that its Firework runs again.

        Parameters
        ----------
        launch_id
            The launch.
        reason
            Shown to people.
        kind
            ``dead`` and ``transient`` are counted against their bounds, ``drained`` is not, nor is ``counted``: the
            task has counted it against what is to blame in it.
        delay_s
            Pause before the next try; with none, the Firework is put back at once.
        """
        moment = self.now()
        ended = completion.end_without_result(self, launch_id, reason, kind=kind, due=moment + delay_s)
        self.held.pop(launch_id, None)
        if ended and delay_s <= 0:
            repair.settle_if_free(self, launch_id)

    def repair_locked(self, lock: WorkflowLock) -> None:
        """Finish what the previous holder of the lock left half-done."""
        repair.repair_workflow(self, lock)

    def _refresh_wf(self, fw_id: int) -> None:
        """Bring the states of a workflow up to date after a change of one Firework.

        Raises
        ------
        LockedWorkflowError
            The workflow stayed locked (FireWorks swallows this).
        RuntimeError
            It cannot be computed; the Firework and the workflow are FIZZLED.
        """
        with WorkflowLock(self, fw_id):
            try:
                wf = self.get_wf_by_fw_id_lzyfw(fw_id)
                self._update_wf(wf, wf.refresh(fw_id))
            except LockedWorkflowError:
                raise
            except Exception as error:
                if self.database_lost(error):
                    raise
                self.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
                self.workflows.update_one(
                    {"nodes": fw_id}, {"$set": {"state": "FIZZLED", f"fw_states.{fw_id}": "FIZZLED"}}
                )
                msg = f"the workflow of Firework {fw_id} cannot be refreshed: {type(error).__name__}: {error}"
                raise RuntimeError(msg) from error

    def _update_wf(self, wf: Workflow, updated_ids: Iterable[int]) -> None:
        """Store changed Fireworks and their workflow as one change; the lock must be held."""
        if not self.locks:
            super()._update_wf(wf, updated_ids)
            return
        changed = sorted((wf.id_fw[fw_id] for fw_id in set(updated_ids)), key=lambda firework: firework.fw_id)
        new = [firework for firework in changed if firework.fw_id < 0]
        before: dict[int, dict[str, Any]] = {
            firework.fw_id: firework.before
            for firework in changed
            if isinstance(firework, GuardedFirework) and firework.before is not None
        }
        ids: dict[int, int] = {}
        if new:
            first = self.get_new_fw_id(quantity=len(new))
            for index, firework in enumerate(new):
                ids[firework.fw_id] = first + index
                firework.fw_id = first + index
        wf._reassign_ids(ids)
        documents = [firework.to_db_dict() for firework in changed]
        journal.apply_update(self, self.locks[-1], documents, before, wf.to_db_dict())

    def defuse_fw(self, fw_id: int, rerun_duplicates: bool = True) -> dict[str, Any] | None:
        """Keep a Firework from starting; unlike FireWorks, one that has started or ended is left alone.

        Parameters
        ----------
        fw_id
            The Firework.
        rerun_duplicates
            Without influence: nothing is run again.

        Returns
        -------
        dict or None
            The document as it was, or None if it was too late.
        """
        del rerun_duplicates
        with WorkflowLock(self, fw_id):
            found = self.fireworks.find_one_and_update(
                {"fw_id": fw_id, "state": {"$in": ["DEFUSED", "WAITING", "READY", "FIZZLED", "PAUSED"]}},
                {"$set": {"state": "DEFUSED", "updated_on": self.moment()}},
            )
            if found is None:
                return None
            workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
            self._update_wf(workflow, workflow.refresh(fw_id))
        return dict(found)

    def rerun_fw(
        self,
        fw_id: int,
        rerun_duplicates: bool = True,
        recover_launch: str | int | None = None,
        recover_mode: str | None = None,
    ) -> list[int]:
        """Run a Firework, and what followed from it, again; see FireWorks for the parameters."""
        raw = self.fireworks.find_one(
            {"fw_id": fw_id}, {"state": 1, "spec._dupefinder": 1, "spec._recovery": 1}
        )
        if raw is None:
            msg = f"FW with id: {fw_id} not found!"
            raise ValueError(msg)
        if recover_launch is not None or "_dupefinder" in raw["spec"]:
            return list(super().rerun_fw(fw_id, rerun_duplicates, recover_launch, recover_mode))
        if raw["state"] in {"ARCHIVED", "DEFUSED", "WAITING"}:
            return []
        if "_recovery" in raw["spec"]:
            self.fireworks.update_one({"fw_id": fw_id}, {"$unset": {"spec._recovery": ""}})
        with WorkflowLock(self, fw_id):
            repair.rerun_locked(self, fw_id)
        return [fw_id]
