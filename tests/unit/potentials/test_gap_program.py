"""The text that gap_fit reads."""

from __future__ import annotations

from itertools import combinations

import pytest

from gapfactory.elements import species
from gapfactory.potentials.gap.program import PIECE, gap_line
from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.potentials.gap.terms import terms


@pytest.mark.parametrize("symbols", list(combinations(["Cu", "Au", "Ti", "O", "Si"], 2)))
def test_no_piece_of_the_line_ends_between_two_words(symbols: tuple[str, str]) -> None:
    """gap_fit drops blanks at the end of each piece of 1024 characters: "Z=29 Z1=79" became one word."""
    found = terms([species(s) for s in symbols], GapSettings())
    line = gap_line(found, (12.3456789, 1.23456789, 0.123456789), [30] * len(found))
    assert len(line) > 2 * PIECE - 200
    assert line.startswith("gap={")
    pieces = [line[i : i + PIECE] for i in range(0, len(line), PIECE)]
    assert "".join(piece.rstrip(" ") for piece in pieces) == line
