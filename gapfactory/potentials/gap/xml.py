"""Potentials as files: QUIP's `gap.xml` with its sparse-point files, read with suspicion and written losslessly.

QUIP ends the whole process, with exit status 0 and no exception, when an XML is malformed; nothing here
needs QUIP. Files written here load in QUIP, and `gap_fit`'s load here, with every field preserved.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._options import Options, split_options
from gapfactory.potentials.gap._xml_parse import (
    LARGEST_XML,
    Coordinates,
    Document,
    Glue,
    Table,
    fail,
    flag,
    number,
    numbers_in,
    parse,
    whole,
)
from gapfactory.potentials.gap._xml_write import write_gap
from gapfactory.potentials.gap.core import GlueType, PairCurve, PairTable
from gapfactory.potentials.gap.model import GapModel, PairTerm, SoapTerm, Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_XML", "read_gap", "sparse_files", "write_gap"]

_REMEDY = "fetch it again from the store or fit it again"
_ARD_SE, _DOT_PRODUCT = 1, 2
_KERNELS = {3: "bond_real_space", 4: "piecewise polynomial"}
#: a sparse-point file has at most this many bytes for a number
_LONGEST_NUMBER = 64


def read_gap(path: Path | str) -> GapModel:
    """Read a potential completely, without QUIP.

    Parameters
    ----------
    path
        The XML file; sparse-point files are looked for beside it and nowhere else.

    Raises
    ------
    PotentialError
        If a file is missing, truncated, altered, too large, not finite, or states something unknown or not
        supported; it says what.
    """
    path = Path(path)
    try:
        return _model(_document(path), path.parent)
    except (PotentialError, OSError) as problem:
        msg = f"the potential {path} cannot be used: {problem}; {_REMEDY}"
        raise PotentialError(msg) from None


def sparse_files(path: Path | str) -> tuple[str, ...]:
    """Return the names of the sparse-point files that an XML refers to, in the order of its terms.

    Raises PotentialError like `read_gap`, except that the sparse-point files are not opened.
    """
    path = Path(path)
    try:
        names = [_file_name(term) for term in _document(path).terms]
    except (PotentialError, OSError) as problem:
        msg = f"the potential {path} cannot be used: {problem}; {_REMEDY}"
        raise PotentialError(msg) from None
    return tuple(name for name in names if name is not None)


def _document(path: Path) -> Document:
    if not path.is_file():
        raise fail(f"there is no {path.name}")
    size = path.stat().st_size
    if size > LARGEST_XML:
        raise fail(f"{path.name} has {size} bytes, more than any potential needs")
    try:
        return parse(path)
    except PotentialError as problem:
        raise fail(f"in {path.name}, {problem}") from None


def _model(document: Document, directory: Path) -> GapModel:
    elements = document.elements
    for name in ("Potential", "GAP_params", "GAP_data", "gpSparse"):
        if name not in elements:
            raise fail(f"it is not a GAP: the element {name} is missing")
    params, sparse = elements["GAP_params"], elements["gpSparse"]
    label = params["label"]
    if sparse["label"] != label:
        raise fail(f"gpSparse has the label {sparse['label'][:60]!r} where GAP_params has {label[:60]!r}")
    if not flag(sparse.get("fitted", "T"), "fitted"):
        raise fail("it was never fitted (fitted is F)")
    stated = whole(sparse["n_coordinate"], "n_coordinate")
    if stated != len(document.terms) or not stated:
        raise fail(f"it holds {len(document.terms)} terms where it says {stated}")
    terms = []
    for k, coordinates in enumerate(document.terms, start=1):
        try:
            terms.append(_term(coordinates, f"{label}{k}", directory))
        except PotentialError as problem:
            raise fail(f"term {k}: {problem}") from None
    core = _arguments(elements["Potential"]["init_args"], label)
    if flag(elements["GAP_data"].get("do_pca", "F"), "do_pca"):
        raise fail("do_pca=T is not supported")
    if flag(elements["GAP_data"].get("do_core", "F"), "do_core") != (core is not None):
        raise fail("do_core and the init_args of Potential contradict each other about a core potential")
    if (core is None) != (document.glue is None):
        raise fail("Glue_params and the init_args of Potential contradict each other about a core potential")
    potential_label = elements["Potential"]["label"]
    return GapModel(
        terms=tuple(terms),
        e0=document.e0,
        baseline=None if core is None or document.glue is None else _table(document.glue, core),
        label=label,
        root="" if document.root == label else document.root,
        potential_label="" if potential_label == label else potential_label,
        attributes={key: text for key, text in params.items() if key not in ("label", "gap_version")},
        gap_version=whole(params.get("gap_version", "0"), "gap_version", 0, 2**31 - 1),
        command_line=document.command_line,
        training_data="\n".join(document.training_data),
        comments=tuple(document.comments),
    )


def _file_name(term: Coordinates) -> str | None:
    name = term.attributes.get("sparseX_filename")
    if name is None:
        return None
    plain = name not in ("", ".", "..") and Path(name).name == name and not set(name) & set("/\\\0")
    if not plain or len(name) > 255:
        raise fail(f"it refers to the sparse-point file {name[:80]!r}, which is not a plain file name")
    return name


def _points(term: Coordinates, n: int, d: int, directory: Path) -> NDArray[np.float64]:
    name = _file_name(term)
    if name is None:
        return np.array(term.rows).reshape(n, d)
    path = directory / name
    if not path.is_file():
        raise fail(f"the sparse-point file {name} is missing")
    size = path.stat().st_size
    if size > _LONGEST_NUMBER * n * d + 1024:
        raise fail(f"the sparse-point file {name} has {size} bytes, too many for {n} x {d} numbers")
    raw = path.read_bytes()
    stated = term.attributes.get("sparseX_md5sum", "").strip()
    if stated and hashlib.md5(raw, usedforsecurity=False).hexdigest() != stated:
        raise fail(f"the sparse-point file {name} does not have the checksum that the XML states")
    what = f"the sparse-point file {name}"
    count = raw.count(b"\n") + (not raw.endswith(b"\n"))
    if count < n * d or len(raw) < 1 << 20:
        return numbers_in(raw, n * d, what).reshape(n, d)
    # Split piece by piece: a list of all words at once would need ten times the memory of the numbers.
    values, filled, start = np.empty(n * d), 0, 0
    while start < len(raw):
        stop = raw.find(b"\n", min(start + (1 << 20), len(raw))) + 1 or len(raw)
        piece = raw[start:stop]
        words = len(piece.split())
        if filled + words > n * d:
            raise fail(f"{what} holds more than {n} x {d} numbers")
        values[filled : filled + words] = numbers_in(piece, words, what)
        filled, start = filled + words, stop
    if filled != n * d:
        raise fail(f"{what} holds {filled} numbers, expected {n} x {d}")
    return values.reshape(n, d)


def _term(coordinates: Coordinates, label: str, directory: Path) -> Term:
    attributes, found = coordinates.attributes, coordinates.descriptor
    if found is None or coordinates.command is None:
        raise fail("it has no descriptor")
    if attributes["label"] != label:
        raise fail(f"its label is {attributes['label'][:60]!r}, expected {label[:60]!r}")
    if not flag(attributes["sparsified"], "sparsified"):
        raise fail("it has no sparse points (sparsified is F), which is not supported")
    n = whole(attributes["n_sparseX"], "n_sparseX")
    if n != len(coordinates.alphas) or n < 1:
        raise fail(f"it holds {len(coordinates.alphas)} sparse points where it says {n}")
    d = whole(attributes["dimensions"], "dimensions")
    if d != found.dimension:
        raise fail(f"it says that it has {d} dimensions where its descriptor has {found.dimension}")
    kernel = whole(attributes["covariance_type"], "covariance_type")
    if kernel != (_DOT_PRODUCT if found.term is SoapTerm else _ARD_SE):
        raise fail(
            f"covariance_type {kernel} ({_KERNELS.get(kernel, 'unsuitable for this descriptor')}) is not "
            "supported: distances and angles need ard_se (1), SOAP dot_product (2)"
        )
    values: dict[str, Any] = dict(found.values)
    theta = coordinates.theta
    if found.term is SoapTerm:
        # Files of old versions state the exponent as theta.
        text = attributes.get("zeta", theta)
        if text is None:
            raise fail("its exponent zeta is missing")
        values["zeta"] = number(text, "zeta")
    else:
        if "zeta" in attributes:
            raise fail("it states zeta, which its kernel does not have")
        lengths = numbers_in(theta or "", d, "theta")
        values["theta"] = float(lengths[0]) if found.term is PairTerm else lengths
    term: Term = found.term(
        **values,
        delta=number(attributes["signal_variance"], "signal_variance"),
        f0=number(attributes["signal_mean"], "signal_mean"),
        points=_points(coordinates, n, d, directory),
        alphas=np.array(coordinates.alphas, dtype=np.float64),
        sparse_cutoffs=np.array(coordinates.cutoffs, dtype=np.float64),
        command=coordinates.command,
    )
    _check_permutations(coordinates, term)
    return term


def _check_permutations(coordinates: Coordinates, term: Term) -> None:
    stated = whole(coordinates.attributes["n_permutations"], "n_permutations")
    if stated != len(coordinates.permutations):
        raise fail(f"it holds {len(coordinates.permutations)} permutations where it says {stated}")
    d = 1 if isinstance(term, SoapTerm) else term.dimension
    table = sorted(
        tuple(int(x) - 1 for x in numbers_in(text, d, "a permutation")) for text in coordinates.permutations
    )
    if table != sorted(term.permutations):
        raise fail(f"its permutations {table} are not those of {term.command.strip()[:80]!r}")


def _arguments(text: str, label: str) -> str | None:
    """Return the init string of the core potential, or None; anything else than a core is refused."""
    pairs = split_options(text)
    names = [name for name, _ in pairs]
    if names[:1] == ["sum"]:
        options = Options("Sum", pairs[1:])
        core, gap = options.text("init_args_pot1"), options.text("init_args_pot2")
        options.finish()
        if [name for name, _ in split_options(core)][:2] != ["ip", "glue"]:
            raise fail(f"the core potential {core[:60]!r} is not supported, only IP Glue (pair tables) is")
        if [name for name, _ in split_options(gap)][:1] == ["sum"]:
            raise fail("it is a sum of more than two potentials, which is not supported")
        _arguments(gap, label)
        return core
    options = Options("Potential", pairs)
    if names[:2] != ["ip", "gap"]:
        raise fail(f"the init_args {text[:80]!r} are not IP GAP")
    options.ignore(["ip", "gap"])
    if options.text("label", label) != label:
        raise fail(f"the init_args of Potential ask for another label than {label[:60]!r}")
    options.finish()
    return None


def _slope(attributes: dict[str, str], key: str) -> float | None:
    return number(attributes[key], key) if key in attributes else None


def _table(glue: Glue, arguments: str) -> PairTable:
    options = Options("Glue", split_options(arguments))
    options.ignore(["ip", "glue"])
    label = glue.attributes.get("label", "")
    if options.text("label", label) != label:
        raise fail("the core potential's label and its init_args differ")
    options.finish()
    if whole(glue.attributes["n_types"], "n_types") != len(glue.types):
        raise fail(f"Glue_params holds {len(glue.types)} types where it says {glue.attributes['n_types']}")
    types = []
    for k, (attributes, tables) in enumerate(glue.types, start=1):
        if whole(attributes["type"], "type") != k:
            raise fail(f"type {k} of Glue_params is numbered {attributes['type']!r}")
        if set(tables) != {"density", "potential_density"}:
            raise fail(f"type {k} of Glue_params needs both density and potential_density")
        density, embedding = tables["density"], tables["potential_density"]
        types.append(
            GlueType(
                number=whole(attributes["atomic_num"], "atomic_num", 1, 118),
                density=density.values("density"),
                density_slopes=(
                    number(density.attributes["density_y1"], "density_y1"),
                    number(density.attributes["density_yn"], "density_yn"),
                ),
                density_spline=flag(density.attributes.get("do_spline", "F"), "do_spline"),
                embedding=embedding.values("potential_density"),
                embedding_slopes=(_slope(embedding.attributes, "y1"), _slope(embedding.attributes, "yn")),
            )
        )
    return PairTable(
        tuple(_curve(pair, tables, types) for pair, tables in glue.pairs), tuple(types), arguments, label
    )


def _curve(pair: dict[str, str], tables: dict[str, Table], types: list[GlueType]) -> PairCurve:
    first, second = (whole(pair[key], key, 1, len(types)) for key in ("type1", "type2"))
    if "potential_pair" not in tables:
        raise fail("a pair of Glue_params has no potential_pair")
    table = tables["potential_pair"]
    points = table.values("potential_pair")
    slopes = [_slope(table.attributes, key) or 0.0 for key in ("y1", "yn")]
    numbers = (types[first - 1].number, types[second - 1].number)
    return PairCurve(numbers, points[:, 0], points[:, 1], *slopes)
