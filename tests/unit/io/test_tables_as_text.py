"""Tables as HTML, and rows as columns."""

from __future__ import annotations

from gapfactory.io.tables import html_table, transposed


def test_html_escapes_what_it_is_given_and_marks_what_is_missing() -> None:
    found = html_table(("<a>", "b"), [("x & y", 1.23456789), (None, 3)])
    assert "<th>&lt;a&gt;</th><th>b</th>" in found
    assert "<tr><td>x &amp; y</td><td>1.2346</td></tr>" in found
    assert "<tr><td>–</td><td>3</td></tr>" in found


def test_rows_become_columns_and_equal_names_are_told_apart() -> None:
    rows = [{"crystal": "fcc", "a": 1, "b": 2}, {"crystal": "fcc", "a": 3, "b": None}]
    assert transposed(rows, "crystal") == [
        {"crystal": "a", "fcc": 1, "fcc (2)": 3},
        {"crystal": "b", "fcc": 2, "fcc (2)": None},
    ]
    assert transposed([], "crystal") == []
