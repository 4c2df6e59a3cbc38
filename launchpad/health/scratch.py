"""Directories: are they there, can they be written, is there room, and are they on a local disk."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launchpad.health.finding import HealthSettings, Patient

__all__ = ["check_scratch", "judge_directory"]

#: Bytes that are written to see whether writing works; more than a file system keeps back for small files.
_PROBE = b"gapfactory doctor\n" * 4096


def check_scratch(patient: Patient) -> Iterator[Finding]:
    """Look at the workers' directory, the local server's, and the cache of potentials."""
    from launchpad.database.potentials import cache_directory

    settings = patient.settings
    yield judge_directory("workers", patient.scratch, settings, variable="GAPFACTORY_SCRATCH", local=True)
    if patient.located is None or patient.located.data is not None:
        yield judge_directory("local server", patient.data, settings, variable="GAPFACTORY_DATA", local=True)
    yield judge_directory("cache", cache_directory(), settings, variable="GAPFACTORY_CACHE", local=False)


def judge_directory(
    subject: str, path: Path, settings: HealthSettings, *, variable: str, local: bool
) -> Finding:
    """Judge one directory by writing a file into it.

    Parameters
    ----------
    subject
        What it is for.
    path
        The directory; one that is still to be made is judged by the nearest that exists above it.
    settings
        How much space is enough.
    variable
        Environment variable that names another place.
    local
        Whether it has to be on a local disk.
    """
    from launchpad.embedded.locations import file_system_of, is_network

    place = path.resolve()
    while not place.is_dir() and place != place.parent:
        if place.exists():
            return _finding(subject, "failed", f"{path}: {place} is no directory", variable, {})
        place = place.parent
    room = os.statvfs(place)
    free_gb = room.f_bavail * room.f_frsize / 1e9
    point, kind = file_system_of(place)
    data: dict[str, Any] = {
        "path": str(path),
        "exists": path.is_dir(),
        "free_gb": round(free_gb, 3),
        "file_system": kind,
        "network": is_network(kind),
    }
    there = f"{path}{'' if path.is_dir() else ' (not made yet)'}"
    text = f"{there}: {free_gb:.1f} GB free on {point} ({kind or 'unknown file system'})"
    trouble = _write(place)
    if trouble:
        return _finding(subject, "failed", f"{text}; it cannot be written: {trouble}", variable, data)
    # some file systems have no fixed number of files
    if room.f_files and room.f_favail < 1000:
        return _finding(
            subject, "failed", f"{text}; only {room.f_favail} more files can be made", variable, data
        )
    if free_gb < settings.free_failed_gb:
        return _finding(subject, "failed", f"{text}: a result could not be stored", variable, data)
    if free_gb < settings.free_advice_gb:
        return _finding(subject, "advice", f"{text}: little for DFT's files", variable, data)
    if local and is_network(kind):
        return Finding(
            "scratch",
            subject,
            "advice",
            f"{text}: on other machines",
            f"name a directory on a local disk by {variable}: locks and SQLite need it, and DFT codes are slow "
            "elsewhere",
            data,
        )
    if local and kind in {"tmpfs", "ramfs"}:
        return Finding(
            "scratch",
            subject,
            "advice",
            f"{text}: in memory",
            f"name a directory on a disk by {variable}: what is here, undelivered results too, is gone after a reboot",
            data,
        )
    return Finding("scratch", subject, "ok", text, "", data)


def _finding(subject: str, verdict: Any, found: str, variable: str, data: dict[str, Any]) -> Finding:
    remedy = f"make room or correct the rights there, or name another directory by {variable}"
    return Finding("scratch", subject, verdict, found, remedy, data)


def _write(place: Path) -> str:
    """Write, synchronise and remove a small file; return what went wrong."""
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".gapfactory-doctor-") as stream:
            stream.write(_PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""
