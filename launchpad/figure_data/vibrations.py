"""Vibrations and elasticity (Allen and Bartók 2022): Figs. 1-8 and Tables 2 and 3 for any campaign."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import EvidenceError, InputError, NotFoundError
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.vibrations import vibrations_of
from launchpad.figure_data.request import Gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from gapfactory.analysis.vibration_overview import CrystalVibrations, FitSize
    from gapfactory.campaign import Campaign
    from launchpad.figure_data.request import Request

__all__ = [
    "bain",
    "crystals_of",
    "diagonal_phonons",
    "elastic",
    "elastic_constants",
    "fits",
    "learning_phonons",
    "left_out",
    "phonons",
    "primitives_phonons",
    "static_elastic",
    "static_phonons",
    "stored_crystals",
]

#: Field of `vibrations.studies` that makes each study.
_STUDIES: Final = {
    "primitives": "primitives",
    "diagonal": "diagonal",
    "equal-cost": "diagonal",
    "static": "static",
    "learning": "learning",
}
#: What a potential is called beside one with constant expected errors.
_ADAPTIVE: Final = "sigmas by component"


def phonons(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 2: phonons of each crystal by reference and potential."""
    return _phonons(database, request, {"": "potential"})


def primitives_phonons(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 1: phonons by the potential, and by one that was trained on primitive cells only."""
    return _phonons(database, request, {"": "all frames", "primitives": "primitive cells only"})


def diagonal_phonons(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 3: phonons by fits to non-diagonal and to diagonal supercells that cost the same."""
    names = {"equal-cost": "non-diagonal supercells", "diagonal": "diagonal supercells"}
    return _phonons(database, request, names)


def static_phonons(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 8: phonons by the potential, and by one with constant expected errors."""
    return _phonons(database, request, {"": _ADAPTIVE, "static": "constant sigmas"})


def _phonons(database: Database[Any], request: Request, names: dict[str, str]) -> Gathered:
    from gapfactory.analysis.vibration_overview import phonon_rows
    from gapfactory.figures import PhononPanel, phonon_pictures

    crystals, notes = _crystals(database, request, tuple(names))
    panels, rows = [], []
    for crystal in crystals:
        shown = [
            replace(found.vibrations.phonons, method=name)
            for variant, name in names.items()
            if (found := crystal.by(variant)) is not None
        ]
        reference = replace(crystal.reference.phonons, method="reference")
        panels.append(PhononPanel(crystal.title, reference, tuple(shown)))
        rows += phonon_rows([(p.method, p) for p in (*shown, reference)], crystal=crystal.title)
    return Gathered(phonon_pictures(panels), rows, (*_verdicts(database, request, crystals, names), *notes))


def learning_phonons(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 4: phonons by fits to more and more labels, with sparse points of all frames and of these."""
    from gapfactory.analysis.vibration_overview import LearningFit, learning_rows
    from gapfactory.figures import phonon_learning_picture

    crystals, notes = _crystals(database, request, ("", "learning"))
    chosen = next((c for c in crystals if LearningFit.of(c)), None)
    if chosen is None:
        raise NotFoundError(_no_study(request.campaign, "learning"))
    others = [c.title for c in crystals if c is not chosen]
    if others:
        notes.append(f"{chosen.title} is shown; --parent shows another: {', '.join(others)}")
    fits_ = LearningFit.of(chosen)
    return Gathered(phonon_learning_picture(chosen, fits_), learning_rows(chosen), tuple(notes))


def bain(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 5: phonons along Bain's path, body-centred cubic first."""
    from gapfactory.analysis.vibration_overview import bain_places, phonon_rows
    from gapfactory.figures import bain_picture

    found, notes = _crystals(database, request, ("",), on_path=True)
    path = bain_places(found)
    if not path:
        raise NotFoundError(
            f"campaign {request.campaign!r} has no crystals on Bain's path: add some to vibrations.parents, e.g. "
            "{half: {bain: {of: fcc, eta: 0.5}}} (docs/how-to/vibrations.md)"
        )
    rows = []
    for crystal in path:
        shown = [("reference", crystal.reference.phonons)]
        shown += [("potential", p.vibrations.phonons) for p in crystal.potentials if not p.variant]
        rows += phonon_rows(shown, crystal=crystal.title, eta=crystal.eta, trained=crystal.trained)
    verdicts = _verdicts(database, request, path, {"": "potential"}, phonons_only=True)
    return Gathered(bain_picture(path), rows, (*verdicts, *notes))


def elastic(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 6: errors of elastic constants of each crystal."""
    from gapfactory.analysis.vibration_overview import elastic_rows
    from gapfactory.figures import elastic_errors_picture

    crystals, notes = _crystals(database, request, ("",))
    rows, missing = elastic_rows(crystals, {"": "potential"})
    compared = {
        c.title: found.comparison.elastic
        for c in crystals
        if (found := c.by("")) is not None and found.comparison.elastic is not None
    }
    if not compared:
        raise EvidenceError(
            f"no crystal of campaign {request.campaign!r} has elastic constants: {'; '.join(missing)}"
        )
    return Gathered(elastic_errors_picture(compared), rows, (*missing, *notes))


def static_elastic(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 7: errors of elastic constants by the potential, and by one with constant expected errors."""
    from gapfactory.analysis.vibration_overview import elastic_rows
    from gapfactory.figures import elastic_errors_picture

    names = {"static": "constant sigmas", "": _ADAPTIVE}
    crystals, notes = _crystals(database, request, tuple(names))
    chosen = next((c for c in crystals if (s := c.by("static")) and s.comparison.elastic is not None), None)
    if chosen is None:
        _, missing = elastic_rows(crystals, names)
        raise EvidenceError(f"no crystal has elastic constants by both potentials: {'; '.join(missing)}")
    others = [c.title for c in crystals if c is not chosen]
    if others:
        notes.append(f"{chosen.title} is shown; --parent shows another: {', '.join(others)}")
    rows, missing = elastic_rows([chosen], names)
    compared = {
        name: found.comparison.elastic
        for variant, name in names.items()
        if (found := chosen.by(variant)) is not None and found.comparison.elastic is not None
    }
    return Gathered(elastic_errors_picture(compared, title=chosen.title), rows, (*missing, *notes))


def fits(database: Database[Any], request: Request) -> Gathered:
    """Return Table 2: settings of the fit, amount of data and lattice parameters."""
    from gapfactory.analysis.vibration_overview import fit_table

    crystals, notes = _crystals(database, request, ("",), on_path=True)
    several = bool(request.also)
    settings = {
        (name if several else ""): _fit_settings(campaign_of(require_campaign(database, name)))
        for name, _ in _asked(request)
    }
    return Gathered(None, fit_table(crystals, settings), tuple(notes))


def elastic_constants(database: Database[Any], request: Request) -> Gathered:
    """Return Table 3: elastic constants by each potential and the reference, and measured ones."""
    from gapfactory.analysis.vibration_overview import elastic_rows, elastic_table

    crystals, notes = _crystals(database, request, ("", "primitives"), optional=("primitives",))
    names = {"": "potential", "primitives": "primitive cells only"}
    _, missing = elastic_rows(crystals, names)
    return Gathered(None, elastic_table(crystals, names), (*missing, *notes))


def _fit_settings(campaign: Campaign) -> dict[str, Any]:
    """Return what Table 2 tells of the potential of a campaign."""
    from gapfactory.potentials.gap import GapSettings
    from gapfactory.potentials.gap.terms import terms

    gap, species = campaign.final_potential, tuple(campaign.species_table.values())
    if not isinstance(gap, GapSettings):
        return {"cutoff_A": campaign.potential_cutoff}
    many_body = max((t.cutoff for t in terms(species, gap) if t.stage == 2), default=None)
    adaptive = gap.sigma.adaptive if gap.sigma.rule == "adaptive" else None
    return {
        "cutoff_A": many_body,
        "n_max": gap.soap.n_max,
        "l_max": gap.soap.l_max,
        "atom_sigma_A": gap.soap.atom_sigma,
        "force_sigma_fraction": None if adaptive is None else adaptive.force_fraction,
        "least_force_sigma_eV_per_A": None if adaptive is None else adaptive.force_floor,
        "virial_sigma_fraction": None if adaptive is None else adaptive.virial_fraction,
        "least_virial_sigma_eV": None if adaptive is None else adaptive.virial_floor,
    }


def _asked(request: Request) -> list[tuple[str, int | None]]:
    """Return the campaigns that a figure shows, each with a generation where one was asked for.

    Raises
    ------
    InputError
        A campaign is written differently, or twice.
    """
    found: list[tuple[str, int | None]] = [(request.campaign, request.generation)]
    for text in request.also:
        name, at, generation = text.partition("@")
        if not name or (at and not (generation.isdecimal() and len(generation) <= 6)):
            raise InputError(f"--also {text!r} is not CAMPAIGN or CAMPAIGN@GENERATION")
        found.append((name, int(generation) if at else None))
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"campaign {sorted(twice)[0]!r} is there already; name another after --also")
    return found


def _crystals(
    database: Database[Any],
    request: Request,
    variants: Sequence[str],
    *,
    optional: Sequence[str] = (),
    on_path: bool = False,
) -> tuple[list[CrystalVibrations], list[str]]:
    """Return the crystals that a figure shows, with the potentials that it wants, and what is missing.

    Raises
    ------
    NotFoundError
        A campaign has no vibrations, or none of its crystals has the studies wanted; or there is no such crystal.
    """
    several = bool(request.also)
    crystals: list[CrystalVibrations] = []
    notes: list[str] = []
    for name, generation in _asked(request):
        found, missing = stored_crystals(database, name, generation, variants)
        crystals += [replace(c, campaign=name) for c in found] if several else found
        notes += missing
    if request.parent is not None:
        named = [c for c in crystals if c.name == request.parent]
        if not named:
            known = ", ".join(c.name for c in crystals)
            raise NotFoundError(
                f"there are no vibrations of a crystal {request.parent!r}; there are: {known}"
            )
        crystals = named
    elif not on_path and any(c.eta is None for c in crystals):
        crystals = [c for c in crystals if c.eta is None]
    for variant in variants:
        if variant in optional or any(_is(p.variant, variant) for c in crystals for p in c.potentials):
            continue
        if variant:
            raise NotFoundError(_no_study(request.campaign, variant))
        said = f": {'; '.join(notes)}" if notes else ""
        raise EvidenceError(f"no potential could be compared with the reference{said}")
    return crystals, notes


def _no_study(campaign: str, variant: str) -> str:
    return (
        f"campaign {campaign!r} has no study {variant!r}: switch vibrations.studies.{_STUDIES[variant]} on in a "
        "campaign file (docs/how-to/vibrations.md)"
    )


def _is(variant: str, wanted: str) -> bool:
    return variant == wanted or (wanted == "learning" and variant.startswith("learning-"))


def stored_crystals(
    database: Database[Any], name: str, generation: int | None = None, variants: Sequence[str] | None = None
) -> tuple[list[CrystalVibrations], list[str]]:
    """Return the crystals of a campaign whose vibrations the reference gave, and why others have none.

    Parameters
    ----------
    name
        Of the campaign.
    generation
        That was measured; None: the newest.
    variants
        Potentials that are wanted: empty for that of the generation, names of studies, ``"learning"`` for all of these;
        None: all.

    Raises
    ------
    NotFoundError
        The campaign has no vibrations, or not yet.
    """
    campaign = campaign_of(require_campaign(database, name))
    if campaign.vibrations is None:
        raise NotFoundError(
            f"campaign {name!r} measures no vibrations: give its file a block 'vibrations', or use the protocol "
            "'ndsc-2022' (docs/how-to/vibrations.md)"
        )
    documents = vibrations_of(database, name)
    measured = sorted({d["generation"] for d in documents})
    if not measured:
        raise NotFoundError(
            f"campaign {name!r} has not measured vibrations yet; 'gapfactory campaign status {name}' shows how far it "
            "is"
        )
    if generation is not None and generation not in measured:
        raise NotFoundError(
            f"campaign {name!r} has no vibrations of generation {generation}, only of {measured[-1]}"
        )
    crystals, notes = crystals_of(campaign, documents, generation, variants)
    notes += left_out(database, name, measured[-1] if generation is None else generation)
    if not crystals:
        raise EvidenceError(f"no crystal of campaign {name!r} has vibrations: {'; '.join(notes)}")
    return crystals, notes


def left_out(database: Database[Any], name: str, generation: int) -> list[str]:
    """Return the crystals that were to be measured and were not, with the reason; they have no documents."""
    metrics = database.metrics.find_one(
        {"campaign": name, "generation": generation}, {"evidence.vibrations": 1}
    )
    found = {} if metrics is None else metrics["evidence"].get("vibrations") or {}
    known = {d["parent"] for d in database.vibrations.find({"campaign": name}, {"parent": 1})}
    return [
        f"{parent} is left out: {row['reason']}"
        for parent, row in sorted(found.items())
        if row.get("reason") and parent not in known
    ]


def crystals_of(
    campaign: Campaign,
    documents: Sequence[dict[str, Any]],
    generation: int | None = None,
    variants: Sequence[str] | None = None,
) -> tuple[list[CrystalVibrations], list[str]]:
    """Return the crystals of stored documents; other parameters and the rest as `stored_crystals`."""
    from gapfactory.analysis.vibration_overview import CrystalVibrations
    from gapfactory.analysis.vibrations import Vibrations

    shown = max(d["generation"] for d in documents) if generation is None else generation
    notes: list[str] = []
    crystals = []
    for parent in dict.fromkeys(d["parent"] for d in documents if d["generation"] == shown):
        mine = [d for d in documents if d["generation"] == shown and d["parent"] == parent]
        reference = next((d for d in mine if d["method"] == "reference" and d["data"] is not None), None)
        if reference is None:
            why = next((d["reason"] for d in mine if d["reason"]), "the reference has not been measured")
            notes.append(f"{parent} is left out: {why}")
            continue
        potentials, sizes = {}, {}
        for document in mine:
            variant = document["variant"]
            if document["method"] == "reference" or not (
                variants is None or any(_is(variant, wanted) for wanted in variants)
            ):
                continue
            if document["data"] is None:
                notes.append(f"{parent} by {variant or 'the potential'}: {document['reason']}")
                continue
            potentials[variant] = Vibrations.from_dict(document["data"])
            sizes[variant] = _size(document["fit"])
        settings = None if campaign.vibrations is None else campaign.vibrations.parent(parent)
        place = None if settings is None else settings.bain
        crystals.append(
            CrystalVibrations.of(
                parent,
                Vibrations.from_dict(reference["data"]),
                potentials,
                fits=sizes,
                eta=None if place is None else place.eta,
                trained=settings is None or settings.trained,
                volume_of="" if place is None else place.of,
            )
        )
    return crystals, notes


def _size(fit: dict[str, Any]) -> FitSize:
    from gapfactory.analysis.vibration_overview import FitSize

    return FitSize(fit.get("n_energies"), fit.get("n_atoms"), fit.get("n_sparse"), fit.get("cost"))


def _verdicts(
    database: Database[Any],
    request: Request,
    crystals: Sequence[CrystalVibrations],
    names: dict[str, str],
    *,
    phonons_only: bool = False,
) -> list[str]:
    """Return a sentence for each crystal and potential, by the limits of its campaign."""
    from gapfactory.analysis.vibration_overview import verdict

    limits = {}
    for name, _ in _asked(request):
        settings = campaign_of(require_campaign(database, name)).vibrations
        if settings is not None:
            limits[name if request.also else ""] = settings.limits
    said = []
    for crystal in crystals:
        for variant, name in names.items():
            judged = verdict(crystal, limits[crystal.campaign], variant, phonons_only=phonons_only)
            if judged is not None:
                said.append(f"{name}: {judged[1]}")
    return said
