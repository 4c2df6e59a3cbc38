"""Who may read our secrets, who may change what workers run, and what this user may do in the database."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.database.privileges import mongo_role
from launchpad.health.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launchpad.health.finding import Patient

__all__ = ["check_permissions", "judge_file", "judge_roles"]

#: A password in a MongoDB URI, or as FireWorks and others write it.
_SECRET = re.compile(
    rb"://[^/\s:@]+:[^\s@]+@"
    rb"|\b\w*(?:password|secret|token)[\"']?[ \t]*[:=][ \t]*(?!null\b|none\b|~)[\"']?[^\s\"'{}\[\],]",
    re.IGNORECASE,
)

#: No configuration is longer.
_LONGEST = 1_000_000

_WORK = {mongo_role("owner"), mongo_role("member"), mongo_role("worker"), "readWriteAnyDatabase", "root"}
_BEFORE = {"readWrite", "dbOwner"}
_LOOK = {mongo_role("viewer"), "read", "readAnyDatabase"}
_TOO_MUCH = {
    "root",
    "readWriteAnyDatabase",
    "userAdminAnyDatabase",
    "dbAdminAnyDatabase",
    "clusterAdmin",
    "__system",
}


def check_permissions(patient: Patient) -> Iterator[Finding]:
    """Look at files, the command line and the user's roles."""
    findings = [judge_file(path, always=secret) for path, secret in _files(patient) if path.is_file()]
    wrong = [finding for finding in findings if finding.verdict != "ok"]
    yield from wrong
    if not wrong:
        yield Finding(
            "permissions",
            "files",
            "ok",
            f"{len(findings)} files with settings or secrets are closed to others",
            "",
            {"files": len(findings)},
        )
    if any(re.search(r"://[^/\s:@]+:[^\s@]+@", word) for word in patient.arguments):
        yield Finding(
            "permissions",
            "command line",
            "advice",
            "the password is on the command line, where every user of this machine can see it in the list of processes",
            "put the URI into a file that GAPFACTORY_DB_FILE names, or into GAPFACTORY_DB, instead of --db",
        )
    if patient.database is not None and patient.located is not None:
        status = patient.database.client.admin.command("connectionStatus")["authInfo"]
        roles = [(str(r["role"]), str(r["db"])) for r in status.get("authenticatedUserRoles", [])]
        yield judge_roles(
            roles,
            patient.database.name,
            logged_in=bool(status.get("authenticatedUsers")),
            private=patient.located.kind != "given",
        )


def _files(patient: Patient) -> list[tuple[Path, bool]]:
    """Return the files to look at, and whether they are secret whatever they hold."""
    home = Path.home()
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    data = patient.data
    named = [os.environ.get(name) for name in ("GAPFACTORY_SITE", "FW_CONFIG_FILE")]
    plain = [
        *(Path(text) for text in named if text),
        configuration / "gapfactory" / "site.toml",
        data / "my_launchpad.yaml",
        *(place / name for place in (Path.cwd(), home / ".fireworks") for name in _FIREWORKS),
    ]
    secret = [
        data / "password",
        data / "server.json",
        data / "mongod" / "state.json",
        data / "mongod" / "keyfile",
        *sorted((patient.scratch / "spool").glob("launch-*.json")),
    ]
    chosen: dict[Path, bool] = {}
    for path, always in [*((path, False) for path in plain), *((path, True) for path in secret)]:
        chosen[path.absolute()] = always
    return sorted(chosen.items())


_FIREWORKS = ("my_launchpad.yaml", "my_fworker.yaml", "my_qadapter.yaml", "FW_config.yaml")


def judge_file(path: Path, *, always: bool = False) -> Finding:
    """Judge who may read and change a file.

    Parameters
    ----------
    path
        A configuration file.
    always
        Whether it is secret whatever it holds; else its text is searched for passwords.
    """
    state = path.stat()
    mode = stat.S_IMODE(state.st_mode)
    subject, text = f"file {path.name}", f"{path} (mode {mode:04o})"
    data: dict[str, Any] = {"path": str(path), "mode": f"{mode:04o}"}
    if mode & stat.S_IWOTH:
        return Finding(
            "permissions",
            subject,
            "failed",
            f"{text} can be changed by every user here, and decides what runs or which database is used",
            f"chmod go-w {path}",
            data,
        )
    secret = bool(mode & (stat.S_IRGRP | stat.S_IROTH)) and (always or _holds_secret(path))
    if secret and mode & stat.S_IROTH and _others_reach(path):
        return Finding(
            "permissions",
            subject,
            "failed",
            f"{text} holds a secret that every user here can read",
            f"chmod 600 {path}, and change the password: it may have been read",
            data,
        )
    if secret:
        who = "its group can read" if mode & stat.S_IRGRP else "only its directory protects"
        return Finding(
            "permissions", subject, "advice", f"{text} holds a secret that {who}", f"chmod 600 {path}", data
        )
    if mode & stat.S_IWGRP:
        return Finding(
            "permissions",
            subject,
            "advice",
            f"{text} can be changed by its group, and decides what runs or which database is used",
            f"chmod g-w {path}, unless the group is yours alone or looks after the site",
            data,
        )
    return Finding("permissions", subject, "ok", text, "", data)


def _holds_secret(path: Path) -> bool:
    if not os.access(path, os.R_OK):
        return False  # what is closed to this user is judged by whoever it is open to
    with path.open("rb") as stream:
        return _SECRET.search(stream.read(_LONGEST)) is not None


def _others_reach(path: Path) -> bool:
    """Return whether every directory above a file can be entered by others."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def judge_roles(
    roles: Sequence[tuple[str, str]], database: str, *, logged_in: bool, private: bool
) -> Finding:
    """Judge what the user may do.

    Parameters
    ----------
    roles
        (role, database) as the server says.
    database
        Name of the database that is used.
    logged_in
        Whether somebody is logged in.
    private
        Whether the server belongs to this user alone.
    """
    here = {role for role, where in roles if where in {database, "admin"}}
    shown = ", ".join(f"{role}@{where}" for role, where in roles) or "none"
    data = {"roles": [f"{role}@{where}" for role, where in roles]}
    if not logged_in:
        found = "nobody is logged in: the server decides nothing (see database, entry)"
        return Finding("permissions", "roles", "ok", found, "", data)
    if not private and here & _TOO_MUCH:
        return Finding(
            "permissions",
            "roles",
            "advice",
            f"this user may do more than its own database needs: {shown}",
            f"make users with roles on {database!r} alone: 'gapfactory db users add {database} NAME --role ROLE'",
            data,
        )
    if not private and here & _BEFORE:
        return Finding(
            "permissions",
            "roles",
            "advice",
            f"this user has a role of an earlier version, which allows more than the work needs: {shown}",
            f"an owner of the group runs 'gapfactory db users upgrade {database}'",
            data,
        )
    if here & (_WORK | _BEFORE):
        return Finding("permissions", "roles", "ok", f"this user may work: {shown}", "", data)
    if mongo_role("dashboard") in here:
        found = f"this user is a dashboard's: it shows the group and acts for people: {shown}"
        return Finding("permissions", "roles", "ok", found, "", data)
    if here & _LOOK:
        return Finding(
            "permissions",
            "roles",
            "advice",
            f"this user may only look: {shown}",
            f"workers need the role worker of {database!r}, 'campaign submit' the role member",
            data,
        )
    return Finding(
        "permissions",
        "roles",
        "advice",
        f"it cannot be told from these roles what this user may do: {shown}",
        f"workers need the role worker of {database!r}",
        data,
    )
