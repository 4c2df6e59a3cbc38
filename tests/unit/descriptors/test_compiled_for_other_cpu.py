"""Compiled loops on several kinds of processor that share one directory of compiled code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys
import numpy as np
from ase.build import bulk
from gapfactory.descriptors import SimilaritySettings, average_soap
cell = bulk("Si", cubic=True)
cell.rattle(0.1, rng=np.random.default_rng(1))
np.save(sys.argv[1], average_soap([cell], species=[14], settings=SimilaritySettings(n_max=6, l_max=5)))
"""


@pytest.mark.long
def test_processors_share_a_cache_and_agree(tmp_path: Path) -> None:
    """Code compiled for one processor is never run on another, and results agree to rounding."""
    vectors = []
    kept = []
    for name, target in (("host", {}), ("generic", {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""})):
        output = tmp_path / f"{name}.npy"
        environment = {
            **os.environ,
            "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
            **target,
        }
        subprocess.run([sys.executable, "-c", SCRIPT, str(output)], env=environment, check=True)
        vectors.append(np.load(output))
        kept.append(len(list((tmp_path / "cache").rglob("*.gfc"))))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-12)
    assert kept[0] > 0
    assert kept[1] == 2 * kept[0]
