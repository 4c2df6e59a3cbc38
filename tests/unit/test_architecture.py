"""The rules of docs/development.md that a program can check."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gapfactory import errors

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gapfactory", "launchpad")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SCIENCE = [path for path in SOURCES if path.is_relative_to(ROOT / "gapfactory")]

#: what the science must not know: where it runs
SERVICE = frozenset({"launchpad", "fireworks", "pymongo", "bson", "gridfs", "flask", "mongomock"})
#: libraries that take long to import; a command that only prints its help needs none of them
HEAVY = frozenset(
    {
        "numpy",
        "scipy",
        "ase",
        "matplotlib",
        "quippy",
        "numba",
        "spglib",
        "custodian",
        "fireworks",
        "pymongo",
        "gpaw",
    }
)
MAX_LINES = 600


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> set[str]:
    """Return every module that the code imports by statement or by `import_module` with a literal name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"}:
            names.update(
                a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )
    return names


def called_name(node: ast.Call) -> str:
    """Return ``f`` for ``f(...)``, ``f`` for ``m.f(...)``, and nothing for any other call."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def dangerous(tree: ast.AST) -> list[str]:
    """Return what the code does that could execute data: pickle, eval, a shell."""
    found = [name for name in imported_modules(tree) if name.split(".")[0] in PICKLING]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"}:
            found.append(node.func.id)
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in {"os.system", "os.popen"}:
            found.append(ast.unparse(node.func))
        found += [
            f"{keyword.arg}=True"
            for keyword in node.keywords
            if keyword.arg in {"shell", "allow_pickle"} and not is_literal_false(keyword.value)
        ]
        found += [
            "an unsafe YAML loader"
            for keyword in node.keywords
            if keyword.arg == "typ"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value == "unsafe"
        ]
    return found


PICKLING = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})


def is_literal_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300, cwd=ROOT
    )


def test_science_does_not_import_the_service() -> None:
    broken = {
        relative(path): sorted(bad)
        for path in SCIENCE
        if (bad := {n for n in imported_modules(ast.parse(path.read_text())) if n.split(".")[0] in SERVICE})
    }
    assert not broken, f"gapfactory must not know where it runs: {broken}"


@pytest.mark.parametrize(
    "code",
    [
        "import pymongo",
        "from launchpad.states import X",
        "def f():\n    import bson.son",
        "import_module('flask')",
    ],
)
def test_forbidden_imports_are_seen(code: str) -> None:
    assert {n.split(".")[0] for n in imported_modules(ast.parse(code))} & SERVICE


def test_science_works_where_the_service_is_not_installed() -> None:
    """Import every module of gapfactory in a process in which the service's packages cannot be imported."""
    result = run_python(
        f"""
import importlib, json, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(SERVICE)!r}:
            raise ModuleNotFoundError(name + " is not installed here", name=name)
sys.meta_path.insert(0, Absent())
import gapfactory
names = [m.name for m in pkgutil.walk_packages(gapfactory.__path__, "gapfactory.", onerror=lambda name: None)]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps(sorted({{m.split(".")[0] for m in sys.modules}})))
"""
    )
    assert result.returncode == 0, result.stderr
    assert not SERVICE & set(json.loads(result.stdout))


def test_importing_gapfactory_is_light() -> None:
    result = run_python(
        "import json, sys\nbefore = set(sys.modules)\nimport gapfactory\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert result.returncode == 0, result.stderr
    modules = json.loads(result.stdout)
    assert not HEAVY & {m.split(".")[0] for m in modules}
    assert len(modules) <= 20, f"import gapfactory loads {len(modules)} modules: {modules}"


@pytest.mark.skipif(not (ROOT / "launchpad/cli/__init__.py").is_file(), reason="no command line yet")
@pytest.mark.parametrize("arguments", [["--help"], ["campaign", "--help"], ["--version"]], ids=" ".join)
def test_help_is_light(arguments: list[str]) -> None:
    result = run_python(
        f"""
import json, sys
sys.argv = ["gapfactory", *{arguments!r}]
from launchpad.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("\\n" + json.dumps(sorted(sys.modules)))
"""
    )
    assert result.returncode == 0, result.stderr
    modules = json.loads(result.stdout.splitlines()[-1])
    loaded = sorted(HEAVY & {m.split(".")[0] for m in modules})
    assert not loaded, f"gapfactory {' '.join(arguments)} imports {loaded}"
    assert len(modules) <= 1000, f"gapfactory {' '.join(arguments)} loads {len(modules)} modules"


#: what computes: nothing here reads or writes a file
PURE = (
    "analysis",
    "descriptors",
    "protocols",
    "search",
    "select",
    "potentials/datum",
    "potentials/gap/engine",
)
#: names of calls that do
FILES = frozenset(
    {
        "open",
        "read_text",
        "write_text",
        "read_bytes",
        "write_bytes",
        "mkdir",
        "unlink",
        "savetxt",
        "loadtxt",
        "savefig",
    }
)
#: what may draw
DRAWING = ("figures", "report")


def within(path: Path, places: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(ROOT / "gapfactory" / place) for place in places)


def touches_files(tree: ast.AST) -> list[str]:
    """Return the calls of code that read or write files."""
    return sorted(
        {name for n in ast.walk(tree) if isinstance(n, ast.Call) and (name := called_name(n)) in FILES}
    )


def own_chance(tree: ast.AST) -> list[str]:
    """Return what code draws from a source of its own: a generator without a seed, the shared one, Python's."""
    found = [name for name in imported_modules(tree) if name.split(".")[0] == "random"]
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and called_name(node) == "default_rng"
            and not (node.args or node.keywords)
        ):
            found.append("default_rng()")
        # numpy's shared generator has its functions in small letters, classes of generators begin with a capital
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"np.random", "numpy.random"}:
            found += [node.attr] if node.attr[0].islower() and node.attr != "default_rng" else []
    return found


def test_what_computes_touches_no_files() -> None:
    found = {
        relative(p): bad
        for p in SCIENCE
        if within(p, PURE) and (bad := touches_files(ast.parse(p.read_text())))
    }
    assert not found, f"reading and writing belong to io, files, report and reference: {found}"
    assert all(any(within(path, (place,)) for path in SCIENCE) for place in PURE)


def test_only_figures_and_reports_draw() -> None:
    found = [
        relative(path)
        for path in SCIENCE
        if not within(path, DRAWING)
        and any(name.split(".")[0] == "matplotlib" for name in imported_modules(ast.parse(path.read_text())))
    ]
    assert not found, f"drawing belongs to figures and report: {found}"


def test_the_science_has_no_chance_of_its_own() -> None:
    found = {relative(p): bad for p in SCIENCE if (bad := own_chance(ast.parse(p.read_text())))}
    assert not found, f"draw from a numpy.random.Generator that was passed in: {found}"


@pytest.mark.parametrize(
    "code", ["open(name)", "path.write_text(text)", "Path(name).open()", "np.savetxt(name, rows)"]
)
def test_files_that_are_touched_are_seen(code: str) -> None:
    assert touches_files(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["import random", "np.random.default_rng()", "np.random.normal(size=3)", "numpy.random.seed(1)"]
)
def test_a_chance_of_its_own_is_seen(code: str) -> None:
    assert own_chance(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "rng.normal(size=3)",
        "np.random.default_rng(seed)",
        "x: np.random.Generator",
        "np.random.SeedSequence([1])",
    ],
)
def test_a_chance_that_was_given_is_not_accused(code: str) -> None:
    assert not own_chance(ast.parse(code))


def test_files_stay_small() -> None:
    long = {relative(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines, split them: {long}"


def test_every_error_has_its_own_code() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.GapFactoryError)
    ]
    assert len(classes) > 10
    assert [c.__name__ for c in classes if "code" not in vars(c)] == []
    codes = [c.code for c in classes]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert sorted(errors.__all__) == sorted(c.__name__ for c in classes)


def test_no_data_is_executed() -> None:
    found = {relative(p): bad for p in SOURCES if (bad := dangerous(ast.parse(p.read_text())))}
    assert not found, f"no pickle, eval, exec or shell in the packages: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import dumps",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "os.system(text)",
        "np.load(path, allow_pickle=True)",
        "YAML(typ='unsafe')",
    ],
)
def test_executed_data_is_seen(code: str) -> None:
    assert dangerous(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["model.eval()", "re.compile(text)", "run(list, shell=False)", "YAML(typ='safe')"]
)
def test_harmless_code_is_not_accused(code: str) -> None:
    assert not dangerous(ast.parse(code))
