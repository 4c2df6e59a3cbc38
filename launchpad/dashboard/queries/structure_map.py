"""A stored similarity map in the form that chemiscope reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import url_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

__all__ = ["map_data_set", "one_structure"]

#: Property -> field of a point, unit, what it is.
_PROPERTIES = {
    "component 1": ("x", "", "first component of the kernel PCA"),
    "component 2": ("y", "", "second component of the kernel PCA"),
    "energy": ("energy", "eV/atom", "by the potential that relaxed it"),
    "volume": ("volume", "Å^3/atom", "volume of the cell"),
    "coordination": ("coordination", "", "mean number of neighbours"),
    "purpose": ("purpose", "", "whether and for what it was chosen"),
    "structure": ("id", "", "name in the database"),
}


def map_data_set(campaign: str, generation: int, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a map with structures that are fetched when they are looked at.

    Parameters
    ----------
    points
        As `launchpad.dashboard.works.maps.draw_map` made them.
    """
    properties = {}
    for name, (field, unit, description) in _PROPERTIES.items():
        values = [point[field] for point in points]
        if any(value is None for value in values):
            # it knows no missing numbers
            continue
        properties[name] = {"target": "structure", "values": values, "description": description} | (
            {"units": unit} if unit else {}
        )
    colour = "energy" if "energy" in properties else "volume"
    return {
        "meta": {"name": f"{campaign}, generation {generation}"},
        "structures": [
            {"size": point["size"], "data": url_for("structures.atoms", key=point["id"])} for point in points
        ],
        "properties": properties,
        "settings": {
            "map": {
                "x": {"property": "component 1"},
                "y": {"property": "component 2"},
                "color": {"property": colour},
                "symbol": "purpose",
                "palette": "cividis",
            },
            "structure": [{"unitCell": True, "bonds": True}],
        },
    }


def one_structure(atoms: Atoms) -> dict[str, Any]:
    """Return a structure: names, coordinates and cell in Å."""
    import numpy as np

    places = np.round(atoms.positions, 5)
    found: dict[str, Any] = {
        "size": len(atoms),
        "names": atoms.get_chemical_symbols(),
        **{axis: places[:, k].tolist() for k, axis in enumerate("xyz")},
    }
    if atoms.cell.rank == 3:
        found["cell"] = np.round(atoms.cell.array, 5).ravel().tolist()
    return found
