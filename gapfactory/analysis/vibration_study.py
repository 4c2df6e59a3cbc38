"""Which data and settings show what each part of a database for vibrations is good for.

Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), section 4: potentials without supercells (Fig. 1), with
diagonal supercells instead of non-diagonal ones at equal cost (Fig. 3), with fewer frames (Fig. 4), and with constant
expected errors (Figs. 7 and 8). All are fits to labels that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gapfactory.analysis.reference_cost import affordable, reference_cost
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gapfactory.analysis.reference_cost import ReferenceCost
    from gapfactory.analysis.vibration_settings import StudySettings
    from gapfactory.potentials.gap.settings import GapSettings

__all__ = ["StudyFit", "StudyFrame", "frames_cost", "static_errors", "study_fits", "study_variants"]


@dataclass(frozen=True)
class StudyFrame:
    """One labelled frame.

    Parameters
    ----------
    id
        Name of the label.
    kind
        The crystal as it is, a strained primitive cell, a distorted non-diagonal supercell, or a diagonal one with
        one displaced atom.
    atoms
        Atoms of its cell.
    grid
        k-points along the three reciprocal vectors with which it was labelled.
    parent
        Name of the crystal it is a frame of.
    """

    id: str
    kind: Literal["crystal", "primitive", "supercell", "diagonal"]
    atoms: int
    grid: tuple[int, int, int]
    parent: str = ""


@dataclass(frozen=True)
class StudyFit:
    """One potential to be fitted.

    Parameters
    ----------
    variant
        ``primitives``, ``diagonal``, ``equal-cost``, ``static``, ``learning-NNNN-own`` or ``learning-NNNN-all``, where
        NNNN is the number of frames.
    ids
        Frames whose labels it is fitted to, in the order in which they were given. Isolated atoms are not named.
    gap
        Settings of the fit.
    unlabelled
        Frames that sparse points may be chosen from as well, but whose labels are not used.
    cost
        Cost of the labels of `ids`.
    """

    variant: str
    ids: tuple[str, ...]
    gap: GapSettings
    unlabelled: tuple[str, ...]
    cost: ReferenceCost


def study_fits(
    frames: Sequence[StudyFrame], studies: StudySettings, gap: GapSettings, rng: np.random.Generator
) -> tuple[StudyFit, ...]:
    """Return the fits of all studies that are switched on.

    Every fit has the crystals as they are. A study of which no frame was labelled is left out, and so is a size of the
    learning curve that is not smaller than the number of frames there are.

    Parameters
    ----------
    frames
        The labelled ones of all crystals; those of each crystal in the order of their numbers, so that the first are
        some of every supercell.
    studies
        What is wanted.
    gap
        Settings of the potential that is fitted to all frames but those of kind `diagonal`.
    rng
        Source of the random subsets: `gapfactory.seeds.stream(seed, generation, Stage.STUDY)`.

    Raises
    ------
    InputError
        Two frames have one id, or constant errors are to be compared with errors that are not adaptive.
    """
    if len({frame.id for frame in frames}) != len(frames):
        raise InputError("two frames have the same id: give each frame once")
    own = [frame for frame in frames if frame.kind != "diagonal"]
    crystals = [frame for frame in own if frame.kind == "crystal"]
    found: list[StudyFit] = []

    def add(variant: str, chosen: Sequence[StudyFrame], with_settings: GapSettings = gap) -> None:
        wanted = {frame.id for frame in (*crystals, *chosen)}
        kept = [frame for frame in frames if frame.id in wanted]
        if len(kept) > len(crystals):
            ids = tuple(frame.id for frame in kept)
            found.append(StudyFit(variant, ids, with_settings, (), frames_cost(kept)))

    if studies.primitives:
        add("primitives", [frame for frame in own if frame.kind == "primitive"])
    if studies.diagonal:
        add("diagonal", [frame for frame in frames if frame.kind == "diagonal"])
        add("equal-cost", _equal_cost(frames))
    if studies.static:
        add("static", own, static_errors(gap, studies))
    # one permutation: the smaller subsets lie within the larger
    order = [own[k] for k in rng.permutation(len(own)).tolist() if own[k].kind != "crystal"]
    for size in sorted(set(studies.learning)):
        if size >= len(own) or size <= len(crystals):
            continue
        add(f"learning-{size:04d}-own", order[: size - len(crystals)])
        few = found[-1]
        others = tuple(frame.id for frame in own if frame.id not in set(few.ids))
        found.append(StudyFit(f"learning-{size:04d}-all", few.ids, gap, others, few.cost))
    return tuple(found)


def study_variants(studies: StudySettings) -> tuple[str, ...]:
    """Return the names of all fits that may be made; which of them `study_fits` makes, the labels decide."""
    return (
        *(("primitives",) if studies.primitives else ()),
        *(("diagonal", "equal-cost") if studies.diagonal else ()),
        *(("static",) if studies.static else ()),
        *(f"learning-{size:04d}-{way}" for size in sorted(set(studies.learning)) for way in ("own", "all")),
    )


def frames_cost(frames: Sequence[StudyFrame]) -> ReferenceCost:
    """Return what it costs to label frames."""
    return reference_cost([frame.atoms for frame in frames], [frame.grid for frame in frames])


def _equal_cost(frames: Sequence[StudyFrame]) -> list[StudyFrame]:
    """Return, crystal by crystal, the first non-diagonal supercells that cost no more than its diagonal ones."""
    found: list[StudyFrame] = []
    for parent in dict.fromkeys(frame.parent for frame in frames):
        here = [frame for frame in frames if frame.parent == parent]
        budget = frames_cost([frame for frame in here if frame.kind == "diagonal"]).total
        small = [frame for frame in here if frame.kind == "supercell"]
        found += small[: affordable([f.atoms for f in small], [f.grid for f in small], budget)]
    return found


def static_errors(gap: GapSettings, studies: StudySettings) -> GapSettings:
    """Return the settings with constant expected errors of forces and virials.

    Raises
    ------
    InputError
        The errors are not adaptive before.
    """
    if gap.sigma.rule != "adaptive":
        raise InputError(
            f"studies.static compares constant with adaptive errors, but gap.sigma.rule is {gap.sigma.rule!r}: "
            "set it to 'adaptive', or studies.static to false"
        )
    adaptive = gap.sigma.adaptive.model_copy(
        update={
            "force_fraction": 0.0,
            "force_floor": studies.static_force,
            "virial_fraction": 0.0,
            "virial_floor": studies.static_virial,
        }
    )
    return gap.model_copy(update={"sigma": gap.sigma.model_copy(update={"adaptive": adaptive})})
