"""Which data sets (pseudopotentials) stand behind the labels of one level: labels of different ones are not mixed.

The hashes are no part of a label's key: whoever reads labels (a fit, a report, a person's laptop) would need the files
to compute it. They are recorded by the first worker that labels a species, under the settings hash and under the
campaign, and a worker that has other files is refused before it computes anything. The campaign is recorded too because
isolated atoms, dimers, crystals and noise cells have different settings hashes, and their energies are subtracted from
each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import StateError
from launchpad.database.documents import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.database import Database

__all__ = ["require_same_data"]


def require_same_data(
    database: Database[Any],
    campaign: str,
    engine: str,
    settings_hashes: Iterable[str],
    hashes: Mapping[str, str],
) -> None:
    """Record the data sets of a worker that is about to label, or refuse it.

    Parameters
    ----------
    database
        With durable writes.
    campaign
        For whom it labels.
    engine
        Name of the engine.
    settings_hashes
        Under which it labels.
    hashes
        sha256 by species; empty for an engine without data sets.

    Raises
    ------
    StateError
        Labels of this level, or of this campaign, were made with other data sets.
    """
    for scope in (
        *(f"level/{value}" for value in sorted(set(settings_hashes))),
        f"campaign/{campaign}/{engine}",
    ):
        for symbol, sha256 in sorted(hashes.items()):
            key = f"{scope}/{symbol}"
            database.label_data.update_one(
                {"_id": key},
                {
                    "$setOnInsert": {
                        "sha256": sha256,
                        "engine": engine,
                        "campaign": campaign,
                        "created": now(),
                    }
                },
                upsert=True,
            )
            first = database.label_data.find_one({"_id": key}) or {}
            if first.get("sha256") != sha256:
                raise StateError(_refusal(symbol, engine, sha256, first, scope, campaign))


def _refusal(symbol: str, engine: str, mine: str, first: dict[str, Any], scope: str, campaign: str) -> str:
    where = (
        f"campaign {campaign!r}"
        if scope.startswith("campaign/")
        else f"labels at the same settings (first made for campaign {first['campaign']!r})"
    )
    return (
        f"the {engine} data set of {symbol} on this machine has sha256 {mine}, but {where} used {first['sha256']}: "
        "energies of different data sets must not be mixed. Install the same file here (in the site file, "
        f"'pseudopotentials' of [{engine}] says where it is looked for), run the workers elsewhere, or label with the "
        "new data set in a database of its own ('--data DIRECTORY'); then 'gapfactory campaign resume "
        f"{campaign}'."
    )
