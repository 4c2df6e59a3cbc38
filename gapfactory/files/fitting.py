"""A potential of either family from labelled structures, in a directory."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError
from gapfactory.seeds import Stage, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gapfactory.campaign import Campaign
    from gapfactory.files.training import TrainingFiles
    from gapfactory.potentials.eddp import EddpFit
    from gapfactory.potentials.gap import GapFit
    from gapfactory.potentials.gap.data import TrainErrors

__all__ = ["REPORT_NAME", "FileFit", "fit_files", "settings_for"]

#: What was fitted and how well, beside the potential.
REPORT_NAME: Final = "report.json"


@dataclass(frozen=True)
class FileFit:
    """A potential in a directory.

    Attributes
    ----------
    directory
        Its files, and `REPORT_NAME`.
    family
        ``gap`` or ``eddp``.
    digest
        Hash of its numbers.
    errors
        On what it was trained on, but for free atoms and dimers.
    report
        The same and more, as it stands in the file.
    """

    directory: Path
    family: str
    digest: str
    errors: TrainErrors
    report: Mapping[str, Any]


def settings_for(
    symbols: tuple[str, ...], campaign: Campaign | None = None, family: str | None = None
) -> Campaign:
    """Return a campaign whose settings of the potential a fit without a campaign takes.

    Parameters
    ----------
    symbols
        Elements of the data.
    campaign
        Of a campaign file, or None: every value is the default that follows from the elements.
    family
        ``gap`` or ``eddp``; None: that of the campaign.

    Raises
    ------
    InputError
        The campaign has other elements.
    """
    from gapfactory.campaign import campaign_from_mapping

    if campaign is None:
        campaign = campaign_from_mapping(
            {"composition": {"".join(symbols): 1.0}, "evidence": {"phases": "none"}}
        )
    elif set(campaign.species_table) != set(symbols):
        raise InputError(
            f"the structures hold {', '.join(symbols)}, and the campaign file is of "
            f"{', '.join(campaign.species_table)}: give a file for these elements, or none"
        )
    return campaign if family is None else campaign.model_copy(update={"potential": family})


def fit_files(
    data: TrainingFiles,
    campaign: Campaign,
    directory: Path,
    *,
    progress: Callable[[str], None] | None = None,
) -> FileFit:
    """Fit a potential as a campaign would, and write it into a new directory, whole or not at all.

    The same data, settings and seed give the same potential.

    Parameters
    ----------
    data
        As `training_structures` returns it.
    campaign
        Settings of the potential and the seed; see `settings_for`.
    directory
        Must not exist, or be empty.
    progress
        Called with one line of text as the fit proceeds.

    Raises
    ------
    InputError
        The directory is there.
    FitError
        The labels cannot be fitted.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory} is there already: name another directory, or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fit-", dir=directory.parent) as scratch:
        fit = (_gap if campaign.potential == "gap" else _eddp)(data, campaign, Path(scratch), progress)
        report = _report(data, campaign, fit)
        (fit.directory / REPORT_NAME).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if directory.exists():
            directory.rmdir()
        shutil.move(fit.directory, directory)
    return FileFit(directory, campaign.potential, fit.digest, fit.train_errors, report)


def _gap(
    data: TrainingFiles, campaign: Campaign, scratch: Path, progress: Callable[[str], None] | None
) -> GapFit:
    from gapfactory.potentials.gap import fit_gap

    return fit_gap(
        data.structures,
        species=tuple(campaign.species_table.values()),
        settings=campaign.gap,
        seed=lambda k: stream(campaign.seed, 0, Stage.SPARSE, k),
        workdir=scratch,
        progress=progress,
    )


def _eddp(
    data: TrainingFiles, campaign: Campaign, scratch: Path, progress: Callable[[str], None] | None
) -> EddpFit:
    from gapfactory.potentials.eddp import fit_eddp, split_structures, train_network, training_set

    settings = campaign.eddp
    # dimers are for a GAP
    wanted = [item for item in data.structures if item.kind != "dimer"]
    training = training_set(wanted, tuple(campaign.species_table), settings)
    split = split_structures(training.parents, settings.training, stream(campaign.seed, 0, Stage.SPLIT))
    networks = []
    for index in range(settings.ensemble.members):
        found = train_network(training, split, settings, stream(campaign.seed, 0, Stage.NETWORK, index))
        networks.append(found.network)
        if progress is not None:
            progress(
                f"network {index + 1} of {settings.ensemble.members}: {1000 * found.errors['test'].mae:.3g} meV/atom "
                f"on the test set after {found.steps} steps"
            )
    return fit_eddp(networks, wanted, training, split, settings, scratch / "potential")


def _report(data: TrainingFiles, campaign: Campaign, fit: GapFit | EddpFit) -> dict[str, Any]:
    """Return what is worth keeping, as plain data."""
    from gapfactory.potentials.eddp import EddpFit
    from gapfactory.potentials.gap.backends import package_versions

    settings = campaign.potential_settings
    own: dict[str, Any]
    if isinstance(fit, EddpFit):
        own = {
            "test_errors": asdict(fit.errors["test"]),
            "networks": len(fit.kept),
            "outliers": list(fit.outliers),
        }
    else:
        own = {"deltas_eV": dict(fit.deltas), "duplicates": list(fit.duplicates)}
    return {
        "family": campaign.potential,
        "digest": fit.digest,
        "elements": list(campaign.species_table),
        "structures": sum(item.kind != "isolated" for item in data.structures),
        "free_atoms_eV": data.free_atoms,
        "train_errors": asdict(fit.train_errors),
        **own,
        "discarded": list(fit.discarded),
        "settings": settings.model_dump(mode="json"),
        "seed": campaign.seed,
        "notes": list(data.notes),
        "versions": package_versions("gapfactory", "numpy", "scipy", "ase"),
    }
