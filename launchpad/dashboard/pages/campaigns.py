"""The pages of campaigns: list, one campaign with its charts, settings and differences, recoveries."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from flask import (
    Blueprint,
    abort,
    g,
    make_response,
    render_template,
    request,
)

from gapfactory.errors import InputError
from launchpad.dashboard import background
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("campaigns", __name__, url_prefix="/g/<group>/campaigns")

_PICTURES: Final = {"png": "image/png", "svg": "image/svg+xml"}
_PUBLISHED_AS: Final = {**_PICTURES, "json": "application/json", "csv": "text/csv; charset=utf-8"}
#: Key -> title of what has a chart, in the order of the page; the report's own title comes with the chart.
_ORDER: Final = {
    "learning_curve": "Learning curve",
    "energy_scatter": "Predicted against reference",
    "error_windows": "Errors by energy",
    "training_set": "Labelled structures",
    "held_out_errors": "Held-out structures",
    "fit_errors": "Errors on the training set",
    "energy_volume": "Named phases",
    "selection": "Selection",
    "enthalpies": "Enthalpies",
    "energy_distribution": "Energies by generation",
    "hull": "Hull and sigma",
    "dynamics": "Molecular dynamics",
    "close_contacts": "Close contacts",
    "levels": "Levels of theory",
    "time": "Time",
}
#: Tables and pictures without a chart.
_MORE: Final = frozenset(
    {
        "bain_path",
        "constant_sigmas",
        "crystal_errors",
        "elastic_constants",
        "energy_boxes",
        "phonons",
        "phonons_learning",
        "quarantine",
        "searches",
    }
)


@blueprint.get("/")
@needs(Permission.READ)
def page() -> ResponseReturnValue:
    """List the campaigns."""
    return render_template("campaigns.html", **_listed())


@blueprint.get("/now")
@needs(Permission.READ)
def now() -> ResponseReturnValue:
    """Return the part of the list that changes."""
    return fragment("_campaigns.html", **_listed())


def _listed() -> dict[str, Any]:
    from launchpad.dashboard.queries.campaigns import campaign_rows

    return {"campaigns": campaign_rows(g.group.database)}


@blueprint.get("/<campaign>/")
@needs(Permission.READ)
def one(campaign: str) -> ResponseReturnValue:
    """Show a campaign; its charts come after the page."""
    content = _standing(campaign)
    charts = {key: title for key, title in _ORDER.items() if key != "levels" or content["source"]}
    return render_template("campaign.html", charts=charts, **content)


@blueprint.get("/<campaign>/now")
@needs(Permission.READ)
def one_now(campaign: str) -> ResponseReturnValue:
    """Return the part of a campaign's page that changes."""
    return fragment("_campaign.html", **_standing(campaign))


def _standing(campaign: str) -> dict[str, Any]:
    from launchpad import service
    from launchpad.dashboard.queries import campaigns as queries
    from launchpad.dashboard.queries.overview import labels_now

    database = g.group.database
    record = database.campaigns.find_one({"_id": campaign}, {"settings.source": 1})
    return {
        "status": service.status(database, campaign, labels=labels_now(database, campaign)),
        "forecasts": queries.forecast(database, campaign),
        "source": (record or {}).get("settings", {}).get("source"),
    }


@blueprint.get("/<campaign>/charts/<key>.json")
@needs(Permission.READ)
def chart(campaign: str, key: str) -> ResponseReturnValue:
    """Return a chart as JSON; 202 while it is computed for the first time."""
    if key not in _ORDER:
        abort(404, f"There is no chart {key!r}.")
    return background.send_part(background.all_charts(campaign), f"{key}.json", "application/json")


@blueprint.get("/<campaign>/charts/<key>.csv")
@needs(Permission.READ)
def table(campaign: str, key: str) -> ResponseReturnValue:
    """Return the numbers of a chart, all of them."""
    _known(key)
    return background.send_part(
        background.all_charts(campaign),
        f"{key}.csv",
        "text/csv; charset=utf-8",
        # of a campaign that there is: letters, digits and a few signs
        file=f"{campaign}-{key}.csv",
    )


@blueprint.get("/<campaign>/charts/<key>.<kind>")
@needs(Permission.READ)
def picture(campaign: str, key: str, kind: str) -> ResponseReturnValue:
    """Return a figure drawn by matplotlib, the report's own; the first who asks waits until it is drawn."""
    _known(key)
    if kind not in _PICTURES:
        abort(404, f"A figure is to be had as {', '.join(_PICTURES)}, not as {kind!r}.")
    result = background.picture(campaign, key, kind)
    if result.made is None and result.state == "computing":
        # a person who followed a link: a page that says so
        abort(503, "The picture is still being drawn; load it again in a moment.")
    return background.send_part(result, "file", _PICTURES[kind])


def _known(key: str) -> None:
    if key not in _ORDER and key not in _MORE:
        abort(404, f"There is no figure {key!r}.")


@blueprint.get("/<campaign>/figures/")
@needs(Permission.READ)
def figures(campaign: str) -> ResponseReturnValue:
    """Show the figures of the 2018 papers, which come after the page, and what the diagnostic searches found."""
    from launchpad.dashboard.charts.published import PUBLISHED
    from launchpad.database.campaigns import require_campaign
    from launchpad.diagnostics import stored_searches

    require_campaign(g.group.database, campaign)
    return render_template(
        "campaign_figures.html",
        campaign=campaign,
        charts={key: known.title for key, known in PUBLISHED.items()},
        searches=stored_searches(g.group.database, campaign),
    )


@blueprint.get("/<campaign>/vibrations/")
@needs(Permission.READ)
def vibrations(campaign: str) -> ResponseReturnValue:
    """Show phonons and elastic constants: the figures of the 2022 paper, which come after the page."""
    from launchpad.dashboard.charts.published import VIBRATIONS
    from launchpad.dashboard.queries.campaigns import measured_vibrations

    return render_template(
        "campaign_vibrations.html",
        campaign=campaign,
        charts={key: known.title for key, known in VIBRATIONS.items()},
        **measured_vibrations(g.group.database, campaign),
    )


@blueprint.get("/<campaign>/figures/searches.csv")
@needs(Permission.READ)
def searches(campaign: str) -> ResponseReturnValue:
    """Return the table of searches."""
    from gapfactory.io.tables import csv_table
    from launchpad.database.campaigns import require_campaign
    from launchpad.diagnostics import stored_searches

    require_campaign(g.group.database, campaign)
    rows = [asdict(found) for found in stored_searches(g.group.database, campaign)]
    answer = make_response(csv_table(tuple(rows[0]) if rows else (), [row.values() for row in rows]))
    answer.mimetype = "text/csv; charset=utf-8"
    answer.headers["Content-Disposition"] = f'attachment; filename="{campaign}-searches.csv"'
    return answer


@blueprint.get("/<campaign>/figures/<key>.<kind>")
@needs(Permission.READ)
def published(campaign: str, key: str, kind: str) -> ResponseReturnValue:
    """Return a figure for the page's script, its numbers, or its picture; who follows a link waits for it."""
    from launchpad.dashboard.charts.published import PUBLISHED, VIBRATIONS

    if key not in PUBLISHED | VIBRATIONS or kind not in _PUBLISHED_AS:
        abort(404, f"There is no figure {key}.{kind}.")
    link = kind != "json"
    result = background.published(campaign, key, waits=link)
    if link and result.made is None and result.state == "computing":
        abort(503, "The figure is still being worked out; load it again in a moment.")
    file = f"{campaign}-{key}.csv" if kind == "csv" else ""
    return background.send_part(result, f"{key}.{kind}", _PUBLISHED_AS[kind], file=file)


@blueprint.get("/<campaign>/settings")
@needs(Permission.READ)
def settings(campaign: str) -> ResponseReturnValue:
    """Show the settings, or what differs from another campaign or between the fits of two generations."""
    from launchpad.dashboard.queries import campaigns as queries
    from launchpad.database.campaigns import require_campaign

    database = g.group.database
    record = require_campaign(database, campaign)
    other = request.args.get("with", "")
    generations = [
        row["generation"]
        for row in database.potentials.find({"campaign": campaign}, {"generation": 1}).sort("generation", 1)
    ]
    differences: list[queries.Difference] | None = None
    sides: tuple[str, str] | None = None
    if other:
        differences = queries.setting_differences(
            record["settings"], require_campaign(database, other)["settings"]
        )
        sides = (campaign, other)
    elif "from" in request.args or "to" in request.args:
        first, second = _generation("from"), _generation("to")
        differences = queries.setting_differences(
            queries.fit_parameters(database, campaign, first),
            queries.fit_parameters(database, campaign, second),
        )
        sides = (f"generation {first}", f"generation {second}")
    return render_template(
        "campaign_settings.html",
        campaign=campaign,
        settings=queries.flat(record["settings"]),
        file=record["file"],
        versions=record["versions"],
        others=sorted(
            row["_id"] for row in database.campaigns.find({}, {"_id": 1}) if row["_id"] != campaign
        ),
        generations=generations,
        differences=differences,
        sides=sides,
    )


def _generation(name: str) -> int:
    text = request.args.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise InputError(f"{name}={text[:20]!r} is no generation: give its number, e.g. {name}=0")
    return int(text)


@blueprint.get("/<campaign>/recoveries")
@needs(Permission.READ)
def recoveries(campaign: str) -> ResponseReturnValue:
    """Show what could not be labelled, and what the recovery did."""
    from launchpad.dashboard.queries.campaigns import recoveries as found
    from launchpad.database.campaigns import require_campaign

    require_campaign(g.group.database, campaign)
    return render_template("campaign_recoveries.html", campaign=campaign, **found(g.group.database, campaign))
