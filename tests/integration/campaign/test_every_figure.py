"""Every figure of a silicon quickstart: each format, numbers that agree with what is stored, remedies for the rest.

Energies by a potential are checked against quippy, in a process of its own: it may end at any time.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from gf_browser import colours

from gapfactory.errors import GapFactoryError
from launchpad.figure_data import COMPOUNDS, FIGURES, SEARCHES, VIBRATIONS

pytestmark = [pytest.mark.database, pytest.mark.gap]
#: Those of compounds, of vibrations and of searches have campaigns and tests of their own.
NAMES = sorted(set(FIGURES) - set(COMPOUNDS) - set(VIBRATIONS) - set(SEARCHES))
#: Words that a drawing of each figure must hold.
WORDS = {
    "energy-volume": ("volume", "energy above Si-diamond", "random cell"),
    "energy-boxes": ("generation", "energy above the convex hull"),
    "distorted-crystals": ("potential of generation", "RMSE of energies", "diamond (10)"),
    "polymorphs": ("volume", "symbols: reference", "generation 1", "generation 0"),
    "mixed-occupations": ("structural model", "4 on partial ones", "generation 1"),
    "local-energies": ("local energy relative to the free atom", "generation 1"),
}
_ORACLE = """
import json, os, sys
from ase.io import read
from quippy.potential import Potential
frames = read(sys.argv[1], ":")
os.chdir(sys.argv[2])
calculator = Potential(param_filename="gap.xml")
energies = []
for atoms in frames:
    calculator.results = {}
    calculator.calculate(atoms, ["energy"])
    energies.append(float(calculator.results["energy"]))
print(json.dumps(energies))
"""


@pytest.fixture(scope="module")
def database(tiny_campaign):
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    opened = open_database(locate_database(None, tiny_campaign.data).uri)
    yield opened
    opened.client.close()


@pytest.fixture(scope="module")
def invoke(tiny_campaign, database):
    """Return a function that runs `gapfactory figure` in this process; a refusal is raised as it is."""
    from typer.testing import CliRunner

    from launchpad.cli.app import app

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["figure", *map(str, arguments)])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPFACTORY_CACHE", str(tiny_campaign.directory / "cache"))
        # a command ends with its process; here its connection would stay open
        patch.setattr(sys.modules["launchpad.cli.figure"], "connect", lambda uri, data: database)
        patch.chdir(tiny_campaign.directory)
        yield run


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """What each figure needs beyond the campaign: a crystal with half-empty sites, another potential."""
    place = tmp_path_factory.mktemp("figures")
    sites = bulk("Si", cubic=True).get_scaled_positions()
    rows = [f"Si{k} Si {x} {y} {z} {0.75 if k < 4 else 1.0}" for k, (x, y, z) in enumerate(sites)]
    cell = [f"_cell_length_{axis} 5.43" for axis in "abc"]
    cell += [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    names = [f"_atom_site_{name}" for name in columns]
    text = ["data_x", *cell, "_space_group_name_H-M_alt 'P 1'", "loop_", *names, *rows]
    (place / "x.cif").write_text("\n".join(text) + "\n", encoding="utf-8")
    given = {"polymorphs": ("--against", "tiny@0")}
    given["mixed-occupations"] = ("--crystal", place / "x.cif", "--models", "3", "--set", "atoms=7")
    return given


@pytest.fixture(scope="module")
def rows(invoke, options):
    """The numbers of every figure, as the command prints them."""
    return {
        name: json.loads(invoke(name, "tiny", *options.get(name, ()), "--json"))["rows"] for name in NAMES
    }


@pytest.fixture(scope="module")
def stored(database):
    """Energy, volume (eV and Å^3 per atom) and atoms of every labelled pick, read from the documents alone."""
    from launchpad.database.packing import unpack_atoms

    found = {}
    for selection in database.selections.find({"campaign": "tiny"}):
        for key in [*selection["train"], *selection["test"]]:
            structure = database.structures.find_one({"_id": key})
            atoms = unpack_atoms(structure["atoms"])
            label = database.labels.find_one({"structure_hash": structure["hash"], "status": "done"})
            n = len(atoms)
            found[key] = (label["energy"] / n, atoms.get_volume() / n, atoms, selection["generation"])
    assert len(found) == 12
    return found


@pytest.fixture(scope="module")
def oracle(database, tmp_path_factory):
    """Return a function that gives quippy's energies (eV) of structures by the potential of a generation."""
    from launchpad.database.potentials import fetch_potential, require_potential

    place = tmp_path_factory.mktemp("oracle")

    def energies(generation, frames):
        directory = place / f"g{generation}"
        if not directory.exists():
            fetch_potential(database, require_potential(database, "tiny", generation), directory)
        write(place / "frames.xyz", frames, format="extxyz")
        command = [sys.executable, "-c", _ORACLE, str(place / "frames.xyz"), str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    return energies


def test_there_is_a_check_of_every_figure():
    assert sorted(WORDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_format_holds_the_figure(invoke, options, rows, tmp_path, name):
    given = options.get(name, ())
    for kind in ("png", "pdf", "svg"):
        printed = invoke(name, "tiny", *given, "--csv", "--out", tmp_path / f"x.{kind}")
        table = list(csv.DictReader(io.StringIO(printed)))
        assert list(table[0]) == list(rows[name][0])
        plain = [
            {key: "" if value is None else str(value) for key, value in row.items()} for row in rows[name]
        ]
        assert table == plain
    assert colours((tmp_path / "x.png").read_bytes()) > 20
    document = (tmp_path / "x.pdf").read_bytes()
    assert document.startswith(b"%PDF")
    assert document.rstrip().endswith(b"%%EOF")
    # text is drawn as outlines; matplotlib notes beside them what they say
    drawing = (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert drawing.rstrip().endswith("</svg>")
    for words in WORDS[name]:
        assert words in drawing, words


def test_points_of_the_database_are_those_of_its_documents(rows, stored, database):
    curve = database.curves.find_one({"phase": "Si-diamond"})
    found = {row["id"]: row for row in rows["energy-volume"]}
    assert set(found) == set(stored)
    for key, (energy, volume, _, generation) in stored.items():
        row = found[key]
        assert row["energy_eV_per_atom"] == pytest.approx(energy, abs=1e-9)
        assert row["volume_A3_per_atom"] == pytest.approx(volume, abs=1e-9)
        assert row["generation"] == generation
        # the minimum lies a little below the lowest point of the curve
        assert row["above_zero_eV_per_atom"] == pytest.approx(energy - min(curve["energies"]), abs=5e-3)


def test_boxes_are_quantiles_above_the_lower_hull(rows, stored):
    from scipy.spatial import ConvexHull

    points = np.array([(volume, energy) for energy, volume, _, _ in stored.values()])
    corners = points[ConvexHull(points).vertices]
    ends = points[np.argmin(points[:, 0])], points[np.argmax(points[:, 0])]
    across = np.interp(corners[:, 0], *zip(*sorted(map(tuple, ends)), strict=True))
    lower = np.array(sorted(map(tuple, corners[corners[:, 1] <= across + 1e-12])))
    heights = points[:, 1] - np.interp(points[:, 0], lower[:, 0], lower[:, 1])
    first = [h for h, (_, _, _, generation) in zip(heights, stored.values(), strict=True) if generation == 0]
    (box,) = [row for row in rows["energy-boxes"] if row["generation"] == 0]
    assert box["n"] == len(first) == 6
    assert box["median_eV_per_atom"] == pytest.approx(np.median(first), abs=1e-9)
    for end, quantile in (
        ("lowest", 0),
        ("percentile_16", 15.865525),
        ("percentile_84", 84.134475),
        ("highest", 100),
    ):
        assert box[f"{end}_eV_per_atom"] == pytest.approx(np.percentile(first, quantile), abs=1e-6)


def test_errors_on_distorted_crystals_are_those_of_quippy(invoke, oracle, tmp_path):
    rng = np.random.default_rng(1)
    crystals = []
    for _ in range(4):
        atoms = bulk("Si", a=5.43 * (1 + 0.03 * rng.normal()), cubic=True)
        atoms.rattle(0.1, rng=rng)
        atoms.info |= {"phase": "rattled", "REF_energy": -34.0 + rng.normal()}
        crystals.append(atoms)
    write(tmp_path / "c.xyz", crystals, format="extxyz")
    printed = invoke("distorted-crystals", "tiny", "--structures", tmp_path / "c.xyz", "--json")
    for row in json.loads(printed)["rows"]:
        energies = oracle(int(row["potential"]), crystals)
        off = [(e - atoms.info["REF_energy"]) / 8 for e, atoms in zip(energies, crystals, strict=True)]
        assert row["rmse_meV_per_atom"] == pytest.approx(1000 * np.sqrt(np.mean(np.square(off))), abs=0.01)
        assert row["bias_meV_per_atom"] == pytest.approx(1000 * np.mean(off), abs=0.01)


def test_polymorphs_are_the_stored_curves(rows, database):
    curve = database.curves.find_one({"phase": "Si-diamond"})
    stored = {"reference": dict(zip(curve["volumes"], curve["energies"], strict=True))}
    for generation in (0, 1):
        evidence = database.metrics.find_one({"_id": f"tiny/g{generation:03d}"})["evidence"]["phases"]
        phase = evidence["Si-diamond"]
        stored[f"generation {generation}"] = dict(zip(phase["volumes"], phase["energies"], strict=True))
    shown: dict[str, dict[float, float]] = {}
    for row in rows["polymorphs"]:
        assert row["above_zero_eV_per_atom"] == pytest.approx(
            row["energy_eV_per_atom"] - min(curve["energies"]), abs=1e-9
        )
        shown.setdefault(row["method"], {})[row["volume_A3_per_atom"]] = row["energy_eV_per_atom"]
    assert shown == {method: pytest.approx(curve) for method, curve in stored.items()}


def test_models_of_a_crystal_have_the_energy_of_quippy(rows, oracle):
    vacancy = bulk("Si", a=5.43, cubic=True)
    del vacancy[0]
    (energy,) = oracle(1, [vacancy])
    # one vacancy is like another
    shown = [row["energy_eV_per_atom"] for row in rows["mixed-occupations"]]
    assert shown == pytest.approx([energy / 7] * 3, abs=1e-5)


def test_local_energies_add_up_to_the_energy_of_quippy(rows, oracle, stored, database):
    # the analytic reference counts from free atoms
    assert database.potentials.find_one({"_id": "tiny/g001"})["report"]["e0_eV"] == {"Si": 0.0}
    titles = list(dict.fromkeys(row["structure"] for row in rows["local-energies"]))
    ordered = sorted(stored, key=lambda key: (stored[key][0], key))
    assert titles == [ordered[0], ordered[len(ordered) // 2]]
    for title, energy in zip(titles, oracle(1, [stored[title][2] for title in titles]), strict=True):
        shares = [row["local_energy_eV"] for row in rows["local-energies"] if row["structure"] == title]
        assert len(shares) == len(stored[title][2])
        assert sum(shares) == pytest.approx(energy, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_campaign_that_has_nothing_yet_says_how_far_it_is(invoke, database, name):
    record = database.campaigns.find_one({"_id": "tiny"})
    database.campaigns.insert_one(record | {"_id": "new", "settings": record["settings"] | {"name": "new"}})
    try:
        with pytest.raises(GapFactoryError, match="'gapfactory campaign status new' shows how far it is"):
            invoke(name, "new")
    finally:
        database.campaigns.delete_one({"_id": "new"})


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("mixed-occupations", "tiny"), {}, r"by --crystal FILE \(CIF"),
        (("polymorphs", "tiny"), {"evidence.phases": []}, "several volumes, with .* by --structures FILE"),
        (
            ("distorted-crystals", "tiny"),
            {"evidence.phases": []},
            "labelled distorted crystals with --structures FILE",
        ),
        (
            ("distorted-crystals", "tiny"),
            "quickstart-Si",
            "10 structures have no reference energy .* --label computes them here with gpaw",
        ),
        (("energy-volume", "tiny", "--generation", "7"), {}, None),
        (("polymorphs", "tiny", "--generation", "7"), {}, "no potential of generation 7"),
        (("energy-volume", "nobody"), {}, "nobody"),
    ],
)
def test_what_is_missing_is_said_with_what_brings_it_in(
    invoke, database, tmp_path, arguments, settings, words
):
    from gapfactory.campaign import parse_campaign

    if settings == "quickstart-Si":
        reference = parse_campaign(f"preset: {settings}\nname: x\n").reference
        settings = {"reference": reference.model_dump(mode="json")}
    before = database.campaigns.find_one({"_id": "tiny"})["settings"]
    changed = {f"settings.{key}": value for key, value in settings.items()}
    if changed:
        database.campaigns.update_one({"_id": "tiny"}, {"$set": changed})
    try:
        if words is None:  # more generations than there are: all of them
            assert len(json.loads(invoke(*arguments, "--json"))["rows"]) == 12
            return
        with pytest.raises(GapFactoryError, match=words):
            invoke(*arguments, "--out", tmp_path / "x.png")
        assert not (tmp_path / "x.png").exists()
    finally:
        database.campaigns.update_one({"_id": "tiny"}, {"$set": {"settings": before}})
