"""`gapfactory reference`: the engines, their settings, and a self-test where they will run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchpad.cli.options import JsonOption  # noqa: TC001 - typer evaluates annotations
from launchpad.cli.output import console, print_json, say, table

if TYPE_CHECKING:
    from gapfactory.campaign import Campaign
    from gapfactory.reference.selfcheck import CheckPlan
    from gapfactory.reference.selfcheck_judge import Tolerances
    from gapfactory.reference.selfcheck_run import CheckResult, Workload

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Reference engines: which are here, their settings, a self-test."
)

EngineArgument = Annotated[
    str, typer.Argument(help="Name of the engine; 'gapfactory reference list'.", show_default=False)
]


@app.command()
def check(
    engine: EngineArgument,
    campaign_file: Annotated[
        Path | None,
        typer.Option("--campaign", help="Campaign file: its settings and elements.", show_default=False),
    ] = None,
    element: Annotated[
        str | None, typer.Option(help="Element, where there is no campaign file.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of the engine as key=value; repeatable. 'preset=NAME' takes those of a paper.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory of results; by default reference-check-ENGINE.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller cells, fewer levels.")] = False,
    cells: Annotated[
        int | None,
        typer.Option(min=1, help="Random cells; by default 4, with --quick 2.", show_default=False),
    ] = None,
    energy_noise: Annotated[
        float, typer.Option(min=0.0, help="Noise of relative energies to allow, meV/atom.")
    ] = 5.0,
    force_noise: Annotated[float, typer.Option(min=0.0, help="Noise of forces to allow, eV/Å.")] = 0.05,
    stress_noise: Annotated[float, typer.Option(min=0.0, help="Noise of the stress to allow, GPa.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random cells.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Test an engine where it will run: derivatives, convergence, time of a label, recovery from a kill.

    Says which k-point density and cutoff are enough for a stated noise and what the campaign's labels will cost;
    writes report.md, result.json and convergence.png. A test that was interrupted goes on where it stopped. The exit
    code is 1 when a verdict is 'failed'.

    Examples
    --------
      gapfactory reference check gpaw --campaign si.yaml

      gapfactory reference check espresso --element Si --set cutoff_eV=400 --quick

      gapfactory reference check vasp --element Ti --set preset=bernstein-2019-Ti --output ti-vasp
    """
    from gapfactory.reference.selfcheck import plan_check
    from gapfactory.reference.selfcheck_judge import Tolerances
    from gapfactory.reference.selfcheck_run import Workload

    campaign = _campaign(engine, campaign_file, element, set_ or [])
    plan = plan_check(
        campaign.reference,
        species=campaign.species_table,
        formulas=[formula for formula, _ in campaign.formulas],
        build=campaign.build,
        seed=seed,
        quick=quick,
        cells=cells,
    )
    allowed = Tolerances(
        noise_energy_meV=energy_noise, noise_force=force_noise, noise_stress_GPa=stress_noise
    )
    workload = Workload(_labels(campaign), (campaign.build.atoms_min + campaign.build.atoms_max) / 2)
    directory = output or Path(f"reference-check-{engine}")
    result = _run(plan, directory, allowed, workload, quiet=as_json)
    files = _write(result, directory)
    if as_json:
        print_json(result.as_dict())
    else:
        _show(result, files, directory)
    if not result.passed:
        raise typer.Exit(1)


def _campaign(engine: str, file: Path | None, element: str | None, pairs: list[str]) -> Campaign:
    """Return the campaign whose elements and settings are tested."""
    from gapfactory.campaign import campaign_from_mapping, load_campaign
    from gapfactory.campaign.load import merge
    from gapfactory.errors import InputError

    if (file is None) == (element is None):
        raise InputError(
            f"give one of --campaign and --element, e.g. 'gapfactory reference check {engine} --element Si'"
        )
    _known(engine)
    own = {"engine": engine, **_settings(pairs)}
    if file is None:
        return campaign_from_mapping({"element": element, "reference": own})
    campaign = load_campaign(file)
    if campaign.reference.engine != engine:
        raise InputError(
            f"{file} has the engine {campaign.reference.engine!r}, not {engine!r}: test that one, change "
            "reference.engine in the file, or give --element and --set instead of --campaign"
        )
    return campaign_from_mapping(merge(campaign.model_dump(mode="json"), {"reference": own}))


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Return the settings of key=value words; the values are YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from gapfactory.errors import InputError

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {pair!r} is not key=value, for instance --set cutoff_eV=400")
        try:
            found[key.strip()] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise InputError(f"--set {pair!r}: the value cannot be read: {error}") from error
    return found


def _known(engine: str) -> None:
    """Refuse an engine that does not exist."""
    import difflib

    from gapfactory.errors import InputError
    from gapfactory.reference import engine_classes

    names = list(engine_classes())
    if engine not in names:
        near = difflib.get_close_matches(engine.lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        raise InputError(f"no reference engine {engine!r}; {hint}")


def _labels(campaign: Campaign) -> int:
    from gapfactory.campaign.cost import estimate

    return estimate(campaign).labels


def _run(
    plan: CheckPlan, directory: Path, allowed: Tolerances, workload: Workload, *, quiet: bool
) -> CheckResult:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from gapfactory.reference.selfcheck_run import run_check

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as progress:
        bar = progress.add_task("reference check", total=plan.n_labels + 1)

        def stage(text: str) -> None:
            progress.update(bar, description=text)
            if not quiet and not screen.is_terminal:
                # the log of a batch job
                screen.print(f"{text} ...", markup=False)

        try:
            return run_check(
                plan,
                directory,
                tolerances=allowed,
                workload=workload,
                on_stage=stage,
                on_label=lambda _: progress.advance(bar),
            )
        except KeyboardInterrupt:
            progress.stop()
            say(f"stopped; the same command goes on with what is in {directory}")
            raise typer.Exit(130) from None


def _write(result: CheckResult, directory: Path) -> list[Path]:
    """Write report, data and plot; return the files."""
    import json

    from gapfactory.figures.reference_check import convergence_plot
    from gapfactory.reference.selfcheck_report import check_report

    ladders = [ladder for ladder in (result.density, result.cutoff) if ladder is not None]
    plot, report, data = directory / "convergence.png", directory / "report.md", directory / "result.json"
    if ladders:
        convergence_plot(ladders, result.tolerances).savefig(plot)
    report.write_text(check_report(result, figure=plot.name if ladders else None), encoding="utf-8")
    data.write_text(json.dumps(result.as_dict(), indent=2) + "\n", encoding="utf-8")
    return [report, data, *([plot] if ladders else [])]


def _show(result: CheckResult, files: list[Path], directory: Path) -> None:
    found, advice = result.installation, result.recommendation
    say(f"{found.engine} {found.version}")
    table(
        "verdicts",
        ["question", "verdict", "text"],
        [[v.question, v.state, v.text] for v in result.verdicts],
    )
    if advice.settings:
        say("recommended: " + ", ".join(f"{key}: {value:g}" for key, value in advice.settings.items()))
    say(
        f"a label of {advice.atoms_per_label:.1f} atoms takes about {advice.seconds_per_label:.3g} s on "
        f"{found.cores} core(s)"
    )
    if advice.core_hours is not None:
        say(f"the labels of the campaign take about {advice.core_hours:.2g} core-hours")
    say(f"written to {directory}: {', '.join(path.name for path in files)}")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the engines: whether they are installed here, in which version, and what to do if not.

    Example: gapfactory reference list
    """
    from gapfactory.errors import GapFactoryError
    from gapfactory.reference import engine_classes, make_engine

    rows: list[dict[str, Any]] = []
    for name, engine in engine_classes().items():
        row: dict[str, Any] = {"engine": name, "installed": False, "version": None, "remedy": ""}
        try:
            row |= {"version": make_engine(engine.settings_class()).info().version, "installed": True}
        except GapFactoryError as error:
            row["remedy"] = str(error)
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    table(
        "reference engines",
        ["engine", "here", "version, or what is missing"],
        [[r["engine"], "yes" if r["installed"] else "no", r["version"] or r["remedy"]] for r in rows],
    )


@app.command()
def presets(
    name: Annotated[
        str | None, typer.Argument(help="Show one preset with every code's settings.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the papers' reference settings, or show one with its equivalents on the free codes and what differs.

    Examples
    --------
      gapfactory reference presets

      gapfactory reference presets bernstein-2019-Si
    """
    from gapfactory.reference.presets import REFERENCE_PRESETS, find_preset

    chosen = list(REFERENCE_PRESETS.values()) if name is None else [find_preset(name)]
    if as_json:
        print_json(
            {
                entry.name: {
                    "summary": entry.summary,
                    "engines": {
                        engine: {"settings": dict(variant.settings), "differences": variant.differences}
                        for engine, variant in entry.variants().items()
                    },
                }
                for entry in chosen
            }
        )
        return
    if name is None:
        table("reference presets", ["name", "what it is"], [[entry.name, entry.summary] for entry in chosen])
        say("in a campaign file: 'reference: {preset: NAME, engine: ENGINE}'")
        return
    entry = chosen[0]
    say(f"{entry.name}: {entry.paper}: {entry.place}")
    say(f"pseudopotentials: {entry.pseudopotentials}")
    for text in entry.not_stated:
        say(f"not stated: {text}")
    table(
        "settings",
        ["engine", "settings", "differs from the paper"],
        [
            [
                variant.engine,
                "\n".join(f"{key}: {value}" for key, value in variant.settings.items()),
                "\n".join(variant.differences) or "-",
            ]
            for variant in entry.variants().values()
        ],
    )


@app.command()
def settings(engine: EngineArgument, as_json: JsonOption = False) -> None:
    """List the settings of an engine: keys, defaults, what they mean and in which unit.

    Example: gapfactory reference settings espresso
    """
    from gapfactory.reference import engine_classes
    from gapfactory.settings import descriptions

    _known(engine)
    texts = descriptions(engine_classes()[engine].settings_class)
    rows = [
        {
            "key": key,
            "default": field.get_default(call_default_factory=True),
            "meaning": texts.get(key, ""),
        }
        for key, field in engine_classes()[engine].settings_class.model_fields.items()
    ]
    if as_json:
        print_json(rows)
        return
    table(
        f"reference settings of engine {engine}",
        ["key", "default", "meaning"],
        [[row["key"], str(row["default"]), row["meaning"]] for row in rows],
    )
