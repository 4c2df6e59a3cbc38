"""Campaigns of a few seconds, with an analytic reference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _place_class():
    """Return the class that tests/conftest.py gives to tests; conftest files cannot import each other."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(Path(__file__).parents[1] / "conftest.py"):
            return module.Place
    spec = importlib.util.spec_from_file_location("gf_conftest", Path(__file__).parents[1] / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Place


TINY = """
preset: quickstart-Si-analytic
name: tiny
seed: 11
schedule: {cells_per_generation: 6, initial_cells: 12, generations: %(generations)d, quorum: %(quorum)s}
select: {noise_cells: 1, labels_per_generation: 4, held_out_per_generation: 2, minima: all}
stop: {label_budget: %(budget)d}
build: {atoms_min: 2, atoms_max: 4}
dimers: {bond_lengths: 4}
relax: {max_steps: 20}
gap:
  two_body: {n_sparse: 6}
  three_body: {n_sparse: 6}
  soap: {n_sparse: 10, n_max: 3, l_max: 2}
evidence: {stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8, contacts_to: 0.6}}
execution: {build_chunk: 6, relax_chunk: 3, reference_chunk: 2}
%(more)s
"""


def tiny_text(*, generations: int = 1, quorum: float = 0.8, more: str = "") -> str:
    """Return a campaign file of six labels per generation."""
    return TINY % {"generations": generations, "budget": 6 * generations, "quorum": quorum, "more": more}


@pytest.fixture(scope="session")
def tiny():
    """The text of a small campaign file, as a function of its number of generations and so on."""
    return tiny_text


@pytest.fixture(scope="session")
def tiny_campaign(tmp_path_factory):
    """A finished campaign of two generations; only to be read."""
    place = _place_class()(tmp_path_factory.mktemp("tiny"))
    try:
        place.write("tiny.yaml", tiny_text(generations=2))
        place.good("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
        yield place
    finally:
        place.close()


@pytest.fixture(scope="session")
def first_digests(tmp_path_factory):
    """Digests of the undisturbed campaign of one generation, to compare disturbed ones with."""
    place = _place_class()(tmp_path_factory.mktemp("undisturbed"))
    try:
        place.write("tiny.yaml", tiny_text())
        place.good("campaign", "run", "tiny.yaml", "--workers", "2", "--no-report")
        found = place.json("campaign", "digest", "tiny")
    finally:
        place.close()
    return found
