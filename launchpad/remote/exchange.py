"""One look at a site: bundles go there, results come back, lost bundles are put back. ``-m launchpad.remote.exchange``.

A look is one command over the open connection. Whatever it did can be done again: what arrived is known by its name,
and a result stays until it is forgotten by a later look, after it is in the database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import sys
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, get_args

from launchpad.remote.archive import BundleSettings
from launchpad.remote.depot import BUNDLE, RESULT, Depot
from launchpad.remote.errors import Kind, RemoteError
from launchpad.remote.wire import announce, receive_file, receive_header, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from launchpad.remote.settings import PushSite
    from launchpad.remote.transport import Transport

__all__ = ["NO_SPACE", "PROTOCOL", "Look", "ask", "look"]

#: Both ends must speak the same one.
PROTOCOL = 1
#: Errors that mean "no room": disk full, quota, limits of a file's size.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Look:
    """What a look at a site found.

    Parameters
    ----------
    version
        Version of gapfactory there.
    stored
        Bundles that are there now, of those that were sent.
    failed
        Why others are not.
    withdrawn
        Bundles that were taken back before they were started.
    waiting, running, refused
        Names by state; the runner of each, and what `Depot.reasons` says of each.
    results
        Results that wait there, sizes in bytes.
    fetched
        Paths of the results that came with this look.
    runners
        See `Depot.census`.
    free_mb
        Free space there (MB).
    """

    version: str
    stored: frozenset[str]
    failed: dict[str, str]
    withdrawn: frozenset[str]
    waiting: frozenset[str]
    running: dict[str, str]
    refused: dict[str, dict[str, Any]]
    results: dict[str, int]
    fetched: dict[str, Path]
    runners: tuple[dict[str, Any], ...]
    free_mb: float
    host: str = ""
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = {*self.waiting, *self.running, *self.refused, *self.results}
        object.__setattr__(self, "known", frozenset(names))

    @property
    def living(self) -> list[dict[str, Any]]:
        """Runners that are not known to be dead, and do not end."""
        return [
            entry for entry in self.runners if entry["alive"] is not False and entry.get("state") == "running"
        ]


def ask(
    transport: Transport, module: str, request: dict[str, Any], *, fields: Sequence[str]
) -> dict[str, Any]:
    """Send one request without files to a module at the site; return its answer, which has these fields.

    Raises
    ------
    RemoteError
        By kind.
    """
    request = {"protocol": PROTOCOL, "directory": transport.site.directory, **request}
    answer = transport.call(["-m", module], lambda stream: send(stream, request), receive_header)
    with _understood(transport.site):
        answer = _checked(answer)
        return {**answer, **{name: answer[name] for name in fields}}


def look(
    transport: Transport,
    *,
    bundles: Sequence[Path] = (),
    forget: Sequence[str] = (),
    withdraw: Sequence[str] = (),
    recall: Sequence[str] = (),
    into: Path,
    mine: str = "",
) -> Look:
    """Bring bundles, fetch results, and see how everything stands.

    Parameters
    ----------
    transport
        The way to the site.
    bundles
        To bring; as many as one transfer may carry.
    forget
        Names whose results are in the database, or that are of no interest any more.
    withdraw
        Names to take back if they have not been started.
    recall
        Names that their runners are to hand back, with what was done.
    into
        Directory for results.
    mine
        How names of results begin that are wanted; others belong to another database.

    Raises
    ------
    RemoteError
        By kind; parts may have been done.
    """
    site = transport.site
    limit = round(site.transfer_mb * 1e6)
    about = announce(bundles, limit=limit)
    request = {
        **_terms(site),
        "files": about,
        "forget": list(forget),
        "withdraw": list(withdraw),
        "recall": list(recall),
        "limit": limit,
        "mine": mine,
    }
    paths = {path.name: path for path in bundles}

    def receive(stream: IO[bytes]) -> Look:
        with _understood(site):
            answer = _checked(receive_header(stream))
            fetched = {}
            for entry in answer["files"]:
                target = into / _result_name(entry)
                trouble = receive_file(stream, entry, target)
                if trouble is not None:
                    raise RemoteError("space", f"a result cannot be kept here: {trouble}") from trouble
                fetched[target.name.removesuffix(RESULT)] = target
            return _as_told(answer, fetched)

    return transport.call(
        ["-m", "launchpad.remote.exchange"],
        lambda stream: send(stream, request, [paths[entry["name"]] for entry in about]),
        receive,
    )


def _result_name(entry: dict[str, Any]) -> str:
    """Return the name of a result that the site announces.

    Raises
    ------
    ValueError
        It is none, or the result is too large.
    """
    name, size = str(entry["name"]), int(entry["size"])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", name) or not name.endswith(RESULT):
        raise ValueError(f"{name[:100]!r} is no name of a result")
    if not 0 <= size <= BundleSettings().largest_bytes:
        raise ValueError(f"a result of {size} bytes")
    return name


def _as_told(answer: dict[str, Any], fetched: dict[str, Path]) -> Look:
    return Look(
        version=str(answer["version"]),
        stored=frozenset(map(str, answer["stored"])),
        failed={str(name): str(why) for name, why in answer["failed"].items()},
        withdrawn=frozenset(map(str, answer["withdrawn"])),
        waiting=frozenset(map(str, answer["waiting"])),
        running={str(name): str(runner) for name, runner in answer["running"].items()},
        refused={
            str(name): {"reason": str(about["reason"]), "died": bool(about["died"])}
            for name, about in answer["refused"].items()
        },
        results={str(name): int(size) for name, size in answer["results"].items()},
        fetched=fetched,
        runners=tuple(
            {**entry, "alive": entry["alive"], "cores": int(entry.get("cores", 1))}
            for entry in answer["runners"]
        ),
        free_mb=float(answer["free_mb"]),
        host=str(answer["host"]),
    )


@contextlib.contextmanager
def _understood(site: PushSite) -> Iterator[None]:
    """Make a RemoteError of an answer that is not of our form: what a site says must not end the push worker."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RemoteError(
            "site",
            f"what {site.name} answers cannot be understood ({type(error).__name__}: {error}): is it the same version "
            "of gapfactory?",
        ) from error


def _terms(site: PushSite) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "directory": site.directory,
        "silent_s": site.timing.silent_runner_s,
        "tries": site.timing.tries,
    }


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        kind = answer["kind"]
        raise RemoteError(kind if kind in get_args(Kind) else "site", str(answer["error"])[:2000])
    return answer


def serve(stream: IO[bytes], out: IO[bytes]) -> None:
    """Answer one look, at the site."""
    from gapfactory import __version__

    try:
        request = receive_header(stream)
        if request["protocol"] != PROTOCOL:
            raise RemoteError(
                "missing",
                f"gapfactory {__version__} on {socket.gethostname()} speaks protocol {PROTOCOL}, not "
                f"{request['protocol']}: install the same version at both ends.",
            )
        answer, files = _look(stream, request)
        answer |= {"version": __version__, "host": socket.gethostname()}
    except RemoteError as error:
        answer, files = {"kind": error.kind, "error": str(error)}, []
    except OSError as error:
        kind = "space" if error.errno in NO_SPACE else "site"
        answer, files = {"kind": kind, "error": f"{socket.gethostname()}: {error}"}, []
    send(out, answer, files)


def _look(stream: IO[bytes], request: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    depot = Depot(request["directory"])
    try:
        depot.prepare()
    except OSError as error:
        if not depot.inbox.is_dir():
            raise RemoteError(
                "space" if error.errno in NO_SPACE else "site",
                f"{depot.place} on {socket.gethostname()} cannot be used: {error}",
            ) from error
    for name in request["forget"]:
        depot.forget(name)
    withdrawn = [name for name in request["withdraw"] if depot.withdraw(name)]
    for name in request["recall"]:
        depot.recall(name)
    stored, failed = [], {}
    for about in request["files"]:
        name = str(about["name"]).removesuffix(BUNDLE)
        if not name or "/" in name or name.startswith("."):
            raise RemoteError("site", f"{about['name']!r} is no name of a bundle")
        target = depot.inbox / f"{name}{BUNDLE}"
        there = _there(depot, name)
        # read in any case: it is on its way; to a name that nobody takes, since a known one may be running already
        trouble = receive_file(stream, about, depot.place / f"double-{name}" if there else target)
        (depot.place / f"double-{name}").unlink(missing_ok=True)
        if trouble is None:
            stored.append(name)
        else:
            room = "no space" if trouble.errno in NO_SPACE else "trouble"
            failed[name] = f"{room} in {depot.place} on {socket.gethostname()}: {trouble.strerror}"
    try:
        depot.reclaim(silent_s=float(request["silent_s"]), tries=int(request["tries"]))
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        # the next look does the rest: fetching results is what makes room
        failed.setdefault("runners", f"no space in {depot.place} on {socket.gethostname()}: {error.strerror}")
    # in the order in which bundles move, and the first once more: what is put back meanwhile is not missed
    waiting = set(depot.names(depot.inbox, BUNDLE))
    running = depot.held()
    mine = str(request.get("mine", ""))
    results = [name for name in depot.names(depot.outbox, RESULT) if name.startswith(mine)]
    waiting |= set(depot.names(depot.inbox, BUNDLE))
    files = announce([depot.outbox / f"{name}{RESULT}" for name in results], limit=int(request["limit"]))
    sizes = {}
    for name in results:
        path = depot.outbox / f"{name}{RESULT}"
        sizes[name] = path.stat().st_size if path.exists() else 0
    return {
        "stored": stored,
        "failed": failed,
        "withdrawn": withdrawn,
        "waiting": sorted(waiting),
        "running": running,
        "refused": depot.reasons(),
        "results": sizes,
        "runners": depot.census(),
        "free_mb": round(shutil.disk_usage(depot.place).free / 1e6, 1),
        "files": files,
    }, [depot.outbox / entry["name"] for entry in files]


def _there(depot: Depot, name: str) -> bool:
    return (
        (depot.inbox / f"{name}{BUNDLE}").exists()
        or name in depot.held()
        or (depot.outbox / f"{name}{RESULT}").exists()
        or (depot.refused / f"{name}.json").exists()
    )


if __name__ == "__main__":
    os.umask(0o077)
    serve(sys.stdin.buffer, sys.stdout.buffer)
