"""The reference pages of commands, errors and collections have all that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

from launchpad.cli.app import app
from launchpad.cli.pages import PAGES, errors_page
from launchpad.database import documents
from launchpad.database.privileges import WRITES

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
AGAIN = "run: python -m launchpad.cli.pages docs/reference"


def commands(command, name: str):
    """Yield every command with its whole name."""
    yield name, command
    for one, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, f"{name} {one}")


COMMANDS = dict(commands(get_command(app), "gapfactory"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_its_page(name: str) -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    heading = "# Commands\n" if name == "gapfactory" else f"# `{name}`\n"
    assert text.count(heading) == 1, AGAIN
    section = text.partition(heading)[2].partition("\n#")[0]
    command = COMMANDS[name]
    # the first sentence, however its lines are broken
    says = " ".join((command.help or "").split("\n\n")[0].split())
    assert says
    assert says in " ".join(section.split()), AGAIN
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            assert parameter.opts[0] in section, f"{parameter.opts}: {AGAIN}"


def test_there_is_nothing_that_is_gone() -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    headings = {line.strip("#` ") for line in text.splitlines() if line.startswith("##")}
    assert headings == set(COMMANDS) - {"gapfactory"}, AGAIN


def test_every_error_is_on_its_page() -> None:
    assert (REFERENCE / "errors.md").read_text(encoding="utf-8") == errors_page(), AGAIN


def test_every_collection_is_on_its_page() -> None:
    text = (REFERENCE / "collections.md").read_text(encoding="utf-8")
    assert text == PAGES["collections.md"](), AGAIN
    rows = text.partition("| collection |")[2].partition("\n\n")[0]
    assert all(f"`{name}`" in rows for name in WRITES)
    # and every class of document, with every field and the comment that the code has on it
    classes = [one for one in vars(documents).values() if isinstance(one, type) and hasattr(one, "to_bson")]
    assert len(classes) > 5
    for one in set(classes) - {documents._Document}:
        for name in one.model_fields.keys() - {"id"}:
            assert f"| `{name}` |" in text
    assert "ended by the uncertainty of the potential: its last frame is offered for labelling" in text
