"""Writes a potential the way QUIP reads it; every number comes back bit for bit."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.model import PairTerm, SoapTerm, parse_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.core import PairTable
    from gapfactory.potentials.gap.model import GapModel, Term

__all__ = ["write_gap"]

#: QUIP reads inline sparse points in slices of this many numbers
_SLICE = 50
#: QUIP reads a file in pieces of 1024 characters of a line and drops blanks between them, which glues numbers
_PER_LINE = 10
_LONGEST_LINE = 960
#: QUIP reads attributes into strings of this length
_LONGEST_ATTRIBUTE = 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,200}", re.ASCII)
# What XML 1.0 cannot hold at all, and a carriage return, which comes back as another line end.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]")


def write_gap(model: GapModel, path: Path | str, *, inline: bool = False) -> tuple[str, ...]:
    """Write a potential; QUIP loads it from the XML's path.

    Parameters
    ----------
    model
        The potential.
    path
        The XML file; its directory must exist. An old file is replaced in one step, after the new
        sparse-point files stand beside it.
    inline
        Put the sparse points into the XML instead of one file for each term. QUIP then prints warnings.

    Returns
    -------
    tuple
        Names of the files written, the XML first.

    Raises
    ------
    PotentialError
        If the potential holds what the format cannot, or a file cannot be written.
    """
    path = Path(path)
    _check(model)
    names = [] if inline else [f"{path.name}.sparseX.{model.label}{k + 1}" for k in range(len(model.terms))]
    try:
        sums = []
        for name, term in zip(names, model.terms, strict=False):
            raw = "".join(f"{x!r}\n" for x in term.points.ravel().tolist()).encode()
            _replace(path.parent / name, raw)
            sums.append(hashlib.md5(raw, usedforsecurity=False).hexdigest())
        _replace(path, "".join(_lines(model, names, sums)).encode("utf-8"))
    except OSError as error:
        msg = (
            f"the potential cannot be written to {path} ({error}): give a directory that exists and has room"
        )
        # the cause tells that another try, with room, is worth while
        raise PotentialError(msg) from error
    return (path.name, *names)


def _replace(path: Path, raw: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(raw)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _check(model: GapModel) -> None:
    names = {"label": model.label, "root": model.root or model.label}
    for what, name in names.items():
        if not _NAME.fullmatch(name):
            msg = f"the {what} {name[:60]!r} cannot name a potential: use letters, digits and underscores"
            raise PotentialError(msg)
    commands = [term.command for term in model.terms]
    texts = [model.command_line, model.training_data, model.potential_label, *model.comments, *commands]
    texts += model.attributes.values()
    for text in texts:
        bad = _UNWRITABLE.search(text)
        if bad:
            msg = f"the text {text[:60]!r} of the potential holds {bad.group()!r}, which XML cannot hold: remove it"
            raise PotentialError(msg)
    if "]]>" in model.training_data or any("--" in text or text.endswith("-") for text in model.comments):
        msg = "the training data hold ']]>' or a comment holds '--', which XML cannot hold there: remove it"
        raise PotentialError(msg)
    if any(not _NAME.fullmatch(key) or key in ("label", "gap_version") for key in model.attributes):
        msg = f"the attributes {sorted(model.attributes)} cannot stand beside label and gap_version"
        raise PotentialError(msg)
    for k, term in enumerate(model.terms):
        _check_command(term, k + 1, model.gap_version)
        if max(map(len, escape(term.command).split("\n"))) > _LONGEST_LINE:
            msg = (
                f"the descriptor of term {k + 1} has more than {_LONGEST_LINE} characters on a line, of which QUIP "
                "loses blanks: shorten it"
            )
            raise PotentialError(msg)
        if not term.n_sparse:
            msg = f"term {k + 1} ({term.command[:60]!r}) has no sparse points: fit it or remove it"
            raise PotentialError(msg)


def _check_command(term: Term, place: int, version: int) -> None:
    """Refuse a descriptor string that says otherwise than the term: QUIP reads the string only."""
    says = parse_descriptor(term.command, version=version)
    wrong = [key for key, value in says.values.items() if getattr(term, key, None) != value]
    if says.term is not type(term) or wrong:
        msg = (
            f"the descriptor string of term {place} says otherwise than the term about {', '.join(wrong)} (with "
            f"the defaults of version {version}): QUIP reads the string only, write {term.command[:80]!r} anew"
        )
        raise PotentialError(msg)


def _element(name: str, attributes: dict[str, str], *, end: str = ">") -> str:
    return f"<{name}" + "".join(f" {key}={_quoted(key, text)}" for key, text in attributes.items()) + end


def _quoted(key: str, text: str) -> str:
    if len(text) > _LONGEST_ATTRIBUTE:
        msg = f"{key} has {len(text)} characters, QUIP reads {_LONGEST_ATTRIBUTE}: shorten it"
        raise PotentialError(msg)
    return quoteattr(text, {"\n": "&#10;", "\t": "&#9;"})


def _literal(text: str) -> str:
    return escape(text) if "]]>" in text else f"<![CDATA[{text}]]>"


def _numbers(values: NDArray[np.float64]) -> str:
    words = list(map(repr, values.tolist()))
    return "\n".join(" ".join(words[k : k + _PER_LINE]) for k in range(0, len(words), _PER_LINE)) + "\n"


def _lines(model: GapModel, names: list[str], sums: list[str]) -> Iterator[str]:
    label = model.label
    arguments = f"IP GAP label={label}"
    if model.baseline is not None:
        arguments = f"Sum init_args_pot1={{{model.baseline.arguments}}} init_args_pot2={{{arguments}}}"
    root = model.root or label
    yield f"<{root}>\n"
    for text in model.comments:
        yield f"<!--{text}-->\n"
    potential = {"label": model.potential_label or label, "init_args": arguments}
    yield _element("Potential", potential, end="/>\n")
    if model.baseline is not None:
        yield from _core(model.baseline)
    version = {"gap_version": str(model.gap_version)} if model.gap_version else {}
    yield _element("GAP_params", {"label": label, **version, **model.attributes}) + "\n"
    yield _element("GAP_data", {"do_core": "F" if model.baseline is None else "T"}) + "\n"
    for z, energy in sorted(model.e0.items()):
        yield _element("e0", {"Z": str(z), "value": repr(energy)}, end="/>\n")
    yield "</GAP_data>\n"
    sparse = {"label": label, "n_coordinate": str(len(model.terms)), "fitted": "T"}
    yield _element("gpSparse", sparse) + "\n"
    for k, term in enumerate(model.terms):
        files = {"sparseX_filename": names[k], "sparseX_md5sum": sums[k]} if names else {}
        yield from _term(term, f"{label}{k + 1}", files)
    yield "</gpSparse>\n"
    if model.training_data:
        yield "<XYZ_data>\n"
        for line in model.training_data.split("\n"):
            yield f"<![CDATA[{line}]]>\n"
        yield "</XYZ_data>\n"
    if model.command_line:
        yield f"<command_line>{_literal(model.command_line)}</command_line>\n"
    yield f"</GAP_params>\n</{root}>\n"


def _term(term: Term, label: str, files: dict[str, str]) -> Iterator[str]:
    soap = isinstance(term, SoapTerm)
    attributes = {
        "label": label,
        "dimensions": str(term.dimension),
        "signal_variance": repr(float(term.delta)),
        "signal_mean": repr(float(term.f0)),
        "sparsified": "T",
        "n_permutations": str(len(term.permutations)),
        "covariance_type": "2" if soap else "1",
    }
    if isinstance(term, SoapTerm):
        attributes["zeta"] = repr(float(term.zeta))
    yield _element("gpCoordinates", {**attributes, "n_sparseX": str(term.n_sparse), **files}) + "\n"
    if isinstance(term, PairTerm):
        yield f"<theta>{float(term.theta)!r}</theta>\n"
    elif not isinstance(term, SoapTerm):
        yield f"<theta>{_numbers(term.theta)}</theta>\n"
    yield f"<descriptor>{escape(term.command)}</descriptor>\n"
    for k, order in enumerate(term.permutations):
        yield f'<permutation i="{k + 1}">{" ".join(str(x + 1) for x in order)}</permutation>\n'
    for k, (alpha, cutoff) in enumerate(zip(term.alphas.tolist(), term.sparse_cutoffs.tolist(), strict=True)):
        point = {"i": str(k + 1), "alpha": repr(alpha), "sparseCutoff": repr(cutoff)}
        if files:
            yield _element("sparseX", point, end="/>\n")
        elif term.dimension <= _SLICE:
            yield _element("sparseX", point) + _numbers(term.points[k]) + "</sparseX>\n"
        else:
            yield _element("sparseX", {**point, "sliced": "T"}) + "\n"
            for start in range(0, term.dimension, _SLICE):
                row = term.points[k, start : start + _SLICE]
                place = {"start": str(start + 1), "end": str(start + len(row))}
                yield _element("sparseX_slice", place) + _numbers(row) + "</sparseX_slice>\n"
            yield "</sparseX>\n"
    yield "</gpCoordinates>\n"


def _core(table: PairTable) -> Iterator[str]:
    label = {"label": table.label} if table.label else {}
    yield _element("Glue_params", {**label, "n_types": str(len(table.types))}) + "\n"
    for k, item in enumerate(table.types):
        yield _element("per_type_data", {"type": str(k + 1), "atomic_num": str(item.number)}) + "\n"
        y1, yn = item.density_slopes
        attributes = {"density_y1": repr(float(y1)), "density_yn": repr(float(yn))}
        if item.density_spline:
            attributes["do_spline"] = "T"
        yield from _points("density", attributes, ("a", "rho"), item.density)
        ends = zip(("y1", "yn"), item.embedding_slopes, strict=True)
        attributes = {key: repr(float(value)) for key, value in ends if value is not None}
        yield from _points("potential_density", attributes, ("rho", "E"), item.embedding)
        yield "</per_type_data>\n"
    order = {item.number: str(k + 1) for k, item in enumerate(table.types)}
    for curve in table.curves:
        first, second = (order[z] for z in curve.numbers)
        yield _element("per_pair_data", {"type1": first, "type2": second}) + "\n"
        attributes = {"y1": repr(float(curve.slope_first)), "yn": repr(float(curve.slope_last))}
        values = zip(curve.r.tolist(), curve.energy.tolist(), strict=True)
        yield from _points("potential_pair", attributes, ("r", "E"), values)
        yield "</per_pair_data>\n"
    yield "</Glue_params>\n"


def _points(name: str, attributes: dict[str, str], keys: tuple[str, str], values: object) -> Iterator[str]:
    rows = [(float(a), float(b)) for a, b in values]  # type: ignore[attr-defined]
    yield _element(name, {"num_points": str(len(rows)), **attributes}) + "\n"
    for row in rows:
        yield _element("point", {key: repr(x) for key, x in zip(keys, row, strict=True)}, end="/>\n")
    yield f"</{name}>\n"
