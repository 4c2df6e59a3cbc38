"""From settings to the engine that they configure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from gapfactory.errors import InputError
from gapfactory.reference.settings import AseSettings, EngineSettings, GpawSettings, ReferenceSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.reference.base import Engine, EngineInfo

__all__ = ["check_engine", "make_engine", "parse_settings"]


def make_engine(settings: EngineSettings) -> Engine:
    """Return the engine of `settings`; nothing is imported or run yet.

    Raises
    ------
    InputError
        There is no engine for settings of this class.
    """
    if isinstance(settings, GpawSettings):
        from gapfactory.reference.gpaw import GpawEngine

        return GpawEngine(settings)
    if isinstance(settings, AseSettings):
        from gapfactory.reference.ase_engine import AseEngine

        return AseEngine(settings)
    raise InputError(f"no reference engine for {type(settings).__name__}: use GpawSettings or AseSettings.")


def parse_settings(document: object) -> EngineSettings:
    """Return the settings of a JSON document that `model_dump` wrote.

    Raises
    ------
    pydantic.ValidationError
        The document is not one of the engines' settings.
    """
    adapter: TypeAdapter[EngineSettings] = TypeAdapter(ReferenceSettings)
    return adapter.validate_python(document)


def check_engine(settings: EngineSettings, symbols: Sequence[str] = ()) -> EngineInfo:
    """Import the engine in this process, look for the data of these species, return its version and hashes.

    Raises
    ------
    MissingEngineError
        The code or its data are not installed.
    InputError
        The settings name something that cannot be used.
    """
    engine = make_engine(settings)
    info = engine.info()
    engine.require(symbols)
    return info
