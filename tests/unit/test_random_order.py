"""`pytest --random-order SEED`: every test once, in an order that the seed repeats."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
FILES = [str(TESTS / name) for name in ("test_units.py", "test_seeds.py", "test_stopping.py")]


def collected(*options: str) -> list[str]:
    asked = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *options,
        *FILES,
    ]
    found = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=TESTS.parents[1])
    return [line for line in found.stdout.splitlines() if "::" in line]


def test_the_same_tests_in_another_order() -> None:
    plain, one, again = collected(), collected("--random-order", "1"), collected("--random-order", "1")
    assert one == again != plain
    assert sorted(one) == sorted(plain)
    # a file is run as a whole: what it sets up once is set up once
    files = [line.partition("::")[0] for line in one]
    assert sum(a != b for a, b in itertools.pairwise(files)) == len(FILES) - 1
