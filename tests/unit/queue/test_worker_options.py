"""What `gapfactory worker start --help` says."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner


@pytest.mark.parametrize("command", ["worker start", "campaign run", "campaign status", "campaign relabel"])
def test_defaults_in_square_brackets_are_shown(command) -> None:
    """Help texts are markup, in which ``[default: all]`` would be a style and vanish."""
    from launchpad.cli.app import app

    shown = " ".join(
        CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).output.split()
    )
    assert "[default: " in shown
    if command == "worker start":
        assert "Worker processes [default: one per core]" in shown
