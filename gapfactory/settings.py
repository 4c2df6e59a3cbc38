"""The base of every settings model: strict, frozen, documented by the text below each field."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Settings", "descriptions", "require_plain_names", "without_nulls"]


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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def digest(self) -> str:
        """Return the sha256 of the settings' canonical JSON (hex): equal settings, equal digest."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a model and of what it is made from, as one line each.

    pydantic can keep these texts itself, but reads the source of every class to do so whenever a process starts.
    """
    found: dict[str, str] = {}
    for of in reversed(model.__mro__):
        if not issubclass(of, BaseModel) or of in {BaseModel, Settings}:
            continue
        [parsed] = ast.parse(textwrap.dedent(inspect.getsource(of))).body
        for field, text in pairwise(getattr(parsed, "body", ())):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = " ".join(text.value.value.split())
    return found
