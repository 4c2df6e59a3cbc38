"""A published EDDP on its own sets: errors of the lithium ensemble of github.com/SehunJoo/ddp-batch.

::

    git clone https://github.com/SehunJoo/ddp-batch
    (cd ddp-batch/examples/1.3_spawn-batch_airss_repose && tar xzf Li.tar.gz)
    python tests/benchmarks/eddp_lithium.py ddp-batch

The sets hold environment vectors and enthalpies, which are what these networks were trained on.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from gapfactory.potentials.eddp import read_eddp

ENSEMBLE = Path("examples/1.3_spawn-batch_airss_repose/Li.eddp")
SETS = {name: Path("examples/3.1_spawn-batch_forge") / name for name in ("validation", "testing")}


def read_set(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return full vectors of all atoms (N, D), where structures begin (S + 1,), and enthalpies (S,) in eV."""
    vectors, offsets, enthalpies = [], [0], []
    for block in path.read_text(encoding="utf-8").split("structure:")[1:]:
        head, _, body = block.partition("\n")
        found = {key: re.search(rf"{key}:\s*(\S+)", head) for key in ("centres", "enthalpy")}
        assert all(found.values()), head
        centres = int(found["centres"][1])
        enthalpies.append(float(found["enthalpy"][1]))
        vectors.append(np.array(body.split(), dtype=float).reshape(centres, -1))
        offsets.append(offsets[-1] + centres)
    return np.vstack(vectors), np.array(offsets), np.array(enthalpies)


def main() -> None:
    """Print the errors on both sets."""
    parser = argparse.ArgumentParser(description="Errors of a published EDDP on its own sets.")
    parser.add_argument("checkout", type=Path, help="directory of ddp-batch, Li.tar.gz unpacked")
    place = parser.parse_args().checkout
    ensemble = read_eddp(place / ENSEMBLE)
    for name, path in SETS.items():
        vectors, offsets, enthalpies = read_set(place / path)
        atoms = np.diff(offsets)
        members = ensemble.member_energies(vectors, offsets)
        errors = 1000 * (np.vstack([np.dot(ensemble.parts, members), members]) - enthalpies) / atoms
        mae, rmse = np.abs(errors).mean(axis=1), np.sqrt((errors**2).mean(axis=1))
        order = spearmanr(np.dot(ensemble.parts, members) / atoms, enthalpies / atoms).statistic
        print(
            f"{name}: {len(atoms)} structures, {len(ensemble.members)} networks: MAE {mae[0]:.2f}, RMSE {rmse[0]:.2f} "
            f"meV/atom, Spearman {order:.3f}; single networks: MAE {mae[1:].min():.2f} to {mae[1:].max():.2f}, RMSE "
            f"{rmse[1:].min():.1f} to {rmse[1:].max():.1f}"
        )


if __name__ == "__main__":
    main()
