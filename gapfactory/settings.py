"""The base of every settings model: strict, frozen, documented by the text below each field."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


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
