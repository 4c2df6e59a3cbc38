"""Reference pages that are made of the program: every command, every error, every collection.

``python -m launchpad.cli.pages docs/reference`` writes them; a test compares.
"""

from __future__ import annotations

import html
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gapfactory.errors import GapFactoryError
from launchpad.database.collections_page import collections_page

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PAGES", "commands_page", "errors_page"]

_ERRORS: Final = """\
Every error that is raised on purpose is one of these. Its text names the value and what to do; `code` is stable, and
the dashboard's API has it. A command that ends by one prints the text on one screen, without a traceback, and its exit
code is 1."""
_MADE: Final = "Made by `python -m launchpad.cli.pages docs/reference`; a test compares it with the program."


def commands_page() -> str:
    """Return the page of all commands: what `--help` says of each, as typer writes it."""
    program = [sys.executable, "-m", "typer", "launchpad.cli.app", "utils", "docs", "--name", "gapfactory"]
    told = subprocess.run([*program, "--title", "Commands"], capture_output=True, text=True, check=True)
    # typer escapes what HTML would need; in Markdown only "<" may stand for something else, and it is in code alone
    plain = html.unescape(told.stdout)
    # an indented line is an example; Markdown would run it into the text
    text = re.sub(r"^Examples\n-+\n", "Examples:\n\n", plain, flags=re.MULTILINE)
    text = re.sub(r"(?:^ {2,}\S.*\n\n?)+", _example, text, flags=re.MULTILINE)
    head, _, rest = text.partition("\n")
    return f"{head}\n\n{_MADE}\n{rest.rstrip()}\n"


def _example(found: re.Match[str]) -> str:
    lines = [line[2:] for line in found[0].splitlines() if line]
    return "\n".join(["```text", *lines, "```", "", ""])


def errors_page() -> str:
    """Return the page of all errors with their codes, each below the one that it is a case of."""
    for package in ("gapfactory", "launchpad"):
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            # those with an underscore are programs
            if not module.name.rpartition(".")[2].startswith("_"):
                import_module(module.name)
    lines = [
        "# Errors",
        "",
        _MADE,
        "",
        _ERRORS,
        "",
        "| code | class | meaning | a case of |",
        "| --- | --- | --- | --- |",
    ]

    def add(kind: type[GapFactoryError], parent: str) -> None:
        meaning = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{kind.code}` | `{kind.__name__}` | {meaning} | {parent} |")
        for case in sorted(kind.__subclasses__(), key=lambda one: one.__name__):
            if case.__module__.split(".")[0] in {"gapfactory", "launchpad"}:
                add(case, f"`{kind.code}`")

    add(GapFactoryError, "")
    return "\n".join(lines) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "commands.md": commands_page,
    "errors.md": errors_page,
    "collections.md": lambda: collections_page(_MADE),
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(make(), encoding="utf-8")
