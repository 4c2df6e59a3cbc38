"""Where compiled loops are kept: many processes, read-only and missing directories, other CPUs, damaged files."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gapfactory
from gapfactory.compiled import KERNELS, main, warm_up
from gapfactory.errors import GapFactoryError

PACKAGE = Path(gapfactory.__file__).parent
INNER = """import numpy as np
from gapfactory.compiled import compiled

@compiled
def inner(values: np.ndarray, power: float) -> float:
    total = 0.0
    for k in range(len(values)):
        total += {factor} * np.exp(-values[k]) ** power
    return total
"""
OUTER = """import numpy as np
from gapfactory.compiled import compiled
from gapfactory.inner import inner

@compiled(fastmath={"contract", "reassoc"})
def outer(values: np.ndarray, power: float) -> float:
    total = 1.0
    for k in range(len(values)):
        total += values[k] * values[k] + inner(values, power)
    return total
"""
# Two signatures of the same function, in an order that differs between processes: numba's own cache can mix
# up the data of two signatures that are compiled at the same time.
CALL = """
import sys
import numpy as np
from gapfactory.outer import outer
calls = {"float": (np.linspace(0.1, 2.0, 37), 1.5), "int": (np.arange(1, 9), 2)}
results = {name: float(outer(*calls[name])).hex() for name in sys.argv[1].split(",")}
print("result", sum(outer.stats.cache_misses.values()), results["float"], results["int"])
"""


def small_package(place: Path, factor: float = 2.0) -> Path:
    """Write a package with the module under test and two compiled functions, one of which calls the other."""
    package = place / "gapfactory"
    package.mkdir(parents=True, exist_ok=True)
    shutil.copy(PACKAGE / "errors.py", package)
    (package / "__init__.py").write_text("")
    for name in ("compiled.py", "_compile_cache.py"):
        text = (PACKAGE / name).read_text()
        listed = 'KERNELS = ("gapfactory.inner", "gapfactory.outer")'
        (package / name).write_text(re.sub(r"KERNELS = \(.*?\n\)", listed, text, flags=re.DOTALL))
    (package / "inner.py").write_text(INNER.format(factor=factor))
    (package / "outer.py").write_text(OUTER)
    return package


def environment(package: Path, **changes: str) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    paths = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return env | paths | {"OMP_NUM_THREADS": "1"} | changes


def start(env: dict[str, str], order: str = "float,int") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", CALL, order],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the number of variants compiled, the result, and what went to standard error."""
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    made, result = re.search(r"result (\d+) (.*)", out).groups()
    return int(made), result, error


def run(env: dict[str, str]) -> tuple[int, str, str]:
    return finish(start(env))


def numbers(result: str) -> list[float]:
    return [float.fromhex(word) for word in result.split()]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A package, a cache that eight processes made at once, and their common result."""
    package = small_package(tmp_path_factory.mktemp("package"))
    cache = tmp_path_factory.mktemp("full")
    env = environment(package, NUMBA_CACHE_DIR=str(cache))
    results = [finish(p) for p in [start(env, "float,int" if k % 2 else "int,float") for k in range(8)]]
    assert len({result for _, result, _ in results}) == 1
    assert all(error == "" for _, _, error in results)
    assert max(made for made, _, _ in results) == 2
    assert not list(cache.rglob(".*")), "scratch files were left behind"
    return package, cache, results[0][1]


def test_eight_processes_find_what_eight_made(full: tuple[Path, Path, str]) -> None:
    package, cache, result = full
    before = sorted(path.name for path in cache.rglob("*.gfc"))
    assert len(before) == 4  # two functions, two signatures
    env = environment(package, NUMBA_CACHE_DIR=str(cache))
    assert [finish(p) for p in [start(env) for _ in range(8)]] == [(0, result, "")] * 8
    assert sorted(path.name for path in cache.rglob("*.gfc")) == before


def test_the_result_is_that_of_plain_python(full: tuple[Path, Path, str]) -> None:
    def outer(values: np.ndarray, power: float) -> float:
        inner = np.sum(2.0 * np.exp(-values) ** power)
        return float(1.0 + np.sum(values * values + inner))

    expected = [outer(np.linspace(0.1, 2.0, 37), 1.5), outer(np.arange(1, 9), 2)]
    assert numbers(full[2]) == pytest.approx(expected, rel=1e-13)


def blocked(path: Path) -> None:
    """Make a directory impossible, for the superuser too: a file stands in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def test_a_package_that_cannot_be_written_uses_the_users_cache(
    tmp_path: Path, full: tuple[Path, Path, str]
) -> None:
    package = small_package(tmp_path / "site")
    blocked(package / "__pycache__" / "compiled")
    env = environment(package, XDG_CACHE_HOME=str(tmp_path / "home"))
    assert run(env) == (2, full[2], "")
    assert run(env) == (0, full[2], "")
    assert len(list((tmp_path / "home" / "gapfactory").rglob("*.gfc"))) == 4


def test_a_full_cache_that_cannot_be_written_is_read(tmp_path: Path, full: tuple[Path, Path, str]) -> None:
    """What an administrator made serves users who may only read it, even if nothing at all can be written."""
    package = small_package(tmp_path / "site")
    place = package / "__pycache__" / "compiled"
    shutil.copytree(full[1] / "gapfactory", place)
    blocked(tmp_path / "home")
    env = environment(package, XDG_CACHE_HOME=str(tmp_path / "home"))
    for path in place.iterdir():
        path.chmod(0o444)
    place.chmod(0o555)
    try:
        assert run(env) == (0, full[2], "")
    finally:
        place.chmod(0o755)


def test_no_cache_at_all_compiles_in_memory_and_says_so_once(
    tmp_path: Path, full: tuple[Path, Path, str]
) -> None:
    blocked(tmp_path / "file")
    made, result, error = run(environment(full[0], NUMBA_CACHE_DIR=str(tmp_path / "file")))
    assert (made, result) == (2, full[2])
    assert error.count("compiled code cannot be kept") == 1
    assert "python -m gapfactory.compiled" in error
    assert str(tmp_path / "file") in error


def test_another_cpu_has_files_of_its_own_beside(full: tuple[Path, Path, str]) -> None:
    package, cache, result = full
    before = {path.name: path.read_bytes() for path in cache.rglob("*.gfc")}
    env = environment(package, NUMBA_CACHE_DIR=str(cache), NUMBA_CPU_NAME="generic")
    made, other, _ = run(env)
    assert made == 2
    # Other vector lengths, so other orders of the sums: equal to rounding.
    assert numbers(other) == pytest.approx(numbers(result), rel=1e-12)
    after = {path.name: path.read_bytes() for path in cache.rglob("*.gfc")}
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)
    assert run(env) == (0, other, "")
    assert run(environment(package, NUMBA_CACHE_DIR=str(cache))) == (0, result, "")


def test_damaged_files_are_compiled_anew(tmp_path: Path, full: tuple[Path, Path, str]) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(full[1], cache)
    for k, path in enumerate(sorted(cache.rglob("*.gfc"))):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes((bytes(raw), bytes(raw[: len(raw) // 2]), b"", b"x" * 99)[k % 4])
    env = environment(full[0], NUMBA_CACHE_DIR=str(cache))
    made, result, error = run(env)
    assert made >= 1
    assert (result, error) == (full[2], "")
    assert run(env) == (0, full[2], "")


def test_a_changed_source_is_compiled_anew_by_its_callers_too(
    tmp_path: Path, full: tuple[Path, Path, str]
) -> None:
    """numba's own cache misses this: what changed is in another file than its caller."""
    env = environment(tmp_path / "gapfactory", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    shutil.copytree(full[1], tmp_path / "cache")
    small_package(tmp_path, 3.0)
    made, changed, _ = run(env)
    assert made == 2
    assert numbers(changed)[0] > 1.3 * numbers(full[2])[0]
    small_package(tmp_path, 2.0)
    assert run(env) == (0, full[2], "")


def test_every_compiled_module_is_listed() -> None:
    """A module that is not listed would keep stale results."""
    using = set()
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("gapfactory", *path.relative_to(PACKAGE).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    called = decorator.func if isinstance(decorator, ast.Call) else decorator
                    if isinstance(called, ast.Name) and called.id in ("compiled", "njit", "jit"):
                        using.add((name, called.id))
    assert {name for name, _ in using} <= set(KERNELS)
    assert {tool for _, tool in using} == {"compiled"}
    for name in KERNELS:
        assert PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py").is_file()


def test_the_warm_up_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["random cells"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"random cells +\d+\.\d\d s", shown)
    assert "variants compiled" in shown
    assert "cache: " in shown
    assert np.all([value > 0 for value in warm_up(["random cells"]).values()])
    with pytest.raises(GapFactoryError, match="no part nonsense"):
        warm_up(["nonsense"])
