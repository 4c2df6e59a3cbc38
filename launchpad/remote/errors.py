"""What can go wrong on the way to a site, by kind, because each kind has another remedy."""

from __future__ import annotations

from typing import Literal

from gapfactory.errors import ServiceError

__all__ = ["Kind", "RemoteError"]

#: ``network`` passes by itself and is tried again; all others wait for a person, and are tried again all the same.
Kind = Literal["network", "host-key", "authentication", "missing", "space", "scheduler", "site", "local"]


class RemoteError(ServiceError):
    """A site that is reached by SSH could not do what it was asked.

    Parameters
    ----------
    kind
        What kind of trouble.
    message
        What happened and what to do.
    """

    code = "remote"

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = f"remote-{kind}"
