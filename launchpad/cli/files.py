"""`gapfactory fit`, `evaluate` and `select`: the science on files, without a campaign and without a database."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import JsonOption, PrefixOption  # noqa: TC001 - typer reads the annotations
from launchpad.cli.output import console, picture_kind, print_json, save_picture, say, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gapfactory.files import Evaluated, GroupErrors, NamedStructure

__all__ = ["evaluate", "fit", "select"]

SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every random draw: same seed, same result.")]


class _Family(StrEnum):
    GAP = "gap"
    EDDP = "eddp"


def fit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Labelled structures: extended XYZ, databases of ASE (.db), outputs of DFT codes.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory of the potential; it must not be there.")
    ] = Path("potential"),
    family: Annotated[
        _Family | None,
        typer.Option(help="Kind of potential \\[default: gap, or that of --settings].", show_default=False),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Campaign file whose blocks gap or eddp, species and seed are taken \\[default: what follows from the "
            "elements].",
            show_default=False,
        ),
    ] = None,
    free_atom: Annotated[
        list[str] | None,
        typer.Option(
            help="Energy of a free atom, eV, e.g. Si=-0.81, repeatable; or 'fitted': those that explain the energies "
            "best \\[default: the free atoms among the structures].",
            show_default=False,
        ),
    ] = None,
    prefix: PrefixOption = None,
    accept_faults: Annotated[
        bool,
        typer.Option("--accept-faults", help="Fit although 'structures check' finds faults in the labels."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a potential to labelled structures, as a campaign would.

    The labels are checked first (gapfactory structures check). The directory holds the potential, a manifest with
    checksums and report.json; 'gapfactory evaluate', campaigns and ASE (gapfactory.potentials.load_potential) read it.

    Examples
    --------
      gapfactory fit training.xyz -o silicon

      gapfactory fit run*/vasprun.xml --free-atom Si=-0.81 --settings si.yaml

      gapfactory fit data.extxyz --family eddp --free-atom fitted --json
    """
    from gapfactory.analysis.label_check import check_data
    from gapfactory.campaign import load_campaign
    from gapfactory.errors import InputError
    from gapfactory.files import fit_files, settings_for, training_structures
    from gapfactory.io.labelled import read_labelled

    data = {path: read_labelled(path, prefix) for path in files}
    found = check_data({str(path): part for path, part in data.items()})
    if found.faults and not accept_faults:
        raise InputError(
            f"the labels have faults: {' | '.join(found.faults)} 'gapfactory structures check' says more; "
            "--accept-faults fits all the same"
        )
    symbols = tuple(
        sorted({s for part in data.values() for f in part.frames for s in f.atoms.get_chemical_symbols()})
    )
    campaign = settings_for(symbols, None if settings is None else load_campaign(settings), family)
    ready = training_structures(
        data, cutoff=campaign.potential_cutoff, free_atoms=_free_atoms(free_atom or [])
    )
    if not as_json:
        for note in (*found.notes, *ready.notes):
            say(f"note: {note}")
    done = fit_files(ready, campaign, output, progress=None if as_json else say)
    if as_json:
        print_json({**done.report, "directory": str(done.directory)})
        return
    errors = done.report["train_errors"]
    rows = [["trained on", *_cells(errors, 1)]]
    if "test_errors" in done.report:
        test = done.report["test_errors"]
        rows.append(["test set", test["n_structures"], _milli(test["rmse"]), "", ""])
    table(
        f"{done.family} in {done.directory}",
        ["", "structures", "energy (meV/atom)", "forces (eV/Å)", "virial (meV/atom)"],
        rows,
    )


def _cells(errors: dict[str, Any], digits: int) -> list[str]:
    forces = errors["force_rmse"]
    return [
        str(errors["n_structures"]),
        _milli(errors["energy_rmse"], digits),
        "" if forces is None else f"{forces:.3f}",
        _milli(errors["virial_rmse"], digits),
    ]


def _milli(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{1000 * value:.{digits}f}"


def _free_atoms(given: Sequence[str]) -> Any:
    from gapfactory.errors import InputError

    if list(given) == ["fitted"]:
        return "fitted"
    found = {}
    for text in given:
        symbol, _, value = text.partition("=")
        try:
            found[symbol] = float(value)
        except ValueError:
            raise InputError(
                f"--free-atom {text!r}: give an element and its energy in eV, e.g. Si=-0.81, or once 'fitted'"
            ) from None
    return found or None


def evaluate(
    potential: Annotated[
        Path,
        typer.Argument(
            help="Directory of a potential, as 'fit' and 'campaign export' write it.", show_default=False
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="STRUCTURES...",
            help="Extended XYZ, CIF, .res, databases of ASE, outputs of DFT codes; with or without labels.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the structures with energies, forces and stresses to this file (.extxyz).",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw predicted against given energies: .png, .pdf or .svg.", show_default=False),
    ] = None,
    prefix: PrefixOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a potential on structures, and measure its errors where they have labels.

    What the potential gives is written under the bare names energy, forces, stress, and labels under REF_. Exit code 1
    when it refuses a structure, because it lies outside what the potential knows.

    Examples
    --------
      gapfactory evaluate silicon test.xyz --picture parity.png

      gapfactory evaluate silicon POSCARs.extxyz -o evaluated.extxyz --json
    """
    from gapfactory.errors import InputError
    from gapfactory.files import errors_by_group, evaluate_each, read_named
    from gapfactory.io.structures import require_writable
    from gapfactory.potentials import load_potential

    if output is not None:
        require_writable(output, "--output")
        if output.suffix == ".res":
            raise InputError(
                f"--output {output}: forces are written as extended XYZ; end the name in .extxyz"
            )
    kind = "" if picture is None else picture_kind(picture, "--picture")
    structures = read_named(files, prefix)
    if picture is not None and all(one.label is None for one in structures):
        raise InputError(f"--picture {picture}: no structure has a label to compare with")
    if not potential.exists():
        raise InputError(
            f"there is no potential {potential}: 'gapfactory fit' and 'campaign export' write one"
        )
    calculator = load_potential(potential if potential.is_dir() else potential.parent)
    results = list(_watched(evaluate_each(calculator, structures), len(structures), quiet=as_json))
    if output is not None:
        _write(output, results)
    errors = errors_by_group(results)
    if picture is not None:
        save_picture(_parity(results), picture, kind)
    refused = [one for one in results if one.energy is None]
    if as_json:
        print_json(
            {
                "potential": str(potential),
                "structures": len(results),
                "refused": {one.structure.name: one.reason for one in refused},
                "errors": [asdict(row) for row in errors],
                "energies_eV": {one.structure.name: one.energy for one in results},
                "file": None if output is None else str(output),
            }
        )
    else:
        _show(potential, results, errors)
    raise typer.Exit(1 if refused else 0)


def _watched(results: Iterable[Evaluated], number: int, *, quiet: bool) -> Iterator[Evaluated]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as progress:
        yield from progress.track(results, total=number, description="evaluating")


def _write(path: Path, results: Sequence[Evaluated]) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    from gapfactory.io.extxyz import CONFIG_TYPE_KEY, ENERGY_KEY, FORCES_KEY

    images = []
    for one in results:
        image, label = one.structure.atoms.copy(), one.structure.label
        image.info = {"name": one.structure.name}
        if label is not None:
            image.info |= {CONFIG_TYPE_KEY: label.config_type, ENERGY_KEY: label.energy}
            if label.stress is not None:
                image.info["REF_stress"] = label.stress
            if label.forces is not None:
                image.arrays[FORCES_KEY] = label.forces
        if one.uncertainty is not None:
            image.info["uncertainty"] = one.uncertainty
        if one.energy is None:
            image.info["refused"] = one.reason
        else:
            given = {"energy": one.energy, "forces": one.forces, "stress": one.stress}
            image.calc = SinglePointCalculator(image, **{k: v for k, v in given.items() if v is not None})
        images.append(image)
    write(path, images, format="extxyz")


def _parity(results: Sequence[Evaluated]) -> Any:
    from gapfactory.errors import EvidenceError
    from gapfactory.figures.quality import energy_scatter

    pairs = [
        (label.energy / n, one.energy / n, label.config_type)
        for one in results
        if (label := one.structure.label) is not None
        and one.energy is not None
        and (n := len(one.structure.atoms)) > 0
    ]
    if not pairs:
        raise EvidenceError("the potential refuses every structure with a label: there is nothing to draw")
    lowest = min(reference for reference, _, _ in pairs)
    return energy_scatter(
        [reference - lowest for reference, _, _ in pairs],
        [predicted - lowest for _, predicted, _ in pairs],
        [group for _, _, group in pairs],
    )


def _show(potential: Path, results: Sequence[Evaluated], errors: Sequence[GroupErrors]) -> None:
    if errors:
        table(
            f"errors of {potential}",
            [
                "structures of",
                "number",
                "refused",
                "energy (meV/atom)",
                "mean",
                "forces (eV/Å)",
                "stress (GPa)",
            ],
            [
                [
                    row.group,
                    row.structures,
                    row.refused,
                    _milli(row.energy_rmse),
                    _milli(row.energy_mean),
                    "" if row.force_rmse is None else f"{row.force_rmse:.3f}",
                    "" if row.stress_rmse is None else f"{160.21766 * row.stress_rmse:.2f}",
                ]
                for row in errors
            ],
        )
    else:
        energies = [one.energy / len(one.structure.atoms) for one in results if one.energy is not None]
        said = f", energies {min(energies):.3f} to {max(energies):.3f} eV/atom" if energies else ""
        say(f"{len(energies)} structures evaluated{said}; none has a label to compare with")
    for one in results:
        if one.energy is None:
            say(f"refused: {one.structure.name}: {one.reason}")


class _Method(StrEnum):
    CUR_KERNEL = "cur-kernel"
    CUR_VECTORS = "cur-vectors"
    RANDOM = "random"


def select(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="STRUCTURES...",
            help="Extended XYZ, CIF, .res, databases of ASE, outputs of DFT codes.",
            show_default=False,
        ),
    ],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Structures to choose.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write, .extxyz, .xyz or .res.")
    ] = Path("selected.extxyz"),
    method: Annotated[_Method, typer.Option(help="How; random is for comparison.")] = _Method.CUR_KERNEL,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--kt",
            help="Prefer low energies: temperature of the bias in eV, e.g. 0.3; the files must have energies.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 1,
    prefix: PrefixOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the structures that are worth a calculation: those that differ most from each other.

    By leverage scores of the kernel of averaged SOAP vectors (CUR), as campaigns choose; of each composition in
    proportion to how many there are. Exact duplicates are never chosen.

    Examples
    --------
      gapfactory select cells.extxyz -n 50 -o to-label.extxyz

      gapfactory select evaluated.extxyz -n 20 --kt 0.2 --seed 7 --json
    """
    from gapfactory.descriptors.settings import SimilaritySettings
    from gapfactory.errors import InputError
    from gapfactory.files import choose_structures, read_named
    from gapfactory.io.structures import require_writable, write_structures
    from gapfactory.select import SelectSettings

    require_writable(output, "--output")
    structures = read_named(files, prefix)
    energies = _energies(structures) if temperature is not None else None
    if temperature is not None and temperature <= 0.0:
        raise InputError(f"--kt {temperature:g} must be positive, in eV")
    chosen = choose_structures(
        [one.name for one in structures],
        [one.atoms for one in structures],
        SelectSettings(
            labels_per_generation=number, held_out_per_generation=0, noise_cells=0, method=method.value
        ),
        SimilaritySettings(),
        seed=seed,
        energies=energies,
        kT=temperature,
    )
    by_name = {one.name: one for one in structures}
    write_structures(
        output,
        [
            (
                pick.id,
                by_name[pick.id].atoms,
                {"order": pick.order, "leverage": pick.leverage, "composition": pick.group},
            )
            for pick in chosen.picks
        ],
    )
    counts: dict[str, list[int]] = {}
    for stage in chosen.stages:
        counts[stage.group] = [stage.pool, stage.chosen]
    if as_json:
        print_json(
            {
                "structures": len(structures),
                "chosen": [pick.id for pick in chosen.picks],
                "groups": {group: {"of": of, "chosen": n} for group, (of, n) in counts.items()},
                "notes": list(chosen.notes),
                "file": str(output),
            }
        )
        return
    table(
        f"selected into {output}",
        ["composition", "structures", "chosen"],
        [[group, of, n] for group, (of, n) in counts.items()],
    )
    for note in chosen.notes:
        say(f"note: {note}")


def _energies(structures: Sequence[NamedStructure]) -> list[float]:
    from gapfactory.errors import InputError

    missing = next((one.name for one in structures if one.label is None), None)
    if missing is not None:
        raise InputError(
            f"--kt needs the energy of every structure, and {missing!r} has none: 'gapfactory evaluate POTENTIAL FILE "
            "-o evaluated.extxyz' gives them those of a potential"
        )
    return [one.label.energy for one in structures if one.label is not None]
