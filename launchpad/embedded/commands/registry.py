"""How commands are declared and what they are given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.values import is_number, is_whole

if TYPE_CHECKING:
    from launchpad.embedded.auth import Conversation, Users
    from launchpad.embedded.collection import Collection
    from launchpad.embedded.roles import Privileges
    from launchpad.embedded.store import Store
    from launchpad.embedded.transaction import Transaction

__all__ = ["COMMANDS", "ON_DATABASE", "Command", "Context", "Cursors", "Peer", "ServerInfo", "command"]

Handler = Callable[["Context"], dict[str, Any]]


@dataclass
class Peer:
    """The other end of one connection.

    Attributes
    ----------
    address
        How clients address this server over this connection: ``host:port`` or a socket path.
    trusted
        Whether the peer may act as root without a password (same user on a private Unix socket).
    users
        Users that have authenticated, as (database, name).
    conversation
        A SCRAM exchange under way.
    """

    address: str
    number: int
    trusted: bool = False
    users: list[tuple[str, str]] = field(default_factory=list)
    conversation: Conversation | None = None
    conversation_id: int = 0


class Cursors:
    """Results that clients have not fetched yet. They hold immutable records, hence a snapshot."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, str, list[Any]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, namespace: str, owner: str, rest: list[Any]) -> int:
        """Keep what is left of a result and return the cursor's id."""
        while True:
            number = random.getrandbits(62) + 1
            if number not in self._open:
                break
        self._open[number] = (namespace, owner, rest)
        return number

    def take(self, number: int, owner: str) -> tuple[str, list[Any]]:
        """Remove a cursor and return its namespace and documents.

        Raises
        ------
        CommandError
            Code 43 when there is no such cursor of this owner.
        """
        namespace, whose, rest = self._open.get(number, ("", "", []))
        if number not in self._open or whose != owner:
            raise CommandError(43, f"cursor id {number} not found")
        del self._open[number]
        return namespace, rest

    def put_back(self, number: int, namespace: str, owner: str, rest: list[Any]) -> None:
        """Keep a cursor under the id it had."""
        self._open[number] = (namespace, owner, rest)

    def trim(self, most: int) -> None:
        """Close the oldest cursors beyond `most`: their clients have gone or forgotten them."""
        while len(self._open) > most:
            del self._open[next(iter(self._open))]


@dataclass
class ServerInfo:
    """Facts about the running server."""

    started: float
    data_dir: str
    connections: Callable[[], int]
    commands: dict[str, int] = field(default_factory=dict)
    request_stop: Callable[[], None] = lambda: None


@dataclass
class Context:
    """One command with everything it may need."""

    name: str
    command: dict[str, Any]
    sections: dict[str, list[bytes]]
    database: str
    peer: Peer
    store: Store
    users: Users
    cursors: Cursors
    info: ServerInfo

    @property
    def transaction(self) -> Transaction:
        """The transaction all changes go through."""
        return self.store.transaction

    @property
    def owner(self) -> str:
        """Whom a cursor belongs to."""
        if self.peer.users:
            return str(sorted(self.peer.users))
        return "trusted" if self.peer.trusted else "anonymous"

    def session_key(self, session: dict[str, Any]) -> bytes:
        """Return what a session's replies are kept under; sessions of two users never meet.

        Raises
        ------
        CommandError
            The session has no identity: nothing is made of a number, which would be that many bytes.
        """
        identity = session.get("id")
        if not isinstance(identity, bytes):
            raise CommandError(14, f"'lsid' must hold an 'id' of binary data, not {identity!r}")
        return self.owner.encode() + b"\0" + identity

    def collection_name(self, key: str | None = None) -> str:
        """Return the collection the command is about.

        Raises
        ------
        CommandError
            When it is not a usable name.
        """
        name = self.command.get(key or self.name)
        if not isinstance(name, str) or not name:
            raise CommandError(73, f"'{key or self.name}' must be a collection name, not {name!r}")
        return name

    def collection(self) -> Collection | None:
        """Return the collection the command is about, or None when it does not exist."""
        return self.store.get(self.database, self.collection_name())

    @property
    def free(self) -> bool:
        """Whether the peer acts as root without a password."""
        return self.peer.trusted and not self.peer.users

    @property
    def privileges(self) -> Privileges:
        """What the users of this connection may do together."""
        return self.users.privileges(self.peer.users)

    def may(self, action: str, database: str, collection: str = "") -> bool:
        """Tell whether the peer may do something with a collection, or a database where `collection` is empty."""
        return self.free or self.privileges.allows(action, database, collection)

    def require(self, action: str, *, database: str | None = None, collection: str = "") -> None:
        """Refuse the command unless the peer may do this.

        Raises
        ------
        CommandError
            Code 13, in MongoDB's words.
        """
        if not self.may(action, self.database if database is None else database, collection):
            target = self.command.get(self.name)
            shown = f'"{target}"' if isinstance(target, str) else target if is_number(target) else "..."
            raise CommandError(
                13, f"not authorized on {self.database} to execute command {{ {self.name}: {shown} }}"
            )

    def documents(self, key: str) -> list[Any]:
        """Return documents, from a document sequence (as BSON) or from a list of the body."""
        if key in self.sections:
            return self.sections[key]
        value = self.array(key)
        if wrong := [item for item in value if not isinstance(item, dict)]:
            raise CommandError(14, f"'{key}' must be an array of documents, not of {wrong[0]!r}")
        return value

    def array(self, key: str) -> list[Any]:
        """Return a list argument of the body."""
        value = self.command.get(key, [])
        if not isinstance(value, list):
            raise CommandError(14, f"'{key}' must be an array")
        return value

    def whole(self, key: str, default: int = 0) -> int:
        """Return an integer argument."""
        value = self.command.get(key)
        if value is None:
            return default
        if not is_whole(value):
            raise CommandError(14, f"'{key}' must be an integer, not {value!r}")
        return int(value)


@dataclass(frozen=True)
class Command:
    """A registered command.

    Attributes
    ----------
    handler
        The function that answers it.
    action
        ``open`` needs nothing, ``login`` any user (the command itself asks for more); else MongoDB's name of what must
        be allowed: on the command's collection, or on its database for actions in `ON_DATABASE`.
    pure
        Whether it can be run again after the batch it was in could not be stored.
    """

    handler: Handler
    action: str
    pure: bool


COMMANDS: dict[str, Command] = {}

#: Actions on a database as a whole.
ON_DATABASE = frozenset(
    {"dbStats", "dropDatabase", "createUser", "dropUser", "createRole", "dropRole", "revokeRole", "viewUser"}
)


def command(*names: str, action: str, pure: bool = True) -> Callable[[Handler], Handler]:
    """Register a function under one or more command names (compared without regard to case)."""

    def register(handler: Handler) -> Handler:
        for name in names:
            COMMANDS[name.lower()] = Command(handler, action, pure)
        return handler

    return register
