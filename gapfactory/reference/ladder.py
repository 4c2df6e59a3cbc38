"""Recovery ladders: which remedy is tried against which fault, in which order, each at most once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gapfactory.reference.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.reference.faults import Diagnosis

__all__ = ["COMMON_REMEDIES", "Ladder", "Remedy"]


@dataclass(frozen=True)
class Remedy:
    """One rung of a ladder.

    Attributes
    ----------
    name
        What is done, for people; unique on its ladder.
    faults
        Against which faults.
    numerics
        Changes of how the solution is searched for (mixing, algorithm, steps, parallelisation), by the engine's own
        names; kept for later rungs. They never change which solution is found.
    settings
        Factors on numerical fields of the settings. They change the energy: such a remedy is used only when the
        settings say `allow_energy_changes`, and the label carries the changed settings and their hash.
    resume
        Continue from the checkpoint of the attempt before, if the engine finds one.
    pauses
        Pause before the attempt, as a multiple of the site's `pause_s`.
    """

    name: str
    faults: frozenset[Fault]
    numerics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)
    resume: bool = False
    pauses: float = 0.0

    @property
    def changes_energy(self) -> bool:
        """Whether the label is one at other settings than were asked for."""
        return bool(self.settings)


#: Rungs of every ladder. A crash may have come from outside: the same calculation is run once more, so that the
#: label is that of an undisturbed run.
COMMON_REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "repeated unchanged",
        frozenset({Fault.CRASH, Fault.UNKNOWN, Fault.FROZEN, Fault.NODE, Fault.UNSOUND, Fault.NAN}),
    ),
    Remedy("continued from its checkpoint", frozenset({Fault.TIME}), resume=True),
    Remedy("continued from its checkpoint once more", frozenset({Fault.TIME}), resume=True),
    Remedy("repeated after a pause", frozenset({Fault.LICENCE, Fault.MEMORY, Fault.SCRATCH}), pauses=1.0),
    Remedy("repeated after a long pause", frozenset({Fault.LICENCE}), pauses=6.0),
)


class Ladder:
    """The state of one structure's recovery.

    Parameters
    ----------
    remedies
        In the order in which they are tried.
    energy_changes
        Whether remedies that change the energy may be used.
    """

    def __init__(self, remedies: Sequence[Remedy], *, energy_changes: bool = False) -> None:
        self._left = list(remedies)
        self._energy_changes = energy_changes
        self.refused: list[str] = []
        self.numerics: dict[str, Any] = {}
        self.factors: dict[str, float] = {}

    def next(self, diagnosis: Diagnosis) -> Remedy | None:
        """Return the next remedy against a fault and add its changes; None at the end of the ladder."""
        if diagnosis.hopeless:
            return None
        for remedy in self._left:
            if diagnosis.fault not in remedy.faults:
                continue
            if remedy.changes_energy and not self._energy_changes:
                if remedy.name not in self.refused:
                    self.refused.append(remedy.name)
                continue
            return self.take(remedy)
        return None

    def take(self, remedy: Remedy) -> Remedy:
        """Use a remedy up and add its changes."""
        if remedy in self._left:
            self._left.remove(remedy)
        self.numerics |= dict(remedy.numerics)
        for name, factor in remedy.settings.items():
            self.factors[name] = self.factors.get(name, 1.0) * factor
        return remedy
