"""The base of every settings model: strict, frozen, documented by the text below each field."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Settings", "require_plain_names", "without_nulls"]


def without_nulls(value: Any) -> Any:
    """Return a mapping without its entries that are null: so a file takes one of a preset away."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def require_plain_names(names: Iterable[str]) -> None:
    """Refuse names that keys of the database, tasks and files cannot be made of.

    Raises
    ------
    ValueError
        One is longer than 32 characters or has others than letters, digits, dash and underscore.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
            msg = f"{name!r} is no name: take letters, digits, dash and underscore"
            raise ValueError(msg)


class Settings(BaseModel):
    """Strict, immutable settings: an unknown key is an error, and the text below a field is its description.

    Each part of the science keeps its own settings next to its code, and the campaign file is composed of them,
    so that every default has one home.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def digest(self) -> str:
        """Return the sha256 of the settings' canonical JSON (hex): equal settings, equal digest."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
