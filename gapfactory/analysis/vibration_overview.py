"""What is told of vibrations and elasticity: crystals by reference and potentials, as rows of numbers and sentences.

The numbers behind Figs. 1-8 and Tables 2 and 3 of Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022).
Figures, tables, report and dashboard are made of these rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from gapfactory._spglib import space_group_number
from gapfactory.analysis.elastic_measured import measured_constants
from gapfactory.analysis.vibrations import compare_vibrations
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gapfactory.analysis.phonons import PhononPath, Phonons
    from gapfactory.analysis.vibration_settings import VibrationLimits
    from gapfactory.analysis.vibrations import VibrationComparison, Vibrations

__all__ = [
    "CrystalVibrations",
    "FitSize",
    "LearningFit",
    "PotentialVibrations",
    "bain_places",
    "elastic_rows",
    "elastic_table",
    "fit_table",
    "learning_rows",
    "phonon_rows",
    "place_on_path",
    "stability_sentence",
    "variant_words",
    "verdict",
]

#: Variant of a fit -> how legends call it.
_WORDS: Final = {
    "": "potential",
    "primitives": "primitive cells only",
    "equal-cost": "non-diagonal supercells",
    "diagonal": "diagonal supercells",
    "static": "constant sigmas",
}
#: Space group of an end of Bain's path -> its place.
_ENDS: Final = {229: 0.0, 225: 1.0}
_WAYS: Final[tuple[Literal["all", "own"], ...]] = ("all", "own")
_LATTICE: Final = ("a", "b", "c", "alpha", "beta", "gamma")
_LEARNING: Final = re.compile(r"learning-(\d+)-(own|all)")


def variant_words(variant: str) -> str:
    """Return how legends call a fit, e.g. ``"primitive cells only"`` for ``"primitives"``."""
    found = _LEARNING.fullmatch(variant)
    if found:
        return f"{int(found[1])} labels, sparse points of {'all frames' if found[2] == 'all' else 'these'}"
    return _WORDS.get(variant, variant)


@dataclass(frozen=True)
class FitSize:
    """What a potential was fitted to; None where it is not known.

    Attributes
    ----------
    n_energies, n_atoms
        Labelled structures, and atoms in all of them.
    n_sparse
        Sparse points.
    cost
        Of the labels: k-points times the cube of the atoms, summed (`gapfactory.analysis.reference_cost`).
    """

    n_energies: int | None = None
    n_atoms: int | None = None
    n_sparse: int | None = None
    cost: float | None = None


@dataclass(frozen=True)
class PotentialVibrations:
    """One crystal by one potential, against the reference.

    Attributes
    ----------
    variant
        Empty for a generation's own potential, else the study.
    vibrations
        What it gives.
    comparison
        The same against the reference.
    fit
        What it was fitted to.
    """

    variant: str
    vibrations: Vibrations
    comparison: VibrationComparison
    fit: FitSize = field(default_factory=FitSize)


@dataclass(frozen=True)
class CrystalVibrations:
    """One crystal by the reference and by potentials.

    Attributes
    ----------
    name
        E.g. ``"Al-fcc"``.
    reference
        By the reference.
    potentials
        By potentials, each variant once.
    eta
        Place on Bain's path, or None.
    volume_of
        Of a place on the path: the crystal whose volume it has.
    trained
        Whether the potentials were fitted to frames of this crystal; None: not known.
    campaign
        Whose it is; empty where there is only one.
    """

    name: str
    reference: Vibrations
    potentials: tuple[PotentialVibrations, ...] = ()
    eta: float | None = None
    trained: bool | None = None
    campaign: str = ""
    volume_of: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        reference: Vibrations,
        potentials: Mapping[str, Vibrations],
        *,
        fits: Mapping[str, FitSize] | None = None,
        eta: float | None = None,
        trained: bool | None = None,
        campaign: str = "",
        volume_of: str = "",
    ) -> CrystalVibrations:
        """Compare potentials, by variant, with the reference.

        Raises
        ------
        EvidenceError
            As `compare_vibrations`.
        """
        fits = fits or {}
        compared = tuple(
            PotentialVibrations(v, found, compare_vibrations(found, reference), fits.get(v, FitSize()))
            for v, found in potentials.items()
        )
        return cls(name, reference, compared, eta, trained, campaign, volume_of)

    @property
    def title(self) -> str:
        """Name, with the campaign where it is given."""
        return f"{self.name} ({self.campaign})" if self.campaign else self.name

    def by(self, variant: str) -> PotentialVibrations | None:
        """Return what a potential gives, or None."""
        return next((p for p in self.potentials if p.variant == variant), None)


def bain_places(crystals: Sequence[CrystalVibrations]) -> list[CrystalVibrations]:
    """Return the crystals on Bain's path, body-centred cubic first.

    The crystal whose volume the others have is an end of it, where it is body-centred or face-centred cubic.
    """
    found = [crystal for crystal in crystals if crystal.eta is not None]
    for name in dict.fromkeys(crystal.volume_of for crystal in found):
        origin = next((c for c in crystals if c.name == name and c.eta is None), None)
        if origin is None or len(origin.reference.crystal) != 1:
            continue
        eta = _ENDS.get(space_group_number(origin.reference.crystal, 1e-3) or 0)
        if eta is not None and all(c.eta != eta for c in found):
            found.append(replace(origin, eta=eta))
    return sorted(found, key=lambda crystal: crystal.eta or 0.0)


# ---- phonons -------------------------------------------------------------------------------------------------------


def phonon_rows(methods: Iterable[tuple[str, Phonons]], **first: Any) -> list[dict[str, Any]]:
    """Return a row for each frequency of the bands and for each point of the density of states.

    Parameters
    ----------
    methods
        Name and phonons, e.g. of reference and potential.
    first
        Columns with which every row begins, e.g. ``crystal="Al-fcc"``.
    """
    return [row for name, found in methods for row in _rows_of(name, found, first)]


def _rows_of(method: str, found: Phonons, first: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    path = found.path
    names = {k: "Γ" if name == "G" else name for k, name in path.labels}
    piece = np.searchsorted(np.array(path.breaks, dtype=int), np.arange(len(path.distances)), side="right")
    nothing = dict.fromkeys(("piece", "point", "distance_per_A", "q1", "q2", "q3", "branch"))
    for branch in range(found.bands.shape[1]):
        for k, distance in enumerate(path.distances):
            q = path.wave_vectors[k]
            yield {
                **first,
                "method": method,
                "kind": "bands",
                "piece": int(piece[k]),
                "point": names.get(k, ""),
                "distance_per_A": float(distance),
                "q1": float(q[0]),
                "q2": float(q[1]),
                "q3": float(q[2]),
                "branch": branch,
                "frequency_THz": float(found.bands[k, branch]),
                "states_per_THz": None,
            }
    for frequency, states in zip(found.dos_frequencies, found.dos, strict=True):
        yield {
            **first,
            "method": method,
            "kind": "states",
            **nothing,
            "frequency_THz": float(frequency),
            "states_per_THz": float(states),
        }


def place_on_path(path: PhononPath, k: int) -> str:
    """Return where a wave vector of the path lies in words: ``"at X"``, ``"near X"``, ``"between Γ and X"``."""
    corners = [(at, "Γ" if name == "G" else name) for at, name in path.labels]
    exact = next((name for at, name in corners if at == k), None)
    if exact is not None:
        return f"at {exact}"
    before = max(c for c in corners if c[0] < k)
    after = min(c for c in corners if c[0] > k)
    start, end = path.distances[before[0]], path.distances[after[0]]
    share = (path.distances[k] - start) / (end - start)
    if min(share, 1.0 - share) < 0.2:
        return f"near {before[1] if share < 0.5 else after[1]}"
    return f"between {before[1]} and {after[1]}"


def stability_sentence(reference: Phonons, potential: Phonons | None) -> str:
    """Return in words whether modes are imaginary; empty where none is by either."""
    both = [("reference", reference), *([("potential", potential)] if potential is not None else [])]
    said = []
    for who, found in both:
        if not found.stable:
            share = f"{100 * found.imaginary_share:.1f} % of the modes"
            said.append(f"by the {who} {share}, down to {_imaginary(found)}")
        elif any(not other.stable for _, other in both):
            said.append(f"by the {who} none")
    if not said:
        return ""
    return f"imaginary frequencies (below zero): {'; '.join(said)}"


def _imaginary(found: Phonons) -> str:
    """Return the lowest frequency and where on the path it is; that of the mesh where the path has none as low."""
    k, _ = np.unravel_index(int(np.argmin(found.bands)), found.bands.shape)
    if found.bands.min() > found.lowest + 0.05 * abs(found.lowest):
        return f"{found.lowest:.2f} THz away from the path"
    return f"{found.lowest:.2f} THz {place_on_path(found.path, int(k))}"


# ---- verdict -------------------------------------------------------------------------------------------------------


def verdict(
    crystal: CrystalVibrations, limits: VibrationLimits, variant: str = "", *, phonons_only: bool = False
) -> tuple[bool, str] | None:
    """Return whether a potential reproduces a crystal, and that in words; None where it has not been compared.

    Parameters
    ----------
    phonons_only
        Leave elastic constants out of the words.
    """
    found = crystal.by(variant)
    if found is None:
        return None
    passes, words = found.comparison.passed(limits), found.comparison
    phonons = words.phonons
    text = (
        f"{crystal.title} {'passes' if passes else 'fails'}: frequencies on a {'x'.join(map(str, phonons.mesh))} "
        f"mesh differ by {phonons.rmse_THz:.3f} THz RMS (limit {limits.phonon_rmse_THz:g}), at most by "
        f"{phonons.largest_THz:+.3f}"
    )
    if not phonons_only and words.elastic is None:
        text += f"; {words.no_elastic}"
    elif not phonons_only and words.elastic is not None:
        text += f"; {words.elastic.sentence()} (limit {limits.elastic_percent:g} %)"
    imaginary = stability_sentence(crystal.reference.phonons, found.vibrations.phonons)
    return passes, f"{text}; {imaginary}" if imaginary else text


# ---- learning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearningFit:
    """A fit to a part of the labels.

    Attributes
    ----------
    labels
        Labels that it was fitted to.
    sparse_of
        ``"all"``: its sparse points come from all frames, labelled or not (Fig. 4a); ``"own"``: from those with its
        labels (Fig. 4b).
    found
        What it gives.
    """

    labels: int
    sparse_of: Literal["all", "own"]
    found: PotentialVibrations

    @classmethod
    def of(cls, crystal: CrystalVibrations) -> tuple[LearningFit, ...]:
        """Return the learning fits of a crystal, fewest labels first; the potential itself, of all labels, is the last.

        Its sparse points come from all frames, which are the labelled ones: it is there for both ways.
        """
        fits = []
        for potential in crystal.potentials:
            named = _LEARNING.fullmatch(potential.variant)
            if named:
                fits.append(cls(int(named[1]), "all" if named[2] == "all" else "own", potential))
        own = crystal.by("")
        if fits and own is not None and own.fit.n_energies is not None:
            fits += [cls(own.fit.n_energies, way, own) for way in _WAYS]
        return tuple(sorted(fits, key=lambda f: (f.labels, f.sparse_of)))


def learning_rows(crystal: CrystalVibrations) -> list[dict[str, Any]]:
    """Return a row for each learning fit of a crystal: its size, and its error (Fig. 4)."""
    return [
        {
            "crystal": crystal.title,
            "labels": fit.labels,
            "sparse_points_of": "all frames" if fit.sparse_of == "all" else "the labelled frames",
            "atoms": fit.found.fit.n_atoms,
            "sparse_points": fit.found.fit.n_sparse,
            "rmse_THz": fit.found.comparison.phonons.rmse_THz,
            "path_rmse_THz": fit.found.comparison.phonons.path_rmse_THz,
            "lowest_THz": fit.found.comparison.phonons.potential_lowest_THz,
            "reference_lowest_THz": fit.found.comparison.phonons.reference_lowest_THz,
        }
        for fit in LearningFit.of(crystal)
    ]


# ---- elastic constants ---------------------------------------------------------------------------------------------


def elastic_rows(
    crystals: Sequence[CrystalVibrations], variants: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each modulus and constant of each crystal and potential (Figs. 6 and 7), and what is missing.

    Parameters
    ----------
    variants
        Variant -> name of the potential in the rows.
    """
    rows, missing = [], []
    for crystal in crystals:
        for variant, name in variants.items():
            found = crystal.by(variant)
            if found is None:
                continue
            elastic = found.comparison.elastic
            if elastic is None:
                by = f" by {name}" if len(variants) > 1 else ""
                missing.append(f"{crystal.title}{by}: {found.comparison.no_elastic}")
                continue
            rows += [
                {"crystal": crystal.title, "method": name, **row, "unit": "GPa"} for row in elastic.rows()
            ]
    return rows, list(dict.fromkeys(missing))


def elastic_table(crystals: Sequence[CrystalVibrations], variants: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return Table 3: a row for each crystal and method, constants side by side, measured ones where they are known.

    Parameters
    ----------
    variants
        Variant -> name of the potential in the rows.
    """
    lines: list[tuple[str, str, dict[str, float]]] = []
    for crystal in crystals:
        for variant, name in variants.items():
            found = crystal.by(variant)
            if found is not None and found.vibrations.elastic is not None:
                lines.append((crystal.title, name, _constants(found.vibrations)))
        if crystal.reference.elastic is not None:
            lines.append((crystal.title, "reference", _constants(crystal.reference)))
            measured = measured_constants(crystal.reference.crystal)
            if measured is not None:
                lines.append((crystal.title, f"measured: {measured.source}", dict(measured.constants)))
    if not lines:
        raise EvidenceError("no crystal has elastic constants by any method")
    names = sorted({name for _, _, found in lines for name in found}, key=lambda n: (len(n), n))
    return [
        {"crystal": crystal, "method": method, **{f"{name}_GPa": found.get(name) for name in names}}
        for crystal, method, found in lines
    ]


def _constants(found: Vibrations) -> dict[str, float]:
    elastic = found.elastic
    if elastic is None:
        return {}
    return {"B": elastic.tensor.bulk, "G": elastic.tensor.shear, **elastic.constants()}


def fit_table(
    crystals: Sequence[CrystalVibrations], settings: Mapping[str, Mapping[str, Any]], variant: str = ""
) -> list[dict[str, Any]]:
    """Return Table 2: a row for each crystal with the settings of the fit, its data, and lattice parameters.

    Parameters
    ----------
    settings
        By name of the campaign (`CrystalVibrations.campaign`), in the order of the columns.
    variant
        Of the potential.

    Raises
    ------
    EvidenceError
        There is no crystal by this potential.
    """
    shown = [(crystal, found) for crystal in crystals if (found := crystal.by(variant)) is not None]
    if not shown:
        raise EvidenceError(f"no crystal was computed by the {variant_words(variant)}")
    lattice = sorted(
        {name for _, found in shown for name, _, _ in found.comparison.lattice}, key=_LATTICE.index
    )
    columns = dict.fromkeys(key for crystal, _ in shown for key in settings.get(crystal.campaign, {}))
    rows = []
    for crystal, found in shown:
        mine = settings.get(crystal.campaign, {})
        parameters = {name: (ours, theirs) for name, theirs, ours in found.comparison.lattice}
        row: dict[str, Any] = {"crystal": crystal.title, **{key: mine.get(key) for key in columns}}
        row |= {
            "n_sparse": found.fit.n_sparse,
            "n_atoms": found.fit.n_atoms,
            "n_energies": found.fit.n_energies,
            "cost_kpoints_atoms3": found.fit.cost,
        }
        for name in lattice:
            unit = "A" if len(name) == 1 else "deg"
            ours, theirs = parameters.get(name, (None, None))
            row |= {f"{name}_potential_{unit}": ours, f"{name}_reference_{unit}": theirs}
        rows.append(row)
    return rows
