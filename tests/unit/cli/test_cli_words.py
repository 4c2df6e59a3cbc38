"""The command line's words: help with an example for every command, errors and tables that fit the screen."""

from __future__ import annotations

import pytest
import typer
from typer.main import get_command

from gapfactory.errors import GapFactoryError, InputError
from launchpad.cli import _known_fault
from launchpad.cli.app import app
from launchpad.cli.output import print_json, show_error, table


def commands():
    """Return every command by its full name."""
    found = {}

    def walk(command, name) -> None:
        for part, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {part}")
        if not hasattr(command, "commands"):
            found[name] = command

    walk(get_command(app), "gapfactory")
    return found


def test_all_commands_are_there() -> None:
    wanted = {
        "campaign": "init check show plan run submit status why resume cancel report export digest",
        "worker": "start stop list",
        "db": "start stop status check export import maintain",
        "db users": "add list password remove",
        "reference": "check list presets settings",
    }
    names = {f"gapfactory {group} {name}" for group, line in wanted.items() for name in line.split()}
    assert names <= set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_explains_itself_with_an_example(name) -> None:
    command = commands()[name]
    text = command.help or ""
    assert len(text.split()) >= 5
    assert "Example" in text, f"{name} has no example"
    assert name in text, f"the example of {name} does not show it"
    for parameter in command.params:
        assert getattr(parameter, "help", "") or parameter.name == "help", f"{name} {parameter.name}"


@pytest.mark.parametrize("width", [80, 60])
def test_no_word_of_an_error_is_lost(monkeypatch, capsys, width) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = [f"word{i}" for i in range(60)] + ["/a/very/long/path" * 8, "the-remedy-at-the-end"]
    show_error(InputError(" ".join(words)))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "error: input" in shown.err
    assert all(len(line) <= width for line in shown.err.splitlines())
    whole = "".join(line.strip("│ ").replace(" ", "") for line in shown.err.splitlines()[1:-1])
    assert whole == "".join(words)


def test_numbers_in_tables_are_whole_at_eighty_columns(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table("t", ["n", "x", "words"], [[123456789, -4521.0, "so many words " * 20], [1, 0.1234567, "few"]])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "123456789" in text
    assert "-4521" in text
    assert "0.1235" in text
    assert text.split().count("words") == 21
    assert "…" not in text


def test_markup_in_names_is_shown_as_it_is(capsys) -> None:
    table("t", ["name"], [["[red]x[/red]"]])
    show_error(InputError("[bold]no[/bold]"))
    shown = capsys.readouterr()
    assert "[red]x[/red]" in shown.out
    assert "[bold]no[/bold]" in shown.err


def test_json_needs_no_terminal(capsys) -> None:
    import json

    print_json({"a": [1, None], "path": "Å"})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None], "path": "Å"}


def test_faults_of_machine_and_database_are_no_tracebacks() -> None:
    from pymongo.errors import AutoReconnect, OperationFailure

    assert "No space left" in str(_known_fault(OSError(28, "No space left on device", "/x/report")))
    assert "does not answer" in str(_known_fault(AutoReconnect("connection closed")))
    assert "refused: full" in str(_known_fault(OperationFailure("full", 14031, {"errmsg": "full"})))
    assert isinstance(_known_fault(OSError(1, "x")), GapFactoryError)
    assert _known_fault(KeyError("a defect")) is None
    assert _known_fault(typer.Exit(1)) is None
