"""Potentials as files: everything comes back bit for bit, old forms are read, what XML cannot hold is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.model import (
    GapModel,
    GlueType,
    PairCurve,
    PairTable,
    empty_term,
    with_points,
)
from gapfactory.potentials.gap.xml import read_gap, sparse_files, write_gap

if TYPE_CHECKING:
    from pathlib import Path

SE = "covariance_type=ard_se theta_uniform=0.7"
STRINGS = (
    ("distance_2b Z1=14 Z2=8 cutoff=5.0", SE),
    ("distance_Nb order=2 Z={14 14} cutoff=5.0", SE),
    ("angle_3b Z=14 Z1=8 Z2=14 cutoff=3.5", SE),
    ("distance_Nb order=3 Z={14 14 8} cutoff=3.5 compact_clusters=F", SE),
    (
        "soap n_max=4 l_max=5 atom_sigma=0.5 cutoff=4.5 Z=14 n_species=2 species_Z={8 14}",
        "covariance_type=dot_product zeta=2.5",
    ),
)


FIRST = with_points(empty_term(*STRINGS[0], 1.0), np.ones((1, 1)), np.ones(1))


def model(**changes: Any) -> GapModel:
    """Return a potential with every kind of term, awkward numbers and awkward texts."""
    rng = np.random.default_rng(3)
    terms = []
    for k, (descriptor, covariance) in enumerate(STRINGS):
        empty = empty_term(descriptor, covariance, 1.0 / 3.0 + k, f0=0.1 * k)
        points = rng.normal(size=(3 + k, empty.dimension))
        points[0, 0] = 5e-324
        alphas = 1e5 * rng.normal(size=len(points))
        terms.append(with_points(empty, points, alphas, rng.random(len(points))))
    r = np.array([0.7, 1.1, 2.0, 2.9])
    grid = np.column_stack([r, np.zeros(4)])
    core = PairTable(
        (PairCurve((14, 8), r, 1.0 / r, -1.0 / 0.49, 0.0), PairCurve((8, 8), r, 1 / r**2)),
        (
            GlueType(14, grid, (0.0, 0.1), True, grid, (None, None)),
            GlueType(8, grid, (0.0, 0.0), False, grid, (0.0, 2e30)),
        ),
        label="core",
        arguments="IP Glue label=core",
    )
    values: dict[str, Any] = {
        "terms": tuple(terms),
        "e0": {14: -0.1, 8: 1e-300, 1: 0.0},
        "baseline": core,
        "label": "GAP_2026_1_1",
        "root": "outer",
        "potential_label": "a \"b\" <c> & 'd'",
        "attributes": {"svn_version": "4<5"},
        "gap_version": 1769700636,
        "command_line": "at_file=a.xyz gap={soap a<b & c} \t e='x'",
        "training_data": '1\nLattice="1 0 0" x=<a>&amp;  \nSi 0 0 0\n\n ',
        "comments": (" made by hand ", "a & b < c"),
    }
    return GapModel(**(values | changes))


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("changes", [{}, {"baseline": None, "root": "", "training_data": ""}])
def test_everything_comes_back(tmp_path: Path, inline: bool, changes: dict[str, Any]) -> None:
    first = model(**changes)
    written = write_gap(first, tmp_path / "my.xml", inline=inline)
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == (1 if inline else 6)
    again = read_gap(tmp_path / "my.xml")
    assert again == first
    for ours, theirs in zip(first.terms, again.terms, strict=True):
        assert ours.points.tobytes() == theirs.points.tobytes()
        assert ours.alphas.tobytes() == theirs.alphas.tobytes()
    assert sparse_files(tmp_path / "my.xml") == written[1:]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_gap(again, tmp_path / "my.xml", inline=inline)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_line_is_longer_than_quip_reads(tmp_path: Path) -> None:
    """QUIP takes a line in pieces of 1024 characters and drops blanks between them."""
    write_gap(model(training_data="", command_line=""), tmp_path / "gap.xml", inline=True)
    assert max(map(len, (tmp_path / "gap.xml").read_text().splitlines())) < 1024
    long = dataclasses.replace(model().terms[0], command=STRINGS[0][0] + " " * 1000)
    with pytest.raises(PotentialError, match="characters on a line"):
        write_gap(model(terms=(long,)), tmp_path / "gap.xml")


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=6),
    e0=st.dictionaries(st.integers(1, 118), finite, max_size=5),
    texts=st.lists(st.text(max_size=30), min_size=3, max_size=3),
    inline=st.booleans(),
)
def test_any_model_comes_back_or_is_refused(
    tmp_path: Path,
    numbers: list[tuple[float, float, float]],
    e0: dict[int, float],
    texts: list[str],
    inline: bool,
) -> None:
    points, alphas, cutoffs = (np.array(column) for column in zip(*numbers, strict=True))
    pair = with_points(empty_term(*STRINGS[0], 1.0), points[:, None], alphas, cutoffs)
    first = model(terms=(pair,), e0=e0, command_line=texts[0], training_data=texts[1], comments=(texts[2],))
    try:
        write_gap(first, tmp_path / "gap.xml", inline=inline)
    except PotentialError:
        return
    assert read_gap(tmp_path / "gap.xml") == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "a b"}, "cannot name a potential"),
        ({"label": "../x"}, "cannot name a potential"),
        ({"label": ""}, "cannot name a potential"),
        ({"root": "1x"}, "cannot name a potential"),
        ({"command_line": "a\x00"}, "XML cannot hold"),
        ({"command_line": "a\r\n"}, "XML cannot hold"),
        ({"command_line": "\ud800"}, "XML cannot hold"),
        ({"training_data": "a]]>b"}, "XML cannot hold"),
        ({"comments": ("a--b",)}, "XML cannot hold"),
        ({"attributes": {"label": "x"}}, "cannot stand"),
        ({"potential_label": "x" * 2000}, "1024"),
        ({"terms": (empty_term(*STRINGS[0], 1.0),)}, "no sparse points"),
        ({"gap_version": 0}, "term 2 says otherwise than the term about compact_clusters"),
        ({"terms": (dataclasses.replace(FIRST, cutoff=4.9),)}, "says otherwise than the term about cutoff"),
    ],
)
def test_what_xml_or_quip_cannot_hold_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PotentialError, match=message):
        write_gap(model(**changes), tmp_path / "gap.xml")
    assert not (tmp_path / "gap.xml").exists()


def test_a_failed_write_leaves_the_old_potential(tmp_path: Path) -> None:
    write_gap(model(), tmp_path / "gap.xml", inline=True)
    before = (tmp_path / "gap.xml").read_bytes()
    (tmp_path / "gap.xml.sparseX.GAP_2026_1_12").mkdir()
    with pytest.raises(PotentialError, match="cannot be written"):
        write_gap(model(e0={}), tmp_path / "gap.xml")
    assert (tmp_path / "gap.xml").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(PotentialError, match="directory that exists"):
        write_gap(model(), tmp_path / "none" / "gap.xml")


def edited(directory: Path, **replacements: tuple[str, str]) -> Path:
    """Write a separate-file potential with some pieces of text replaced; each must be there."""
    path = directory / "gap.xml"
    write_gap(model(baseline=None, training_data="", comments=()), path)
    text = path.read_text()
    for old, new in replacements.values():
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_old_forms_are_read(tmp_path: Path) -> None:
    """Exponents as theta, no version, no `fitted`, Fortran's numbers, blanks around the descriptor."""
    path = edited(
        tmp_path,
        zeta=(' zeta="2.5"', ""),
        theta=("<descriptor>soap", "<theta> 0.25000000000000000E+001 </theta><descriptor> soap"),
        version=(' gap_version="1769700636"', ""),
        fitted=(' fitted="T"', ""),
        number=('signal_mean="0.1"', 'signal_mean=".10000000000000001D+000"'),
    )
    found = read_gap(path)
    soap = found.terms[4]
    assert found.gap_version == 0
    assert soap.zeta == 2.5  # type: ignore[union-attr]
    assert soap.command.startswith(" soap")
    assert found.terms[1].f0 == 0.1
    # and the defaults of that time
    assert soap.central_reference_all_species is True  # type: ignore[union-attr]
    assert model().terms[4].central_reference_all_species is False  # type: ignore[union-attr]
    path = edited(tmp_path, md5=(f' sparseX_md5sum="{_md5(tmp_path)}"', ""))
    assert read_gap(path) == model(baseline=None, training_data="", comments=())


def _md5(directory: Path) -> str:
    raw = (directory / "gap.xml.sparseX.GAP_2026_1_11").read_bytes()
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def test_large_sparse_files_are_read_in_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    term = with_points(empty_term(*STRINGS[4], 1.0), rng.normal(size=(400, 217)), rng.normal(size=400))
    first = GapModel((term,))
    write_gap(first, tmp_path / "gap.xml")
    sparse = tmp_path / "gap.xml.sparseX.GAP_gapfactory1"
    assert sparse.stat().st_size > 1 << 20
    assert read_gap(tmp_path / "gap.xml") == first
    # without a checksum the numbers themselves must give it away
    raw, text = sparse.read_bytes(), (tmp_path / "gap.xml").read_text()
    start = text.index(" sparseX_md5sum")
    (tmp_path / "gap.xml").write_text(text[:start] + text[text.index(">", start) :])
    assert read_gap(tmp_path / "gap.xml") == first
    for spoilt, message in (
        (raw + b"1.0\n", "more than 400 x 217"),
        (raw[: raw.index(b"\n") + 1] + raw[raw.index(b"\n") + 1 :].split(b"\n", 1)[1], "numbers, expected"),
        (raw[:-3] + b"x\n", "not a number"),
        (
            raw[: len(raw) // 2] + b"\nnan" + raw[len(raw) // 2 :].split(b"\n", 1)[1],
            r"expected|finite|number",
        ),
    ):
        sparse.write_bytes(spoilt)
        with pytest.raises(PotentialError, match=message):
            read_gap(tmp_path / "gap.xml")
