"""Every keyword of AIRSS seed files: what it becomes here, or why it is refused.

docs/reference/airss-keywords.md is written from this table (`python -m gapfactory.build.seed_keywords FILE`).
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CASTEP_WORDS", "KEYWORDS", "Keyword", "markdown", "nearest"]


@dataclass(frozen=True)
class Keyword:
    """One keyword.

    Parameters
    ----------
    becomes
        What it is translated into.
    refused
        Why the directive is refused; empty: it is supported.
    tag
        Whether it is a tag of atoms too.
    tag_refused
        Why the tag is refused.
    """

    becomes: str = ""
    refused: str = ""
    tag: bool = False
    tag_refused: str = ""


_COORDINATION = "coordination numbers and bond angles are not imposed; choose among the structures afterwards"
_SHAPES = "clusters are spheres or ellipsoids: use SPHERE, or `confinement.half_axes` in a campaign file"
_HOLES = "no region of a cell is kept empty or chosen for an atom"
_OVERLAP_ONLY = (
    "atoms are pushed apart until all separations are met; there is no second relaxation of overlaps"
)

KEYWORDS: dict[str, Keyword] = {
    # contents
    "SPECIES": Keyword("contents `A%NUM=2,B`; each entry counts as one line for the volume"),
    "NATOM": Keyword("`atoms_min`, `atoms_max`, or `contents.formula_units` where the numbers are no range; with "
                     "several species `contents.composition: random`"),
    "NFORM": Keyword("`contents.formula_units`; without it the contents are multiplied by the number of operations"),
    "FOCUS": Keyword("`contents.species_present`"),
    "OCTET": Keyword(refused="electrons are not counted"),
    "VACANCIES": Keyword("`start.vacancies` (`n@X`)"),
    "PERMUTE": Keyword("`start.permute`"),
    "PERMFRAC": Keyword("`start.permuted_fraction`"),
    "SPIN": Keyword(refused="magnetic moments belong to the settings of the reference calculation", tag=True,
                    tag_refused="magnetic moments belong to the settings of the reference calculation"),
    "HOLE": Keyword(refused=_HOLES),
    "HOLEPOS": Keyword(refused=_HOLES),
    "REMOVE": Keyword(refused="coincident atoms are never made"),
    "FORMULA": Keyword(refused="write the contents as SPECIES with NUM"),
    # volume and cell
    "VARVOL": Keyword("`volume.per_atom` = value / lines, within 5 %"),
    "TARGVOL": Keyword("`volume.per_atom` = value / lines, a range uniformly, one value exactly"),
    "CONS": Keyword("`shape.equal_lengths`"),
    "ACONS": Keyword("`shape.flatness`"),
    "CELLCON": Keyword("`shape.cellcon`"),
    "SYSTEM": Keyword("`symmetry.crystal_systems`; Rhom: trigonal"),
    "COMPACT": Keyword("`shape.compact: true` (the default)"),
    "NOCOMPACT": Keyword("`shape.compact: false`"),
    "CELLAMP": Keyword("`start.cell_amplitude`; negative: a new random cell"),
    "CELLADAPT": Keyword(refused="the cell keeps its shape while atoms are pushed apart"),
    "FIX": Keyword("in the lattice block: `shape.cell`, or the cell of `start`", tag=True),
    "ABFIX": Keyword(refused="part of a cell cannot be fixed; give a, b and the angles by CELLCON"),
    "CFIX": Keyword(refused="part of a cell cannot be fixed; give c by CELLCON"),
    "SUPERCELL": Keyword("`start.supercell_size` (one number), `start.supercell` (three or nine)"),
    "VACUUM": Keyword("`confinement.vacuum`"),
    # symmetry
    "SYMMOPS": Keyword("`symmetry.operations`; `~n`: `symmetry.positions: general`"),
    "SYMMNO": Keyword("`symmetry.space_groups`"),
    "SYMM": Keyword("`symmetry.space_groups`, by Hermann-Mauguin symbol"),
    "SGRANK": Keyword(refused="there is no ranked list of space groups; name groups by SYMMNO"),
    "SYMMORPHIC": Keyword("`symmetry.symmorphic`"),
    "ADJGEN": Keyword("`symmetry.extra_sites`, the largest of a range"),
    # separations
    "MINSEP": Keyword("`separations` (value or range, pairs, AUTO); without it 1.8 r"),
    "SLACK": Keyword("`slack`, used from the first attempt on (`slack_start`)"),
    "AUTOSLACK": Keyword("`slack_start`, increased by 0.01 for each failed attempt"),
    "OVERLAP": Keyword("nothing: atoms are pushed until every separation is met, which is stricter"),
    "RASH": Keyword(refused=_OVERLAP_ONLY),
    "RASH_POSAMP": Keyword(refused=_OVERLAP_ONLY),
    "RASH_ANGAMP": Keyword(refused=_OVERLAP_ONLY),
    "NOPUSH": Keyword("`start.pushed: false`, for structures that start from given positions"),
    "PUSHMAX": Keyword("`push_stall`"),
    "PUSHSTEP": Keyword(refused="the step is 0.25, as is buildcell's default; leave it out"),
    "MAXTIME": Keyword("nothing: attempts are limited by number (`tries`), so that a seed gives the same structures"),
    "RAD": Keyword(refused="give the separations of pairs in MINSEP (sums of radii)", tag=True,
                   tag_refused="give the separations of pairs in MINSEP (sums of radii)"),
    "COORD": Keyword(refused=_COORDINATION, tag=True, tag_refused=_COORDINATION),
    "NN": Keyword(refused=_COORDINATION, tag=True, tag_refused=_COORDINATION),
    "MINBANGLE": Keyword(refused=_COORDINATION),
    "MAXBANGLE": Keyword(refused=_COORDINATION),
    "THREE": Keyword(refused="it is inactive in buildcell too; leave it out"),
    # units and displacements
    "NUM": Keyword("number of copies of a line or a unit", refused="NUM is a tag of SPECIES and positions", tag=True),
    "POSAMP": Keyword("`start.position_amplitude`; negative (the default): anywhere", tag=True),
    "MINAMP": Keyword("`start.atoms[].least`", tag=True),
    "XAMP": Keyword("`start.atoms[].box`", tag=True),
    "YAMP": Keyword("`start.atoms[].box`", tag=True),
    "ZAMP": Keyword("`start.atoms[].box`", tag=True),
    "ANGAMP": Keyword("`units[].rotation_max`, or `start.atoms[].angle`; negative (the default): any", tag=True),
    "BREAKAMP": Keyword("`start.break_amplitude`, for structures that start from given positions"),
    "FLIP": Keyword("`units[].flip`"),
    "NOMOVE": Keyword("`start.atoms[].no_move`", refused="NOMOVE is a tag of positions", tag=True),
    "PERM": Keyword("`start.atoms[].permute`", refused="PERM is a tag of positions", tag=True),
    "OCC": Keyword(refused="OCC is a tag of positions", tag=True,
                   tag_refused="crystals with occupations are read from CIF (gapfactory.build.occupation)"),
    "MULT": Keyword(refused="MULT is a tag of positions", tag=True,
                    tag_refused="multiplicities follow from the group; name the group by SYMMNO"),
    "ADATOM": Keyword(refused="ADATOM is a tag of positions", tag=True, tag_refused="adatoms are not added"),
    "ATHOLE": Keyword(refused="ATHOLE is a tag of positions", tag=True, tag_refused=_HOLES),
    "UNTIE": Keyword(refused="UNTIE is a tag of positions", tag=True, tag_refused="symmetry holds for every atom"),
    "VOL": Keyword(refused="VOL is a tag of positions", tag=True, tag_refused="give the volume by TARGVOL or VARVOL"),
    "MOLECULES": Keyword(refused="lines that share a label are a unit; label the atoms of each molecule"),
    "TIGHT": Keyword(refused="units are packed by the volume; give it by TARGVOL"),
    # confinement
    "CLUSTER": Keyword("`confinement.kind: cluster`"),
    "SPHERE": Keyword("`confinement.radius`; negative: `confinement.radius_per_root`"),
    "SLAB": Keyword("`confinement.kind: slab`"),
    "SURFACE": Keyword("`confinement.kind: slab` with `keep_sides`"),
    "WIDTH": Keyword("`confinement.width`"),
    "SHIFT": Keyword(refused="the slab is in the middle of the cell"),
    "CORE": Keyword(refused=_SHAPES),
    "ELLIPSOID": Keyword(refused=_SHAPES),
    "PANCAKE": Keyword(refused=_SHAPES),
    "CIGAR": Keyword(refused=_SHAPES),
    "CYLINDER": Keyword(refused=_SHAPES),
    "SEED": Keyword(refused="give the seed on the command line (--seed)"),
}  # fmt: skip

#: keywords and blocks of CASTEP that say how a structure is calculated, not what it is
CASTEP_WORDS = frozenset(
    {
        "FIX_ALL_CELL", "FIX_ALL_IONS", "FIX_COM", "FIX_VOL", "SYMMETRY_GENERATE", "SNAP_TO_SYMMETRY", "SYMMETRY_TOL",
        "KPOINTS_MP_SPACING", "KPOINT_MP_SPACING", "KPOINTS_MP_GRID", "KPOINT_MP_GRID", "KPOINTS_MP_OFFSET",
        "PHONON_KPOINT_MP_GRID", "PHONON_KPOINT_MP_SPACING", "SUPERCELL_KPOINTS_MP_SPACING",
        "SPECIES_POT", "SPECIES_MASS", "SPECIES_LCAO_STATES", "EXTERNAL_PRESSURE", "IONIC_CONSTRAINTS",
        "CELL_CONSTRAINTS", "HUBBARD_U", "BS_KPOINT_PATH", "SPECTRAL_KPOINT_PATH", "KPOINTS_LIST", "QUANTIZATION_AXIS",
    }
)  # fmt: skip


def nearest(key: str, known: Iterable[str] = KEYWORDS) -> str:
    """Return a hint: which known keyword was probably meant."""
    names = {name.upper(): name for name in sorted(known, reverse=True)}
    close = difflib.get_close_matches(key.upper(), names, n=1, cutoff=0.4)
    return f"did you mean {names[close[0]]}?" if close else f"known are {', '.join(sorted(names.values()))}"


def markdown() -> str:
    """Return docs/reference/airss-keywords.md."""
    lines = [
        "# Keywords of AIRSS seed files",
        "",
        "Generated by `python -m gapfactory.build.seed_keywords docs/reference/airss-keywords.md`; a test keeps it up",
        "to date. What the settings mean: [campaign-file.md](campaign-file.md), `build`. How to use seed files:",
        "[../how-to/build-structures.md](../how-to/build-structures.md).",
        "",
        "A keyword that is not in this table is an error that names the nearest one. A range `a-b` is drawn from",
        "uniformly, a set `{a,b}` is chosen from. A *tag* stands behind `%` in a line of positions or in `SPECIES`.",
        "",
        "| keyword | tag | becomes |",
        "| --- | --- | --- |",
    ]
    for name, keyword in sorted(KEYWORDS.items()):
        supported = not keyword.refused or (keyword.tag and not keyword.tag_refused)
        if supported:
            lines.append(f"| `{name}` | {'yes' if keyword.tag else ''} | {keyword.becomes} |")
    lines += ["", "## Not supported", "", "| keyword | why |", "| --- | --- |"]
    for name, keyword in sorted(KEYWORDS.items()):
        if keyword.refused and (not keyword.tag or keyword.tag_refused):
            lines.append(f"| `{name}` | {keyword.tag_refused or keyword.refused} |")
    lines += [
        "",
        "## Passed over",
        "",
        "Keywords and blocks of CASTEP that say how a structure is calculated; `gapfactory build` lists those it met:",
        "",
        ", ".join(f"`{word}`" for word in sorted(CASTEP_WORDS)) + ".",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
