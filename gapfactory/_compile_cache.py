"""Where compiled loops are kept: one file for each function, signature, CPU and state of the sources.

numba's own cache keeps an index beside its data. Two processes that compile different signatures of a function
at the same time can write the data of one under the index entry of the other; a changed function is not noticed
by its callers in other files; and a full cache in a directory that cannot be written is not even looked at.
Here the name of a file is the digest of everything that it depends on, so there is no index to disagree with,
files are replaced in one step, and directories that can only be read are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
from numba.core import caching as _caching
from numba.core import serialize as _serialize

__all__ = ["KernelCache", "directories"]

# numba's own packing of compiled code; neither module is typed throughout
caching: Any = _caching
serialize: Any = _serialize
config: Any = numba.config
_LOG = logging.getLogger("gapfactory")
_PACKAGE = Path(__file__).parent


def directories() -> tuple[Path, ...]:
    """Return the directories of the cache: all are read, the first that can be written is written.

    `NUMBA_CACHE_DIR` alone if it is set, otherwise the package's own `__pycache__` and the user's cache.
    """
    if config.CACHE_DIR:
        return (Path(config.CACHE_DIR) / "gapfactory",)
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        user = Path(home) if home else Path.home() / ".cache"
    except RuntimeError:  # no home directory is known
        return (_PACKAGE / "__pycache__" / "compiled",)
    return (_PACKAGE / "__pycache__" / "compiled", user / "gapfactory" / "compiled")


@cache
def sources_digest(module: str) -> str:
    """Return a digest of a compiled module, of those that it imports, and of the compilers' versions."""
    from gapfactory.compiled import KERNELS

    source = _PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    tools = f"{sys.implementation.cache_tag} {version('numba')} {version('llvmlite')}"
    # What numba's own cache overlooks: settings of the environment that change the code.
    tools += f" {config.OPT} {config.BOUNDSCHECK} {config.DEBUGINFO_DEFAULT}"
    digest = hashlib.sha256(f"{tools} {source}".encode())
    for name in re.findall(r"^from (gapfactory\.\S+) import", source, re.MULTILINE):
        if name in KERNELS:
            digest.update(sources_digest(name).encode())
    return digest.hexdigest()


@cache
def _complain() -> None:
    _LOG.warning(
        "compiled code cannot be kept: none of %s can be written. It is compiled again in every process, which "
        "takes up to a minute: set NUMBA_CACHE_DIR to a directory that can, or run `python -m gapfactory.compiled` "
        "once as a user who can",
        ", ".join(str(path) for path in directories()),
    )


class KernelCache(caching.FunctionCache):
    """numba's cache of one function, with files of our own naming."""

    def __init__(self, function: Any) -> None:
        # The base class would look for a directory that it can write and fail without one.
        self._name = repr(function)
        self._py_func = function
        self._impl = _Implementation(function)
        self._cache_path = str(directories()[0])
        self.enable()

    def _file(self, signature: Any, codegen: Any) -> str:
        module, name = self._py_func.__module__, self._py_func.__qualname__
        key = (sources_digest(module), module, name, repr(signature), codegen.magic_tuple())
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return f"{self._py_func.__name__}-{digest[:32]}.gfc"

    def _load_overload(self, signature: Any, target: Any) -> Any:
        if not self._enabled:
            return None
        name = self._file(signature, target.codegen())
        for directory in directories():
            try:
                raw = (directory / name).read_bytes()
            except OSError:
                continue
            # A file that a full disk cut short is compiled anew.
            if raw[:32] == hashlib.sha256(raw[32:]).digest():
                return self._impl.rebuild(target, caching.pickle.loads(raw[32:]))
        return None

    def _save_overload(self, signature: Any, data: Any) -> None:
        if not self._enabled or not self._impl.check_cachable(data):
            return
        raw = serialize.dumps(self._impl.reduce(data))
        name = self._file(signature, data.codegen)
        for directory in directories():
            scratch = directory / f".{name}.{os.getpid()}"
            try:
                directory.mkdir(parents=True, exist_ok=True)
                scratch.write_bytes(hashlib.sha256(raw).digest() + raw)
                scratch.replace(directory / name)
            except OSError:
                with contextlib.suppress(OSError):
                    scratch.unlink(missing_ok=True)
                continue
            return
        _complain()

    def flush(self) -> None:
        """Do nothing: files of other sources are never read again."""


class _Implementation(caching.CompileResultCacheImpl):
    """How compiled code is packed; without numba's search for a directory."""

    def __init__(self, function: Any) -> None:
        self._name = repr(function)
