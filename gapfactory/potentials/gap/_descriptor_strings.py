"""QUIP's descriptor strings: which parameters there are, their defaults, what is refused.

From QUIP's documentation of `distance_2b`, `angle_3b`, `distance_Nb` and `soap`. Every option that changes the
value of a descriptor is returned or refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._options import Options, split_options

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Stated", "read_descriptor"]

# Versions (seconds since 1970) at which QUIP changed the default of an option.
_REFERENCE_CHANGED = 1426512068
_COMPACT_CHANGED = 1596837814

#: gap_fit's own options, which stand in the same string and change no descriptor
_FIT_OPTIONS = [
    "delta",
    "energy_scale",
    "f0",
    "n_sparse",
    "config_type_n_sparse",
    "sparse_method",
    "sparse_file",
    "lengthscale_factor",
    "theta_fac",
    "lengthscale_uniform",
    "theta_uniform",
    "lengthscale_file",
    "theta_file",
    "mark_sparse_atoms",
    "add_species",
    "covariance_type",
    "soap_exponent",
    "zeta",
    "print_sparse_index",
    "unique_hash_tolerance",
    "unique_descriptor_tolerance",
    "xml_version",
]


@dataclass(frozen=True)
class Stated:
    """What a descriptor string says: kind of term, its fields by name, length of a descriptor."""

    family: Literal["pair", "triplet", "soap"]
    values: Mapping[str, Any]
    dimension: int


def _ranges(options: Options) -> dict[str, Any]:
    return {
        "cutoff": options.number("cutoff", low=0.0, above=True),
        "transition_width": options.number("cutoff_transition_width", 0.5, low=0.0, above=True),
    }


def _distance_2b(options: Options, _version: int) -> Stated:
    molecules = "it selects pairs by molecule"
    values = {"kind": "distance_2b", "numbers": (options.atomic_number("Z1"), options.atomic_number("Z2"))}
    options.refuse("resid_name", molecules)
    options.only("only_intra", False, molecules)
    options.only("only_inter", False, molecules)
    options.only("n_exponents", 1, "the descriptor is the distance itself")
    options.only("exponents", 1, "the descriptor is the distance itself")
    options.refuse("tail_exponent", "it multiplies the kernel by a power of the distance")
    options.ignore(["tail_range"])
    return Stated("pair", values | _ranges(options), 1)


def _angle_3b(options: Options, _version: int) -> Stated:
    numbers = tuple(options.atomic_number(name) for name in ("Z", "Z1", "Z2"))
    return Stated("triplet", {"kind": "angle_3b", "numbers": numbers} | _ranges(options), 3)


def _distance_nb(options: Options, version: int) -> Stated:
    order = options.integer("order", low=1, high=99)
    if order not in (2, 3):
        msg = f"distance_Nb: order={order} is not supported, only 2 and 3 are: evaluate with quippy"
        raise PotentialError(msg)
    numbers = tuple(sorted(options.atomic_numbers("Z", order)))
    compact = options.flag("compact_clusters", version >= _COMPACT_CHANGED)
    values = {"kind": "distance_Nb", "numbers": numbers, "compact_clusters": compact} | _ranges(options)
    return Stated("pair", values, 1) if order == 2 else Stated("triplet", values, 3)


def _soap(options: Options, version: int) -> Stated:
    shape = "it changes the shape of the power spectrum"
    options.only("n_Z", 1, "one descriptor has one species of centre")
    n_species = options.integer("n_species", 1, low=1, high=118)
    species = options.atomic_numbers("species_Z", n_species)
    if len(set(species)) != len(species):
        msg = f"soap: species_Z={species} names an element twice"
        raise PotentialError(msg)
    number = options.atomic_number("Z")
    everywhere = version < _REFERENCE_CHANGED or n_species == 1
    values: dict[str, Any] = {
        "number": number,
        "species": species,
        "n_max": options.integer("n_max", low=1, high=64),
        "l_max": options.integer("l_max", low=0, high=32),
        "atom_sigma": options.number("atom_sigma", low=0.0, above=True),
        "central_weight": options.number("central_weight", 1.0),
        "normalise": options.flag("normalise", True),
        "basis_error_exponent": options.number("basis_error_exponent", 10.0, low=0.0, above=True),
        "central_reference_all_species": options.flag("central_reference_all_species", everywhere),
        **_ranges(options),
    }
    if version < _REFERENCE_CHANGED:
        values["central_reference_all_species"] = True
    for name, allowed in (("cutoff_dexp", 0), ("cutoff_scale", 1.0), ("cutoff_rate", 1.0)):
        options.only(name, allowed, "it weighs neighbours by their distance")
    options.only("average", False, "it is a descriptor of a whole structure")
    options.only("covariance_sigma0", 0.0, "it adds a constant to every power spectrum")
    for name in ("diagonal_radial", "Z_mix", "R_mix", "sym_mix"):
        options.only(name, False, shape)
    options.only("coupling", True, shape)
    for name, number_allowed in (("nu_R", 2), ("nu_S", 2), ("K", 0)):
        options.only(name, number_allowed, shape)
    options.refuse("Z_map", shape)
    options.only("radial_basis", "EQUISPACED_GAUSS", "it is another radial basis")
    options.ignore(["mix_shift"])
    n = values["n_max"] * n_species
    return Stated("soap", values, n * (n + 1) // 2 * (values["l_max"] + 1) + 1)


_PARSERS = {
    "distance_2b": _distance_2b,
    "angle_3b": _angle_3b,
    "distance_nb": _distance_nb,
    "soap": _soap,
}
_ALIASES: dict[str, dict[str, str]] = {
    "distance_2b": {},
    "angle_3b": {"z_center": "z"},
    "distance_nb": {},
    "soap": {"atom_gaussian_width": "atom_sigma", "normalize": "normalise"},
}


def read_descriptor(command: str, version: int) -> Stated:
    """Read a descriptor string with the defaults of a version; raises PotentialError as `parse_descriptor`."""
    pairs = split_options(command)
    kinds = [name for name, value in pairs if name in _PARSERS and value in (None, "", "T")]
    if len(kinds) != 1:
        msg = (
            f"the descriptor {command[:120]!r} is not one of distance_2b, angle_3b, distance_Nb (order 2 and 3) "
            "and soap: no other is supported, evaluate such a potential with quippy"
        )
        raise PotentialError(msg)
    kind = kinds[0]
    what = "distance_Nb" if kind == "distance_nb" else kind
    options = Options(what, [pair for pair in pairs if pair[0] != kind], _ALIASES[kind])
    options.ignore(_FIT_OPTIONS)
    found = _PARSERS[kind](options, version)
    options.finish()
    return found
