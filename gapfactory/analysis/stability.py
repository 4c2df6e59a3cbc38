"""Whether a potential can be used: it survives molecular dynamics, and pushes atoms apart that come close.

Errors on held-out structures do not tell: one hole in the energy, or one discontinuity, ends a simulation. The most
stable crystal that is known is heated to 0.8 of the melting point, and atoms are brought together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.analysis.contacts import ContactCurve, close_contacts
from gapfactory.analysis.dynamics import Dynamics, run_dynamics
from gapfactory.errors import EvidenceError
from gapfactory.search.settings import PhaseRelaxSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ase import Atoms
    from numpy.random import Generator

    from gapfactory.analysis.stability_settings import StabilitySettings

__all__ = ["Stability", "Trial", "check_stability", "stability_from_dict", "trial_temperature"]

#: K that stand in for a melting point that is not known
ASSUMED_MELTING_POINT = 1000.0


@dataclass(frozen=True)
class Stability:
    """What was found about one potential.

    Parameters
    ----------
    crystal
        Name of the structure that was heated; empty where there was none to try the potential on.
    temperature_K, melting_point_K
        Temperature of the run, and the melting point it follows from.
    note
        What a reader should know, e.g. that the melting point was assumed; may be empty.
    problem
        Why there was no run, in words; empty when there was one.
    dynamics
        The run, or None.
    contacts
        The scans of close contacts.
    """

    crystal: str
    temperature_K: float
    melting_point_K: float
    note: str
    problem: str
    dynamics: Dynamics | None
    contacts: tuple[ContactCurve, ...] = ()

    @property
    def survives_dynamics(self) -> bool:
        """Whether there was a run and it reached its end."""
        return self.dynamics is not None and self.dynamics.survived

    @property
    def repulsive(self) -> bool:
        """Whether every scan of close contacts passes."""
        return bool(self.contacts) and all(curve.passes for curve in self.contacts)

    @property
    def survives(self) -> bool:
        """Whether it survives both."""
        return self.survives_dynamics and self.repulsive

    def headline(self) -> str:
        """Return the verdict in a few words."""
        run = self.dynamics
        attractive = ", ".join(curve.title for curve in self.contacts if not curve.passes)
        if not self.crystal:
            return f"was not tried: {self.problem}"
        if run is None:
            text = f"does not survive: {self.problem}"
        elif run.survived:
            text = f"survives {run.duration_ps:.3g} ps at {run.temperature_K:.0f} K"
        else:
            text = (
                f"does not survive molecular dynamics at {run.temperature_K:.0f} K: after {run.reached_ps:.3g} of "
                f"{run.duration_ps:.3g} ps {run.reason}"
            )
        if attractive:
            joint = "but not" if self.survives_dynamics else "nor"
            return f"{text}, {joint} close contacts ({attractive} not repulsive far enough)"
        if self.survives:
            return f"{text}, and close contacts"
        if run is not None and not self.contacts:
            return f"{text}; close contacts were not scanned: {self.problem}"
        return text

    def sentences(self) -> tuple[str, ...]:
        """Return everything that was found, in whole sentences."""
        found = []
        if self.problem:
            found.append(f"{self.problem[:1].upper()}{self.problem[1:]}.")
        if self.dynamics is not None:
            found.append(f"{self.dynamics.sentence()} ({self.crystal}).")
        found += [f"{text[:1].upper()}{text[1:]}." for text in (c.sentence() for c in self.contacts)]
        if self.note:
            found.append(f"{self.note[:1].upper()}{self.note[1:]}.")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able data without the frames; `stability_from_dict` reads it."""
        return {
            **{key: getattr(self, key) for key in _PLAIN},
            "survives": self.survives,
            "dynamics": None if self.dynamics is None else _plain(self.dynamics),
            "contacts": [_plain(curve) for curve in self.contacts],
        }


@dataclass(frozen=True)
class Trial:
    """What became of the potential of one generation in molecular dynamics, among those of others.

    Parameters
    ----------
    generation
        Whose potential.
    title
        What its generation was for.
    labels
        Structures labelled until then.
    found
        The trial.
    """

    generation: int
    title: str
    labels: int
    found: Stability

    @property
    def reached_ps(self) -> float:
        """How long it survived at constant temperature; 0 where there was no run."""
        return 0.0 if self.found.dynamics is None else self.found.dynamics.reached_ps

    @property
    def wanted_ps(self) -> float | None:
        """How long it should have; None where there was no run."""
        return None if self.found.dynamics is None else self.found.dynamics.duration_ps


_PLAIN = ("crystal", "temperature_K", "melting_point_K", "note", "problem")


def _plain(record: Dynamics | ContactCurve) -> dict[str, Any]:
    values = {
        f.name: getattr(record, f.name) for f in fields(record) if f.name not in ("frames", "frame_times")
    }
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def stability_from_dict(data: Mapping[str, Any]) -> Stability:
    """Return what `Stability.as_dict` wrote; the run has no frames."""

    def revived(record: Mapping[str, Any]) -> dict[str, Any]:
        # `refused` is the one list that is not an array of numbers
        return {
            key: tuple((float(r), str(why)) for r, why in value)
            if key == "refused"
            else np.array(value, dtype=float)
            if isinstance(value, list)
            else value
            for key, value in record.items()
        }

    run = data["dynamics"]
    return Stability(
        **{key: data[key] for key in _PLAIN},
        dynamics=None if run is None else Dynamics(**revived(run)),
        contacts=tuple(ContactCurve(**revived(curve)) for curve in data["contacts"]),
    )


def trial_temperature(symbols: Sequence[str], settings: StabilitySettings) -> tuple[float, float, str]:
    """Return the temperature of the run, the melting point (K), and what was assumed in words.

    Parameters
    ----------
    symbols
        Chemical symbols of the species, each once.
    settings
        May give the melting point.
    """
    from gapfactory.elements import melting_point

    note = ""
    melting = settings.melting_point_K
    if melting is None and len(symbols) == 1:
        melting = melting_point(symbols[0])
    if melting is None:
        melting = ASSUMED_MELTING_POINT
        note = (
            f"no melting point is tabulated for {'-'.join(sorted(symbols))}: {melting:g} K was assumed, give "
            "evidence.stability.melting_point_K"
        )
    return settings.temperature_factor * melting, melting, note


def check_stability(
    structure: Atoms,
    name: str,
    calculator: Any,
    *,
    settings: StabilitySettings,
    rng: Generator,
    known_energy: float | None = None,
    dimer_lengths: Mapping[tuple[str, str], float] | None = None,
    keep_symmetry: bool = True,
    relax: PhaseRelaxSettings | None = None,
    progress: Callable[[str], None] | None = None,
) -> Stability:
    """Try a potential: relax the crystal with it, scan close contacts, run molecular dynamics.

    Nothing that the potential does raises: what goes wrong is the result. Where the potential does not hold the
    crystal, contacts are scanned from the structure as it was given, and there is no run.

    Parameters
    ----------
    structure, name
        The most stable crystal that is known; relaxed by the potential first.
    calculator
        ASE calculator with energy, forces and stress.
    settings
        What to try and the bounds.
    rng
        Velocities and thermostat.
    known_energy
        Lowest energy per atom (eV) of any known structure by the reference; energies far below it are holes.
    dimer_lengths
        Equilibrium length (Å) of the dimers to scan, by pair of species. It cannot be guessed (Ti2 is a third
        shorter than titanium's bond), so without it no dimer is scanned.
    keep_symmetry
        Keep the crystal's space group while it is relaxed.
    relax
        How it is relaxed.
    progress
        Called with a line of text now and then.
    """
    from gapfactory.build.supercell import nearly_cubic_supercell
    from gapfactory.search.phases import relax_phase

    symbols = sorted(set(structure.get_chemical_symbols()))
    temperature, melting, note = trial_temperature(symbols, settings)

    problems: list[str] = []

    def contacts(cell: Atoms) -> tuple[ContactCurve, ...]:
        try:
            return close_contacts(
                cell,
                nearly_cubic_supercell(cell, settings.n_atoms),
                calculator,
                settings=settings,
                dimer_lengths=dimer_lengths or {},
                known_energy=known_energy,
            )
        except EvidenceError as error:
            problems.append(str(error))
            return ()

    def result(dynamics: Dynamics | None, curves: tuple[ContactCurve, ...]) -> Stability:
        return Stability(name, temperature, melting, note, "; ".join(problems), dynamics, curves)

    relaxed = relax_phase(
        structure, calculator, settings=relax or PhaseRelaxSettings(), keep_symmetry=keep_symmetry
    )
    if relaxed.status == "failed":
        problems.append(f"the potential does not hold {name} together: {relaxed.reason}")
        return result(None, contacts(structure))
    cell = relaxed.frame(-1)
    if relaxed.status != "converged":
        note = "; ".join(filter(None, (note, f"{name} is not fully relaxed: {relaxed.reason}")))
    energy = float(relaxed.energies[-1]) / len(cell)
    if known_energy is not None and energy < known_energy - settings.hole_margin_eV:
        problems.append(
            f"{name} relaxed into a hole of the potential: {known_energy - energy:.3f} eV/atom below every known "
            "structure"
        )
        return result(None, contacts(structure))
    curves = contacts(cell)
    run = None
    try:
        run = run_dynamics(
            nearly_cubic_supercell(cell, settings.n_atoms),
            calculator,
            temperature_K=temperature,
            settings=settings,
            rng=rng,
            known_energy=known_energy,
            progress=progress,
        )
    except EvidenceError as error:
        problems.append(str(error))
    return result(run, curves)
