"""A similarity map in the form that chemiscope reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import url_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launchpad.dashboard.queries.crystal import Crystal

__all__ = ["COLOURS", "map_data_set", "one_structure"]

#: Property -> field of a point, unit, what it is.
_PROPERTIES: Final = {
    "component 1": ("x", "", "first component of the kernel PCA"),
    "component 2": ("y", "", "second component of the kernel PCA"),
    "energy": ("energy", "eV/atom", "by the newest potential, above the lowest of the map"),
    "volume": ("volume", "Å^3/atom", "volume of the cell"),
    "coordination": ("coordination", "", "mean number of neighbours"),
    "composition": ("composition", "", "formula, reduced"),
    "generation": ("generation", "", "which one made it"),
    "origin": ("origin", "", "what it is"),
    "purpose": ("purpose", "", "whether and for what it was chosen"),
    "structure": ("id", "", "name in the database"),
}
#: What points can be coloured by; a map of one composition is not coloured by that.
COLOURS: Final = ("generation", "origin", "energy", "volume", "coordination", "composition")
#: Colours are numbers there, so what has a name is counted.
_NAMED: Final = ("origin", "composition")


def map_data_set(title: str, points: Sequence[Mapping[str, Any]], colour: str, symbol: str) -> dict[str, Any]:
    """Return a map with structures that are fetched when they are looked at.

    Parameters
    ----------
    points
        As `launchpad.dashboard.works.maps.draw_map` made them.
    colour
        One of `COLOURS`; the volume where it is not known.
    symbol
        ``origin`` or ``purpose``.
    """
    properties: dict[str, dict[str, Any]] = {}
    for name, (field, unit, description) in _PROPERTIES.items():
        values = [point.get(field) for point in points]
        if any(value is None for value in values):
            # it knows no missing numbers
            continue
        properties[name] = {"target": "structure", "values": values, "description": description} | (
            {"units": unit} if unit else {}
        )
    numbered = {}
    for name in _NAMED:
        if name in properties:
            numbered[name], added = _numbered(name, properties[name]["values"])
            properties[numbered[name]] = added
    wanted = numbered.get(colour, colour)
    return {
        "meta": {"name": title},
        "structures": [
            {"size": point["size"], "data": url_for("structures.atoms", key=point["id"])} for point in points
        ],
        "properties": properties,
        "settings": {
            "map": {
                "x": {"property": "component 1"},
                "y": {"property": "component 2"},
                "color": {"property": wanted if wanted in properties else "volume"},
                "symbol": symbol,
                "palette": "cividis",
            },
            "structure": [{"unitCell": True, "bonds": True}],
        },
    }


def _numbered(name: str, values: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return name and values of a property that stands for one with names: of two elements, the share of the second."""
    if name == "composition":
        from gapfactory.structures import composition_scale

        scale = composition_scale(values)
        if scale is not None:
            text, shares = scale
            return text, {
                "target": "structure",
                "values": [round(share, 6) for share in shares],
                "description": f"{text} in the formula",
            }
    kinds = sorted(set(values))
    return f"{name}, numbered", {
        "target": "structure",
        "values": [kinds.index(value) for value in values],
        "description": ", ".join(f"{number}: {kind}" for number, kind in enumerate(kinds)),
    }


def one_structure(crystal: Crystal) -> dict[str, Any]:
    """Return a structure: names, coordinates and cell in Å."""
    import numpy as np

    places = np.round(crystal.positions, 5)
    found: dict[str, Any] = {
        "size": len(crystal),
        "names": crystal.symbols,
        **{axis: places[:, k].tolist() for k, axis in enumerate("xyz")},
    }
    if crystal.volume:
        found["cell"] = np.round(crystal.cell, 5).ravel().tolist()
    return found
