"""The tasks of a generation as a ladder: one band for each kind of task and step, drawn as SVG by a template.

Few tasks are boxes with their names and a line for each dependence; many are small squares, and the lines join bands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Band", "Cell", "Ladder", "Rung", "arrange"]

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
class Band:
    """The tasks of one kind that are equally far from the beginning."""

    kind: str
    y: int
    height: int
    cells: tuple[Cell, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of tasks by state."""
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
