"""`gapfactory structures check`: whether labels that somebody gives may be fitted."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import JsonOption, PrefixOption  # noqa: TC001 - typer reads the annotations
from launchpad.cli.output import print_json, say, table

if TYPE_CHECKING:
    from gapfactory.analysis.label_check import LabelCheck
    from gapfactory.io.labelled import LabelledData

__all__ = ["check"]


def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Extended XYZ, databases of ASE (.db), outputs of VASP, CASTEP, pw.x, GPAW, ABINIT, FHI-aims.",
            show_default=False,
        ),
    ],
    prefix: PrefixOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check labelled structures before anything is fitted to them: signs, units, duplicates, mixed settings.

    Forces and stresses are compared with derivatives of a small model of the energies, which tells a wrong sign or unit
    without knowing the material. All files are checked as one set. Exit code 1 when there is a fault.

    Examples
    --------
      gapfactory structures check training.xyz

      gapfactory structures check run*/vasprun.xml --json

      gapfactory structures check data.extxyz --prefix PBE_
    """
    from gapfactory.analysis.label_check import check_data
    from gapfactory.io.labelled import read_labelled

    data = {str(path): read_labelled(path, prefix) for path in files}
    found = check_data(data)
    summary = _summary(data, found)
    if as_json:
        print_json(summary)
    else:
        _show(summary)
    raise typer.Exit(1 if found.faults else 0)


def _summary(data: dict[str, LabelledData], found: LabelCheck) -> dict[str, Any]:
    frames = [frame for part in data.values() for frame in part.frames]
    return {
        "files": {
            name: {
                "structures": len(part.frames),
                "keys": part.keys,
                "methods": sorted(set(part.methods) - {""}),
            }
            for name, part in data.items()
        },
        "structures": len(frames),
        "atoms": sum(len(frame.atoms) for frame in frames),
        "energy_rms_eV_per_atom": found.energy_rms,
        "agreements": {
            what: {"correlation": a.correlation, "ratio": a.ratio, "values": a.values}
            for what, a in found.agreements.items()
        },
        "faults": list(found.faults),
        "notes": list(found.notes),
    }


def _show(summary: dict[str, Any]) -> None:
    table(
        "labels",
        ["file", "structures", "read from", "method"],
        [
            [
                name,
                part["structures"],
                ", ".join(part["keys"].values()),
                "; ".join(part["methods"]) or "not said",
            ]
            for name, part in summary["files"].items()
        ],
    )
    table(
        "beside the derivatives of a model of the energies",
        ["quantity", "correlation", "ratio"],
        [
            [what, f"{found['correlation']:.2f}", f"{found['ratio']:.3g}"]
            for what, found in summary["agreements"].items()
        ],
    )
    for note in summary["notes"]:
        say(f"note: {note}")
    for fault in summary["faults"]:
        say(f"fault: {fault}")
    if not summary["faults"]:
        say(f"no fault found in {summary['structures']} structures with {summary['atoms']} atoms")
