"""Rows, growth and the table: what is pure in the comparisons with other programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Ratios nearer to one than this are a tie: repeated runs differ by as much.
TIE = 0.05


@dataclass(frozen=True)
class Row:
    """One figure of ours beside the same figure of a peer.

    Parameters
    ----------
    task, size
        What was done, and how much of it.
    peer
        The other program.
    unit
        Unit of both figures.
    ours, theirs
        Medians of the repeats.
    more_is_better
        Whether the larger figure is the better one.
    check
        What shows that both did the same work.
    repeats
        Number of runs of each side.
    """

    task: str
    size: str
    peer: str
    unit: str
    ours: float
    theirs: float
    more_is_better: bool = False
    check: str = ""
    repeats: int = 1

    @property
    def ratio(self) -> float:
        """How many times better ours is; below one where the peer is better.

        Raises
        ------
        ValueError
            A figure is not positive and finite: there is no ratio.
        """
        for value in (self.ours, self.theirs):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.task}, {self.size}: no ratio of {self.ours} and {self.theirs}")
        return self.ours / self.theirs if self.more_is_better else self.theirs / self.ours

    @property
    def winner(self) -> str:
        """`gapfactory`, the peer, or `tie`."""
        if abs(math.log(self.ratio)) < math.log1p(TIE):
            return "tie"
        return "gapfactory" if self.ratio > 1 else self.peer


@dataclass(frozen=True)
class Series:
    """A cost against the size of the problem, for one program in one figure."""

    figure: str
    x: str
    y: str
    name: str
    points: tuple[tuple[float, float], ...]

    @property
    def exponent(self) -> float:
        """See :func:`exponent`."""
        return exponent([p[0] for p in self.points], [p[1] for p in self.points])


@dataclass
class Comparison:
    """What one comparison found."""

    rows: list[Row] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "series": [asdict(one) for one in self.series],
            "missing": self.missing,
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Comparison:
        """Return what :meth:`document` wrote."""
        return cls(
            [Row(**row) for row in document["rows"]],
            [
                Series(**{**one, "points": tuple((float(x), float(y)) for x, y in one["points"])})
                for one in document["series"]
            ],
            list(document["missing"]),
        )


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return k of the power law cost = c size^k, by least squares of the logarithms.

    Raises
    ------
    ValueError
        Fewer than two different sizes, or a value that is not positive.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2:
        raise ValueError(f"an exponent needs two different sizes or more, not {list(sizes)}")
    if min(*sizes, *costs) <= 0:
        raise ValueError(f"an exponent needs positive values, not {list(sizes)} and {list(costs)}")
    x, y = [math.log(v) for v in sizes], [math.log(v) for v in costs]
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / math.fsum((a - mean_x) ** 2 for a in x)


def figure_text(value: float) -> str:
    """Return three digits, without an exponent where it is readable."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def table(rows: Iterable[Row]) -> list[str]:
    """Return the lines of the Markdown table; a peer that wins is in bold."""
    lines = [
        "| task | size | peer | gapfactory | peer's | ratio | better | the same work? |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        better = row.winner if row.winner in ("gapfactory", "tie") else f"**{row.winner}**"
        lines.append(
            f"| {row.task} | {row.size} | {row.peer} | {figure_text(row.ours)} {row.unit} | "
            f"{figure_text(row.theirs)} {row.unit} | {figure_text(row.ratio)} | {better} | {row.check} |"
        )
    return lines


def growth_table(series: Iterable[Series]) -> list[str]:
    """Return the lines of the Markdown table of exponents."""
    lines = ["| cost | grows with | program | from - to | exponent |", "|---|---|---|---|---:|"]
    for one in series:
        sizes = [p[0] for p in one.points]
        lines.append(
            f"| {one.figure}: {one.y} | {one.x} | {one.name} | {min(sizes):g} - {max(sizes):g} | {one.exponent:.2f} |"
        )
    return lines


def losses(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in which a peer is better."""
    return [row for row in rows if row.winner not in ("gapfactory", "tie")]
