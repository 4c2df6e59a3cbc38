"""Potentials from nothing but the name of an element; see docs/index.md.

For notebooks, ``import gapfactory as gf``::

    with gf.open_campaign("si-quickstart") as campaign:
        atoms = campaign.labelled()[0]
        atoms.calc = campaign.potential()
        campaign.figure("energy-volume").figure

Below this package is the science of gapfactory: pure functions over `ase.Atoms` and arrays. It knows nothing of
FireWorks, MongoDB or where it runs; `launchpad` imports it, never the reverse. What opens a database is named by the
entry points ``gapfactory.service`` of whatever is installed beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory._lazy import lazy_names
from gapfactory.errors import GapFactoryError

if TYPE_CHECKING:
    from gapfactory.analysis.phases import named_phase as named_phase
    from gapfactory.campaign.load import load_campaign as load_campaign
    from gapfactory.io.labelled import read_labelled as read_labelled
    from gapfactory.potentials import load_potential as load_potential

__version__ = "0.1.0"

#: What service packages give, by entry points.
_SERVICE = ("list_campaigns", "open_campaign")

__all__ = [  # noqa: RUF022 - those of the service last
    "GapFactoryError",
    "__version__",
    "load_campaign",
    "load_potential",
    "named_phase",
    "read_labelled",
    "list_campaigns",
    "open_campaign",
]

_own = lazy_names(
    __name__,
    {
        "analysis.phases": ("named_phase",),
        "campaign.load": ("load_campaign",),
        "io.labelled": ("read_labelled",),
        "potentials": ("load_potential",),
    },
)


def __getattr__(name: str) -> Any:
    if name not in _SERVICE:
        return _own(name)
    from importlib.metadata import entry_points

    for entry in entry_points(group="gapfactory.service", name=name):
        return entry.load()
    msg = f"gapfactory.{name} needs the service: install gapfactory with pip, so that its entry points are known"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
