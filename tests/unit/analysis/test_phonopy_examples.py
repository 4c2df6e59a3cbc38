"""phonopy's own examples: force constants, units, signs and sum rules against the frequencies that phonopy expects.

Forces of VASP on rock salt and silicon, of ABACUS (lengths in Bohr) on aluminium. Neither forces nor frequencies are
part of this repository: `deploy/test.sh` takes them out of a source distribution of phonopy;
`GAPFACTORY_PHONOPY_SOURCE` names another source tree of it.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.units import Bohr
from ruamel.yaml import YAML

from gapfactory._spglib import quiet_spglib
from gapfactory.analysis.force_constants import DisplacementSet, ForceConstants, force_constants

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMED = os.environ.get("GAPFACTORY_PHONOPY_SOURCE")
SOURCE = Path(NAMED or Path(sys.prefix) / "phonopy-2.20.0")
# where everything has to run, missing files are a failure
pytestmark = pytest.mark.skipif(
    not SOURCE.is_dir() and os.environ.get("GAPFACTORY_REQUIRE_CODES") != "1",
    reason="no source tree of phonopy: start deploy/test.sh, or name one by GAPFACTORY_PHONOPY_SOURCE",
)


def cell_of(data: Any, length: float = 1.0) -> Atoms:
    return Atoms(
        [p["symbol"] for p in data["points"]],
        cell=length * np.array(data["lattice"]),
        scaled_positions=[p["coordinates"] for p in data["points"]],
        masses=[p["mass"] for p in data["points"]],
        pbc=True,
    )


def constants_of(
    document: Any, moves: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]], length: float = 1.0
) -> ForceConstants:
    """Return our force constants of phonopy's displacements (atom, Å) and forces (eV/Å)."""
    crystal, supercell = cell_of(document["primitive_cell"], length), cell_of(document["supercell"], length)
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


def force_sets(path: Path, length: float = 1.0) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    n, count = int(lines[0][0]), int(lines[1][0])
    moves = []
    for k in range(count):
        block = lines[2 + k * (n + 2) : 2 + (k + 1) * (n + 2)]
        moves.append((int(block[0][0]) - 1, length * np.array(block[1], float), np.array(block[2:], float)))
    return moves


def document(*names: str) -> Any:
    return YAML(typ="safe").load(SOURCE.joinpath(*names))


def rock_salt() -> ForceConstants:
    return constants_of(
        document("test", "phonopy_disp_NaCl.yaml"), force_sets(SOURCE / "test" / "FORCE_SETS_NaCl")
    )


def silicon() -> ForceConstants:
    found = document("test", "phonopy_params_Si.yaml")
    moves = [
        (int(d["atom"]) - 1, np.array(d["displacement"], float), np.array(d["forces"], float))
        for d in found["displacements"]
    ]
    return constants_of(found, moves)


def expected(name: str) -> NDArray[np.float64]:
    """Return frequencies in THz that phonopy's test of meshes expects, by q-point: the literal list, nothing is run."""
    tree = ast.parse((SOURCE / "test" / "phonon" / "test_mesh.py").read_text())
    lists = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return np.reshape(lists[name], (-1, 6))


def mesh(constants: ForceConstants) -> NDArray[np.float64]:
    """Return our frequencies in THz at the irreducible points of phonopy's test, 3x3x3, in the order of spglib."""
    crystal = constants.crystal
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    with quiet_spglib():
        mapping, addresses = spglib.get_ir_reciprocal_mesh((3, 3, 3), cell)
    return constants.frequencies(addresses[np.unique(mapping)] / 3)


def test_silicon() -> None:
    found = mesh(silicon())
    np.testing.assert_allclose(found, expected("freqs_full_fcsym_ref_si"), atol=1e-5)
    assert found.max() == pytest.approx(15.111196, abs=1e-5)


def test_rock_salt() -> None:
    """Without the fields of the ions' charges, which neither this side has."""
    constants = rock_salt()
    np.testing.assert_allclose(mesh(constants), expected("freqs_nonac_ref"), atol=1e-5)
    # the drift that phonopy prints for this example (its doc/examples.md: "0.040159 (xx) 0.000009 (xx)")
    assert constants.drift == pytest.approx(0.040159, abs=1e-6)


def test_aluminium() -> None:
    """Lengths in Bohr, forces in eV/Å: units are ours to convert. 60 q-points of the mesh that phonopy wrote."""
    folder = ("example", "Al-ABACUS", "abacus-lcao")
    found = constants_of(
        document(*folder, "phonopy.yaml"), force_sets(SOURCE.joinpath(*folder, "FORCE_SETS"), Bohr), Bohr
    )
    points = document(*folder, "mesh.yaml")["phonon"]
    wanted = np.array([[band["frequency"] for band in point["band"]] for point in points])
    assert wanted.shape == (60, 3)
    np.testing.assert_allclose(found.frequencies([p["q-position"] for p in points]), wanted, atol=1e-5)


@pytest.mark.parametrize("crystal", [silicon, rock_salt])
def test_sum_rules_and_signs(crystal: Any) -> None:
    constants = crystal()
    np.testing.assert_allclose(constants.values.sum(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(constants.frequencies([[0, 0, 0]])[0, :3], 0, atol=1e-3)
    # a displaced atom is pushed back
    for atom in range(len(constants.crystal)):
        itself = np.flatnonzero((constants.sites == [atom, 0, 0, 0]).all(axis=1))
        assert len(itself) == 1
        assert np.linalg.eigvalsh(constants.values[atom, itself[0]]).min() > 1.0
