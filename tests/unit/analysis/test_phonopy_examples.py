"""phonopy's own examples: forces of VASP on rock salt and silicon, and the frequencies phonopy's tests expect of them.

The files are not part of this repository. `GAPFACTORY_PHONOPY_SOURCE` names a source tree of phonopy (a clone, or its
unpacked source distribution); without it these tests are left out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ruamel.yaml import YAML

from gapfactory.analysis.force_constants import DisplacementSet, ForceConstants, force_constants

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = os.environ.get("GAPFACTORY_PHONOPY_SOURCE", "")
pytestmark = pytest.mark.skipif(
    not SOURCE, reason="GAPFACTORY_PHONOPY_SOURCE names no source tree of phonopy"
)


def cell_of(data: Any) -> Atoms:
    return Atoms(
        [p["symbol"] for p in data["points"]],
        cell=data["lattice"],
        scaled_positions=[p["coordinates"] for p in data["points"]],
        masses=[p["mass"] for p in data["points"]],
        pbc=True,
    )


def constants_of(
    document: Any, moves: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]
) -> ForceConstants:
    """Return our force constants of phonopy's displacements (atom, Å) and forces (eV/Å)."""
    crystal, supercell = cell_of(document["primitive_cell"]), cell_of(document["supercell"])
    matrix = np.rint(supercell.cell.array @ np.linalg.inv(crystal.cell.array)).astype(np.int64)
    planned = DisplacementSet(
        crystal=crystal,
        matrix=matrix,
        supercell=supercell,
        cells=tuple(supercell.copy() for _ in moves),
        displaced=tuple(m[0] for m in moves),
        displacements=np.array([m[1] for m in moves]),
        symmetry_tolerance=1e-5,
    )
    return force_constants(planned, [m[2] for m in moves])


def rock_salt() -> ForceConstants:
    folder = Path(SOURCE) / "test"
    document = YAML(typ="safe").load(folder / "phonopy_disp_NaCl.yaml")
    lines = [line.split() for line in (folder / "FORCE_SETS_NaCl").read_text().splitlines() if line.strip()]
    n, count = int(lines[0][0]), int(lines[1][0])
    moves = []
    for k in range(count):
        block = lines[2 + k * (n + 2) : 2 + (k + 1) * (n + 2)]
        moves.append((int(block[0][0]) - 1, np.array(block[1], float), np.array(block[2:], float)))
    return constants_of(document, moves)


def silicon() -> ForceConstants:
    document = YAML(typ="safe").load(Path(SOURCE) / "test" / "phonopy_params_Si.yaml")
    moves = [
        (int(d["atom"]) - 1, np.array(d["displacement"], float), np.array(d["forces"], float))
        for d in document["displacements"]
    ]
    return constants_of(document, moves)


def test_silicon() -> None:
    """phonopy's test_mesh expects 15.1112 THz at Gamma."""
    found = silicon()
    np.testing.assert_allclose(found.frequencies([[0, 0, 0]])[0], [0, 0, 0, *[15.111196] * 3], atol=2e-3)
    np.testing.assert_allclose(found.values.sum(axis=1), 0, atol=1e-10)


def test_rock_salt() -> None:
    """phonopy's test_mesh expects 4.6164 THz at Gamma when the sum rule is imposed, without it -0.037 and 4.6085."""
    found = rock_salt()
    np.testing.assert_allclose(found.frequencies([[0, 0, 0]])[0], [0, 0, 0, *[4.616435] * 3], atol=5e-3)
    np.testing.assert_allclose(found.values.sum(axis=1), 0, atol=1e-10)
    # the drift that phonopy prints for this example (its doc/examples.md: "0.040159 (xx) 0.000009 (xx)")
    assert found.drift == pytest.approx(0.040159, abs=1e-6)
