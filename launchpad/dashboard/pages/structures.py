"""Structures: the table, one structure, its files, and the similarity map."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from flask import Blueprint, abort, g, make_response, render_template, request

from gapfactory.errors import InputError
from launchpad.dashboard import background
from launchpad.dashboard.auth.access import Permission, needs
from launchpad.dashboard.fragments import fragment, tagged
from launchpad.dashboard.queries import structure_table
from launchpad.dashboard.queries import structures as queries
from launchpad.dashboard.queries.structure_map import COLOURS, map_data_set, one_structure

if TYPE_CHECKING:
    from flask import Response
    from flask.typing import ResponseReturnValue

__all__ = ["blueprint"]

blueprint = Blueprint("structures", __name__, url_prefix="/g/<group>/structures")


@blueprint.get("/")
@needs(Permission.READ)
def table() -> ResponseReturnValue:
    """Show a page of the table."""
    return render_template("structures.html", **_table())


@blueprint.get("/now")
@needs(Permission.READ)
def now() -> ResponseReturnValue:
    """Return the part of the table that changes."""
    return fragment("_structures.html", **_table())


def _table() -> dict[str, Any]:
    content = structure_table.read(g.group.database, request.args.to_dict(flat=False))
    shown = content["table"]
    rows = None
    if shown.view.name == "chosen" and shown.campaign is not None:
        rows = background.rows_of_chosen(shown.campaign, settled_s=shown.settled_s)
    return {**content, "rows": rows}


@blueprint.get("/of/<path:structure>")
@needs(Permission.READ)
def page(structure: str) -> ResponseReturnValue:
    """Show everything that is known of a structure."""
    subject = queries.find(g.group.database, structure)
    return render_template(
        "structure.html",
        known=queries.know(g.group.database, subject),
        subject=subject,
        largest=_largest,
    )


@blueprint.get("/beside")
@needs(Permission.READ)
def beside() -> ResponseReturnValue:
    """Show two structures side by side, ``?a=ID&b=ID``, their atoms coloured on one scale."""
    asked = [request.args.get(name, "") for name in ("a", "b")]
    subjects = [queries.find(g.group.database, key) for key in asked] if all(asked) else []
    return render_template("structures_beside.html", asked=asked, subjects=subjects)


@blueprint.get("/frames/<path:key>")
@needs(Permission.READ)
def frames(key: str) -> ResponseReturnValue:
    """Return what the viewer draws."""
    subject = queries.find(g.group.database, key)
    return _json(queries.frames_of(g.group.database, subject))


@blueprint.get("/file/<kind>/<path:key>")
@needs(Permission.READ)
def file(kind: str, key: str) -> ResponseReturnValue:
    """Hand out a structure as a file; ``?trajectory=1`` all frames of its relaxation."""
    from launchpad.dashboard.queries import structure_files

    if kind not in {"extxyz", "cif"}:
        abort(404, "Structures are handed out as extxyz or cif.")
    subject = queries.find(g.group.database, key)
    whole = request.args.get("trajectory") == "1"
    if whole and (kind != "extxyz" or subject.relaxation is None):
        abort(404, "This structure has no trajectory, or the format holds a single structure.")
    text = structure_files.text_of(
        g.group.database, subject, "cif" if kind == "cif" else "extxyz", trajectory=whole
    )
    answer = make_response(text)
    answer.mimetype = "chemical/x-cif" if kind == "cif" else "chemical/x-xyz"
    # of the identity that the database has, not of what was asked; nothing else may stand in a header
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", subject.id).strip("-.")[:150]
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="{name}{"-trajectory" if whole else ""}.{kind}"'
    )
    return tagged(answer)


@blueprint.get("/values/<path:key>")
@needs(Permission.READ)
def values(key: str) -> ResponseReturnValue:
    """Return what the newest potential says of each atom; 202 while that is being computed."""
    database = g.group.database
    frame = request.args.get("frame", "")
    if frame and not (frame.isdecimal() and len(frame) <= 9):
        abort(400, "frame is a whole number")
    subject = queries.find(database, key)
    if frame and subject.relaxation is not None and int(frame) != subject.frame:
        subject = queries.find(database, f"{subject.relaxation}/frame/{int(frame):04d}")
    label = queries.label_of(database, subject)
    result = background.values_of_atoms(
        subject.id, subject.campaign, labelled=label is not None and label.status == "done"
    )
    return background.send_part(result, "values", "application/json")


@blueprint.get("/map/<campaign>/", defaults={"generation": None})
@blueprint.get("/map/<campaign>/<int:generation>")
@needs(Permission.READ)
def map_page(campaign: str, generation: int | None) -> ResponseReturnValue:
    """Show the similarity map of a generation or of the whole campaign, or that it is being drawn."""
    result = background.similarity_map(campaign, generation)
    colour = _colour(generation)
    alike = result.facts.get("compositions", 1) < 2
    return render_template(
        "structure_map.html",
        campaign=campaign,
        generation=generation,
        newest=queries.newest_generation(g.group.database, campaign),
        result=result,
        most=background.settings().map_points,
        colour=colour,
        colours=[name for name in COLOURS if not (alike and name == "composition")],
    )


@blueprint.get("/map/<campaign>/now", defaults={"generation": None})
@blueprint.get("/map/<campaign>/<int:generation>/now")
@needs(Permission.READ)
def map_now(campaign: str, generation: int | None) -> ResponseReturnValue:
    """Return how far the first map is; once it is there, that the page is to be loaded again."""
    result = background.similarity_map(campaign, generation)
    answer = fragment("_structure_map.html", result=result)
    if result.made is not None:
        answer.headers["HX-Refresh"] = "true"
    return answer


@blueprint.get("/map/<campaign>/data", defaults={"generation": None})
@blueprint.get("/map/<campaign>/<int:generation>/data")
@needs(Permission.READ)
def map_data(campaign: str, generation: int | None) -> ResponseReturnValue:
    """Return the map as chemiscope reads it; structures are fetched when they are looked at."""
    result = background.similarity_map(campaign, generation)
    points = background.read_part(result, "points")
    if points is None:
        return background.later(result)
    title = campaign if generation is None else f"{campaign}, generation {generation}"
    symbol = "origin" if generation is None else "purpose"
    return _json(map_data_set(title, json.loads(points), _colour(generation), symbol))


def _colour(generation: int | None) -> str:
    wanted = request.args.get("colour") or ("energy" if generation is not None else "generation")
    if wanted not in COLOURS:
        raise InputError(f"colour={wanted[:20]!r}: one of {', '.join(COLOURS)}")
    return wanted


@blueprint.get("/atoms/<path:key>")
@needs(Permission.READ)
def atoms(key: str) -> ResponseReturnValue:
    """Return one structure as chemiscope reads it."""
    return _json(one_structure(queries.find(g.group.database, key).crystal))


def _largest(forces: Any) -> float:
    """Return the largest force on an atom."""
    import numpy as np

    return float(np.linalg.norm(forces, axis=1).max(initial=0.0))


def _json(found: object) -> Response:
    answer = make_response(json.dumps(found, separators=(",", ":"), allow_nan=False))
    answer.mimetype = "application/json"
    return tagged(answer)
