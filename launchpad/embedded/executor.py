"""Runs batches of commands: authorisation, exactly-once writes, durability, undo."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import bson

from launchpad.embedded.auth import Users
from launchpad.embedded.commands import COMMANDS, Context
from launchpad.embedded.commands.registry import ON_DATABASE, Command, Cursors, Peer, ServerInfo
from launchpad.embedded.errors import CommandError
from launchpad.embedded.roles import CLUSTER
from launchpad.embedded.wire import CODEC, MAX_MESSAGE, Request

if TYPE_CHECKING:
    from launchpad.embedded.store import Store

__all__ = ["Executor"]

_LOG = logging.getLogger(__name__)


class Executor:
    """Answers commands against a store. Called from one thread only: that is its lock.

    Parameters
    ----------
    store
        The data.
    info
        Facts about the server, and counters that the executor keeps.
    """

    def __init__(self, store: Store, info: ServerInfo) -> None:
        self.store = store
        self.users = Users(store)
        self.cursors = Cursors()
        self.info = info

    def execute(self, batch: list[tuple[Peer, Request]]) -> list[bytes]:
        """Run commands that arrived together and return their replies as BSON.

        All changes of the batch become durable in one commit before this returns. When that fails, all
        are undone and the commands run once more one by one, so that reads are answered from what is
        stored and each write that cannot be stored gets its own error.
        """
        replies = [self._run(peer, request) for peer, request in batch]
        try:
            self.store.commit()
        except CommandError as error:
            _LOG.error("batch of %d commands not stored: %s", len(batch), error)
            replies = [
                self._run_alone(peer, request) if self._repeatable(request) else reply
                for (peer, request), reply in zip(batch, replies, strict=True)
            ]
        return replies

    def _repeatable(self, request: Request) -> bool:
        entry = COMMANDS.get(request.name.lower())
        return entry is not None and entry.pure

    def _run_alone(self, peer: Peer, request: Request) -> bytes:
        reply = self._run(peer, request)
        try:
            self.store.commit()
        except CommandError as error:
            return _encode(error.reply())
        return reply

    def _run(self, peer: Peer, request: Request) -> bytes:
        mark = self.store.transaction.mark()
        try:
            return self._answer(peer, request)
        except CommandError as error:
            self.store.transaction.rollback(mark)
            return _encode(error.reply())
        except Exception as error:  # noqa: BLE001 - one faulty command must not end everybody's database
            self.store.transaction.rollback(mark)
            _LOG.exception("command %s failed", request.name)
            return _encode(CommandError(8, f"{request.name}: {type(error).__name__}: {error}").reply())

    def _answer(self, peer: Peer, request: Request) -> bytes:
        name, body = request.name, request.command
        entry = COMMANDS.get(name.lower())
        if entry is None:
            raise CommandError(59, f"no such command: '{name}'")
        context = Context(
            name=name,
            command=body,
            sections=request.raw_sections,
            database=str(body.get("$db", "admin")),
            peer=peer,
            store=self.store,
            users=self.users,
            cursors=self.cursors,
            info=self.info,
        )
        self.info.commands[name] = self.info.commands.get(name, 0) + 1
        self._authorise(context, entry)
        if body.get("autocommit") is False:
            raise CommandError(20, "multi-document transactions are not supported by the embedded server")
        number, session = body.get("txnNumber"), body.get("lsid")
        if number is None or not isinstance(session, dict):
            return _encode({**entry.handler(context), "ok": 1.0})
        key = context.session_key(session)
        known = self.store.replies.known(key, int(number))
        if known is not None:
            return known
        reply = _encode({**entry.handler(context), "ok": 1.0})
        self.store.replies.remember(key, int(number), reply, self.store.transaction)
        return reply

    def _authorise(self, context: Context, entry: Command) -> None:
        peer, action = context.peer, entry.action
        if action == "open" or (peer.trusted and not peer.users):
            return
        if not peer.users:
            raise CommandError(13, f"command {context.name} requires authentication")
        if action == "login":
            return
        if action == "shutdown":
            context.require(action, database=CLUSTER)
        elif action in ON_DATABASE:
            context.require(action)
        else:
            context.require(action, collection=context.collection_name())


def _encode(reply: dict[str, Any]) -> bytes:
    raw = bson.encode(reply, codec_options=CODEC)
    if len(raw) > MAX_MESSAGE - 4096:
        raise CommandError(
            10334, f"the reply has {len(raw)} bytes, more than a message holds; ask for less at once"
        )
    return raw
