"""The campaign file: strict, complete from one line, and helpful when wrong."""

from __future__ import annotations

import pytest

from gapfactory.campaign import campaign_from_mapping, load_campaign, parse_campaign
from gapfactory.campaign.derived import derived_values
from gapfactory.campaign.load import merge
from gapfactory.campaign.presets import PRESETS, starter_file
from gapfactory.errors import CampaignFileError


def test_one_line_is_a_complete_campaign_of_the_papers_size() -> None:
    campaign = parse_campaign("element: Si")
    assert campaign.schedule.cells_per_generation == 10_000
    assert campaign.schedule.generations == 25
    assert campaign.stop.label_budget == 2500
    assert campaign.select.labels_per_generation + campaign.select.held_out_per_generation == 100
    assert (campaign.build.atoms_min, campaign.build.atoms_max) == (6, 24)
    assert campaign.build.minimum_separation_in_r == 1.8
    assert campaign.select.kt_eV == (0.3, 0.2, 0.1)
    assert campaign.similarity.n_max == campaign.similarity.l_max == 12
    assert (campaign.similarity.atom_sigma, campaign.similarity.cutoff, campaign.similarity.zeta) == (
        0.0875,
        10.5,
        4,
    )
    assert (campaign.gap.two_body.n_sparse, campaign.gap.three_body.n_sparse, campaign.gap.soap.n_sparse) == (
        30,
        100,
        2000,
    )
    assert campaign.relax.force_threshold == 0.01
    assert campaign.relax.pressure_scale_GPa * campaign.relax.pressure_beta == pytest.approx(0.2)


def test_all_phases_are_those_of_a_size_that_a_reference_can_afford() -> None:
    assert parse_campaign("element: B").phase_names() == ("B-alpha-B12", "B-gamma-B28", "B-alpha-Ga")
    named = parse_campaign("element: B\nevidence: {phases: [beta-B105, alpha-B12]}")
    assert named.phase_names() == ("B-beta-B105", "B-alpha-B12")
    larger = parse_campaign("element: B\nevidence: {largest_phase: 105}")
    assert "B-beta-B105" in larger.phase_names()


@pytest.mark.parametrize(
    ("element", "radius", "volume", "separation", "cutoffs"),
    [
        # r, V0 = 14.5 r^3 or 5.5 r^3, 1.8 r, and Table 1: 9.0/2.925/4.5 r covalent, 8.2/2.665/4.1 r metallic
        ("B", 0.84, 14.5 * 0.84**3, 1.512, (7.56, 2.457, 3.78)),
        ("C", 0.76, 14.5 * 0.76**3, 1.368, (6.84, 2.223, 3.42)),
        ("Si", 1.11, 14.5 * 1.11**3, 1.998, (9.99, 3.24675, 4.995)),
        ("Ti", 1.47, 5.5 * 1.47**3, 2.646, (12.054, 3.91755, 6.027)),
    ],
)
def test_values_derive_from_the_radius_as_in_the_paper(
    element: str, radius: float, volume: float, separation: float, cutoffs: tuple[float, float, float]
) -> None:
    derived = derived_values(campaign_from_mapping({"element": element}))
    assert derived["species"][element]["characteristic_radius_A"] == radius
    assert derived["volume_per_atom_A3"][element] == pytest.approx(volume, rel=1e-4)
    assert derived["minimum_separation_A"][f"{element}-{element}"] == pytest.approx(separation, abs=1e-4)
    assert list(derived["cutoffs_A"].values()) == pytest.approx(cutoffs, abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"elemnt": "Si"}, "unknown key 'elemnt'; did you mean 'element'"),
        ({"element": "Si", "gap": {"soap": {"n_sparce": 3}}}, "did you mean 'gap.soap.n_sparse'"),
        (
            {"element": "Si", "reference": {"engine": "gpaw", "cutof_eV": 3}},
            "did you mean 'reference.cutoff_eV'",
        ),
        ({"element": "Sj"}, "there is no element 'Sj'"),
        ({"element": "Si2"}, "element: give one chemical symbol such as Si; .*(given: 'Si2')"),
        ({"element": "SiC"}, "element: give one chemical symbol such as Si; .*'composition'"),
        (
            {"element": "Si", "stop": {"convergence": {"generations": 0}}},
            "stop.convergence.generations: .*greater than or equal to 1 (given: 0)",
        ),
        (
            {"element": "Si", "stop": {"convergence": {"plateau_improvement": 0.1, "generations": 1}}},
            "stop.convergence: plateau_improvement compares generations, .*set it to 2 or more",
        ),
        (
            {"element": "Si", "stop": {"convergence": {"energy_error_in_eV": -0.01}}},
            "stop.convergence.energy_error_in_eV: .*greater than 0 (given: -0.01)",
        ),
        (
            {
                "element": "Si",
                "select": {"held_out_per_generation": 0},
                "stop": {"convergence": {"plateau_improvement": 0.0}},
            },
            "stop.convergence needs evidence",
        ),
        *(
            (
                {"element": "Si", "evidence": {"curves": {"volume_factors": factors}}},
                "evidence.curves.volume_factors: .*five or more different positive numbers",
            )
            for factors in (
                [],
                [0.9, 0.95, 1.0, 1.05],
                [0.9, 1.0, 1.0, 1.05, 1.1],
                [-0.9, 0.95, 1.0, 1.05, 1.1],
            )
        ),
        (
            {
                "composition": {"SiC": 1},
                "gap": {"three_body": {"enabled": False}},
                "evidence": {"phases": ["diamond"]},
            },
            "evidence.phases lists named phases, .*leave it out",
        ),
        (
            {
                "composition": {"TiO2": 1, "Ti2O3": 1},
                "gap": {"three_body": {"enabled": False}},
                "build": {"atoms_min": 2, "atoms_max": 4},
            },
            "build.atoms_max do not suit Ti2O3: no multiple of the formula unit (5 atoms) .*widen that range",
        ),
        ({"element": "Si", "stop": {"label_budget": 3}}, "stop.label_budget is 3, less than the"),
        ({"element": "Si", "schedule": {"cells_per_generation": 10}}, "make more cells or label fewer"),
        ({"element": "Si", "seed": -1}, "seed: .*(given: -1)"),
        ({"element": "Si", "composition": {"Si": 1}}, "exactly one of 'element'"),
        ({}, "exactly one of 'element'"),
        ({"composition": {"SiX9y": 1}}, "not a formula"),
        ({"composition": {"SiC": -1}}, "weights must be positive"),
        (
            {"composition": {"LiNaKRbCsFClBrI": 1}, "gap": {"backend": "gap_fit"}},
            "switch the three-body terms off",
        ),
        ({"element": "Si", "species": {"C": {"radius": 1.0}}}, "not in the composition"),
        ({"element": "Si", "evidence": {"phases": ["diamnd"]}}, "no named phase 'diamnd'"),
        ({"element": "Si", "name": "a/b"}, "name: "),
        ({"preset": "quickstart-si"}, "did you mean 'quickstart-Si'"),
        (
            {
                "element": "Si",
                "select": {"held_out_per_generation": 0},
                "stop": {"convergence": {"energy_error_in_eV": 0.01}},
            },
            "stop.convergence needs evidence",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(content: dict[str, object], message: str) -> None:
    with pytest.raises(CampaignFileError, match=message.replace("(", r"\(").replace(")", r"\)")):
        campaign_from_mapping(content)


@pytest.mark.parametrize("text", ["- a\n- b", "element: [", "just words", ""])
def test_text_that_is_no_campaign_is_refused(text: str) -> None:
    with pytest.raises(CampaignFileError):
        parse_campaign(text)


def test_a_missing_file_names_the_command_that_writes_one(tmp_path) -> None:
    with pytest.raises(CampaignFileError, match="campaign init"):
        load_campaign(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_a_campaign_and_its_starter_file_loads(name: str) -> None:
    campaign = parse_campaign(starter_file(element=None, preset_name=name))
    assert campaign.preset == name
    assert campaign.name == name.lower()


def test_the_users_keys_win_over_the_presets_and_other_engines_replace_whole() -> None:
    campaign = campaign_from_mapping(
        {"preset": "quickstart-Si", "gap": {"soap": {"n_sparse": 50}}, "seed": 7}
    )
    assert (campaign.gap.soap.n_sparse, campaign.gap.two_body.n_sparse, campaign.seed) == (50, 15, 7)
    merged = merge({"reference": {"engine": "gpaw", "xc": "PBE"}}, {"reference": {"engine": "ase"}})
    assert merged == {"reference": {"engine": "ase"}}


def test_settings_survive_a_round_trip_through_json() -> None:
    campaign = campaign_from_mapping({"preset": "quickstart-Ti"})
    again = type(campaign).model_validate(campaign.model_dump(mode="json"))
    assert again == campaign
    assert again.digest() == campaign.digest()


def test_compounds_carry_weights_and_pairs() -> None:
    campaign = campaign_from_mapping(
        {"composition": {"TiO2": 3, "Ti2O3": 1}, "gap": {"three_body": {"enabled": False}}}
    )
    assert campaign.formulas == (({"Ti": 2, "O": 3}, 0.25), ({"Ti": 1, "O": 2}, 0.75))
    assert list(campaign.species_table) == ["O", "Ti"]
    assert set(derived_values(campaign)["minimum_separation_A"]) == {"O-O", "O-Ti", "Ti-Ti"}
    assert campaign.phase_names() == ()


def test_known_space_needs_the_term_that_tells() -> None:
    relax = {"max_uncertainty": 0.3}
    assert campaign_from_mapping({"element": "Si", "relax": relax}).relax.max_uncertainty == 0.3
    with pytest.raises(CampaignFileError, match=r"set gap\.soap\.enabled, or leave max_uncertainty out"):
        campaign_from_mapping({"element": "Si", "relax": relax, "gap": {"soap": {"enabled": False}}})
