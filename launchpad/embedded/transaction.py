"""What one batch of commands changes: for the journal, and for undoing it in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchpad.embedded.collection import Collection, Record

__all__ = ["Transaction"]

Statement = tuple[str, tuple[Any, ...]]
# not INSERT OR REPLACE, which would also take the row out of the index on namespaces and enter it again
_PUT = (
    "INSERT INTO documents (row, namespace, document) VALUES (?, ?, ?) "
    "ON CONFLICT (row) DO UPDATE SET document = excluded.document"
)
_DELETE = "DELETE FROM documents WHERE row = ?"


class Transaction:
    """Changes that are in memory but not yet durable.

    Parameters
    ----------
    first_row
        Number for the next new document.
    """

    def __init__(self, first_row: int) -> None:
        self.statements: list[Statement] = []
        self.disordered: set[Collection] = set()
        self._undo: list[Callable[[], None]] = []
        self._next_row = first_row

    def next_row(self) -> int:
        """Take a number for a new document. Numbers of undone inserts are not used again."""
        self._next_row += 1
        return self._next_row - 1

    def put(self, collection: Collection, old: Record | None, new: Record | None) -> None:
        """Journal a record's new version, or its removal."""
        if new is not None:
            self.statements.append((_PUT, (new.row, collection.number, new.raw)))
        elif old is not None:
            self.statements.append((_DELETE, (old.row,)))

    def execute(self, sql: str, *parameters: Any) -> None:
        """Journal any other statement."""
        self.statements.append((sql, parameters))

    def on_undo(self, action: Callable[[], None]) -> None:
        """Remember how to take back the change just made in memory."""
        self._undo.append(action)

    def mark(self) -> tuple[int, int]:
        """Return the present point, for `rollback`."""
        return len(self.statements), len(self._undo)

    def rollback(self, mark: tuple[int, int] = (0, 0)) -> None:
        """Take back everything since `mark`, in memory and for the journal."""
        statements, undo = mark
        while len(self._undo) > undo:
            self._undo.pop()()
        del self.statements[statements:]
        for collection in self.disordered:
            collection.restore_order()
        self.disordered.clear()

    def clear(self) -> None:
        """Forget the changes: they are durable now."""
        self.statements.clear()
        self._undo.clear()
