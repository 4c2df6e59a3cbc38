"""Colours of charts and pages can be told apart by everybody, also by those who lack one kind of cone."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from gapfactory.figures._style import COLOURS as PRINTED
from launchpad.dashboard.charts.style import COLOURS

STATIC = Path(__file__).parents[3] / "launchpad" / "dashboard" / "static"
#: G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, A physiologically-based model for simulation of color vision
#: deficiency, IEEE Trans. Vis. Comput. Graph. 15, 1291 (2009), https://doi.org/10.1109/TVCG.2009.113, severity 1.0;
#: they act on linear RGB.
SEEN_BY = {
    "everybody": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
#: Linear sRGB to CIE XYZ at D65 (IEC 61966-2-1).
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
#: CIE 1976 difference; 2.3 is just noticed side by side, points of a chart are small and apart.
LEAST = 15.0
#: Contrast of text to its ground, WCAG 2.2 AA, 1.4.3.
LEAST_CONTRAST = 4.5


def linear(colour):
    """Linear RGB of ``#rrggbb``."""
    c = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    t = TO_XYZ @ np.clip(rgb, 0, 1) / TO_XYZ.sum(axis=1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def closest(colours, matrix):
    """Smallest distance between two of them as somebody sees them, and which they are."""
    seen = {c: lab(np.asarray(matrix) @ linear(c)) for c in colours}
    return min((float(np.linalg.norm(seen[a] - seen[b])), a, b) for a, b in combinations(colours, 2))


def contrast(one, other):
    low, high = sorted((TO_XYZ @ linear(c))[1] for c in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("who", SEEN_BY)
@pytest.mark.parametrize("palette", [COLOURS, PRINTED], ids=["pages", "report"])
def test_series_are_told_apart(who, palette):
    distance, *pair = closest(palette, SEEN_BY[who])
    assert distance >= LEAST, pair


def test_the_simulation_finds_what_cannot_be_told_apart():
    # red and olive are the textbook's case
    red_olive = {who: closest(["#D44A3A", "#7A7A1A"], SEEN_BY[who])[0] for who in SEEN_BY}
    assert red_olive["everybody"] > 50
    assert max(red_olive["protanopia"], red_olive["deuteranopia"]) < 0.6 * red_olive["everybody"]
    assert closest(["#8A8A8A", "#CC79A7"], SEEN_BY["deuteranopia"])[0] < LEAST


@pytest.mark.parametrize("who", SEEN_BY)
def test_the_ramp_of_the_viewer_grows_lighter_for_everybody(who):
    script = (STATIC / "viewer.js").read_text(encoding="utf-8")
    steps = re.findall(r"\[(\d+), (\d+), (\d+)\]", re.search(r"ramp = \[(.*)\];", script)[1])
    light = [
        lab(np.asarray(SEEN_BY[who]) @ linear("#" + "".join(f"{int(c):02x}" for c in step)))[0]
        for step in steps
    ]
    assert len(light) >= 5
    assert np.diff(light).min() > 5


def themes():
    text = (STATIC / "app.css").read_text(encoding="utf-8")
    for block in re.findall(r"\{([^{}]*--paper[^{}]*)\}", text):
        if found := dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)):
            yield found


def test_words_of_states_can_be_read_on_both_papers():
    found = list(themes())
    assert len(found) == 3
    for theme in found:
        for name in ("ink", "quiet", "link", "good", "busy", "wait", "bad", "off"):
            for ground in ("paper", "panel"):
                assert contrast(theme[name], theme[ground]) >= LEAST_CONTRAST, (name, ground, theme)
