"""From labelled structures and trained networks to a potential on disk, proved and measured."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.eddp.calculator import load_potential
from gapfactory.potentials.eddp.data import prepare
from gapfactory.potentials.eddp.features import Features
from gapfactory.potentials.eddp.files import EDDP_NAME, write_eddp
from gapfactory.potentials.eddp.network import Baseline
from gapfactory.potentials.eddp.train import EnergyErrors, combine, energy_errors
from gapfactory.potentials.gap.batches import in_batches
from gapfactory.potentials.gap.check import Evaluation
from gapfactory.potentials.gap.fit import train_errors
from gapfactory.potentials.manifest import MANIFEST_NAME, seal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.data import Split, TrainingSet
    from gapfactory.potentials.eddp.network import Ensemble, Network
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.data import LabelledStructure, TrainErrors

__all__ = ["EddpFit", "fit_eddp", "training_key", "training_set"]

#: How far, in eV/atom, the potential read from its files may be from the networks that were trained.
_SAME = 1e-8


@dataclass(frozen=True)
class EddpFit:
    """A fitted potential and what is worth knowing about it.

    Attributes
    ----------
    directory
        Where the files are.
    files
        `potential.eddp` first, then its networks, then `manifest.json`.
    digest
        Hash of the numbers.
    trained_on
        Ids of the training and validation sets: these decide what the potential is.
    tested_on
        Ids of the test set.
    discarded, outliers
        Ids left out of everything, and out of the weights; see `prepare` and `combine`.
    errors
        On `train`, `validation` and `test`; and `unrelated`, the structures of the test set without a relative (a copy
        of the same parent) in the other two, where there is one.
    train_errors, residuals
        Of what it was trained on, and by id of all that is not discarded; as in `GapFit`.
    spread
        Mean spread of the networks on the test set, eV/atom.
    trained, kept
        Networks that were combined, and the places of those with a weight.
    parts
        Their weights.
    seconds
        To combine, write and prove.
    """

    directory: Path
    files: tuple[Path, ...]
    digest: str
    trained_on: tuple[str, ...]
    tested_on: tuple[str, ...]
    discarded: tuple[str, ...]
    outliers: tuple[str, ...]
    errors: Mapping[str, EnergyErrors]
    train_errors: TrainErrors
    residuals: Mapping[str, tuple[float, float | None]]
    spread: float
    trained: int
    kept: tuple[int, ...]
    parts: tuple[float, ...]
    seconds: float


def training_set(
    data: Sequence[LabelledStructure],
    symbols: Sequence[str],
    settings: EddpSettings,
    *,
    parents: Mapping[str, str] | None = None,
) -> TrainingSet:
    """Return what networks are trained on: the crystals of the data.

    Free atoms among the data are the origin of energies; without them, and for one species, the mean of the training
    energies is. Dimers are left out.

    Parameters
    ----------
    data
        Labelled structures.
    symbols
        Species of the potential.
    settings
        Features, energy window, core.
    parents
        As for `prepare`.

    Raises
    ------
    FitError
        As `prepare` does.
    """
    features = Features.from_settings(settings.features, symbols)
    free = {item.atoms.get_chemical_symbols()[0]: item.energy for item in data if item.kind == "isolated"}
    baseline = Baseline.from_settings(settings.core, features, free or None)
    crystals = [item for item in data if item.kind == "crystal"]
    return prepare(crystals, features, settings.training, parents=parents, baseline=baseline)


def training_key(
    data: Sequence[LabelledStructure], settings: EddpSettings, parents: Mapping[str, str] | None = None
) -> str:
    """Return a hash of everything that decides a network besides its random start.

    Networks of one key may be combined. How many are trained, and how they are combined, is not in it.
    """
    h = hashlib.sha256(settings.model_dump_json(exclude={"ensemble"}).encode())
    for item in sorted(data, key=lambda entry: entry.id):
        family = (parents or {}).get(item.id, item.id)
        h.update(f"\0{item.id}\0{item.kind}\0{family}\0{float(item.energy).hex()}".encode())
        if settings.training.force_weight > 0.0 and item.forces is not None:
            h.update(np.ascontiguousarray(item.forces, dtype="<f8").tobytes())
    return h.hexdigest()


def fit_eddp(
    networks: Sequence[Network],
    data: Sequence[LabelledStructure],
    training: TrainingSet,
    split: Split,
    settings: EddpSettings,
    directory: Path,
) -> EddpFit:
    """Combine networks, write the potential, and prove that its files give the same energies.

    Parameters
    ----------
    networks
        Trained on `training` and `split`.
    data
        The labelled structures that `training` was made from.
    training, split, settings
        As in training.
    directory
        Where the files are written; it is made.

    Raises
    ------
    FitError
        If the networks cannot be combined, or the files do not give the energies of what was written.
    """
    began = time.monotonic()
    combined = combine(networks, training, split, settings.ensemble)
    directory.mkdir(parents=True, exist_ok=True)
    files = write_eddp(combined.ensemble, directory / EDDP_NAME)
    digest = hashlib.sha256(b"gapfactory-eddp-1")
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    seal(directory, [file.name for file in files], digest.hexdigest())
    by_id = {item.id: item for item in data}
    ordered = [by_id[key] for key in training.ids]
    found, spreads = _evaluated(directory, ordered)
    _require_same(found, ordered, training, combined.ensemble)
    mine = sorted({*split.train.tolist(), *split.validation.tolist()})
    errors, _ = train_errors([ordered[k] for k in mine], _part(found, mine))
    _, residuals = train_errors(ordered, found)
    return EddpFit(
        directory=directory,
        files=(*files, directory / MANIFEST_NAME),
        digest=digest.hexdigest(),
        trained_on=tuple(training.ids[k] for k in mine),
        tested_on=tuple(training.ids[k] for k in split.test),
        discarded=training.discarded,
        outliers=combined.outliers,
        errors={**combined.errors, **_unrelated(training, split, found, ordered)},
        train_errors=errors,
        residuals=residuals,
        spread=float(spreads[split.test].mean()) if len(split.test) else float("nan"),
        trained=len(networks),
        kept=combined.kept,
        parts=combined.ensemble.parts,
        seconds=time.monotonic() - began,
    )


def _evaluated(directory: Path, items: Sequence[LabelledStructure]) -> tuple[Evaluation, NDArray[np.float64]]:
    """Return what the files say of structures, and the spread of the networks, eV/atom."""
    engine = load_potential(directory).engine
    results = list(in_batches([item.atoms for item in items], engine.evaluate, names=[i.id for i in items]))
    energies = np.concatenate([result.energies for result in results])
    forces = [result.forces[result.atoms_of(k)] for result in results for k in range(len(result.energies))]
    stresses = np.concatenate([result.stresses for result in results])
    return Evaluation(energies, forces, stresses), np.concatenate([result.spreads for result in results])


def _require_same(
    found: Evaluation, items: Sequence[LabelledStructure], training: TrainingSet, ensemble: Ensemble
) -> None:
    """Refuse files whose energies are not those of the networks that were written into them."""
    # both are errors: what is not learnt, core and free atoms, is in neither
    ours = np.asarray(ensemble.parts) @ ensemble.member_energies(training.full, training.offsets)
    expected = ours - training.energies
    error = found.energies - np.array([item.energy for item in items])
    worst = np.abs(error - expected) / training.counts
    k = int(np.argmax(worst))
    # written so that NaN is refused too
    if not worst[k] <= _SAME:
        msg = (
            f"read back from its files, the potential gives {training.ids[k]!r} an energy {worst[k]:.3g} eV/atom off "
            "that of the networks in memory: fit it again, and report it if it stays so"
        )
        raise FitError(msg)


def _part(found: Evaluation, chosen: Sequence[int]) -> Evaluation:
    forces = None if found.forces is None else [found.forces[k] for k in chosen]
    stresses = None if found.stresses is None else found.stresses[list(chosen)]
    return Evaluation(found.energies[list(chosen)], forces, stresses)


def _unrelated(
    training: TrainingSet, split: Split, found: Evaluation, items: Sequence[LabelledStructure]
) -> dict[str, EnergyErrors]:
    """Return the errors on the part of the test set that has no relative among what the potential was made from."""
    seen = {training.parents[k] for k in (*split.train, *split.validation)}
    chosen = [int(k) for k in split.test if training.parents[k] not in seen]
    if not chosen:
        return {}
    reference = np.array([items[k].energy for k in chosen])
    return {"unrelated": energy_errors(found.energies[chosen], reference, training.counts[chosen])}
