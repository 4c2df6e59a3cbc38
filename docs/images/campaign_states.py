"""Draws campaign_states.svg: the states of a campaign, with an arrow for each transition that the code allows.

`python docs/images/campaign_states.py` writes it beside this file; tests/unit/test_explanations.py compares.
"""

from __future__ import annotations

from pathlib import Path

from launchpad.database.campaigns import _FOLLOWS
from launchpad.states import CampaignState

#: State -> the middle of its box, and who is needed to go on.
PLACES = {
    "submitted": (120, 110, "on the queue"),
    "running": (500, 110, "tasks are done"),
    "done": (820, 110, "its own stop rule"),
    "halted": (500, 310, "needs a person"),
    "cancelled": (120, 310, "ended by a person"),
}
#: (from, to) -> path, place of its words, words; no words: seldom, drawn dashed.
ARROWS = {
    ("submitted", "running"): ("M200 110 H420", (310, 102), "first task"),
    ("running", "running"): ("M475 82 C450 30 550 30 525 82", (500, 36), "next generation"),
    ("running", "done"): ("M580 110 H740", (660, 102), "stop"),
    ("running", "halted"): ("M520 138 V282", (528, 220), "cannot go on"),
    ("halted", "running"): ("M480 282 V138", (472, 182), "resume, retry"),
    ("running", "cancelled"): ("M430 138 L200 300", (262, 295), "cancel"),
    ("cancelled", "running"): ("M150 282 L420 124", (226, 222), "resume"),
    ("submitted", "cancelled"): ("M120 138 V282", (112, 215), "cancel"),
    ("halted", "cancelled"): ("M420 318 H200", (310, 336), "cancel"),
    ("cancelled", "cancelled"): ("M95 338 C70 390 170 390 145 338", (120, 398), "again"),
    ("submitted", "halted"): ("M190 138 L425 282", (0, 0), ""),
    ("submitted", "done"): ("M120 82 C220 -35 720 -35 820 82", (0, 0), ""),
    ("halted", "done"): ("M580 300 C740 290 810 230 820 138", (0, 0), ""),
}
#: Words that begin or end at their place; all others are centred on it.
ANCHORS = {("running", "halted"): "start", ("halted", "running"): "end", ("submitted", "cancelled"): "end"}

HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -15 940 425" role="img" aria-labelledby="title description">
  <title id="title">States of a campaign</title>
  <desc id="description">Submitted, running, done, halted and cancelled, with an arrow for each transition.</desc>
  <style>
    text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 12px; fill: #1f2933; text-anchor: middle }
    .name { font-size: 16px; font-weight: bold }
    .box { fill: #e3effa; stroke: #2f74ad; stroke-width: 1.5 }
    .done { fill: #e6f4ea; stroke: #3c8f57 }
    .halted { fill: #fdf3dc; stroke: #c9962b }
    .cancelled { fill: #f1f3f5; stroke: #7b8794 }
    .line { fill: none; stroke: #3e4c59; stroke-width: 1.6; marker-end: url(#head) }
    .seldom { stroke-dasharray: 5 4; stroke-width: 1.2 }
  </style>
  <defs>
    <marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
      <path d="M0 0 10 5 0 10z" fill="#3e4c59"/>
    </marker>
  </defs>
  <rect y="-15" width="940" height="425" fill="#ffffff"/>"""


def picture() -> str:
    """Return the picture as SVG.

    Raises
    ------
    ValueError
        The code allows other transitions than are drawn.
    """
    allowed = {(str(before), str(after)) for after, earlier in _FOLLOWS.items() for before in earlier}
    if allowed != set(ARROWS) or {str(state) for state in CampaignState} != set(PLACES):
        msg = f"what is drawn is not what the code allows: {sorted(allowed ^ set(ARROWS))}"
        raise ValueError(msg)
    lines = [HEAD]
    for pair, (path, (x, y), words) in ARROWS.items():
        lines.append(f'  <path class="line{"" if words else " seldom"}" d="{path}"/>')
        if words:
            anchor = ANCHORS.get(pair, "middle")
            lines.append(f'  <text x="{x}" y="{y}" style="text-anchor:{anchor}">{words}</text>')
    for name, (x, y, note) in PLACES.items():
        lines.append(f'  <rect class="box {name}" x="{x - 80}" y="{y - 28}" width="160" height="56" rx="6"/>')
        lines.append(f'  <text class="name" x="{x}" y="{y - 2}">{name}</text>')
        lines.append(f'  <text x="{x}" y="{y + 16}">{note}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
