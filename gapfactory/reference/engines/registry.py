"""Which engines there are, and from settings to the engine that they configure."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, reduce
from importlib.metadata import entry_points
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference import engines as _package
from gapfactory.reference.site import load_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.reference.base import EngineInfo, PythonEngine
    from gapfactory.reference.program import ProgramEngine
    from gapfactory.reference.settings import EngineSettings
    from gapfactory.reference.site import ProgramSite

__all__ = [
    "ENTRY_POINTS",
    "ReferenceSettings",
    "calculator_of",
    "check_engine",
    "data_hashes",
    "engine_classes",
    "has_calculator",
    "make_engine",
    "parse_settings",
]

#: Entry points under which other packages offer engines.
ENTRY_POINTS = "gapfactory.engines"


@cache
def engine_classes() -> dict[str, Any]:
    """Return every engine's class by the engine's name, in the order of the alphabet.

    Raises
    ------
    MissingEngineError
        An installed package offers an engine that cannot be imported.
    """
    names = [name for _, name, _ in pkgutil.iter_modules(_package.__path__) if not name.startswith("_")]
    modules = [importlib.import_module(f"{_package.__name__}.{name}") for name in sorted(names)]
    classes = [module.ENGINE for module in modules if hasattr(module, "ENGINE")]
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            classes.append(entry.load())
        except Exception as error:
            raise MissingEngineError(
                f"the engine {entry.name!r} of the package that offers {entry.value!r} cannot be imported ({error}): "
                "mend or uninstall that package."
            ) from error
    return dict(sorted({engine.name: engine for engine in classes}.items()))


if TYPE_CHECKING:
    ReferenceSettings: TypeAlias = EngineSettings
else:
    #: Settings of any engine, told apart by `engine`.
    ReferenceSettings = Annotated[
        reduce(or_, (engine.settings_class for engine in engine_classes().values())),
        Field(discriminator="engine"),
    ]


def make_engine(settings: EngineSettings, site: ProgramSite | None = None) -> ProgramEngine | PythonEngine:
    """Return the engine of `settings`; nothing is imported or run yet.

    Parameters
    ----------
    settings
        Of any engine.
    site
        How its program is run here; None: as the site's file says.

    Raises
    ------
    InputError
        There is no engine for settings of this class, or the site's file cannot be used.
    """
    found = engine_classes().get(settings.engine)
    if found is None or not isinstance(settings, found.settings_class):
        raise InputError(
            f"no reference engine for {type(settings).__name__} with engine {settings.engine!r}: there are "
            f"{', '.join(engine_classes())}."
        )
    engine: ProgramEngine | PythonEngine = found(settings, site or load_site(settings.engine))
    return engine


def parse_settings(document: object) -> EngineSettings:
    """Return the settings of a JSON document that `model_dump` wrote.

    Raises
    ------
    pydantic.ValidationError
        The document is not one of the engines' settings.
    """
    adapter: TypeAdapter[EngineSettings] = TypeAdapter(ReferenceSettings)
    return adapter.validate_python(document)


def has_calculator(settings: EngineSettings) -> bool:
    """Return whether the engine is a potential that cells are relaxed with by the thousand, in the worker itself."""
    return hasattr(engine_classes()[settings.engine], "calculator")


def calculator_of(settings: EngineSettings) -> Any:
    """Return the ASE calculator of an engine that is a potential.

    Raises
    ------
    InputError
        It is none, or its settings cannot be used.
    MissingEngineError
        It is not installed here.
    """
    if not has_calculator(settings):
        known = ", ".join(name for name, engine in engine_classes().items() if hasattr(engine, "calculator"))
        msg = (
            f"engine {settings.engine!r} is no potential to relax random cells with (those that are: {known}): name a "
            "fitted one"
        )
        raise InputError(msg)
    engine: Any = make_engine(settings)
    return engine.calculator()


def check_engine(settings: EngineSettings, symbols: Sequence[str] = ()) -> EngineInfo:
    """Look for the engine and the data of these species here; return its version and hashes.

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


def data_hashes(settings: EngineSettings, symbols: Sequence[str]) -> dict[str, str]:
    """Return the sha256 (hex) of the data sets that the engine uses here, by species; none for an engine without.

    Raises
    ------
    MissingEngineError
        The data of a species are not installed.
    """
    from gapfactory.reference.program import ProgramEngine

    engine = make_engine(settings)
    if isinstance(engine, ProgramEngine):
        return engine.data_hashes(symbols)
    return {symbol: value for symbol, value in engine.info().hashes.items() if symbol in symbols}
