"""Replies to retryable writes: a write sent again is answered again, not executed again."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launchpad.embedded.errors import CommandError

if TYPE_CHECKING:
    from launchpad.embedded.transaction import Transaction

__all__ = ["SESSION_MINUTES", "Replies"]

SESSION_MINUTES = 30
_MOST_SESSIONS = 20_000


@dataclass(frozen=True, slots=True)
class _Reply:
    number: int
    reply: bytes
    time: float


class Replies:
    """The last write of each session and its reply, in memory and in the journal.

    Parameters
    ----------
    rows
        What the journal holds: (session, number, reply, time), oldest first.
    """

    def __init__(self, rows: list[tuple[bytes, int, bytes, float]]) -> None:
        self._last: OrderedDict[bytes, _Reply] = OrderedDict(
            (session, _Reply(number, reply, when)) for session, number, reply, when in rows
        )

    def __len__(self) -> int:
        return len(self._last)

    def known(self, session: bytes, number: int) -> bytes | None:
        """Return the reply this write already got, or None when it is new.

        Raises
        ------
        CommandError
            Code 225 when the session has moved on to a later write.
        """
        last = self._last.get(session)
        if last is None or number > last.number:
            return None
        if number == last.number:
            return last.reply
        raise CommandError(
            225, f"retryable write with txnNumber {number} is older than {last.number}, the session's last"
        )

    def remember(self, session: bytes, number: int, reply: bytes, transaction: Transaction) -> None:
        """Store a reply in the same transaction as what it acknowledges, and drop outlived ones."""
        old = self._last.get(session)
        when = time.time()
        self._last[session] = _Reply(number, reply, when)
        self._last.move_to_end(session)
        transaction.execute(
            "INSERT INTO replies (session, number, reply, time) VALUES (?, ?, ?, ?) ON CONFLICT (session) "
            "DO UPDATE SET number = excluded.number, reply = excluded.reply, time = excluded.time",
            session,
            number,
            reply,
            when,
        )

        def undo() -> None:
            if old is None:
                del self._last[session]
            else:
                self._last[session] = old

        transaction.on_undo(undo)
        self._expire(when, transaction)

    def _expire(self, now: float, transaction: Transaction) -> None:
        """Forget sessions that a driver no longer uses; a lost undo of this only forgets earlier."""
        while self._last:
            session, oldest = next(iter(self._last.items()))
            outlived = now - oldest.time > 2 * 60 * SESSION_MINUTES
            if not outlived and len(self._last) <= _MOST_SESSIONS:
                return
            self.forget(session, transaction)

    def forget(self, session: bytes, transaction: Transaction) -> None:
        """Drop a session that its client has ended."""
        last = self._last.pop(session, None)
        if last is None:
            return
        transaction.execute("DELETE FROM replies WHERE session = ?", session)

        def undo() -> None:
            self._last[session] = last
            self._last.move_to_end(session, last=False)

        transaction.on_undo(undo)
