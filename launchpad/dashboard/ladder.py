"""The tasks of a generation as a ladder: one band for each kind of task and step, drawn as SVG by a template.

Few tasks are boxes with their names and a line for each dependence; many are small squares, and the lines join bands.
More than `MOST` are not drawn one by one: each band has a block for each state, with the number of its tasks, which
leads to their table.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MOST", "Band", "Block", "Cell", "Ladder", "Rung", "arrange", "fold"]

#: Up to so many tasks are drawn one by one.
MOST: Final = 600
#: Up to so many tasks are drawn as boxes with names.
_FEW: Final = 30
_LABEL: Final = 190
_WIDTH: Final = 1000
_GAP: Final = 44
_BOX: Final = (150, 34, 12)
_SQUARE: Final = (16, 16, 4)
#: What is written into a box or square: a state is never told by its colour alone.
SIGNS: Final = {
    "COMPLETED": "✓",
    "RUNNING": "▶",
    "RESERVED": "▷",
    "READY": "○",
    "WAITING": "·",
    "FIZZLED": "!",
    "PAUSED": "‖",
    "DEFUSED": "×",
    "ARCHIVED": "−",
}


@dataclass(frozen=True)
class Rung:
    """A task with what it waits for."""

    fw_id: int
    name: str
    kind: str
    state: str
    parents: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A task at its place (all lengths in units of the drawing)."""

    rung: Rung
    x: int
    y: int
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class Block:
    """The tasks of one kind and state, where there are too many to draw each."""

    state: str
    number: int
    x: int
    width: int
    text: str


@dataclass(frozen=True)
class Band:
    """The tasks of one kind that are equally far from the beginning."""

    kind: str
    y: int
    height: int
    cells: tuple[Cell, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of tasks by state."""
        if self.blocks:
            return {block.state: block.number for block in self.blocks}
        return dict(sorted(Counter(cell.rung.state for cell in self.cells).items()))


@dataclass(frozen=True)
class Ladder:
    """The drawing.

    Attributes
    ----------
    width, height
        Of the whole.
    bands
        From the first step to the last.
    lines
        Dependences as (x1, y1, x2, y2), from what is waited for to what waits.
    boxes
        Whether tasks are boxes with names.
    """

    width: int
    height: int
    bands: tuple[Band, ...]
    lines: tuple[tuple[int, int, int, int], ...]
    boxes: bool

    @property
    def label_width(self) -> int:
        """Width of what stands before each band."""
        return _LABEL


def arrange(rungs: Sequence[Rung]) -> Ladder:
    """Place the tasks of a workflow.

    Parameters
    ----------
    rungs
        All tasks; parents that are not among them are ignored.
    """
    boxes = len(rungs) <= _FEW
    width, height, gap = _BOX if boxes else _SQUARE
    columns = (_WIDTH - _LABEL) // (width + gap)
    depths = _depths(rungs)
    groups: dict[tuple[int, str], list[Rung]] = {}
    for rung in rungs:
        groups.setdefault((depths[rung.fw_id], rung.kind), []).append(rung)
    bands = []
    y = 10
    for (_, kind), members in sorted(groups.items()):
        cells = tuple(
            Cell(
                rung,
                _LABEL + (place % columns) * (width + gap),
                y + (place // columns) * (height + gap),
                width,
                height,
                SIGNS.get(rung.state, "?") + (f" {_short(rung.name)}" if boxes else ""),
            )
            for place, rung in enumerate(members)
        )
        rows = (len(members) - 1) // columns + 1
        tall = max(rows * (height + gap) - gap, 34)
        bands.append(Band(kind, y, tall, cells))
        y += tall + _GAP
    lines = _between_tasks(bands) if boxes else _between_bands(bands)
    return Ladder(_WIDTH, max(y - _GAP + 10, 10), tuple(bands), lines, boxes)


def fold(counts: Mapping[str, Mapping[str, int]], order: Sequence[str]) -> Ladder:
    """Place the states of a workflow's tasks, kind by kind.

    Parameters
    ----------
    counts
        ``{kind: {state: number}}``.
    order
        The kinds from the first step to the last; others come after them.
    """
    height, narrowest, gap = 34, 90, 4
    places = {kind: place for place, kind in enumerate(order)}
    bands = []
    y = 10
    for kind in sorted(counts, key=lambda kind: (places.get(kind, len(places)), kind)):
        states = sorted(counts[kind].items())
        total = sum(number for _, number in states)
        room = _WIDTH - _LABEL - len(states) * (narrowest + gap)
        x, blocks = _LABEL, []
        for state, number in states:
            width = narrowest + room * number // total
            blocks.append(Block(state, number, x, width, f"{SIGNS.get(state, '?')} {number}"))
            x += width + gap
        bands.append(Band(kind, y, height, (), tuple(blocks)))
        y += height + _GAP
    x = _LABEL + 30
    lines = [(x, above.y + above.height, x, below.y) for above, below in pairwise(bands)]
    return Ladder(_WIDTH, max(y - _GAP + 10, 10), tuple(bands), tuple(lines), False)


def _short(name: str) -> str:
    """Return the last word of a task's name: campaign and generation are those of the page."""
    word = name.rpartition(" ")[2] or name
    return word if len(word) <= 20 else word[:19] + "…"


def _depths(rungs: Sequence[Rung]) -> dict[int, int]:
    """Return for each task the length of the longest way to it."""
    known = {rung.fw_id for rung in rungs}
    waiting = {rung.fw_id: sum(parent in known for parent in set(rung.parents)) for rung in rungs}
    children: dict[int, list[int]] = {}
    for rung in rungs:
        for parent in set(rung.parents) & known:
            children.setdefault(parent, []).append(rung.fw_id)
    depths = dict.fromkeys(waiting, 0)
    order = [fw_id for fw_id, count in waiting.items() if count == 0]
    for fw_id in order:  # grows while it is read
        for child in children.get(fw_id, ()):
            depths[child] = max(depths[child], depths[fw_id] + 1)
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    return depths


def _between_tasks(bands: Iterable[Band]) -> tuple[tuple[int, int, int, int], ...]:
    cells = {cell.rung.fw_id: cell for band in bands for cell in band.cells}
    return tuple(
        (
            cells[parent].x + cells[parent].width // 2,
            cells[parent].y + cells[parent].height,
            cell.x + cell.width // 2,
            cell.y,
        )
        for cell in cells.values()
        for parent in cell.rung.parents
        if parent in cells
    )


def _between_bands(bands: Sequence[Band]) -> tuple[tuple[int, int, int, int], ...]:
    """Join bands that depend on each other, side by side over the labels where a line passes others by."""
    place = {cell.rung.fw_id: number for number, band in enumerate(bands) for cell in band.cells}
    pairs = sorted(
        {
            (place[parent], number)
            for number, band in enumerate(bands)
            for cell in band.cells
            for parent in cell.rung.parents
            if parent in place
        }
    )
    lines = []
    for above, below in pairs:
        x = _LABEL + 30 if below == above + 1 else _LABEL - 6 - 6 * ((below - above) % 3)
        lines.append((x, bands[above].y + bands[above].height, x, bands[below].y))
    return tuple(lines)
