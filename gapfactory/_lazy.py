"""Names of a package that are imported when they are first used.

Commands, workers and the processes of reference calculations each use little of a package, and begin often.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """Return the function ``__getattr__`` of a package whose names live in its modules (PEP 562).

    A name must not be that of a module of the package: whoever imports the module would hide it.

    Parameters
    ----------
    package
        The package: its ``__name__``.
    homes
        The names that each module defines; modules are counted from the package, as in ``"engines.registry"``.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home_of:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, value)  # found without this function from now on
        return value

    return find
