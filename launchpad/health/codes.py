"""Reference codes: those that campaigns of this database ask for, and those asked for by name."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError, InputError
from launchpad.health.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from gapfactory.reference import EngineSettings
    from launchpad.health.finding import Patient

__all__ = ["check_codes", "labels_here"]


def check_codes(patient: Patient) -> Iterator[Finding]:
    """Look for the codes and, for campaigns, their data sets."""
    from gapfactory.reference import engine_classes

    known = engine_classes()
    for name in patient.engines:
        if name not in known:
            raise InputError(f"no reference engine {name!r}; there are: {', '.join(known)}")
        yield from _judge(name, known[name].settings_class(), (), "asked for by name", patient, needed=True)
    if patient.database is None:
        if not patient.engines:
            yield Finding(
                "codes",
                "check",
                "advice",
                "not checked: there is no database whose campaigns could be asked",
                "name one with --engine",
            )
        return
    needed = _one_machine(patient) or labels_here(patient.database)
    asked: dict[str, tuple[Any, tuple[str, ...], list[str]]] = {}
    for campaign in _campaigns(patient.database):
        species = tuple(campaign.species_table)
        key = f"{campaign.reference.digest()} {species}"
        asked.setdefault(key, (campaign.reference, species, []))[2].append(campaign.name)
    for settings, species, names in asked.values():
        why = f"campaign {', '.join(names)}"
        yield from _judge(settings.engine, settings, species, why, patient, needed=needed)
    if not asked and not patient.engines:
        yield Finding("codes", "campaigns", "ok", "no campaign that has not ended asks for a code")


def _campaigns(database: Database[Any]) -> Iterator[Any]:
    """Yield the campaigns that have not ended; `gapfactory db check` reports those that cannot be read."""
    from launchpad.database.campaigns import campaign_of
    from launchpad.states import CampaignState

    going_on = [str(state) for state in CampaignState if not state.ended] + [str(CampaignState.HALTED)]
    for record in database.campaigns.find({"state": {"$in": going_on}}).sort("_id", 1):
        yield campaign_of(record)


def _one_machine(patient: Patient) -> bool:
    return patient.located is not None and patient.located.kind != "given"


def labels_here(database: Database[Any]) -> bool:
    """Return whether a living worker of this host takes reference tasks."""
    from launchpad.workers.registry import list_workers

    return any(
        worker["alive"] and (not worker["categories"] or "reference" in worker["categories"])
        for worker in list_workers(database, here=True)
        if worker.get("kind") == "worker"
    )


def _judge(
    name: str,
    settings: EngineSettings,
    species: tuple[str, ...],
    why: str,
    patient: Patient,
    *,
    needed: bool,
) -> Iterator[Finding]:
    """Look for one code as it would be run here."""
    from gapfactory.reference import make_engine
    from launchpad.health.scratch import judge_directory

    verdict: Verdict = "failed" if needed else "advice"
    try:
        engine = make_engine(settings)
        version = engine.info().version
        if species:
            engine.require(species)
    except GapFactoryError as error:
        yield Finding(
            "codes",
            name,
            verdict,
            f"{why}: {error}",
            "install it, or let only other workers take reference tasks ('gapfactory worker start -c' names the kinds)",
        )
        return
    site = getattr(engine, "site", None)
    launcher = site.prefix() if site else []
    if launcher and shutil.which(launcher[0]) is None:
        yield Finding(
            "codes",
            name,
            verdict,
            f"{why}: {name} {version}, but its launcher {launcher[0]!r} is not on PATH",
            "load the module that has it, or correct 'launcher' in the site file (docs/reference/engines.md)",
        )
    else:
        data = f" with data for {', '.join(species)}" if species else ""
        yield Finding("codes", name, "ok", f"{why}: {name} {version}{data}", "", {"version": version})
    if site and site.scratch:
        place = "'scratch' in the site file"
        yield judge_directory(f"common, {name}", site.scratch, patient.settings, variable=place, local=False)
