"""Campaign files, seed files and potentials in any of the ways in which the same may be written."""

from __future__ import annotations

import dataclasses
import json

import gf_eddp
import numpy as np
import pytest
from gf_formats import CIF, SEED, SPECIES_SEED
from gf_properties import few, fixed, refused, seeds, symbols
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gapfactory.build.occupation import crystal_from_sites, read_occupied_crystal
from gapfactory.build.seed_file import parse_seed
from gapfactory.build.seed_translation import choices, translate
from gapfactory.build.settings_types import LARGEST_INTEGER, Integers, Interval
from gapfactory.campaign.load import merge, parse_campaign, to_yaml
from gapfactory.campaign.presets import PRESETS
from gapfactory.errors import CampaignFileError, GapFactoryError, InputError
from gapfactory.potentials.eddp import Baseline
from gapfactory.potentials.eddp.files import format_ddp, parse_ddp
from gapfactory.reference.engines._abinit_gth import GthPotential, read_gth

# ---- campaign files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_campaign_written_with_every_setting_is_the_same_campaign(name):
    element = PRESETS[name].content.get("element", "Si")
    campaign = parse_campaign(f"element: {element}\npreset: {name}\n")
    assert parse_campaign(to_yaml(campaign.model_dump(mode="json"))) == campaign


keys = st.sampled_from(
    ["schedule", "select", "build", "reference", "stop", "evidence", "seed", "preset", "elemnt", "x"]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.just("Si"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@fixed
@given(st.dictionaries(keys, values, max_size=4))
def test_any_mapping_is_a_campaign_or_an_error_in_words(content):
    found, words = refused(CampaignFileError, lambda: parse_campaign(json.dumps({"element": "Si"} | content)))
    assert (found is None) == bool(words)


@fixed
@given(st.text(max_size=80))
def test_any_text_is_a_campaign_or_an_error_in_words(text):
    found, words = refused(CampaignFileError, lambda: parse_campaign(text))
    assert (found is None) == bool(words)


mappings = st.recursive(
    st.integers(0, 5),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@fixed
@given(mappings, mappings, mappings)
def test_layers_of_settings(one, two, three):
    """The upper wins, nothing below is lost, and layers may be laid together in any grouping."""
    assert merge(one, {}) == one
    assert merge({}, one) == one
    assert merge(one, one) == one
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) or _mixed(one, two, three)
    merged = merge(one, two)
    assert set(merged) == set(one) | set(two)
    for key, value in two.items():
        assert merged[key] == value or isinstance(value, dict)


def _mixed(one, two, three):
    """Tell whether a key is a number in one layer and a mapping in another: then the grouping matters."""
    if not all(isinstance(layer, dict) for layer in (one, two, three)):
        return any(isinstance(layer, dict) for layer in (one, two, three))
    return any(_mixed(one.get(key, {}), two.get(key, {}), three.get(key, {})) for key in {*one, *two, *three})


# ---- numbers and ranges ------------------------------------------------------------------------------------------

whole = st.integers(1, LARGEST_INTEGER)
pairs = st.tuples(whole, whole).map(sorted)


@fixed
@given(st.lists(whole.map(str) | whole | pairs.map("{0[0]}-{0[1]}".format), min_size=1, max_size=5))
def test_integers_and_ranges(items):
    expected = set()
    for item in items:
        low, _, high = str(item).partition("-")
        expected |= set(range(int(low), int(high or low) + 1))
    assert TypeAdapter(Integers).validate_python(items) == tuple(sorted(expected))


@fixed
@given(
    st.lists(
        st.one_of(st.text(max_size=6), st.integers(), st.floats(), st.none(), st.just("1-99999999999")),
        max_size=3,
    )
)
def test_what_is_no_list_of_integers(items):
    try:
        found = TypeAdapter(Integers).validate_python(items)
    except ValidationError:
        return
    assert found
    assert 1 <= found[0] <= found[-1] <= LARGEST_INTEGER


@fixed
@given(st.floats(allow_nan=True) | st.tuples(st.floats(), st.floats()))
def test_intervals(value):
    try:
        low, high = TypeAdapter(Interval).validate_python(value)
    except ValidationError:
        return
    assert 0 < low <= high


# ---- seeds -------------------------------------------------------------------------------------------------------


@fixed
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)).map(sorted), min_size=1, max_size=4))
def test_sets_and_ranges_of_seeds(ranges):
    text = ",".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges)
    assert choices("x", "KEY", f"{{{text}}}") == [(float(low), float(high)) for low, high in ranges]


@fixed
@given(
    st.permutations(SPECIES_SEED.splitlines()),
    st.lists(st.sampled_from(["", "  ", "## remark", "!x", "# in words"])),
)
def test_directives_in_any_order_between_remarks(lines, remarks):
    mixed = [line for pair in zip(lines, [*remarks, *[""] * len(lines)], strict=False) for line in pair]
    plain = translate(parse_seed(SPECIES_SEED))
    assert translate(parse_seed("\n".join(mixed))) == plain
    assert translate(parse_seed("\r\n".join(line.replace("=", " = ", 1) for line in mixed))) == plain


@fixed
@given(st.sampled_from([SEED, SPECIES_SEED]), st.integers(0, 500), st.text(max_size=6))
def test_seeds_with_any_text_in_them(text, at, scrap):
    found, words = refused(InputError, lambda: translate(parse_seed(text[:at] + scrap + text[at:])))
    assert words if found is None else found.variants


@few
@given(seeds)
def test_positions_of_a_seed_keep_their_digits(seed):
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-1, 2, (4, 3))
    lines = "\n".join(f"B {x!r} {y!r} {z!r}" for x, y, z in rows.tolist())
    found = parse_seed(f"%BLOCK POSITIONS_FRAC\n{lines}\n%ENDBLOCK POSITIONS_FRAC\n")
    assert np.array_equal([line.position for line in found.lines], rows)


# ---- potentials and pseudopotentials -----------------------------------------------------------------------------


@few
@given(seeds, st.lists(symbols, min_size=1, max_size=3, unique=True), st.integers(1, 4), st.integers(0, 3))
def test_networks(seed, species, two, three):
    rng = np.random.default_rng(seed)
    vector = gf_eddp.features(*species, two_body=two + 1, three_body=three, cutoff=float(rng.uniform(3, 8)))
    network = gf_eddp.network(vector, seed % 50, hidden=(int(rng.integers(1, 6)),))
    core = Baseline(
        float(rng.uniform(0.1, 2)), float(rng.normal()), tuple(rng.normal(size=len(species)).tolist())
    )
    text = format_ddp(network, core)
    found, found_core = parse_ddp(text, "x.ddp")
    assert found == network
    assert dataclasses.astuple(found_core) == dataclasses.astuple(core)


positive = st.floats(0.01, 50).map(lambda x: round(x, 8))


@fixed
@given(
    st.lists(
        st.tuples(symbols, positive, st.lists(positive, max_size=3), st.lists(positive, max_size=3)),
        min_size=1,
    )
)
def test_gth_potentials(entries):
    text, wanted = "# file\n", []
    for number, (symbol, radius, local, channels) in enumerate(entries):
        text += f"{symbol} GTH-X{number}-q4\n 2 2\n {radius!r} {len(local)} {' '.join(map(repr, local))}\n"
        text += f" {len(channels)}\n"
        text += "".join(f"  {r!r} 1 {r!r}\n" for r in channels)
        rows = tuple((r, ((r,),)) for r in channels)
        wanted.append(GthPotential(symbol, (f"GTH-X{number}-q4",), 4, radius, tuple(local), rows))
    assert read_gth(text) == wanted


@fixed
@given(st.text(alphabet="SiH 0123456789.-#\nnaif", max_size=80))
def test_any_text_is_a_list_of_gth_potentials_or_an_error(text):
    found, words = refused(InputError, lambda: read_gth(text))
    assert (found is None) == bool(words)


# ---- crystals with occupations -----------------------------------------------------------------------------------


@few
@given(st.floats(0.05, 0.95), st.sampled_from(["as-given", "primitive", "conventional"]), st.integers(1, 3))
def test_mean_contents_do_not_depend_on_the_cell(share, setting, times):
    sites = [("a", {"Si": share, "Ge": 1 - share}, (0, 0, 0)), ("b", {"O": share}, (0.5, 0.5, 0.5))]
    crystal = crystal_from_sites(225, (5.2, 5.2, 5.2, 90, 90, 90), sites)
    other = crystal.in_setting(setting).supercell((times, 1, 1))
    assert other.density == pytest.approx(crystal.density, rel=1e-9)
    scale = len(other.positions) / len(crystal.positions)
    for symbol, count in crystal.composition.items():
        assert other.composition[symbol] == pytest.approx(scale * count, rel=1e-9)
    assert ((other.positions >= 0) & (other.positions < 1)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # what ASE remarks on files that it can read
@fixed
@given(st.integers(0, len(CIF)), st.text(max_size=4), st.booleans())
def test_cifs_with_any_text_in_them(tmp_path_factory, at, scrap, cut):
    path = tmp_path_factory.getbasetemp() / "random.cif"
    path.write_text(CIF[:at] + scrap + ("" if cut else CIF[at:]), encoding="utf-8")
    found, words = refused(GapFactoryError, lambda: read_occupied_crystal(path))
    if found is None:
        assert words
        return
    assert np.isfinite(found.positions).all()
    assert len(found.positions) == len(found.site_of)
