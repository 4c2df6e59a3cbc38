"""Campaign files that begin with a preset or an element."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launchpad.cli.output import say, table

__all__ = ["file_of_preset", "init"]


def init(
    file: Annotated[Path | None, typer.Argument(help="Campaign file to write.", show_default=False)] = None,
    element: Annotated[
        str | None, typer.Option(help="Element to explore, e.g. Si.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset to start from; see --list.", show_default=False)
    ] = None,
    list_presets: Annotated[bool, typer.Option("--list", help="List the presets and stop.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a campaign file.

    Examples
    --------
      gapfactory campaign init --list

      gapfactory campaign init si.yaml --preset quickstart-Si

      gapfactory campaign init ti.yaml --element Ti
    """
    from gapfactory.campaign.presets import PRESETS, starter_file
    from gapfactory.errors import InputError

    if list_presets:
        table("presets", ["name", "what it is"], [[name, entry.summary] for name, entry in PRESETS.items()])
        return
    if file is None or (element is None) == (preset is None):
        msg = (
            "give a file to write and one of --element and --preset, e.g. 'gapfactory campaign init "
            "si.yaml --element Si'"
        )
        raise InputError(msg)
    if file.exists() and not force:
        msg = f"{file} exists; choose another name or add --force"
        raise InputError(msg)
    file.write_text(starter_file(element=element, preset_name=preset), encoding="utf-8")
    say(f"{file} written. Next: gapfactory campaign plan {file}")


def file_of_preset(name: str | None) -> Path:
    """Return the campaign file of a preset in the directory where the command is given, written unless it is there."""
    from gapfactory.campaign.presets import starter_file
    from gapfactory.errors import InputError

    if name is None:
        raise InputError(
            "give a campaign file or a preset, e.g. 'gapfactory campaign run si.yaml' or 'gapfactory campaign run "
            "--preset demo-de-novo'"
        )
    text = starter_file(element=None, preset_name=name)
    file = Path(f"{name.lower()}.yaml")
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        say(f"{file} written")
    elif file.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{file} exists and was changed: 'gapfactory campaign run {file}' runs it as it is; in another directory, "
            f"or once it is renamed, --preset {name} writes its own"
        )
    return file
