"""`gapfactory cite`: what to cite."""

from __future__ import annotations

from typing import Annotated

import typer

from launchpad.cli.options import DataOption, JsonOption, UriOption, given_campaign
from launchpad.cli.output import print_json, say

__all__ = ["cite"]


def cite(
    what: Annotated[
        str, typer.Argument(help="A campaign file, or the name of a stored campaign.", show_default=False)
    ],
    uri: UriOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what to cite for a campaign: protocol, potential, searches, the code of its labels, the queue.

    Examples
    --------
      gapfactory cite si-quickstart

      gapfactory cite boron.yaml --json
    """
    from launchpad.citations import citations

    found = citations(given_campaign(what, uri, data))
    if as_json:
        print_json(list(found))
        return
    for line in found:
        say(line)
    say(
        "Functionals and pseudopotentials have their own: the reference's output names them. gapfactory: CITATION.cff."
    )
