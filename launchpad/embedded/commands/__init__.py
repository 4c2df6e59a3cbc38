"""The commands a client can send, one function each, registered by name."""

from __future__ import annotations

from launchpad.embedded.commands import catalog, information, reads, roles, users, writes
from launchpad.embedded.commands.registry import COMMANDS, Command, Context

__all__ = ["COMMANDS", "Command", "Context", "catalog", "information", "reads", "roles", "users", "writes"]
