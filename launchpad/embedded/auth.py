"""Users and SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from launchpad.embedded.errors import CommandError
from launchpad.embedded.roles import Kept, Privileges, Role, Roles, granted, parse_roles

if TYPE_CHECKING:
    from launchpad.embedded.store import Store

__all__ = ["MECHANISM", "Conversation", "Users", "start_conversation"]

MECHANISM: Final = "SCRAM-SHA-256"
#: The database of users that something else than a password speaks for.
OUTSIDE: Final = "$external"
_ITERATIONS: Final = 15_000


def _digest(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


def make_credentials(password: str, *, salt: bytes | None = None) -> dict[str, Any]:
    """Derive what the server stores of a password (never the password itself)."""
    from pymongo.saslprep import saslprep

    salt = salt or os.urandom(28)
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, _ITERATIONS)
    client_key = _digest(salted, b"Client Key")
    return {
        "iterationCount": _ITERATIONS,
        "salt": base64.b64encode(salt).decode(),
        "storedKey": base64.b64encode(hashlib.sha256(client_key).digest()).decode(),
        "serverKey": base64.b64encode(_digest(salted, b"Server Key")).decode(),
    }


class Users(Kept):
    """Users in ``admin.system.users``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "system.users")
        #: the roles that they may have
        self.defined = Roles(store)
        self._known: dict[tuple[tuple[str, str], ...], Privileges] = {}

    def privileges(self, users: list[tuple[str, str]]) -> Privileges:
        """Return what these users may do together; asked for every command, hence remembered."""
        key = tuple(users)
        if key not in self._known:
            self._known[key] = self.defined.privileges([role for user in users for role in self.roles(*user)])
        return self._known[key]

    def changed(self) -> None:
        """Forget what was remembered: a user or a role changes, or its change is taken back."""
        self._known.clear()
        self._store.transaction.on_undo(self._known.clear)

    def roles(self, database: str, name: str) -> list[Role]:
        """Return a user's roles; none for a user that does not exist any more."""
        user = self.get(database, name)
        return [] if user is None else granted(user)

    def create(self, database: str, name: Any, password: Any, roles: Any, custom: Any = None) -> None:
        """Add a user.

        Raises
        ------
        CommandError
            When it exists, or a name, password or role is not usable.
        """
        if not isinstance(name, str) or not name:
            raise CommandError(2, "createUser needs a nonempty name")
        outside = database == OUTSIDE
        if outside and password is not None:
            raise CommandError(
                2, f"users of {OUTSIDE} have no password here: their certificate speaks for them"
            )
        if not outside and (not isinstance(password, str) or not password):
            raise CommandError(2, "createUser needs 'pwd'")
        if self.get(database, name) is not None:
            raise CommandError(51003, f'User "{name}@{database}" already exists')
        document: dict[str, Any] = {
            "_id": f"{database}.{name}",
            "user": name,
            "db": database,
            "credentials": {"external": True} if outside else {MECHANISM: make_credentials(password)},
            "roles": parse_roles(roles, database, self.defined.exists),
        }
        self.changed()
        if custom is not None:
            document["customData"] = custom
        self._store.ensure("admin", self._kept).insert(document, self._store.transaction)

    def change(self, database: str, name: str, **changes: Any) -> None:
        """Replace a user's password (``pwd``), ``roles`` or ``customData``."""
        record = self._record(database, name)
        if record is None:
            raise CommandError(11, f"User '{name}@{database}' not found")
        document = record.copy()
        if "pwd" in changes:
            document["credentials"] = {MECHANISM: make_credentials(changes["pwd"])}
        if "roles" in changes:
            document["roles"] = parse_roles(changes["roles"], database, self.defined.exists)
        if "customData" in changes:
            document["customData"] = changes["customData"]
        self.changed()
        self._store.ensure("admin", self._kept).replace(record, document, self._store.transaction)

    def drop(self, database: str, name: str) -> None:
        """Remove a user.

        Raises
        ------
        CommandError
            When there is none of this name.
        """
        record = self._record(database, name)
        if record is None:
            raise CommandError(11, f"User '{name}@{database}' not found")
        self.changed()
        self._store.ensure("admin", self._kept).delete(record, self._store.transaction)


@dataclass(slots=True)
class Conversation:
    """A SCRAM exchange after the server's first message."""

    database: str
    user: str
    nonce: str
    auth_message: str
    stored_key: bytes
    server_key: bytes
    skip_empty: bool
    server_first: bytes
    verified: bool = False

    def finish(self, payload: bytes) -> bytes:
        """Check the client's proof and return the server's signature.

        Raises
        ------
        CommandError
            Code 18 when the proof does not fit the password.
        """
        text = payload.decode("utf-8", "replace")
        without_proof, _, proof_text = text.rpartition(",p=")
        fields = _fields(without_proof)
        message = f"{self.auth_message},{without_proof}".encode()
        try:
            proof = base64.b64decode(proof_text, validate=True)
        except ValueError:
            proof = b""
        signature = _digest(self.stored_key, message)
        key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
        right = hmac.compare_digest(hashlib.sha256(key).digest(), self.stored_key)
        if not right or fields.get("r") != self.nonce or len(proof) != 32:
            raise CommandError(18, "Authentication failed.")
        self.verified = True
        return b"v=" + base64.b64encode(_digest(self.server_key, message))


def _fields(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def start_conversation(users: Users, database: str, command: dict[str, Any]) -> Conversation:
    """Answer a client's first SCRAM message.

    A user that does not exist gets an answer like any other, with credentials nobody knows, so that
    names cannot be guessed.

    Raises
    ------
    CommandError
        For another mechanism or a malformed message.
    """
    if command.get("mechanism") != MECHANISM:
        raise CommandError(334, f"mechanism {command.get('mechanism')} is not available, only {MECHANISM}")
    text = bytes(command.get("payload", b"")).decode("utf-8", "replace")
    header, bare = text[:3], text[3:]
    fields = _fields(bare)
    if header not in ("n,,", "y,,") or "n" not in fields or not fields.get("r"):
        raise CommandError(18, "Authentication failed: malformed SCRAM message.")
    name = fields["n"].replace("=2C", ",").replace("=3D", "=")
    user = users.get(database, name)
    if user is None or MECHANISM not in user["credentials"]:
        salt = hashlib.sha256(_DECOY + f"{database}.{name}".encode()).digest()[:28]
        stored: dict[str, Any] = {
            "iterationCount": _ITERATIONS,
            "salt": base64.b64encode(salt).decode(),
            "storedKey": base64.b64encode(os.urandom(32)).decode(),
            "serverKey": base64.b64encode(os.urandom(32)).decode(),
        }
    else:
        stored = user["credentials"][MECHANISM]
    nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
    server_first = f"r={nonce},s={stored['salt']},i={stored['iterationCount']}"
    return Conversation(
        database=database,
        user=name,
        nonce=nonce,
        auth_message=f"{bare},{server_first}",
        stored_key=base64.b64decode(stored["storedKey"]),
        server_key=base64.b64decode(stored["serverKey"]),
        skip_empty=bool(command.get("options", {}).get("skipEmptyExchange")),
        server_first=server_first.encode(),
    )


_DECOY: Final = os.urandom(32)
