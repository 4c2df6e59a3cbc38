"""What pages have worked out in the background (`launchpad.dashboard.derived`), and the answers made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import abort, current_app, g, make_response, request

from gapfactory.errors import NotFoundError, ServiceError
from launchpad.dashboard.charts.published import ASK_POTENTIALS, PUBLISHED, VIBRATIONS
from launchpad.dashboard.derived import Work, ask, content, wait
from launchpad.dashboard.queries.campaigns import data_state
from launchpad.database.documents import generation_id
from launchpad.database.potentials import latest_potential

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from launchpad.dashboard.derived import Result
    from launchpad.dashboard.settings import DashboardSettings

__all__ = [
    "all_charts",
    "later",
    "picture",
    "published",
    "read_part",
    "rows_of_chosen",
    "send_part",
    "settings",
    "similarity_map",
    "values_of_atoms",
]

#: The rows of a campaign that has ended are looked at again after this time (seconds).
_SETTLED_S: Final = 3600.0
#: A map of what still grows, or whose energies are of an older potential, is drawn again after this time (seconds).
_MAP_S: Final = 120.0


def settings() -> DashboardSettings:
    """Return how this dashboard behaves."""
    found: DashboardSettings = current_app.extensions["gapfactory"]["settings"]
    return found


def rows_of_chosen(campaign: str, *, settled_s: float | None) -> Result:
    """Have the rows of the table of chosen structures brought up to date; the table reads them where they are.

    Parameters
    ----------
    settled_s
        For how long nothing has become of its structures any more; None while something may.
    """
    every_s = settings().rows_s
    if settled_s is not None:
        # rows of before are not the last ones
        every_s = max(every_s, min(settled_s, _SETTLED_S))
    return _ask(f"rows/{campaign}", "rows", {"campaign": campaign}, None, every_s)


def similarity_map(campaign: str, generation: int | None) -> Result:
    """Return the map of a generation, or of the whole campaign: part ``points``.

    Raises
    ------
    NotFoundError
        There is no such campaign, or it is not in this generation yet.
    """
    from launchpad.dashboard.queries.structures import newest_generation

    database, most = g.group.database, settings().map_points
    newest = newest_generation(database, campaign)
    if generation is not None and generation > newest:
        raise NotFoundError(f"campaign {campaign!r} is in generation {newest}")
    name = campaign if generation is None else generation_id(campaign, generation)
    # energies are those of the newest potential
    potential = latest_potential(database, campaign)
    digest = potential["digest"][:16] if potential is not None else ""
    # nothing is added to a generation once it has chosen; until then its map grows, and that of the campaign
    last = generation_id(campaign, newest if generation is None else generation)
    chosen = database.selections.find_one({"_id": last}, {"_id": 1}) is not None
    state = f"{newest if generation is None else 'chosen'}/{digest}" if chosen else None
    arguments = {"campaign": campaign, "generation": generation, "most": most}
    return _ask(f"map/{name}/{most}", "map", arguments, state, _MAP_S)


def values_of_atoms(key: str, campaign: str, *, labelled: bool) -> Result:
    """Return what the newest potential says of the atoms of a structure: part ``values``.

    Parameters
    ----------
    labelled
        Whether the structure has a label: the force errors are there from then on.

    Raises
    ------
    NotFoundError
        The campaign has no potential yet.
    """
    newest = latest_potential(g.group.database, campaign)
    if newest is None:
        raise NotFoundError(f"campaign {campaign!r} has no potential yet")
    arguments = {"key": key, "generation": newest["generation"]}
    return _ask(f"values/{newest['digest'][:16]}/{key}", "values", arguments, "labelled" if labelled else "")


def all_charts(campaign: str) -> Result:
    """Return the charts and tables of a campaign: parts ``<key>.json`` and ``<key>.csv``.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    state = data_state(g.group.database, campaign)
    return _ask(f"charts/{campaign}", "charts", {"campaign": campaign}, state, settings().charts_s)


def published(campaign: str, name: str, *, waits: bool = False) -> Result:
    """Return the figures of the 2018 and 2022 papers, several that are worked out together.

    Parts ``<name>.json``, ``<name>.csv`` and, of what can be drawn, ``<name>.png`` and ``<name>.svg``.

    Parameters
    ----------
    name
        A figure that is among them, as `gapfactory figure` calls it.
    waits
        Whether who asks waits for it, `picture_wait_s` at most.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    state = data_state(g.group.database, campaign)
    heavy = name in ASK_POTENTIALS
    if name in VIBRATIONS:
        group, names = "vibrations", list(VIBRATIONS)
    else:
        group = "potentials" if heavy else "stored"
        names = [key for key in PUBLISHED if (key in ASK_POTENTIALS) is heavy]
    key = f"figures/{campaign}/{group}"
    every_s = settings().figures_s if heavy else settings().charts_s
    work = Work(key, "figures", {"campaign": campaign, "names": names}, state, every_s)
    return wait(g.group, work, settings()) if waits else ask(g.group, work, settings())


def picture(campaign: str, key: str, kind: str) -> Result:
    """Return a figure that matplotlib drew of the present state: part ``file``; who asks waits for it.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    arguments = {"campaign": campaign, "key": key, "kind": kind}
    state = data_state(g.group.database, campaign)
    return wait(g.group, Work(f"picture/{campaign}/{key}.{kind}", "picture", arguments, state), settings())


def _ask(key: str, kind: Any, arguments: dict[str, Any], of: str | None = "", every_s: float = 0.0) -> Result:
    return ask(g.group, Work(key, kind, arguments, of, every_s), settings())


def read_part(result: Result, name: str) -> bytes | None:
    """Return a part of a result; None where it is not there yet, or was replaced just now."""
    part = result.part(name)
    return None if part is None else content(g.group.database, result, part)


def later(result: Result) -> ResponseReturnValue:
    """Say of a result that is not there that it will be, and how far it is; or why not.

    Raises
    ------
    NotFoundError, ServiceError
        It could not be worked out.
    """
    if result.state == "failed":
        raise (NotFoundError if result.code == NotFoundError.code else ServiceError)(result.reason)
    return {"state": "computing", "progress": dict(result.progress)}, 202, {"Retry-After": "1"}


def send_part(result: Result, name: str, mimetype: str, *, file: str = "") -> ResponseReturnValue:
    """Send a part of a result; 202 while it is being worked out for the first time.

    Parameters
    ----------
    file
        Name under which it is to be saved, if it is.
    """
    if result.made is None:
        return later(result)
    part = result.part(name)
    if part is None:
        abort(404, f"There is no {name}.")
    answer = make_response(b"")
    answer.set_etag(part.digest[:32])
    answer.make_conditional(request)
    if answer.status_code == 200:
        data = content(g.group.database, result, part)
        if data is None:
            return {"state": "computing", "progress": {}}, 202, {"Retry-After": "1"}
        answer.set_data(data)
    answer.mimetype = mimetype
    if file:
        answer.headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer
