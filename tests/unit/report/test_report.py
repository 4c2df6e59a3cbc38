"""The report says what the numbers say, survives hostile names, and every link leads somewhere."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gapfactory.report import GenerationSummary, NetworkFit, ReportData, headline, write_report

HOSTILE = "<script>alert(1)</script> \"'& {{ 7 * 7 }}"


def load_example():
    path = Path(__file__).parent / "report_example.py"
    spec = importlib.util.spec_from_file_location("report_example", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_example"] = module
    spec.loader.exec_module(module)
    return module


EXAMPLE = load_example()

#: without figures: most tests are about words, and drawing is what takes time
BARE = {
    "learning": (),
    "forecasts": {},
    "phases": (),
    "stability": None,
    "scatter": None,
    "energies": {},
    "selection": (),
    "hull": None,
    "similarity": None,
}


class Page(HTMLParser):
    """Collects tags, links, ids and text, and fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "br", "link", "hr"})

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.links, self.ids, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.stack == [], f"unclosed {self.stack}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for key, value in attributes:
            if key in ("href", "src"):
                self.links.append(value)
            if key == "id":
                self.ids.append(value)
            assert not key.startswith("on"), f"script in attribute {key}"
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(data, directory):
    path = write_report(data, directory)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    return page_of(EXAMPLE.example(), directory), directory


def test_page_is_self_contained_and_links_resolve(finished):
    page, directory = finished
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert "//" not in link
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (directory / link).stat().st_size > 0
    assert sum(link.endswith(".png") for link in page.links) == 12


def test_first_screen_answers_the_five_questions(finished):
    page, _ = finished
    text = " ".join(" ".join(page.text).split())
    first = text[: text.index("Learning curve")]
    for question in ("Does it pass?", "What was made", "How good is it", "What failed", "What did it cost"):
        assert question in first
    assert "passes" in first
    assert "label noise 4.0 meV/atom" in first
    assert "1 of 2 named phases pass" in first
    assert "Si-oS24 is not judged: not enough time for the reference curve" in first
    assert "1 structure could not be labelled" in first
    assert "28 of 1600 relaxations failed" in first
    assert "27 min from submission to the end" in first


def test_first_screen_says_what_became_of_dynamics():
    data = EXAMPLE.example()
    good = headline(data)
    assert good.survival == "stable"
    assert "The potential of generation 4 survives 20 ps at 1350 K, and close contacts." in good.judgement
    broken = headline(replace(data, stability=EXAMPLE.stability("it fell into a hole of the potential")))
    # the verdict on the phases stands on its own
    assert (broken.verdict, broken.survival) == ("passes", "not stable")
    assert broken.judgement[-1] == (
        "The potential of generation 4 does not survive molecular dynamics at 1350 K: after 3 of 20 ps it fell into "
        "a hole of the potential."
    )
    attracted = headline(replace(data, stability=EXAMPLE.stability(hole=40.0)))
    assert attracted.survival == "not stable"
    assert attracted.judgement[-1].endswith(
        "but not close contacts (Si-Si in the crystal not repulsive far enough)."
    )
    untried = headline(replace(data, stability=None))
    assert untried.survival == "stability not tried"
    assert untried.judgement[-1] == "Not tried in molecular dynamics: it is done after the last generation."
    off = headline(replace(data, stability=None, stability_note="evidence.stability.enabled is false"))
    assert off.judgement[-1] == "Not tried in molecular dynamics: evidence.stability.enabled is false."


def test_dynamics_and_contacts_are_tables_too(finished):
    page, directory = finished
    text = " ".join(" ".join(page.text).split())
    assert "stable" in text[: text.index("Molecular dynamics")]
    assert "Survives 20 ps of molecular dynamics of 64 atoms at 1350 K" in text
    assert "Si-Si in the crystal is repulsive as far as it was looked at" in text
    with (directory / "dynamics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 400
    assert float(rows[-1]["time_ps"]) == 20.0
    with (directory / "close_contacts.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["kind"] for row in rows} == {"dimer", "pair", "crystal"}
    written = json.loads((directory / "report.json").read_text())
    assert written["survival"] == "stable"
    assert written["stability"]["dynamics"]["reached_ps"] == 20.0


def test_verdict_is_that_of_the_most_stable_phase():
    data = EXAMPLE.example()
    first = headline(data)
    assert first.comparisons[0].phase == "Si-diamond"
    assert first.verdict == "passes"
    worse = replace(data.phases[0], potential=EXAMPLE.curve("Si-diamond", "potential", 20.45, -5.42 + 0.021))
    assert headline(replace(data, phases=(worse, *data.phases[1:]))).verdict == "fails"
    assert headline(replace(data, phases=data.phases[2:])).verdict == "not judged"
    assert headline(replace(data, phases=())).verdict == "not judged"


def test_a_potential_without_a_minimum_fails_rather_than_leaving_the_verdict_to_another_phase():
    data = EXAMPLE.example()
    volumes = data.phases[0].reference.volumes
    falling = replace(
        data.phases[0].potential, energies=EXAMPLE.birch_murnaghan(volumes, 30.0, -5.42, 0.55, 4.2)
    )
    first = headline(replace(data, phases=(replace(data.phases[0], potential=falling), *data.phases[1:])))
    assert first.verdict == "fails"
    assert "Si-diamond fails" in first.judgement[0]
    assert "not bracketed" in first.judgement[0]
    # beta-tin made to pass must not change that
    good = replace(data.phases[1], potential=EXAMPLE.curve("Si-beta-tin", "potential", 15.3, -5.13))
    again = headline(replace(data, phases=(good, replace(data.phases[0], potential=falling))))
    assert again.verdict == "fails"
    # not having computed the curve is not a failure of the potential
    missing = replace(data.phases[0], potential=None, note="")
    assert headline(replace(data, phases=(missing, *data.phases[1:]))).verdict == "not judged"


def test_difference_below_the_noise_is_said():
    text = " ".join(headline(EXAMPLE.example()).judgement)
    assert "not larger than the noise" in text
    text = " ".join(headline(EXAMPLE.example(label_noise=0.001)).judgement)
    assert "not larger than the noise" not in text
    text = " ".join(headline(EXAMPLE.example(label_noise=None, label_noise_note="no cells")).quality)
    assert "not measured (no cells)" in text


def test_tables_hold_the_numbers(finished):
    _, directory = finished
    with (directory / "phases.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["phase"] for r in rows] == ["Si-diamond", "Si-beta-tin"]
    assert float(rows[0]["energy_error_meV_per_atom"]) == pytest.approx(3.0, abs=1e-3)
    assert float(rows[1]["volume_error_percent"]) == pytest.approx(100 * (15.0 / 15.3 - 1), abs=1e-2)
    with (directory / "generations.csv").open(encoding="utf-8") as stream:
        generations = list(csv.DictReader(stream))
    assert [int(r["training_set"]) for r in generations] == [25, 50, 75, 100, 125]
    with (directory / "energy_volume.csv").open(encoding="utf-8") as stream:
        assert sum(1 for _ in stream) == 1 + 5 * 7


def test_json_is_strict_and_complete(finished):
    _, directory = finished

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads((directory / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert document["verdict"] == "passes"
    assert document["phases"][0]["passes"] is True
    assert document["label_noise_eV_per_atom"] == 0.004
    assert len(document["generations"]) == 5
    assert set(document["figures"]) >= {"learning_curve", "energy_volume", "energy_scatter", "similarity_map"}


def test_empty_campaign_is_reported_in_words(tmp_path):
    page = page_of(ReportData("empty", "Fe", "running"), tmp_path)
    text = " ".join(page.text)
    assert "Nothing yet" in text
    assert "There are no named phases of Fe to judge by" in text
    assert "No structure has been labelled; points come with the first labels." in text
    assert not list(tmp_path.glob("*.png"))
    assert "not judged" in text


def test_stale_figures_of_an_earlier_report_are_removed(tmp_path):
    write_report(EXAMPLE.example(**BARE | {"hull": EXAMPLE.example().hull}), tmp_path)
    assert (tmp_path / "hull.png").exists()
    assert (tmp_path / "hull.csv").exists()
    write_report(EXAMPLE.example(**BARE), tmp_path)
    assert not (tmp_path / "hull.png").exists()
    assert not (tmp_path / "hull.csv").exists()
    assert not list(tmp_path.glob(".*"))


def test_hostile_names_are_escaped_everywhere(tmp_path):
    data = EXAMPLE.example(
        campaign=HOSTILE,
        system=HOSTILE,
        state=HOSTILE,
        state_reason=HOSTILE,
        settings={HOSTILE: {HOSTILE: HOSTILE}},
        versions={HOSTILE: HOSTILE},
        citations=(HOSTILE,),
        failures=(EXAMPLE.Failure(0, HOSTILE, HOSTILE, "=HYPERLINK(1)"),),
        potential_files={HOSTILE: HOSTILE},
        phases_missing={HOSTILE: HOSTILE},
        **BARE,
    )
    generation = GenerationSummary(0, quarantine_reasons={HOSTILE: 1}, deltas={HOSTILE: 1.0})
    data = replace(data, generations=(generation,))
    page = page_of(data, tmp_path)
    assert "script" not in page.tags
    text = " ".join(page.text)
    assert HOSTILE in text
    assert "'=HYPERLINK(1)" in (tmp_path / "failures.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("split", "words"), [("parent", "stay together"), ("plain", "structure by structure")]
)
def test_networks_have_a_table(tmp_path, split, words):
    values = {"n_structures": 7, "mae": 0.0123, "rmse": 0.0234, "spearman": 0.987}
    report = {
        "family": "eddp",
        "split": split,
        "members": {"trained": 30, "kept": 12},
        "spread_eV": 0.0456,
        "errors": dict.fromkeys(("train", "validation"), values)
        | {"test": {**values, "mae": 0.0345}, "unrelated": {**values, "mae": 0.0789, "n_structures": 3}},
    }
    generations = (
        GenerationSummary(0),
        GenerationSummary(1, networks=NetworkFit.from_report(report)),
    )
    page = page_of(replace(EXAMPLE.example(**BARE), generations=generations), tmp_path)
    text = " ".join(" ".join(page.text).split())
    assert words in text
    assert "1 12 of 30 12.3 12.3 34.5 23.4 0.987 78.9 (3) 45.6" in text
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [g["networks"] and g["networks"]["kept"] for g in stored["generations"]] == [None, 12]
    assert NetworkFit.from_report({"family": "gap"}) is None
    assert NetworkFit.from_report({}) is None


def test_many_failures_are_cut_in_the_page_only(tmp_path):
    failures = tuple(EXAMPLE.Failure(1, "relax", f"s{i}", "why") for i in range(400))
    page = page_of(EXAMPLE.example(failures=failures, **BARE), tmp_path)
    assert "50 of 400 are shown" in " ".join(page.text)
    assert len((tmp_path / "failures.csv").read_text(encoding="utf-8").splitlines()) == 401


def test_one_generation_and_broken_figure_data_do_not_stop_the_report(tmp_path):
    data = EXAMPLE.example(generations=1, **BARE | {"energies": {0: [float("nan")]}})
    page = page_of(data, tmp_path)
    assert "Not drawn: generation 0 contains values that are not finite" in " ".join(page.text)
    assert not (tmp_path / "energy_distribution.png").exists()


def test_structures_without_labels_are_listed_and_drawn(finished):
    page, directory = finished
    text = " ".join(" ".join(page.text).split())
    assert "Not labelled, by the kind of the last fault: 1 × scf." in text
    assert "slower mixing 9 8" in text
    assert "quickstart-Si/g001/cell/000003: 31.200 eV/atom, median -4.900" in text
    assert (directory / "quarantine.png").stat().st_size > 5000
    rows = list(csv.reader((directory / "quarantine.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[1][1] == "quickstart-Si/g002/cell/000017"
    assert rows[1][6].startswith("plain: self-consistency not reached | slower mixing")
    document = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert document["remedies"] == [["slower mixing", 9, 8], ["more iterations", 2, 1]]
    assert document["quarantined"][0]["fault"] == "scf"
    assert document["levels"] is None
    assert "levels" not in page.ids


def test_only_some_cells_are_drawn_and_the_page_says_so(tmp_path):
    (one,) = EXAMPLE.example().quarantined
    many = tuple(replace(one, id=f"quickstart-Si/g002/cell/{k:06d}") for k in range(40))
    page = page_of(EXAMPLE.example(**BARE | {"quarantined": many}), tmp_path)
    assert "12 of 40 are drawn" in " ".join(page.text)
    assert len((tmp_path / "quarantine.csv").read_text(encoding="utf-8").splitlines()) == 41


def test_two_levels_are_compared(tmp_path):
    from gapfactory.analysis.levels import LevelComparison, LevelRow

    rows = tuple(LevelRow(f"s{k}", -5.0 + k, -105.0 + k, 0.001 * (-1) ** k, 0.02) for k in range(4))
    levels = LevelComparison(4, 100_000.0, {"Si": -100.0}, 1.0, 1.0, 0.02, 0.05, rows)
    page = page_of(EXAMPLE.example(**BARE | {"levels": levels, "levels_of": "si"}), tmp_path)
    text = " ".join(" ".join(page.text).split())
    assert "Labels at this level and in campaign si" in text
    assert "energies differ by 1 meV/atom RMS without constants per species" in text
    assert "Si -100.0000 eV" in text
    assert (tmp_path / "levels.png").is_file()
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["levels"]["of"] == "si"
