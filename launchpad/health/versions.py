"""Versions here, combinations known to fail, and whether compiled loops are kept."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.health.finding import Patient

__all__ = ["check_versions", "compiled_finding"]

_NAMES = ("gapfactory", "FireWorks", "pymongo", "custodian", "monty", "numpy", "numba", "llvmlite", "ase")


def check_versions(patient: Patient) -> Iterator[Finding]:
    """List versions and look for traps."""
    del patient
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in _NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    from gapfactory import __version__

    yield Finding(
        "versions",
        "installed",
        "ok",
        ", ".join(f"{name} {value}" for name, value in ({**found, "gapfactory": __version__}).items()),
        "",
        {**found, "gapfactory": __version__},
    )
    yield _offline()
    yield compiled_finding()


def _offline() -> Finding:
    """FireWorks 2.1.4 calls monty's zopen without a mode, which monty 2026.2.18 and later refuse."""
    import inspect
    from importlib.metadata import version

    from fireworks.core import rocket

    mode = inspect.signature(rocket.zopen).parameters.get("mode")
    needed = mode is not None and mode.default is inspect.Parameter.empty
    careless = re.search(r"\bzopen\(\s*[\w.\"']+\s*\)", inspect.getsource(rocket)) is not None
    if needed and careless:
        return Finding(
            "versions",
            "offline mode",
            "advice",
            f"FireWorks {version('FireWorks')} and monty {version('monty')}: FireWorks' own 'rlaunch --offline' ends "
            "with a TypeError (zopen without mode)",
            "nothing of gapfactory uses it; do not run 'rlaunch --offline' and 'lpad recover_offline' here, or install "
            "monty before 2026.2.18",
        )
    return Finding("versions", "offline mode", "ok", "FireWorks' offline mode works with this monty")


def compiled_finding() -> Finding:
    """Look whether compiled loops are kept, for this or another type of CPU."""
    from gapfactory._compile_cache import directories
    from gapfactory.compiled import kernels

    places = [str(path) for path in directories()]
    names = {getattr(function, "__name__", "") for _, function in kernels()}
    kept: set[str] = set()
    for directory in directories():
        if directory.is_dir():
            kept |= {path.name.rpartition("-")[0] for path in directory.glob("*.gfc")}
    writable = any(os.access(_existing(path), os.W_OK) for path in directories())
    data = {"functions": len(names), "kept": len(names & kept), "directories": places, "writable": writable}
    if os.environ.get("NUMBA_DISABLE_JIT") not in {None, "", "0"}:
        return Finding(
            "versions",
            "compiled loops",
            "failed",
            "NUMBA_DISABLE_JIT is set: every loop runs in the interpreter, a hundred times slower",
            "unset NUMBA_DISABLE_JIT",
            data,
        )
    # a few functions are only called by others and are kept within these
    if not names & kept:
        return Finding(
            "versions",
            "compiled loops",
            "advice" if writable else "failed",
            f"none is kept in {' or '.join(places)}"
            + (
                ""
                if writable
                else ", and none of these can be written: every process compiles for up to a minute"
            ),
            "run 'python -m gapfactory.compiled' once per type of CPU"
            + ("" if writable else ", and set NUMBA_CACHE_DIR to a directory that can be written"),
            data,
        )
    return Finding(
        "versions",
        "compiled loops",
        "ok",
        f"{len(names & kept)} of {len(names)} compiled functions are kept (the others are compiled within them)",
        "",
        data,
    )


def _existing(path: os.PathLike[str]) -> str:
    """Return the nearest directory above a path that exists."""
    from pathlib import Path

    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    return str(place)
