"""Mutation testing: small faults put into a module one at a time, to see whether its tests notice.

Run as ``python tests/benchmarks/mutants.py [--modules cur,sigmas] [--sample 40] [--seed 1] [--minutes 25]``. A fault
is another comparison, operator, number, truth value or return value, a condition turned round, or a `raise` left out.
The tests named in `TARGETS` run on each in a copy of the tree, in a fork of a process that has the large libraries
loaded already; the first failure ends them. A fault is *killed* by a failure or by running too long, else it
*survives*: then either the tests want a case, or the fault changes nothing that can be seen (docs/evidence/mutants.md
says which).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RANDOM = "tests/unit/select/test_selectors_at_random.py"
HISTOGRAM = "tests/unit/select/test_flat_histogram.py"
CUR = "tests/unit/select/test_cur.py"
FUNNEL = "tests/unit/select/test_funnel.py"
SIGMAS = ("tests/unit/potentials/test_gap_sigmas.py", "tests/unit/potentials/test_adaptive_sigmas.py", RANDOM)
PARTS = ("tests/unit/queue/test_queue_parts.py",)
#: Modules by a short name, each with the tests that are about it, the quickest first.
TARGETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "histogram": ("gapfactory/select/histogram.py", (RANDOM, HISTOGRAM)),
    "cur": ("gapfactory/select/cur.py", (RANDOM, CUR)),
    "leverage": ("gapfactory/select/leverage.py", (RANDOM, CUR)),
    "quota": ("gapfactory/select/quota.py", (RANDOM, FUNNEL)),
    "labels": ("gapfactory/select/labels.py", (RANDOM, FUNNEL)),
    "initial": ("gapfactory/select/initial.py", (RANDOM, FUNNEL)),
    "funnel": ("gapfactory/select/funnel.py", (FUNNEL,)),
    "sigmas": ("gapfactory/potentials/gap/sigmas.py", SIGMAS),
    "guard": ("launchpad/queue/guard.py", PARTS),
    "identity": ("launchpad/queue/identity.py", PARTS),
    "spool": ("launchpad/queue/spool.py", (*PARTS, "tests/unit/io/test_round_trips.py")),
    "retry": ("launchpad/retry.py", ("tests/unit/queue/test_queue_retry.py",)),
    "batch": ("launchpad/queue/batch.py", ("tests/unit/queue/test_batch_jobs.py",)),
}
#: Loaded before the forks.
_LOADED = (
    "numpy",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse.linalg",
    "hypothesis",
    "pydantic",
    "ase",
    "pytest",
)
#: Conditions that no other fault turns round.
_PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript)
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Parameters
    ----------
    line
        Of the module.
    what
        The piece of code, and what stands in its place.
    node
        Number of the piece in the order of `ast.walk`.
    variant
        Which of the faults that are possible there.
    """

    line: int
    what: str
    node: int
    variant: int


# ---- faults ------------------------------------------------------------------------------------------------------


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a piece of code."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _COMPARISONS[type(node.ops[0])]:
            yield ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and isinstance(node.test, _PLAIN):
        made = type(node)(**dict(ast.iter_fields(node)))
        made.test = ast.UnaryOp(ast.Not(), node.test)
        yield made
    elif isinstance(node, ast.Raise):
        yield ast.Pass()
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Continue):
        yield ast.Break()


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _left_alone(tree: ast.AST) -> set[int]:
    """Return the ids of what says nothing when it runs: annotations, words of errors and logs, imports for types."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            roots.append(node)
        elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            roots.append(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            roots.append(node.returns)
        elif isinstance(node, ast.Raise):
            roots += [child for child in ast.walk(node) if child is not node]
        elif (
            (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "msg"))
            or (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."))
        ):
            roots.append(node)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            roots += node.decorator_list
    return {id(child) for root in roots for child in ast.walk(root)}


def faults_of(source: str) -> list[Fault]:
    """Return every fault that may be put into a module, in the order of its lines."""
    tree = ast.parse(source)
    alone = _left_alone(tree)
    found = []
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in alone:
            continue
        for variant, other in enumerate(_replacements(node)):
            old, new = (_short(piece) for piece in (node, other))
            found.append(Fault(node.lineno, f"{old} -> {new}", number, variant))
    return sorted(found, key=lambda fault: (fault.line, fault.node, fault.variant))


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"{'if' if isinstance(node, ast.If) else 'while'} {ast.unparse(node.test)}"
    text = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return text if len(text) < 70 else f"{text[:67]}..."


class _Put(ast.NodeTransformer):
    def __init__(self, target: ast.AST, other: ast.AST) -> None:
        self.target, self.other = target, other

    def visit(self, node: ast.AST) -> Any:
        """Return what stands in the place of a piece of code."""
        return ast.copy_location(self.other, node) if node is self.target else self.generic_visit(node)


def with_fault(source: str, fault: Fault) -> str:
    """Return a module with a fault."""
    tree = ast.parse(source)
    target = list(ast.walk(tree))[fault.node]
    other = list(_replacements(target))[fault.variant]
    return ast.unparse(ast.fix_missing_locations(_Put(target, other).visit(tree)))


# ---- trials ------------------------------------------------------------------------------------------------------


def copy_of_the_tree(place: Path) -> None:
    """Copy what the tests need."""
    skipped = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", "evidence", "images")
    for name in ("gapfactory", "launchpad", "tests", "docs"):
        shutil.copytree(ROOT / name, place / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, place / name)


def passed(place: Path, tests: tuple[str, ...], limit: float, *, keep_bytecode: bool = False) -> str:
    """Run tests in a fork; return "passed", "failed" or "too long"."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            os.chdir(place)
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            sys.path.insert(0, str(place))
            os.environ["PYTHONPATH"] = str(place)
            # also where this process is killed itself: a fault may make a loop that does not end
            seconds = int(limit) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            sys.dont_write_bytecode = not keep_bytecode
            import pytest

            # hypothesis is loaded already, and pytest would say so
            plain = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
            status = int(pytest.main([*plain, *tests]))
        finally:
            os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(raw)
            if status not in (0, 1, 2):
                return f"ended with {status}"
            return "failed" if status else "passed"
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too long"


def trial(place: Path, name: str, count: int, seed: int, end: float) -> dict[str, Any]:
    """Try faults of one module; return what became of them."""
    module, tests = TARGETS[name]
    path = place / module
    source = (ROOT / module).read_text(encoding="utf-8")
    every = faults_of(source)
    rng = random.Random(f"{name} {seed}")
    chosen = sorted(rng.sample(range(len(every)), min(count, len(every))))
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    start = time.monotonic()
    path.write_text(ast.unparse(ast.parse(source)), encoding="utf-8")
    whole = passed(place, tests, 600.0)
    seconds = time.monotonic() - start
    if whole != "passed":
        raise SystemExit(f"the tests of {module} do not pass without a fault: {whole}")
    report: dict[str, Any] = {
        "module": module,
        "possible": len(every),
        "tried": 0,
        "killed": 0,
        "too_long": 0,
    }
    survivors = []
    for number in chosen:
        if time.monotonic() > end:
            break
        path.write_text(with_fault(source, every[number]), encoding="utf-8")
        ending = passed(place, tests, 3.0 * seconds + 10.0)
        report["tried"] += 1
        if ending == "passed":
            survivors.append({"line": every[number].line, "fault": every[number].what})
        else:
            report["too_long" if ending == "too long" else "killed"] += 1
    path.write_text(source, encoding="utf-8")
    return report | {"seconds": round(time.monotonic() - start, 1), "survived": survivors}


def main() -> int:
    """Try and print; return the exit status: whether every fault was killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", default=",".join(TARGETS), help="short names with commas")
    parser.add_argument("--sample", type=int, default=40, help="faults of each module, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=25.0, help="no new fault is tried afterwards")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    for name in _LOADED:
        __import__(name)
    end = time.monotonic() + 60.0 * options.minutes
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gfm-") as directory:
        place = Path(directory)
        copy_of_the_tree(place)
        names = options.modules.split(",")
        # once with bytecode kept: afterwards only the module with the fault is compiled
        passed(
            place,
            tuple(dict.fromkeys(test for name in names for test in TARGETS[name][1])),
            600.0,
            keep_bytecode=True,
        )
        for name in names:
            if time.monotonic() < end:
                report[name] = trial(place, name, options.sample, options.seed, end)
                sys.stdout.write(json.dumps({name: report[name]}, indent=1) + "\n")
                sys.stdout.flush()
                if options.json:
                    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(any(found["survived"] for found in report.values()))


if __name__ == "__main__":
    sys.exit(main())
