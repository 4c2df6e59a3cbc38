"""Where an instance lives: its files, its socket, and which file systems it refuses."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gapfactory.errors import DatabaseError

__all__ = ["Locations", "check_file_system", "file_system_of", "is_network", "locations"]

# Length of sun_path on Linux, less the final zero.
_LONGEST_SOCKET = 107
_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "beegfs",
        "gpfs",
        "ceph",
        "glusterfs",
        "afs",
        "panfs",
        "9p",
    }
)
_NETWORK_PREFIXES = (
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.beegfs",
    "fuse.gpfs",
)


@dataclass(frozen=True, slots=True)
class Locations:
    """Paths of one instance, all following from its data directory."""

    data_dir: Path
    socket: Path

    @property
    def journal(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "embedded.sqlite"

    @property
    def lock(self) -> Path:
        """Locked by the running server; holds its pid."""
        return self.data_dir / "server.lock"

    @property
    def start_lock(self) -> Path:
        """Locked by whoever is starting a server."""
        return self.data_dir / "start.lock"

    @property
    def address(self) -> Path:
        """How to reach the server (mode 0600: it may hold a password)."""
        return self.data_dir / "server.json"

    @property
    def password(self) -> Path:
        """Password of the user ``gapfactory`` (mode 0600)."""
        return self.data_dir / "password"

    @property
    def log(self) -> Path:
        """What the detached server writes."""
        return self.data_dir / "server.log"


def locations(data_dir: Path | str) -> Locations:
    """Derive an instance's paths and make its data directory (mode 0700).

    Raises
    ------
    DatabaseError
        When the directory cannot be made private, or lies on a network file system.
    """
    path = Path(data_dir).expanduser().resolve()
    private_directory(path)
    check_file_system(path)
    socket = path / "mongo.sock"
    # pymongo compares addresses in lower case; a path that is too long does not fit the kernel's field.
    if len(os.fsencode(socket)) > _LONGEST_SOCKET or str(socket) != str(socket).lower():
        runtime = _runtime_directory()
        socket = runtime / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.sock"
    return Locations(path, socket)


def _runtime_directory() -> Path:
    """Return a private directory with a short name, the same for every process of this user."""
    base = Path(tempfile.gettempdir()) if len(tempfile.gettempdir()) < 40 else Path("/tmp")  # noqa: S108
    path = base / f"gapfactory-{os.getuid()}"
    private_directory(path)
    return path


def private_directory(path: Path) -> None:
    """Make a directory that only this user can enter.

    Raises
    ------
    DatabaseError
        When it belongs to somebody else, is a link, or others may enter it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode) or not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise DatabaseError(f"{path} must be a directory of your own; choose another data directory.")
        if info.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise DatabaseError(
            f"{path} cannot be used as a private directory: {error}. Choose another one."
        ) from error


def check_file_system(path: Path, mounts: str | None = None) -> None:
    """Refuse directories on network file systems, where locks and SQLite's log cannot be relied on.

    Parameters
    ----------
    path
        An existing directory.
    mounts
        Text of a mount table; /proc/self/mounts when None.

    Raises
    ------
    DatabaseError
        Naming the file system and the remedy.
    """
    best, kind = file_system_of(path, mounts)
    if is_network(kind):
        raise DatabaseError(
            f"{path} lies on {best}, a network file system ({kind}), where the embedded database could lose data. "
            "Choose a directory on a local disk (for example under /var/tmp or a node-local scratch), or use a "
            "MongoDB server and give its URI."
        )


def is_network(kind: str) -> bool:
    """Return whether a file system of this type is on other machines."""
    return kind in _NETWORK or kind.startswith(_NETWORK_PREFIXES)


def file_system_of(path: Path, mounts: str | None = None) -> tuple[str, str]:
    """Return mount point and type of the file system of a directory; empty texts where it cannot be told.

    Parameters
    ----------
    path
        An absolute path.
    mounts
        Text of a mount table; /proc/self/mounts when None.
    """
    if mounts is None:
        table = Path("/proc/self/mounts")
        if not table.exists():
            return "", ""
        mounts = table.read_text(encoding="utf-8", errors="surrogateescape")
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = (
            fields[1].encode("latin-1", "ignore").decode("unicode_escape") if "\\" in fields[1] else fields[1]
        )
        inside = path == Path(point) or Path(point) in path.parents
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return best, kind
