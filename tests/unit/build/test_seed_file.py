"""Seed files of AIRSS: what is read, what becomes of it, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from gapfactory.build.from_seed import Failure, structures_of
from gapfactory.build.seed_file import parse_seed, read_seed
from gapfactory.build.seed_keywords import KEYWORDS, markdown
from gapfactory.build.seed_translation import choices, translate
from gapfactory.errors import InputError, UnknownElementError
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from gapfactory.build.cells import BuiltCell
    from gapfactory.build.seed_translation import Seed

ROOT = Path(__file__).resolve().parents[3]

BORON = """
#VARVOL=7.3
#SPECIES=B%NUM=12
#SYMMOPS=2-4
##SGRANK=20
#NFORM=1
##ADJGEN=0-1
#SLACK=0.25
#OVERLAP=0.1
#MINSEP=1.5
#COMPACT
KPOINTS_MP_SPACING 0.07
SYMMETRY_GENERATE
%BLOCK SPECIES_POT
QC5
%ENDBLOCK SPECIES_POT
"""


def seed_of(text: str) -> Seed:
    return translate(parse_seed(text, where="test.cell"))


def built(seed: Seed, count: int) -> list[BuiltCell]:
    results = list(structures_of(seed, count, 1))
    assert not [r for r in results if isinstance(r, Failure)]
    return [r for r in results if not isinstance(r, Failure)]


def refused(text: str) -> str:
    with pytest.raises(InputError) as error:
        seed_of(text)
    return str(error.value)


def icosahedron(label: str = "B12") -> str:
    golden = (1 + 5**0.5) / 2
    rows = [np.roll((0.0, a, b * golden), k) * 0.88 for k in range(3) for a in (1, -1) for b in (1, -1)]
    return "\n".join(f"B {x:.10f} {y:.10f} {z:.10f} # {label}" for x, y, z in rows)


def test_a_usual_search_for_boron() -> None:
    seed = seed_of(BORON)
    assert seed.passed_over == ("KPOINTS_MP_SPACING", "SYMMETRY_GENERATE", "SPECIES_POT")
    (variant,) = seed.variants
    assert variant.composition == {"B": 12}
    for cell in built(seed, 20):
        assert len(cell.atoms) == 12
        assert cell.symmetry_operations in (2, 3, 4)
        assert 7.3 * 0.95 <= cell.atoms.get_volume() / 12 <= 7.3 * 1.05
        assert neighbor_list("d", cell.atoms, 2.0).min(initial=2.0) >= 1.5 * 0.75 - 1e-8


def test_contents_follow_the_operations_without_nform() -> None:
    """buildcell multiplies what it is given by the number of operations."""
    seed = seed_of("#TARGVOL=8-9\n#SPECIES=B%NUM=2\n#SYMMOPS={3,4}\n#MINSEP=1.4")
    assert len(seed.variants) == 2
    sizes = set()
    for cell in built(seed, 20):
        assert len(cell.atoms) == 2 * cell.symmetry_operations
        assert 8.0 <= cell.atoms.get_volume() / len(cell.atoms) <= 9.0
        sizes.add(len(cell.atoms))
    assert sizes == {6, 8}


def test_volume_is_that_of_the_lines() -> None:
    """36 Å^3 for three lines is 12 Å^3 for an atom, whatever NUM and NFORM make of them."""
    text = "%BLOCK POSITIONS_FRAC\nCa 0 0 0 # Ca % NUM=1\nTi 0 0 0 # Ti % NUM=1\nO 0 0 0 # O % NUM=3\n"
    text += (
        "%ENDBLOCK POSITIONS_FRAC\n#VARVOL=36\n#NFORM={1,2}\n#SYMMOPS=1-2\n#MINSEP=1.5 O-O=1.8 Ti-O=1.4-1.6\n"
    )
    sizes = set()
    for cell in built(seed_of(text), 12):
        n = len(cell.atoms)
        sizes.add(n)
        assert cell.atoms.get_volume() / n == pytest.approx(12, rel=0.0501)
        assert str(cell.atoms.symbols.formula.reduce()[0].format("hill")) == "CaO3Ti"
    assert sizes == {5, 10}


def test_units_of_icosahedra() -> None:
    text = f"%BLOCK POSITIONS_ABS\n{icosahedron()}\n%ENDBLOCK POSITIONS_ABS\n"
    text += "#SYMMOPS=3-4\n#VARVOL=103\n#MINSEP=1.4\n#SLACK=0.25"
    seed = seed_of(text)
    sizes = set()
    for cell in built(seed, 8):
        sizes.add(len(cell.atoms))
        bodies = np.array(cell.bodies)
        assert len(cell.atoms) == 12 * cell.symmetry_operations
        for body in set(cell.bodies):
            positions = cell.atoms.positions[bodies == body]
            own = np.linalg.norm(positions[:, None] - positions[None], axis=2)
            assert np.allclose(np.sort(own, axis=1)[:, 1:6], 1.76, atol=1e-8)
    assert sizes <= {36, 48}


def test_a_structure_that_is_shaken() -> None:
    text = """
%BLOCK LATTICE_CART
5.43 0 0
0 5.43 0
0 0 5.43
%ENDBLOCK LATTICE_CART
#CELLAMP=0.02
#POSAMP=0.1
#MINSEP=1.8
#SUPERCELL=1 1 2
#VACANCIES=1@Si
%BLOCK POSITIONS_FRAC
Si 0.00 0.00 0.00 # a % FIX
Si 0.50 0.50 0.00 # b
Si 0.50 0.00 0.50 # c % POSAMP=0.3 MINAMP=0.2
Si 0.00 0.50 0.50 # d
Si 0.25 0.25 0.25 # e
Si 0.75 0.75 0.25 # f % ZAMP=0
Si 0.75 0.25 0.75 # g
Si 0.25 0.75 0.75 # h
%ENDBLOCK POSITIONS_FRAC
"""
    seed = seed_of(text)
    start = seed.variants[0].settings.start
    assert start is not None
    assert start.atoms[0].fixed
    assert start.atoms[2].amplitude == 0.3
    assert start.atoms[5].box == (None, None, 0.0)
    for cell in built(seed, 5):
        assert len(cell.atoms) == 15
        assert cell.atoms.constraints


def test_clusters_and_slabs() -> None:
    cluster = seed_of(
        "#SPECIES=B%NUM=10\n#CLUSTER\n#SPHERE=3\n#VACUUM=8\n#SYMMOPS=1-5\n#NFORM=1\n#MINSEP=1.4\n#SLACK=0.2"
    )
    for cell in built(cluster, 5):
        assert not cell.atoms.pbc.any()
        assert cell.atoms.cell[0, 0] == pytest.approx(14)
    slab = seed_of(
        "#SPECIES=B%NUM=4\n#SLAB\n#WIDTH=1\n#VACUUM=8\n#SYMMOPS=2\n#VARVOL=9\n#MINSEP=1.4\n#SLACK=0.2"
    )
    for cell in built(slab, 5):
        assert len(cell.atoms) == 8
        assert np.ptp(cell.atoms.positions[:, 2]) <= 1 + 1e-5
        assert cell.atoms.cell[2, 2] == pytest.approx(9)


def test_other_words_become_settings() -> None:
    one = (
        seed_of(
            "#SPECIES=Si,O%NUM=2\n#SYMM=Pnma\n#NFORM=4\n#ADJGEN=0-1\n#CONS=0.6\n#ACONS=0.4\n#NOCOMPACT\n#AUTOSLACK=0.1\n"
            "#MINSEP=1-2 Si-Si=3 AUTO\n#PUSHMAX=50"
        )
        .variants[0]
        .settings
    )
    assert one.symmetry.space_groups == (62,)
    assert one.symmetry.extra_sites == 1
    assert (one.shape.equal_lengths, one.shape.flatness, one.shape.compact) == (0.6, 0.4, False)
    assert (one.slack_start, one.slack_step) == (0.1, 0.01)
    assert one.separations.value == (1, 2)
    assert one.separations.pairs == {"Si-Si": (3, 3)}
    assert one.separations.auto
    assert one.push_stall == 50
    two = (
        seed_of("#SPECIES=Si,O\n#NATOM=4-8\n#FOCUS=2\n#SYSTEM={Cubi,Rhom}\n#SYMMORPHIC\n#MINSEP=1.5")
        .variants[0]
        .settings
    )
    assert two.contents.composition == "random"
    assert two.contents.species_present == (2,)
    assert two.symmetry.crystal_systems == ("cubic", "trigonal")
    assert two.symmetry.symmorphic


def test_the_same_seed_gives_the_same_structures_whatever_their_number() -> None:
    seed = seed_of(BORON)
    few = [structure_hash(cell.atoms) for cell in built(seed, 3)]
    assert [structure_hash(cell.atoms) for cell in built(seed, 6)][:3] == few


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#MINSEPP=1", "test.cell, line 1: unknown keyword 'MINSEPP'; did you mean MINSEP?"),
        ("\n#SIMMOPS=2", "line 2: unknown keyword 'SIMMOPS'; did you mean SYMMOPS?"),
        ("#SGRANK=20", "SGRANK is not supported: there is no ranked list"),
        ("KPOINT_SPACING 0.1", "unknown keyword 'KPOINT_SPACING'; did you mean"),
        ("%BLOCK LATICE_CART\n%ENDBLOCK LATICE_CART", "unknown block 'LATICE_CART'; did you mean LATTICE_CART?"),
        ("%BLOCK LATTICE_CART\n1 0 0", "block LATTICE_CART has no end"),
        ("#SPECIES=B%NUMB=2", "unknown tag 'NUMB' of an atom; did you mean NUM?"),
        ("#SPECIES=B%COORD=4", "tag COORD is not supported"),
        ("#SPECIES=B\n#SYMMOPS=5", "there are groups of 1, 2, 3"),
        ("#SPECIES=B\n#SYMMOPS=4-2", "the range 4-2 runs downwards"),
        ("#SPECIES=B\n#MINSEP=-1.5", "attracting pairs"),
        ("#SPECIES=B\n#VARVOL=8\n#TARGVOL=8", "keep one"),
        ("#SPECIES=B\n#SLACK=0.1\n#SLACK=0.2", "SLACK is given twice"),
        ("#MINSEP=1", "no contents"),
        ("#SPECIES=B\n#VACUUM=3", "add CLUSTER or SLAB"),
        ("#SPECIES=B\n#SYMM=Fd-3n", "SYMM=Fd-3n is no space group; did you mean Fd-3"),
        ("#SPECIES=B\n#SYSTEM=Cubic,Hexx", "SYSTEM=Hexx; did you mean HEXA?"),
        ("#SPECIES=B\n#VACANCIES=x\n#MINSEP=1", "give a number and a species"),
        ("#SPECIES=B\n#POSAMP=1\n#SYMMOPS=2", "no imposed symmetry"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    assert message in refused(text)


def test_an_unknown_element_is_named() -> None:
    with pytest.raises(UnknownElementError, match="Xx"):
        seed_of("#SPECIES=Xx")


def test_values_are_numbers_ranges_and_sets() -> None:
    assert choices("t", "K", "2") == [(2, 2)]
    assert choices("t", "K", "1.5-2.5") == [(1.5, 2.5)]
    assert choices("t", "K", "{1,3-4, 6}") == [(1, 1), (3, 4), (6, 6)]
    assert choices("t", "K", "-1") == [(-1, -1)]
    assert choices("t", "K", "-2--1") == [(-2, -1)]
    with pytest.raises(InputError, match="give a number"):
        choices("t", "K", "1-2-3")


def test_every_keyword_of_the_notes_is_known() -> None:
    """The directives of buildcell's manual: none is unknown, whether supported or not."""
    manual = """
        ABFIX ACONS ADJGEN ANGAMP BREAKAMP CELLADAPT CELLAMP CELLCON CFIX CLUSTER COMPACT CONS COORD CYLINDER FIX FLIP
        FOCUS MAXBANGLE MAXTIME MINAMP MINBANGLE MINSEP NATOM NFORM NOCOMPACT NOPUSH OCTET OVERLAP PERMFRAC PERMUTE
        POSAMP RAD REMOVE SGRANK SHIFT SLAB SLACK SPECIES SPHERE SPIN SUPERCELL SURFACE SYMM SYMMNO SYMMOPS SYMMORPHIC
        SYSTEM TARGVOL THREE VACANCIES VACUUM VARVOL WIDTH XAMP YAMP ZAMP
    """
    assert set(manual.split()) <= set(KEYWORDS)


def test_the_table_in_the_documentation_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/airss-keywords.md").read_text(encoding="utf-8") == markdown()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.cell cannot be read"):
        read_seed(tmp_path / "nothing.cell")


def test_a_structure_written_as_a_seed_comes_back() -> None:
    """Round trip: cell and positions of a built structure, kept by amplitudes of zero, give the same structure."""
    (cell,) = built(seed_of(BORON), 1)
    rows = "\n".join(" ".join(map(repr, row)) for row in cell.atoms.cell.array.tolist())
    lines = "\n".join(
        f"B {x!r} {y!r} {z!r}" for x, y, z in cell.atoms.get_scaled_positions(wrap=False).tolist()
    )
    text = (
        f"%BLOCK LATTICE_CART\nang\n{rows}\n%ENDBLOCK LATTICE_CART\n"
        f"%BLOCK POSITIONS_FRAC\n{lines}\n%ENDBLOCK POSITIONS_FRAC\n"
        "#POSAMP=0\n#CELLAMP=0\n#MINSEP=1.1\n"
    )
    (again,) = built(seed_of(text), 1)
    assert np.allclose(again.atoms.cell.array, cell.atoms.cell.array, atol=1e-12)
    difference = again.atoms.get_scaled_positions() - cell.atoms.get_scaled_positions()
    assert np.abs(difference - np.rint(difference)).max() < 1e-9


def test_a_lattice_of_lengths_and_angles_that_is_fixed() -> None:
    text = "%BLOCK LATTICE_ABC\n4 4 6\n90 90 120\n#FIX\n%ENDBLOCK LATTICE_ABC\n"
    text += "#SPECIES=B%NUM=3\n#SYMMOPS=3\n#MINSEP=1.3"
    for cell in built(seed_of(text), 4):
        assert np.allclose(cell.atoms.cell.cellpar(), [4, 4, 6, 90, 90, 120])
        assert len(cell.atoms) == 9


def test_numbers_of_atoms_are_those_that_are_asked_for_and_no_others() -> None:
    seed = seed_of("#SPECIES=B\n#NATOM=2,4-5\n#SYMMOPS=1-3\n#VARVOL=20\n#MINSEP=1.2\n")
    made = {1: {2, 4, 5}, 2: {4, 8, 10}, 3: {6, 12, 15}}
    found = [(cell.symmetry_operations, len(cell.atoms)) for cell in built(seed, 90)]
    assert {order: {n for o, n in found if o == order} for order in made} == made
    two = seed_of("#SPECIES=B,C\n#NATOM=2-3\n#SYMMOPS=1-2\n")
    assert [(v.settings.atoms_min, v.settings.atoms_max) for v in two.variants] == [
        (2, 2),
        (3, 3),
        (4, 4),
        (6, 6),
    ]
    assert [v.settings.odd_fraction for v in two.variants] == [0.0, 1.0, 0.0, 0.0]


def test_displacements_along_axes_alone_keep_the_positions() -> None:
    block = "%BLOCK LATTICE_CART\n4 0 0\n0 4 0\n0 0 4\n#FIX\n%ENDBLOCK LATTICE_CART\n"
    place = "%BLOCK POSITIONS_ABS\nB 0 0 0\nB 2 2 2 {}\n%ENDBLOCK POSITIONS_ABS\n"
    shaken = seed_of(block + place.format("") + "#XAMP=0.3\n#YAMP=0\n#ZAMP=0\n#MINSEP=1\n")
    for cell in built(shaken, 5):
        away = cell.atoms.positions - [[0, 0, 0], [2, 2, 2]]
        away -= 4 * np.rint(away / 4)
        assert np.abs(away[:, 0]).max() <= 0.3
        assert np.abs(away[:, 1:]).max() < 1e-9
    tagged = seed_of(block + place.format("# % XAMP=0.3")).variants[0].settings.start
    assert tagged is not None
    assert [atom.anywhere for atom in tagged.atoms] == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("#NATOM=4\n#NOPUSH", "NATOM=4 draws contents.*give NUM"),
        ("#NFORM=2\n#POSAMP=0.1\n#CLUSTER", "NFORM=2 draws contents"),
        ("#SLACK=0.1\n#AUTOSLACK=0.2", "SLACK and AUTOSLACK.*keep one"),
        ("#MINSEP=1.5 AUTO 1.7", "two values for every pair"),
        ("#PUSHMAX=2.5", "PUSHMAX=2.5: give whole numbers"),
    ],
)
def test_words_that_would_be_passed_over_are_refused(words: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        seed_of(f"#SPECIES=B\n{words}\n")
    assert seed_of("#SPECIES=B\n#NFORM=1\n#NOPUSH\n").variants[0].settings.start is not None
