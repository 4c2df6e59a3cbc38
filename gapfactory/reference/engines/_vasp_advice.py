"""Custodian's own handlers for VASP as advisers: they look at a copy of a failed attempt, and we judge their changes.

The handlers need pymatgen (``pip install gapfactory[vasp]``); without it the engine's own ladder does the work.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.reference.engines._vasp_files import LARGEST_SYMPREC, NUMERICS
from gapfactory.reference.ladder import Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gapfactory.reference.faults import Diagnosis, Fault

__all__ = ["Advice", "advise", "judge"]

_INPUTS = ("INCAR", "KPOINTS", "POSCAR")
_OUTPUTS = ("OUTCAR", "OSZICAR", "vasprun.xml", "CONTCAR")
#: INCAR tags that are factors on our settings
_EXPRESSIBLE = {"SIGMA": "smearing_width_eV", "ENCUT": "cutoff_eV"}
#: INCAR tags of moving atoms, which a single point does not have
_WITHOUT_EFFECT = frozenset({"POTIM", "IBRION", "EDIFFG", "SMASS", "IOPT"})


@dataclass
class Advice:
    """The handlers of one structure's calculation; they remember what they proposed before.

    Attributes
    ----------
    handlers
        Filled at the first question; empty without pymatgen.
    asked
        Whether that has happened.
    silent
        Faults against which they had no advice any more: from then on our own ladder is climbed, whose changes they
        would take back.
    """

    handlers: list[Any] = field(default_factory=list)
    asked: bool = False
    silent: set[Fault] = field(default_factory=set)

    def prepare(self, output: str) -> None:
        """Make the handlers, if pymatgen is installed."""
        if self.asked:
            return
        self.asked = True
        try:
            from custodian.vasp.handlers import (
                MeshSymmetryErrorHandler,
                UnconvergedErrorHandler,
                VaspErrorHandler,
            )
        except ImportError:
            return
        self.handlers = [
            VaspErrorHandler(output_filename=output),
            UnconvergedErrorHandler(),
            MeshSymmetryErrorHandler(output_filename=output),
        ]


def advise(
    advice: Advice, diagnosis: Diagnosis, directory: Path, output: str, *, energy_changes: bool
) -> tuple[Remedy | None, list[str], list[str]]:
    """Ask the handlers about a failed attempt.

    Parameters
    ----------
    advice
        The handlers, made at the first question.
    diagnosis
        The fault as we see it.
    directory
        Of the attempt; nothing in it is changed.
    output
        Name of the file with VASP's standard output.
    energy_changes
        Whether the energy may be changed.

    Returns
    -------
    remedy
        The first handler's changes that are allowed, or None.
    refused
        What was proposed and refused because it changes the energy.
    failed
        Handlers that could not look at this attempt.
    """
    refused: list[str] = []
    failed: list[str] = []
    if diagnosis.fault in advice.silent:
        return None, refused, failed
    advice.prepare(output)
    for handler in advice.handlers:
        name = type(handler).__name__
        with tempfile.TemporaryDirectory(prefix="advice-") as folder:
            copy = Path(folder)
            for file in (*_INPUTS, *_OUTPUTS, output):
                if (directory / file).is_file():
                    shutil.copyfile(directory / file, copy / file)
            before = _incar(copy)
            kept = {file: (copy / file).read_bytes() for file in _INPUTS[1:] if (copy / file).is_file()}
            try:
                with _quiet():
                    actions = handler.correct(str(copy))["actions"] if handler.check(str(copy)) else None
            except Exception as error:  # noqa: BLE001 - an adviser that fails has no advice; its reason is kept
                failed.append(f"custodian's {name} failed: {type(error).__name__}: {error}")
                continue
            if not actions:
                continue
            foreign = [file for file, data in kept.items() if (copy / file).read_bytes() != data]
            changes = _difference(before, _incar(copy))
        remedy, reason = judge(name, diagnosis, changes, foreign, energy_changes=energy_changes)
        if reason:
            refused.append(reason)
        if remedy is not None:
            return remedy, refused, failed
    advice.silent.add(diagnosis.fault)
    return None, refused, failed


def judge(
    adviser: str,
    diagnosis: Diagnosis,
    changes: Mapping[str, tuple[Any, Any]],
    foreign: list[str],
    *,
    energy_changes: bool,
) -> tuple[Remedy | None, str]:
    """Class an adviser's changes and make a remedy of them, or say why not.

    Parameters
    ----------
    adviser
        Name of the handler.
    diagnosis
        The fault.
    changes
        INCAR tag -> value before and after; None for a tag that is not there.
    foreign
        Other input files that the handler changed.
    energy_changes
        Whether the energy may be changed.

    Returns
    -------
    remedy
        None when there is nothing to do or it is refused.
    reason
        Why it is refused; else empty.
    """
    if not changes and not foreign:
        return None, ""
    texts = [f"{tag} {_word(old)} -> {_word(new)}" for tag, (old, new) in changes.items()]
    said = ", ".join([*texts, *(f"another {file}" for file in foreign)])
    name = f"custodian's {adviser}: {said}"
    heavy = {tag: pair for tag, pair in changes.items() if not _numerical(tag, pair[1])}
    if not heavy and not foreign:
        return Remedy(name, frozenset({diagnosis.fault}), {tag: new for tag, (_, new) in changes.items()}), ""
    culprits = ", ".join([*heavy, *foreign])
    if not energy_changes:
        return None, f"{name} (by {culprits})"
    factors: dict[str, float] = {}
    for tag, (old, new) in heavy.items():
        if tag in _EXPRESSIBLE and isinstance(old, int | float) and isinstance(new, int | float) and old > 0:
            factors[_EXPRESSIBLE[tag]] = float(new) / float(old)
    if foreign or len(factors) != len(heavy):
        return None, f"{name} (by {culprits}, which no factor on our settings expresses)"
    light = {tag: new for tag, (_, new) in changes.items() if tag not in heavy}
    return Remedy(name, frozenset({diagnosis.fault}), light, factors), ""


def _numerical(tag: str, value: Any) -> bool:
    """Tell whether a tag's new value leaves the self-consistent solution what it was."""
    if tag == "SYMPREC":
        return value is None or float(value) <= LARGEST_SYMPREC
    return tag in NUMERICS


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the handlers say from the user's terminal: it is ours to tell."""
    root, theirs, null = logging.getLogger(), logging.getLogger("VaspErrorHandler"), logging.NullHandler()
    # without a handler of the root logger, custodian's backups would install one that prints everything from then on
    root.addHandler(null)
    spoke, theirs.disabled = theirs.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.disabled = spoke
        root.removeHandler(null)


def _incar(directory: Path) -> dict[str, Any]:
    # pymatgen's reader, by the name under which the handlers have it
    reader = importlib.import_module("custodian.vasp.handlers").Incar

    with _quiet():
        return dict(reader.from_file(str(directory / "INCAR")))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the tags whose values differ, with both; None stands for a tag that is not there."""
    tags = dict.fromkeys((*before, *after))
    return {
        tag: (before.get(tag), after.get(tag))
        for tag in tags
        if tag not in _WITHOUT_EFFECT and before.get(tag) != after.get(tag)
    }


def _word(value: Any) -> str:
    return "default" if value is None else str(value)
