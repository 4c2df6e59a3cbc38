"""Errors of the wire protocol: what a client sees, with MongoDB's own numbers and names."""

from __future__ import annotations

from typing import Any

__all__ = ["CommandError", "StorageFullError"]

_NAMES = {
    2: "BadValue",
    9: "FailedToParse",
    11: "UserNotFound",
    13: "Unauthorized",
    14: "TypeMismatch",
    17: "ProtocolError",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    26: "NamespaceNotFound",
    27: "IndexNotFound",
    28: "PathNotViable",
    31: "RoleNotFound",
    40: "ConflictingUpdateOperators",
    43: "CursorNotFound",
    48: "NamespaceExists",
    49: "InvalidRoleModification",
    50: "MaxTimeMSExpired",
    54: "NotSingleValueField",
    59: "CommandNotFound",
    66: "ImmutableField",
    67: "CannotCreateIndex",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    85: "IndexOptionsConflict",
    86: "IndexKeySpecsConflict",
    115: "CommandNotSupported",
    121: "DocumentValidationFailure",
    225: "TransactionTooOld",
    238: "NotImplemented",
    334: "MechanismUnavailable",
    10334: "BSONObjectTooLarge",
    11000: "DuplicateKey",
    14031: "OutOfDiskSpace",
    51002: "RoleAlreadyExists",
    51003: "UserAlreadyExists",
}


class CommandError(Exception):
    """A command, or one statement of a write command, is refused.

    Parameters
    ----------
    code
        MongoDB's error number.
    message
        What the client reads; names the value and the remedy.
    details
        Further fields of the error document (``keyPattern`` ...).
    """

    def __init__(self, code: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @property
    def code_name(self) -> str:
        """MongoDB's name for the code."""
        return _NAMES.get(self.code, f"Location{self.code}")

    def reply(self) -> dict[str, Any]:
        """Return the error as the reply document of a command."""
        return {
            "ok": 0.0,
            "errmsg": self.message,
            "code": self.code,
            "codeName": self.code_name,
            **self.details,
        }

    def write_error(self, index: int) -> dict[str, Any]:
        """Return the error as one entry of ``writeErrors``."""
        return {"index": index, "code": self.code, "errmsg": self.message, **self.details}


class StorageFullError(CommandError):
    """The change could not be made durable; nothing of it remains in memory either."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            14031,
            f"the change was not stored: {reason}. Nothing already stored is affected. "
            "Free space on the file system of the data directory and repeat the operation.",
        )
