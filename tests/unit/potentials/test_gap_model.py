"""A potential as data: QUIP's descriptor strings, option by option, and what a term accepts."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapfactory.elements import species
from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.model import (
    GapModel,
    GlueType,
    PairCurve,
    PairTable,
    PairTerm,
    SoapTerm,
    TripletTerm,
    empty_term,
    parse_descriptor,
    with_points,
)
from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.potentials.gap.terms import terms

PAIR = "distance_2b Z1=14 Z2=8 cutoff=5.0 cutoff_transition_width=1.0"
ANGLE = "angle_3b Z=14 Z1=8 Z2=14 cutoff=3.5"
NB2 = "distance_Nb order=2 Z={14 8} cutoff=4.0"
NB3 = "distance_Nb order=3 Z={14 8 14} cutoff=4.0"
SOAP = "soap n_max=8 l_max=6 atom_sigma=0.5 cutoff=4.5 Z=14 n_species=2 species_Z={8 14}"
SE = "covariance_type=ard_se theta_uniform=0.7"
DOT = "covariance_type=dot_product zeta=4"


def test_pairs() -> None:
    found = parse_descriptor(PAIR)
    assert found.term is PairTerm
    assert found.dimension == 1
    assert found.values == {"kind": "distance_2b", "numbers": (14, 8), "cutoff": 5.0, "transition_width": 1.0}
    # partners of distance_Nb are equal, so QUIP sorts them
    assert parse_descriptor(NB2).values["numbers"] == (8, 14)
    assert parse_descriptor(NB2).values["transition_width"] == 0.5


def test_triplets() -> None:
    found = parse_descriptor(ANGLE)
    assert (found.term, found.dimension) == (TripletTerm, 3)
    assert found.values["numbers"] == (14, 8, 14)
    assert found.values["transition_width"] == 0.5
    assert parse_descriptor(ANGLE.replace(" Z=14", " Z_center=14")) == found
    found = parse_descriptor(NB3)
    assert (found.term, found.values["numbers"]) == (TripletTerm, (8, 14, 14))
    assert found.values["compact_clusters"] is True
    assert parse_descriptor(NB3 + " compact_clusters=F").values["compact_clusters"] is False
    # files of before August 2020 mean the other default
    assert parse_descriptor(NB3, version=1_596_000_000).values["compact_clusters"] is False


def test_soap() -> None:
    found = parse_descriptor(SOAP)
    assert found.term is SoapTerm
    assert found.dimension == 16 * 17 // 2 * 7 + 1
    assert found.values["species"] == (8, 14)  # the order of the blocks, as written
    assert found.values["normalise"] is True
    assert found.values["basis_error_exponent"] == 10.0
    assert found.values["central_weight"] == 1.0
    assert found.values["central_reference_all_species"] is False
    one = SOAP.replace("n_species=2 species_Z={8 14}", "n_species=1 species_Z=14")
    assert parse_descriptor(one).values["central_reference_all_species"] is True
    everywhere = parse_descriptor(SOAP + " central_reference_all_species=T").values
    assert everywhere["central_reference_all_species"] is True
    assert parse_descriptor(SOAP, version=0).values["central_reference_all_species"] is True
    aliases = SOAP.replace("atom_sigma", "atom_gaussian_width") + " normalize=F"
    assert parse_descriptor(aliases).values == dict(found.values) | {"normalise": False}


@pytest.mark.parametrize(
    "text",
    [
        SOAP.upper().replace("SOAP", "soap"),
        SOAP.replace("{8 14}", "{{8 14}}"),
        SOAP.replace("{8 14}", "'8 14'"),
        SOAP.replace(" ", " , "),
        "  " + SOAP + " delta=0.1 n_sparse=9 sparse_method=FILE sparse_file=x f0=0.0 add_species=F zeta=4 "
        "covariance_type=dot_product print_sparse_index=a unique_hash_tolerance=1e-9",
        SOAP.replace("cutoff=4.5", "cutoff=4.5d0"),
        SOAP + " n_Z=1 average=F nu_R=2 nu_S=2 coupling=T K=0 radial_basis=EQUISPACED_GAUSS cutoff_dexp=0 "
        "cutoff_scale=1.0 cutoff_rate=1.0 diagonal_radial=.false. covariance_sigma0=0.0",
        SOAP + " n_max=8",
    ],
)
def test_the_same_soap_in_other_words(text: str) -> None:
    assert parse_descriptor(text) == parse_descriptor(SOAP)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PAIR + " tail_exponent=6", "tail_exponent"),
        (PAIR + " only_intra=T resid_name=res", "resid_name"),
        (PAIR + " only_inter", "only_inter"),
        (PAIR + " n_exponents=2", "n_exponents"),
        (PAIR + " exponents=-2", "exponents"),
        (PAIR + " cutof=3", "unknown option cutof"),
        (PAIR.replace("Z2=8", "Z2=0"), "any element"),
        (PAIR.replace("Z2=8", ""), "Z2 is 0 or missing"),
        (PAIR.replace("Z2=8", "Z2=119"), "between 0 and 118"),
        (PAIR.replace("cutoff=5.0 ", ""), "cutoff is missing"),
        (PAIR.replace("cutoff=5.0", "cutoff=-5.0"), "above 0"),
        (PAIR.replace("cutoff=5.0", "cutoff=inf"), "finite"),
        (PAIR.replace("width=1.0", "width=0"), "above 0"),
        (PAIR + " cutoff=6.0", "as '5.0' and as '6.0'"),
        (PAIR + " {", "closing"),
        (PAIR + " =3", "no name"),
        (PAIR + " Z=" + "9" * 20000, "characters"),
        (PAIR + " " + SOAP, "not one of"),
        ("", "not one of"),
        ("soap_turbo n_max=8 l_max=6", "soap_turbo"),
        ("water_dimer cutoff=5", "water_dimer"),
        (NB3.replace("order=3", "order=4"), "order=4"),
        (NB3.replace("14 8 14", "14 8"), "3 atomic numbers"),
        (NB3.replace("14 8 14", "0 0 0"), "any element"),
        (NB3 + " compact_clusters=maybe", "T or F"),
        (ANGLE + " order=3", "unknown option order"),
        (SOAP + " average=T", "average"),
        (SOAP + " diagonal_radial=T", "diagonal_radial"),
        (SOAP + " nu_R=1", "nu_R"),
        (SOAP + " R_mix=T", "R_mix"),
        (SOAP + " Z_map={14,8}", "Z_map"),
        (SOAP + " radial_basis=GTO", "radial_basis=GTO"),
        (SOAP + " cutoff_dexp=2", "cutoff_dexp"),
        (SOAP + " covariance_sigma0=0.1", "covariance_sigma0"),
        (SOAP + " n_Z=2", "n_Z"),
        (SOAP.replace("{8 14}", "{14 14}"), "twice"),
        (SOAP.replace("n_species=2", "n_species=3"), "3 atomic numbers"),
        (SOAP.replace("n_species=2 species_Z={8 14}", ""), "1 atomic numbers"),
        (SOAP.replace("n_max=8", "n_max=8.5"), "whole number"),
        (SOAP.replace("n_max=8", "n_max=100000000"), "between 1 and 64"),
        (SOAP.replace("l_max=6", ""), "l_max is missing"),
        (SOAP.replace("Z=14 n", "Z=0 n"), "any element"),
    ],
)
def test_what_is_not_supported_is_named(text: str, message: str) -> None:
    with pytest.raises(PotentialError, match=message):
        parse_descriptor(text)


WORDS = st.one_of(
    st.sampled_from(
        (*SOAP.split(), *NB3.split(), "cutoff=", "Z={", "}", "=", "{", '"', "n_max=1e9", "l_max=-1")
    ),
    st.text(max_size=12),
)


@given(st.lists(WORDS, max_size=14))
def test_any_text_is_a_descriptor_or_a_clear_error(words: list[str]) -> None:
    try:
        found = parse_descriptor(" ".join(words))
    except PotentialError:
        return
    assert found.dimension >= 1


def test_permutations_are_quips() -> None:
    """The tables that gap_fit writes for Cu-Cu-Cu, Cu-Cu-Au and Cu-Au-Au, counted from 0."""
    every = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0))
    found = {
        numbers: empty_term(f"distance_Nb order=3 Z={{{numbers}}} cutoff=3", SE, 1.0).permutations
        for numbers in ("29 29 29", "79 29 29", "29 79 79", "1 2 3")
    }
    assert found["29 29 29"] == every
    assert found["79 29 29"] == ((0, 1, 2), (0, 2, 1))
    assert found["29 79 79"] == ((0, 1, 2), (1, 0, 2))
    assert found["1 2 3"] == ((0, 1, 2),)
    assert empty_term(ANGLE, SE, 1.0).permutations == ((0, 1, 2),)
    assert empty_term(NB2.replace("8", "14"), SE, 1.0).permutations == ((0,), (0,))
    assert empty_term(NB2, SE, 1.0).permutations == ((0,),)


def test_empty_terms_and_points() -> None:
    term = empty_term(ANGLE, SE + " ", 0.3, f0=0.1)
    assert isinstance(term, TripletTerm)
    assert (term.delta, term.f0, term.n_sparse) == (0.3, 0.1, 0)
    assert term.theta.tolist() == [0.7, 0.7, 0.7]
    full = with_points(term, np.ones((2, 3), dtype=np.float32), [1.0, 2.0])
    assert full.points.dtype == np.float64
    assert full.sparse_cutoffs.tolist() == [1.0, 1.0]
    assert full != term
    assert full == with_points(term, np.ones((2, 3)), np.array([1.0, 2.0]))
    assert copy.deepcopy(full) == full
    assert parse_descriptor(full.command) == parse_descriptor(ANGLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        full.cutoff = 3.0  # type: ignore[misc]
    soap = empty_term(SOAP, DOT, 1.0)
    assert isinstance(soap, SoapTerm)
    assert (soap.zeta, soap.dimension) == (4.0, 953)
    assert empty_term(SOAP, "covariance_type=DOT_PRODUCT soap_exponent=2", 1.0).zeta == 2.0  # type: ignore[union-attr]
    pair = empty_term(PAIR, "covariance_type=Gaussian lengthscale_uniform=2", 1.0)
    assert pair.theta == 2.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("descriptor", "covariance", "message"),
    [
        (PAIR, DOT, "dot_product is not supported for distance_2b"),
        (SOAP, SE, "ard_se is not supported for soap"),
        (PAIR, "covariance_type=PP theta_uniform=1", "pp is not supported"),
        (PAIR, "covariance_type=ard_se", "theta_uniform is missing"),
        (PAIR, "covariance_type=ard_se theta_fac=1", "theta_uniform is missing"),
        (PAIR, SE + " theta_file=x", "unknown option theta_file"),
        (SOAP, "covariance_type=dot_product zeta=0", "above 0"),
        (PAIR, "theta_uniform=1", "covariance_type is missing"),
    ],
)
def test_kernels_that_are_not_supported(descriptor: str, covariance: str, message: str) -> None:
    with pytest.raises(PotentialError, match=message):
        empty_term(descriptor, covariance, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.ones((2, 2))}, "shape"),
        ({"points": np.ones(3)}, "shape"),
        ({"points": [["a", 1, 2]]}, "numbers"),
        ({"points": np.array([[1.0, np.nan, 1.0]])}, "points holds nan at position 1"),
        ({"alphas": np.ones(2)}, "shape"),
        ({"alphas": np.array([np.inf])}, "alphas holds inf"),
        ({"sparse_cutoffs": np.ones((1, 1))}, "shape"),
        ({"delta": 0.0}, "delta"),
        ({"delta": float("nan")}, "delta"),
        ({"f0": float("inf")}, "f0"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"theta": np.array([1.0, 0.0, 1.0])}, "theta"),
        ({"theta": 1.0}, "shape"),
    ],
)
def test_terms_refuse_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    term = with_points(empty_term(ANGLE, SE, 1.0), np.ones((1, 3)), np.ones(1))
    with pytest.raises(PotentialError, match=message):
        dataclasses.replace(term, **changes)


def test_a_model_knows_its_range_and_elements() -> None:
    term = with_points(empty_term(SOAP, DOT, 1.0), np.ones((1, 953)), np.ones(1))
    model = GapModel((term,), {14: -1.0})
    assert (model.cutoff, model.numbers, dict(model.e0)) == (4.5, (8, 14), {14: -1.0})
    zero = np.array([[0.0, 0.0], [6.0, 0.0]])
    kind = GlueType(14, zero, (0.0, 0.0), False, zero, (None, 2e30))
    curve = PairCurve((14, 14), np.array([1.0, 6.0]), np.array([2.0, 0.0]))
    longer = dataclasses.replace(model, baseline=PairTable((curve,), (kind,)))
    assert longer.cutoff == 6.0
    assert longer != model
    assert copy.deepcopy(longer) == longer
    with pytest.raises(PotentialError, match="at least one term"):
        GapModel(())
    with pytest.raises(PotentialError, match="e0 of element 119"):
        GapModel((term,), {119: 0.0})
    with pytest.raises(PotentialError, match="e0 of element 14 is nan"):
        GapModel((term,), {14: float("nan")})
    with pytest.raises(PotentialError, match="twice"):
        PairTable((curve, curve), (kind,))
    with pytest.raises(PotentialError, match="does not list"):
        PairTable((dataclasses.replace(curve, numbers=(14, 8)),), (kind,))
    with pytest.raises(PotentialError, match="embedding energy"):
        dataclasses.replace(kind, embedding=np.ones((2, 2)))
    with pytest.raises(PotentialError, match="embedding energy"):
        dataclasses.replace(kind, embedding_slopes=(1.0, None))
    with pytest.raises(PotentialError, match="ascending"):
        dataclasses.replace(curve, r=np.array([2.0, 2.0]))


def test_every_term_of_the_fit_is_understood() -> None:
    """What the settings can produce, the model must read."""
    both = [species("Si", radius=1.11, bonding="covalent"), species("O", radius=0.66, bonding="covalent")]
    for chosen in (both[:1], both):
        for term in terms(chosen, GapSettings()):
            found = empty_term(term.descriptor, term.covariance, 1.0)
            assert found.cutoff == term.cutoff
            numbers = (found.number,) if isinstance(found, SoapTerm) else found.numbers
            assert numbers == term.numbers
