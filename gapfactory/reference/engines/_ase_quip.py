"""What a campaign may ask of QUIP: potentials that calculate in this process, and none that starts a program.

QUIP's ``FilePot`` runs any shell command, ``SocketPot`` connects to any host, ``CallbackPot`` calls back; they can be
named in the first argument or within the XML of the parameters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["QUIP", "refuse_programs"]

#: The class that this is about.
QUIP = "quippy.potential.Potential"

_NAMES = ("args_str", "pot1", "pot2", "param_str", "param_filename")
# neither quotes nor braces: what QUIP's reader makes of them need not be known
_ARGUMENTS = re.compile(
    r"((IP|TB) [\w-]+|xml_label=[\w.-]+)?( ?(label|xml_label|do_rescale_[rE]|[rE]_scale)=[\w.+-]+)*"
)
# references to characters could spell anything
_FORBIDDEN = re.compile(rb"filepot|socketpot|callbackpot|&#|<!entity", re.IGNORECASE)


def refuse_programs(arguments: Sequence[Any], parameters: Mapping[str, Any]) -> None:
    """Refuse arguments of `quippy.potential.Potential` that could start a program or open a connection.

    Parameters
    ----------
    arguments, parameters
        Positional and keyword arguments, as a campaign gives them.

    Raises
    ------
    InputError
        They could, or they are not known to be harmless.
    """
    given = {**dict(zip(_NAMES, arguments, strict=False)), **parameters}
    text = given.get("args_str", "")
    if not isinstance(text, str) or not _ARGUMENTS.fullmatch(" ".join(text.split())):
        raise InputError(
            f"QUIP's arguments {text!r} are refused, because a potential of QUIP can start any program: allowed are "
            "`IP NAME`, `TB NAME` or `xml_label=NAME`, then label=, xml_label=, do_rescale_r=, r_scale=, do_rescale_E= "
            "and E_scale=."
        )
    sources = {name: str(given[name]).encode() for name in ("param_str",) if given.get(name) is not None}
    file = given.get("param_filename")
    if file is not None and Path(str(file)).is_file():
        sources["param_filename"] = Path(str(file)).read_bytes()
    for name, content in sources.items():
        found = _FORBIDDEN.search(content)
        if found is not None:
            raise InputError(
                f"QUIP's {name} is refused, because it contains {found[0].decode()!r}, by which a potential can start "
                "a program or open a connection: take parameters without it."
            )
