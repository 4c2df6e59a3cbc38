"""The page on recovery, generated from the engines: `python -m gapfactory.reference.describe FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.reference.engines.registry import engine_classes
from gapfactory.reference.faults import COMMON_SIGNATURES, Fault
from gapfactory.reference.ladder import COMMON_REMEDIES
from gapfactory.reference.program import ProgramEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.reference.faults import Signature
    from gapfactory.reference.ladder import Remedy

__all__ = ["recovery_page"]

HEAD = """# Recovery of reference calculations

Generated from the engines by `python -m gapfactory.reference.describe docs/reference/recovery.md`; a test keeps it
up to date.

A structure's calculation is a custodian job. Each attempt runs in a directory of its own. When an attempt has ended,
its outputs are searched for the words below, from top to bottom, the engine's own first; then the result is read and
checked. A fault climbs the ladder: the first rung against it that has not been used yet is taken, and its changes
stay for the rungs after it. Every rung is used once, so every ladder ends; `reference.max_attempts` bounds it further.
At the end the structure is quarantined with the last fault, and the campaign goes on. What was tried is in the
label's record (`custodian`, `failed_attempts`).

*Numerics* change how the solution is searched for, never which solution it is: a label that needed them is the same
label. Rungs marked **changes the energy** are refused unless the campaign says `reference.allow_energy_changes: true`;
such a label is stored under the hash of the settings that it really has, with a flag.

*Faults of the machine* ({machine}) blame no structure: the task is handed back and run again, later or elsewhere.
"""


def recovery_page() -> str:
    """Return the page as Markdown."""
    machine = ", ".join(sorted(str(fault) for fault in Fault if fault.machine))
    lines = [
        HEAD.format(machine=machine),
        "## Every engine",
        "",
        *_ladder(COMMON_REMEDIES),
        "",
        *_signatures(COMMON_SIGNATURES),
    ]
    for name, engine in engine_classes().items():
        if issubclass(engine, ProgramEngine):
            lines += ["", f"## {name}", "", *_ladder(engine.ladder), "", *_signatures(engine.signatures)]
            lines += ["", *_abilities(engine)]
    return "\n".join(lines) + "\n"


def _ladder(remedies: Sequence[Remedy]) -> list[str]:
    rows = ["| rung | against | what changes |", "| --- | --- | --- |"]
    for remedy in remedies:
        changes = [f"`{name}: {_shown(value)}`" for name, value in remedy.numerics.items()]
        changes += [
            f"**changes the energy**: `{name}` × {factor:g}" for name, factor in remedy.settings.items()
        ]
        if remedy.resume:
            changes.append("starts from the checkpoint")
        if remedy.pauses:
            changes.append(f"waits {remedy.pauses:g} × `pause_s`")
        against = "; ".join(sorted(str(fault) for fault in remedy.faults))
        rows.append(f"| {remedy.name} | {against} | {', '.join(changes) or 'nothing'} |")
    return rows


def _signatures(signatures: Sequence[Signature]) -> list[str]:
    rows = ["| words in the output (regular expression) | fault |", "| --- | --- |"]
    for signature in signatures:
        pattern = signature.pattern.replace("|", "\\|")
        hopeless = ", no remedy" if signature.hopeless else ""
        rows.append(f"| `{pattern}` | {signature.fault}{hopeless} |")
    return rows


def _abilities(engine: type[ProgramEngine]) -> list[str]:
    stops = "ask_to_stop" in _own_names(engine)
    continues = "has_checkpoint" in _own_names(engine)
    return [f"Stops softly when asked: {_yes(stops)}. Continues from a checkpoint: {_yes(continues)}."]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _own_names(engine: type[ProgramEngine]) -> set[str]:
    mine = engine.__mro__[: engine.__mro__.index(ProgramEngine)]
    return {name for cls in mine for name in vars(cls)}


def _shown(value: Any) -> str:
    text = str(value).replace("|", "\\|")
    return text if len(text) < 80 else text[:77] + "..."


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(recovery_page(), encoding="utf-8")
