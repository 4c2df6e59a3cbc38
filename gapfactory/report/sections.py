"""The figures of a report: what each section draws, tabulates, or lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory import figures
from gapfactory.report.search_sections import search_sections
from gapfactory.report.section import drawn, make_section
from gapfactory.report.vibration_sections import vibration_sections

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from gapfactory.report.data import Quarantined, ReportData
    from gapfactory.report.section import Row, Section

__all__ = ["drawn", "figure_sections"]

#: Cells that are drawn of those that could not be labelled; the CSV lists all.
_DRAWN_CELLS = 12


def figure_sections(data: ReportData) -> tuple[Section, ...]:
    """Return the sections in the order of the page."""
    return (
        _learning(data),
        _phases(data),
        *vibration_sections(data),
        _dynamics(data),
        *([_trials(data)] if len(data.trials) > 1 else []),
        _contacts(data),
        _scatter(data),
        _windows(data),
        _held_out(data),
        _training(data),
        _fit(data),
        _energies(data),
        *search_sections(data),
        _map(data),
        *([_formation(data)] if data.formation is not None else [_hull(data)]),
        _selection(data),
        _enthalpies(data),
        *([_levels(data)] if data.levels is not None else []),
        _quarantine(data),
        _time(data),
    )


def _learning(data: ReportData) -> Section:
    target = data.phase_settings.energy_tolerance_meV / 1000.0 if data.phases else None

    def draw() -> Figure:
        return figures.learning_curve(
            data.learning, forecast=data.forecasts, label_noise=data.label_noise, target=target
        )

    return make_section(
        "learning_curve",
        "Learning curve",
        "Errors of each generation's potential against the number of labels it was fitted to: on "
        "structures that it was not trained on, and at the minimum of each named phase. Energy errors "
        "below 1 meV/atom are drawn at 1 meV/atom. Bands are 95 % bootstrap intervals, dotted lines "
        "forecasts of a power law.",
        missing="No potential has been measured on structures that it was not trained on; the first point comes with "
        "the first generation's assessment.",
        draw=draw if data.learning else None,
        header=("series", "generation", "labels", "error", "low", "high", "unit"),
        rows=(
            (p.series, p.generation, p.n_labels, p.error, p.low, p.high, p.unit)
            for p in sorted(data.learning, key=lambda p: (p.series, p.n_labels))
        ),
    )


def _phases(data: ReportData) -> Section:
    curves = [c for e in data.phases for c in (e.potential, e.reference) if c is not None]
    usable = [c for c in curves if len(c.volumes)]
    labels = {e.phase: e.label for e in data.phases}
    if data.phases:
        missing = (
            "The energy-volume curves of the named phases have not been computed; they come with the first "
            "assessment."
        )
    else:
        missing = f"No phases of {data.system} are entered to judge by, so there are no energy-volume curves."
    rows: list[Row] = []
    for c in curves:
        rows += [(c.phase, c.method, v, e, "") for v, e in zip(c.volumes, c.energies, strict=True)]
        rows += [(c.phase, c.method, v, None, reason) for v, reason in c.failures]
    return make_section(
        "energy_volume",
        "Named phases: energy against volume",
        "Phases that are known from experiment and were never trained on; shape and atoms relaxed at each "
        "volume with the symmetry kept. Energies are relative to the most stable phase by the reference.",
        missing=missing,
        draw=(lambda: figures.phase_curves(usable, labels=labels)) if usable else None,
        header=("phase", "method", "volume_A3_per_atom", "energy_eV_per_atom", "problem"),
        rows=rows,
    )


def _dynamics(data: ReportData) -> Section:
    found = data.stability
    run = None if found is None else found.dynamics
    if found is None:
        missing = f"No potential has been tried{': ' + data.stability_note if data.stability_note else ''}."
    else:
        missing = f"There was no molecular dynamics: {found.problem}."
    return make_section(
        "dynamics",
        "Molecular dynamics",
        ""
        if run is None or found is None
        else f"{run.sentence()}. It began with {found.crystal}, relaxed by the potential, in a fixed cell; "
        "energies count from that crystal at rest. A dashed line marks an early end.",
        missing=missing,
        draw=None if run is None else lambda: figures.dynamics_trace(run),
        header=("time_ps", "temperature_K", "energy_above_crystal_eV_per_atom", "shortest_distance_A"),
        rows=() if run is None else zip(run.times, run.temperatures, run.energies, run.shortest, strict=True),
    )


def _trials(data: ReportData) -> Section:
    first = data.trials[0].labels
    passed = next((t for t in data.trials if t.found.survives_dynamics), None)
    words = "None has survived so far"
    if passed is not None:
        words = f"The first to survive is that of generation {passed.generation}, at {passed.labels} labels"
        if passed.labels > first:
            words += f": {passed.labels - first} more than the first that was tried"
    return make_section(
        "trials",
        "Potential after potential in molecular dynamics",
        f"How long each potential survived, with the number of its generation. {words}.",
        missing="No potential has been tried.",
        draw=lambda: figures.trial_times(data.trials),
        header=("generation", "what", "labels", "reached_ps", "wanted_ps", "outcome"),
        rows=(
            (t.generation, t.title, t.labels, t.reached_ps, t.wanted_ps, t.found.headline())
            for t in data.trials
        ),
    )


def _contacts(data: ReportData) -> Section:
    curves = () if data.stability is None else data.stability.contacts
    words = ". ".join(f"{text[:1].upper()}{text[1:]}" for text in (c.sentence() for c in curves))
    rows: list[Row] = []
    for c in curves:
        rows += [(c.kind, c.label, r, e, "") for r, e in zip(c.distances, c.energies, strict=True)]
        rows += [(c.kind, c.label, r, None, reason) for r, reason in c.refused]
    return make_section(
        "close_contacts",
        "Close contacts",
        "Energies of two atoms alone, of two neighbours pushed together in the crystal, and of the whole crystal "
        f"compressed, above their minimum. {words}.",
        missing="Close contacts have not been scanned; the last generation's assessment does it.",
        draw=(lambda: figures.contact_curves(curves)) if curves else None,
        header=("kind", "atoms", "distance_A", "energy_eV_or_eV_per_atom", "problem"),
        rows=rows,
    )


def _scatter(data: ReportData) -> Section:
    s = data.scatter
    if s is None or not len(s.reference):
        return make_section(
            "energy_scatter",
            "Predicted against reference",
            "",
            missing="No structures have been predicted by the potential that came before them; the second generation's "
            "assessment is the first to do it.",
            draw=None,
            header=(),
            rows=(),
        )
    return make_section(
        "energy_scatter",
        "Predicted against reference",
        f"Structures of generation {s.generation}, predicted by the potential before them. The axes are "
        "linear up to 0.1 eV/atom and logarithmic above.",
        missing="",
        draw=lambda: figures.energy_scatter(s.reference, s.predicted, s.groups or None),
        header=("structure", "group", "reference_eV_per_atom", "predicted_eV_per_atom"),
        rows=zip(
            s.ids or ("",) * len(s.reference),
            s.groups or ("",) * len(s.reference),
            s.reference,
            s.predicted,
            strict=True,
        ),
    )


def _windows(data: ReportData) -> Section:
    rows = {g.generation: g.errors for g in data.generations if g.errors}
    return make_section(
        "error_windows",
        "Errors by energy",
        "Root mean square errors of structures that the potential was not trained on, by how far they lie above the "
        "lowest energy. Force errors below 0.001 eV/Å are drawn at it.",
        missing="No potential has been measured on structures that it was not trained on; the first point comes with "
        "the first generation's assessment.",
        draw=(lambda: figures.error_windows(rows)) if rows else None,
        header=("generation", "quantity", "group", "structures", "rmse", "mae", "largest", "low", "high"),
        rows=(
            (g, r.quantity, r.group, r.n_structures, s.rmse, s.mae, s.max, s.low, s.high)
            for g, found in sorted(rows.items())
            for r in found
            for s in (r.summary,)
        ),
    )


def _held_out(data: ReportData) -> Section:
    found = [p for p in data.training if p.held_out and p.energy_error is not None]
    lowest = min((p.energy for p in data.training), default=0.0)
    newest = max((g for g in data.generations if g.errors), key=lambda g: g.generation, default=None)
    return make_section(
        "held_out_errors",
        "Errors of held-out structures",
        "Each structure that the newest potential was not trained on: how far its energy is off, by how far it "
        "lies above the lowest energy. Lines are the root mean squares within the windows of energy.",
        missing="No potential has been measured on structures that it was not trained on; there will be points when "
        "the first generation has been assessed.",
        draw=(
            lambda: figures.held_out_errors(
                [p.energy - lowest for p in found],
                [p.energy_error for p in found if p.energy_error is not None],
                [p.generation for p in found],
                [p.origin for p in found],
                newest.errors if newest else (),
            )
        )
        if found
        else None,
        header=(
            "structure",
            "generation",
            "origin",
            "above_lowest_eV_per_atom",
            "error_eV_per_atom",
            "force_error_eV_per_A",
        ),
        rows=(
            (p.id, p.generation, p.origin, p.energy - lowest, p.energy_error, p.force_error) for p in found
        ),
    )


def _training(data: ReportData) -> Section:
    found = data.training
    lowest = min((p.energy for p in found), default=0.0)
    return make_section(
        "training_set",
        "Labelled structures: energy over volume",
        " ".join(
            (
                "Every labelled crystal, held-out ones among them, by the generation that chose it and by what it is.",
                *data.own_data,
            )
        ),
        missing="No structure has been labelled; points come with the first labels.",
        draw=(
            lambda: figures.training_set(
                [p.volume for p in found],
                [p.energy - lowest for p in found],
                [p.generation for p in found],
                [p.origin for p in found],
            )
        )
        if found
        else None,
        header=("structure", "generation", "origin", "held_out", "volume_A3_per_atom", "energy_eV_per_atom"),
        rows=((p.id, p.generation, p.origin, p.held_out, p.volume, p.energy) for p in found),
    )


def _fit(data: ReportData) -> Section:
    found = [p for p in data.training if not p.held_out and p.energy_error is not None]
    lowest = min((p.energy for p in data.training), default=0.0)
    return make_section(
        "fit_errors",
        "Errors on the training set",
        "Energies of the newest potential minus those it was trained on. What is loosely fitted on purpose, high above "
        "the hull, may be far off. The axis is linear up to 10 meV/atom and logarithmic above.",
        missing="No potential has been fitted; there will be errors when the first one is.",
        draw=(
            lambda: figures.fit_errors(
                [p.energy - lowest for p in found],
                [p.energy_error for p in found if p.energy_error is not None],
                [p.generation for p in found],
                [p.origin for p in found],
            )
        )
        if found
        else None,
        header=(
            "structure",
            "generation",
            "origin",
            "reference_eV_per_atom",
            "error_eV_per_atom",
            "force_error_eV_per_A",
        ),
        rows=((p.id, p.generation, p.origin, p.energy, p.energy_error, p.force_error) for p in found),
    )


def _enthalpies(data: ReportData) -> Section:
    found = {g: values for g, values in data.enthalpies.items() if len(values)}
    return make_section(
        "enthalpies",
        "Enthalpies of the relaxed cells",
        "Where the relaxations of the last generations ended, by the potential that relaxed them and at the "
        "pressure of each; each generation counts from its own lowest.",
        missing="Nothing has been relaxed yet: relaxations begin with the second generation, when there is a "
        "potential.",
        draw=(lambda: figures.enthalpy_histograms(found)) if found else None,
        header=("generation", "enthalpy_eV_per_atom"),
        rows=((g, h) for g, values in sorted(found.items()) for h in values),
    )


def _energies(data: ReportData) -> Section:
    any_energy = any(len(values) for values in data.energies.values())
    return make_section(
        "energy_distribution",
        "Energies by generation",
        "Reference energies of the labelled structures of each generation.",
        missing="No structure has been labelled; points come with the first labels.",
        draw=(lambda: figures.energy_distribution(data.energies)) if any_energy else None,
        header=("generation", "energy_above_lowest_eV_per_atom"),
        rows=((g, e) for g, values in sorted(data.energies.items()) for e in values),
    )


def _map(data: ReportData) -> Section:
    m = data.similarity
    rows: list[Row] = []
    if m is not None:
        rows = [
            (g, formula, *xy, c)
            for g, formula, xy, c in zip(m.groups, m.compositions, m.coordinates, m.coordination, strict=True)
        ]
    return make_section(
        "similarity_map",
        "Similarity map",
        "Cells rescaled to a shortest bond of one and compared by configuration-averaged SOAP; kernel "
        "principal components, coloured by the mean coordination number within 1.2 shortest bonds, and of compounds "
        "by composition.",
        missing="Too few structures for a similarity map.",
        draw=(lambda: figures.similarity_map_plot(m)) if m is not None else None,
        header=("group", "composition", "first", "second", "coordination"),
        rows=rows,
    )


def _hull(data: ReportData) -> Section:
    h = data.hull
    draw: Callable[[], Figure] | None = None
    if h is not None and len(h.volumes):

        def draw() -> Figure:
            return figures.hull_plot(h.volumes, h.energies, h.hull_volumes, h.hull_energies, h.distances)

    return make_section(
        "hull",
        "Energy over volume, hull and sigma",
        "The training set of the last fit. The distance to the lower hull sets how tightly a structure is "
        "fitted.",
        missing="There is no hull: it takes three labelled structures of a single element.",
        draw=draw,
        header=("structure", "volume_A3_per_atom", "energy_eV_per_atom", "above_hull_eV_per_atom"),
        rows=()
        if h is None
        else zip(h.ids or ("",) * len(h.volumes), h.volumes, h.energies, h.distances, strict=True),
    )


def _formation(data: ReportData) -> Section:
    found = data.formation
    words = ""
    rows = [] if found is None else found.rows()
    if found is not None:
        stable = [found.ids[k] for k in found.hull.corners]
        words = f"On the hull: {', '.join(stable)}."
    return make_section(
        "formation",
        "Formation energies",
        "Labelled structures of all compositions by the reference, counted from the line between the lowest of the "
        "outermost compositions, with their lower hull; crystals that were given to judge by, by the reference and "
        f"the potential. {words}",
        missing="There are no formation energies: it takes labelled structures of two compositions of two elements.",
        draw=None if found is None else lambda: figures.formation_energies(found.hull, found.known),
        header=tuple(rows[0]) if rows else (),
        rows=[tuple(row.values()) for row in rows],
    )


def _selection(data: ReportData) -> Section:
    stages = [s for s in data.selection if s.size]
    rows: list[Row] = []
    for s in stages:
        rows += [
            (s.name, name, e, e, 1)
            for name, e in zip(s.ids or ("",) * len(s.energies), s.energies, strict=True)
        ]
        rows += [
            (s.name, "", low, high, n) for low, high, n in zip(s.edges, s.edges[1:], s.counts, strict=False)
        ]
    return make_section(
        "selection",
        "Selection of the last generation",
        "How many structures each step of the selection had or kept, by energy: from all minima, through the "
        "frames on the paths to those that were kept, to the structures that get a label. Energies are those of "
        "the potential that relaxed them.",
        missing="No selection by energy was made: the first generation selects by structure alone. The second one's is "
        "drawn when its cells have been relaxed.",
        draw=(lambda: figures.selection_histograms(stages)) if stages else None,
        header=("stage", "structure", "from_eV_per_atom", "to_eV_per_atom", "structures"),
        rows=rows,
    )


def _levels(data: ReportData) -> Section:
    found = data.levels
    rows = () if found is None else found.rows
    shifts = {} if found is None else found.shifts_eV
    constants = ", ".join(f"{symbol} {value:+.4f} eV" for symbol, value in shifts.items())
    return make_section(
        "levels",
        f"Labels at this level and in campaign {data.levels_of}",
        "" if found is None else f"{found.sentence()}. Constants per atom taken out: {constants}.",
        missing="No structure has a label at both levels.",
        draw=(
            lambda: figures.level_differences([r.first for r in rows], [r.aligned_difference for r in rows])
        )
        if rows
        else None,
        header=(
            "structure",
            "first_eV_per_atom",
            "second_eV_per_atom",
            "difference_without_constants_eV_per_atom",
            "force_rms_eV_per_A",
        ),
        rows=((r.id, r.first, r.second, r.aligned_difference, r.force_rms) for r in rows),
    )


def _quarantine(data: ReportData) -> Section:
    found = data.quarantined
    pictured = [q for q in found if q.atoms is not None][:_DRAWN_CELLS]
    some = f" {len(pictured)} of {len(found)} are drawn." if len(pictured) < len(found) else ""
    return make_section(
        "quarantine",
        "Structures that could not be labelled",
        "Each in its cell, with the kind of its last fault. Lines join close atoms, red ones atoms closer than 0.7 of "
        f"the sum of their covalent radii.{some}",
        missing="Every structure that was tried could be labelled.",
        draw=(lambda: figures.cell_pictures([(_short(q), q.atoms) for q in pictured if q.atoms is not None]))
        if pictured
        else None,
        header=("generation", "structure", "role", "fault", "attempts", "reason", "history"),
        rows=(
            (q.generation, q.id, q.role, q.fault, q.attempts, q.reason, " | ".join(q.history)) for q in found
        ),
    )


def _short(found: Quarantined) -> str:
    """Return a title that fits above a small picture."""
    name = found.id.partition("/")[2] or found.id
    return f"{name[-26:]}\n{found.fault or 'no kind given'}"


def _time(data: ReportData) -> Section:
    seconds = {g.generation: dict(g.seconds) for g in data.generations if g.seconds}
    known = any(sum(kinds.values()) > 0 for kinds in seconds.values())
    return make_section(
        "time",
        "Where the time went",
        "Time of all tasks by kind and generation. Tasks run next to each other, so the campaign itself "
        "was shorter.",
        missing="No task times were recorded; they come with the first task that ends.",
        draw=(lambda: figures.time_budget(seconds)) if known else None,
        header=("generation", "kind", "seconds"),
        rows=((g, kind, s) for g, kinds in sorted(seconds.items()) for kind, s in kinds.items()),
    )
