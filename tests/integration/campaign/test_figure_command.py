"""`gapfactory figure` on a finished silicon campaign: every figure is drawn or says what it needs."""

from __future__ import annotations

import csv
import io
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from gapfactory.errors import EvidenceError, GapFactoryError, InputError
from launchpad.cli.app import app
from launchpad.figure_data import FIGURES, gather
from launchpad.figure_data.request import Request

ANGLES = ("alpha", "beta", "gamma")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def database(tiny_campaign):
    from launchpad.database.connection import open_database
    from launchpad.database.location import locate_database

    opened = open_database(locate_database(None, tiny_campaign.data).uri)
    yield opened
    opened.client.close()


def ask(database, name, **options):
    return gather(database, name, Request("tiny", **options))


def test_figures_are_listed_drawn_and_printed_by_the_command(tiny_campaign):
    assert {entry["name"] for entry in tiny_campaign.json("figure", "--list")} == set(FIGURES)
    said = tiny_campaign.good("figure", "energy-boxes", "tiny")
    assert "tiny-energy-boxes.png written" in said
    assert (tiny_campaign.directory / "tiny-energy-boxes.png").read_bytes().startswith(PNG)
    said = tiny_campaign.good(
        "figure", "polymorphs", "tiny", "--csv", "--against", "tiny@0", "--out", "p.svg"
    )
    methods = {row["method"] for row in csv.DictReader(io.StringIO(said))}
    assert methods == {"reference", "generation 1", "generation 0"}
    assert b"<svg" in (tiny_campaign.directory / "p.svg").read_bytes()
    found = tiny_campaign.json("figure", "local-energies", "tiny", "--out", "p.pdf")
    assert found["figure"] == "local-energies"
    assert "lowest and of median energy" in found["notes"][0]
    assert (tiny_campaign.directory / "p.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("energy-boxes",), "which figure of which campaign"),
        (("energy-boxes", "tiny", "--out", "x.txt"), "must end in .png, .pdf or .svg"),
        (("energy-boxes", "tiny", "--json", "--csv"), "exclude each other"),
        (("mixed-occupations", "tiny"), "Give the crystal by --crystal FILE"),
        (("energy-boxes", "tiny", "--against", "0"), "--against changes nothing in energy-boxes"),
    ],
)
def test_the_command_says_what_it_cannot_draw(tiny_campaign, arguments, words):
    assert words in tiny_campaign.refused("figure", *arguments)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("energy-box", {}, "did you mean 'energy-boxes'"),
        ("polymorphs", {"against": "tiny"}, "is not CAMPAIGN@GENERATION"),
        ("polymorphs", {"against": "tiny@7"}, "no potential of generation 7"),
        ("local-energies", {"generation": 7}, "no potential of generation 7"),
        (
            "energy-volume",
            {"structures": "mine.xyz"},
            "--structures changes nothing in energy-volume; it is for",
        ),
        (
            "energy-boxes",
            {"by": "component"},
            "--by changes nothing in energy-boxes; it is for energy-volume",
        ),
        ("polymorphs", {"against": "tiny@1"}, "--against tiny@1 is the potential that is shown anyway"),
        (
            "mixed-occupations",
            {"against": "1", "structures": "x.xyz"},
            "--against 1 is the potential that is shown",
        ),
        (
            "local-energies",
            {"generation": 0, "against": "0"},
            "--against 0 is the potential that is shown anyway",
        ),
        (
            "mixed-occupations",
            {"discrete": {"atoms": 7}},
            "--set says how models are drawn .* --crystal FILE",
        ),
        ("polymorphs", {"zero": "hull"}, "--zero changes nothing in polymorphs"),
        ("polymorphs", {"label": True}, "--label changes nothing in polymorphs"),
        ("local-energies", {"models": 3}, "--models changes nothing in local-energies"),
        ("formation-energies", {}, "'tiny' is of Si: formation energies are drawn of two elements"),
    ],
)
def test_what_cannot_be_drawn_is_said(database, name, options, words):
    with pytest.raises(GapFactoryError, match=words):
        ask(database, name, **options)


def test_the_database_has_every_label_above_the_lowest_phase(database):
    rows = ask(database, "energy-volume").rows
    assert len(rows) == 12
    assert {row["zero"] for row in rows} == {"Si-diamond"}
    # diamond of Stillinger and Weber has -4.3364 eV/atom
    for row in rows:
        assert row["above_zero_eV_per_atom"] == pytest.approx(row["energy_eV_per_atom"] + 4.3364, abs=2e-3)
    assert {row["generation"] for row in rows} == {0, 1}
    assert len(ask(database, "energy-volume", generation=0, by="generation").rows) == 6
    hull = ask(database, "energy-volume", zero="hull", by="component").rows
    assert min(row["above_zero_eV_per_atom"] for row in hull) == 0.0
    boxes = ask(database, "energy-boxes").rows
    assert sum(box["n"] for box in boxes) == 12
    assert boxes[0]["origin"] == "random cell"


def test_errors_on_distorted_crystals_follow_from_the_seed(database):
    rows = ask(database, "distorted-crystals").rows
    assert [(row["phase"], row["potential"], row["n"], row["trained"]) for row in rows] == [
        ("Si-diamond", "0", 10, 0),
        ("Si-diamond", "1", 10, 0),
    ]
    assert all(row["rmse_meV_per_atom"] > 1 for row in rows)
    assert ask(database, "distorted-crystals", generation=0).rows == rows[:1]


def test_labels_that_were_asked_for_are_kept(database):
    before = {document["_id"] for document in database.labels.find({}, {"_id": 1})}
    new = {"_id": {"$nin": sorted(before)}}
    try:
        rows = ask(database, "distorted-crystals", label=True).rows
        assert database.labels.count_documents(new) == 10
        assert ask(database, "distorted-crystals").rows == rows
    finally:
        # other tests read this campaign as it was
        database.labels.delete_many(new)


def test_errors_on_crystals_of_a_file(database, tmp_path):
    crystals = []
    for k, energy in enumerate((-8.6, -8.5)):
        atoms = bulk("Si", a=5.4 + 0.1 * k)
        atoms.info |= {"phase": "mine", "REF_energy": energy}
        crystals.append(atoms)
    write(tmp_path / "c.xyz", crystals, format="extxyz")
    rows = ask(database, "distorted-crystals", structures=tmp_path / "c.xyz").rows
    assert [(row["phase"], row["n"]) for row in rows] == [("mine", 2), ("mine", 2)]


def test_where_every_potential_was_removed_the_way_back_is_named(database):
    removed = {"pruned": {"in": "removal", "at": datetime(2026, 1, 2, tzinfo=UTC)}}
    database.potentials.update_many({"campaign": "tiny"}, {"$set": removed})
    try:
        with pytest.raises(EvidenceError, match=r"removed by policy.*'gapfactory db restore FILE'"):
            ask(database, "distorted-crystals")
    finally:
        database.potentials.update_many({"campaign": "tiny"}, {"$unset": {"pruned": ""}})


def test_a_table_holds_no_formula_and_notes_stand_beside_it(database, tmp_path, monkeypatch):
    crystals = [bulk("Si", a=5.4), bulk("Si", a=5.5)]
    crystals[0].info |= {"phase": "=1+1", "REF_energy": -8.6}
    crystals[1].info |= {"phase": "=1+1"}
    write(tmp_path / "c.xyz", crystals, format="extxyz")
    monkeypatch.setattr(sys.modules["launchpad.cli.figure"], "connect", lambda uri, data: database)
    # an analytic reference would label the other one
    monkeypatch.setattr("launchpad.figure_data.crystals.computed_energies", lambda *_, **__: {})
    done = CliRunner().invoke(
        app, ["figure", "distorted-crystals", "tiny", "--csv", "--structures", str(tmp_path / "c.xyz")]
    )
    assert done.exit_code == 0, done.output
    assert {row["phase"] for row in csv.DictReader(io.StringIO(done.stdout))} == {"'=1+1"}
    assert "note: 1 structures could not be labelled and are left out" in done.stderr


def test_a_potential_that_is_not_assessed_yet_hides_no_polymorphs(database):
    newest = database.metrics.find_one_and_delete({"campaign": "tiny", "generation": 1})
    try:
        methods = {row["method"] for row in ask(database, "polymorphs").rows}
    finally:
        database.metrics.insert_one(newest)
    assert methods == {"reference", "generation 0"}


def test_polymorphs_by_stored_curves_and_by_a_file(database, tmp_path):
    found = ask(database, "polymorphs")
    assert "no other potential was fitted to the same data" in found.notes[0]
    assert {row["method"] for row in found.rows} == {"reference", "generation 1"}
    stored = {(r["method"], r["volume_A3_per_atom"]): r["energy_eV_per_atom"] for r in found.rows}
    structures = []
    for volume in sorted(v for method, v in stored if method == "reference"):
        atoms = bulk("Si", a=(8.0 * volume) ** (1.0 / 3.0))
        atoms.info |= {"phase": "Si-diamond", "REF_energy": 2 * stored["reference", volume]}
        structures.append(atoms)
    write(tmp_path / "p.xyz", structures, format="extxyz")
    given = ask(database, "polymorphs", structures=tmp_path / "p.xyz").rows
    # nothing relaxes in diamond: energies for the same structures are those of the curves
    for method in ("reference", "generation 1"):
        mine = [row["energy_eV_per_atom"] for row in given if row["method"] == method]
        theirs = [energy for (by, _), energy in sorted(stored.items()) if by == method]
        np.testing.assert_allclose(mine, theirs[: len(mine)], atol=1e-6)


def test_mixed_occupations_of_a_file(database, tmp_path):
    with pytest.raises(EvidenceError, match="--crystal FILE"):
        ask(database, "mixed-occupations")
    models = []
    for k in range(3):
        atoms = bulk("Si", cubic=True)
        atoms.set_array("occupancy", np.where(np.arange(8) < 4, 0.75, 1.0))
        del atoms[k]
        atoms.info |= {"name": f"m{k}", "REF_energy": -20.0 - 0.1 * k}
        models.append(atoms)
    write(tmp_path / "models.xyz", models, format="extxyz")
    found = ask(database, "mixed-occupations", structures=tmp_path / "models.xyz", against="0")
    energies = {
        method: [row["energy_eV_per_atom"] for row in found.rows if row["method"] == method]
        for method in ("reference", "generation 1", "generation 0")
    }
    assert energies["reference"] == pytest.approx([-20.0 / 7, -20.1 / 7, -20.2 / 7])
    # one vacancy is like another
    for method in ("generation 1", "generation 0"):
        assert energies[method] == pytest.approx([energies[method][0]] * 3, abs=1e-8)
    assert len(found.figure.axes) == 2


def test_models_are_drawn_from_a_crystal(database, tmp_path):
    sites = bulk("Si", cubic=True).get_scaled_positions()
    rows = [f"Si{k} Si {x} {y} {z} {0.75 if k < 4 else 1.0}" for k, (x, y, z) in enumerate(sites)]
    names = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    cell = [
        f"_cell_length_{axis} 5.43\n_cell_angle_{angle} 90" for axis, angle in zip("abc", ANGLES, strict=True)
    ]
    text = [
        "data_x",
        *cell,
        "_space_group_name_H-M_alt 'P 1'",
        "loop_",
        *(f"_atom_site_{n}" for n in names),
        *rows,
    ]
    (tmp_path / "x.cif").write_text("\n".join(text) + "\n", encoding="utf-8")
    how = {"crystal": tmp_path / "x.cif", "models": 4, "discrete": {"atoms": 7}}
    found = ask(database, "mixed-occupations", **how)
    assert [(row["model"], row["n_atoms"]) for row in found.rows] == [(f"model-{k}", 7) for k in (1, 2, 3, 4)]
    assert "4 of 4 models have no reference energy" in " ".join(found.notes)
    left, _ = found.figure.axes
    # all sites are drawn, not those of one model
    assert "4 atoms on full sites (light),\n4 on partial ones (black)" in left.get_title(loc="left")
    assert ask(database, "mixed-occupations", **how).rows == found.rows
    with pytest.raises(InputError, match=r"atom: .*There are: setting"):
        ask(database, "mixed-occupations", crystal=tmp_path / "x.cif", discrete={"atom": 7})


def test_local_energies_of_one_structure_by_two_potentials(database, tmp_path):
    write(tmp_path / "si.xyz", bulk("Si"), format="extxyz")
    rows = ask(database, "local-energies", structures=tmp_path / "si.xyz", against="0").rows
    assert [row["potential"] for row in rows] == ["generation 1"] * 2 + ["generation 0"] * 2
    assert rows[0]["local_energy_eV"] == pytest.approx(rows[1]["local_energy_eV"], abs=1e-8)
    assert rows[0]["site"] == rows[1]["site"] == 0
