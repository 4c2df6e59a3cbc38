"""Reads the XML of a potential as a stream, element by element, believing nothing that it states about itself.

What an element may contain is fixed in one table; everything else is refused by name. Numbers become arrays as
they arrive, so memory is a small multiple of the numbers that are really there, whatever sizes are claimed.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._options import real
from gapfactory.potentials.gap.model import Descriptor, parse_descriptor

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LARGEST_XML", "Coordinates", "Document", "Glue", "Table", "fail", "numbers_in", "parse", "whole"]

#: an XML larger than this (bytes) is not read; the largest real ones are a few MB
LARGEST_XML = 512 * 1024 * 1024
_CHUNK = 1 << 20
#: longest tag with its attributes, and longest text of an element that is not data, bytes
_LONGEST_TAG = 1 << 23
_LONGEST_TEXT = 1 << 16
_MOST_TERMS = 10_000
_MOST_POINTS = 100_000
_MOST_COMMENTS = 1000

# element: (parent, required attributes, optional attributes)
_GRAMMAR: dict[str, tuple[str, str, str]] = {
    "Potential": ("", "label init_args", ""),
    "GAP_params": ("", "label", "gap_version svn_version"),
    "GAP_data": ("GAP_params", "", "do_core do_pca"),
    "e0": ("GAP_data", "Z value", ""),
    "gpSparse": ("GAP_params", "label n_coordinate", "fitted"),
    "gpCoordinates": (
        "gpSparse",
        "label dimensions signal_variance signal_mean sparsified n_permutations covariance_type n_sparseX",
        "zeta sparseX_filename sparseX_md5sum",
    ),
    "theta": ("gpCoordinates", "", ""),
    "descriptor": ("gpCoordinates", "", ""),
    "permutation": ("gpCoordinates", "i", ""),
    "sparseX": ("gpCoordinates", "i alpha sparseCutoff", "sliced"),
    "sparseX_slice": ("sparseX", "start end", ""),
    "command_line": ("GAP_params", "", ""),
    "XYZ_data": ("GAP_params", "", ""),
    "Glue_params": ("", "n_types", "label"),
    "per_type_data": ("Glue_params", "type atomic_num", ""),
    "density": ("per_type_data", "num_points density_y1 density_yn", "do_spline"),
    "potential_density": ("per_type_data", "num_points", "y1 yn"),
    "per_pair_data": ("Glue_params", "type1 type2", ""),
    "potential_pair": ("per_pair_data", "num_points", "y1 yn"),
}
_POINTS = {"density": ("a", "rho"), "potential_density": ("rho", "E"), "potential_pair": ("r", "E")}
_ONCE = {
    "Potential",
    "GAP_params",
    "Glue_params",
    "GAP_data",
    "gpSparse",
    "command_line",
    "XYZ_data",
    "theta",
    "descriptor",
    *_POINTS,
}
_WITH_TEXT = {"theta", "descriptor", "permutation", "sparseX", "sparseX_slice", "command_line"}


def fail(problem: str) -> PotentialError:
    """Return an error whose text still lacks the file and the remedy; `read_gap` adds them."""
    return PotentialError(problem)


def whole(text: str, what: str, low: int = 0, high: int = 10**9) -> int:
    """Return a whole number of a file."""
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,10}\s*", text, re.ASCII) or not low <= int(text) <= high:
        raise fail(f"{what} is {text[:40]!r}, not a whole number between {low} and {high}")
    return int(text)


def number(text: str, what: str) -> float:
    """Return a finite number of a file."""
    try:
        return real(text)
    except (ValueError, OverflowError):
        raise fail(f"{what} is {text[:40]!r}, not a finite number") from None


def flag(text: str, what: str) -> bool:
    """Return a logical value of a file."""
    if text.strip().upper() not in ("T", "F"):
        raise fail(f"{what} is {text[:40]!r}, neither T nor F")
    return text.strip().upper() == "T"


def numbers_in(text: str | bytes, count: int, what: str) -> NDArray[np.float64]:
    """Return exactly `count` finite numbers that stand in a text."""
    words = text.split()
    bad = b"_" if isinstance(text, bytes) else "_"
    if len(words) != count:
        raise fail(f"{what} holds {len(words)} numbers, expected {count}")
    try:
        values = np.array(words, dtype=np.float64)
    except (ValueError, OverflowError):
        values = None
    if values is None or bad in text:  # type: ignore[operator]
        raise fail(f"{what} holds something that is not a number")
    if not np.isfinite(values).all():
        raise fail(f"{what} holds a number that is not finite")
    return values


@dataclass
class Coordinates:
    """One gpCoordinates element as it stands, sparse points included where they are inside the XML."""

    attributes: dict[str, str]
    theta: str | None = None
    command: str | None = None
    descriptor: Descriptor | None = None
    permutations: list[str] = field(default_factory=list)
    alphas: array[float] = field(default_factory=lambda: array("d"))
    cutoffs: array[float] = field(default_factory=lambda: array("d"))
    rows: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass
class Table:
    """A table of points of the core potential."""

    attributes: dict[str, str]
    points: array[float] = field(default_factory=lambda: array("d"))

    def values(self, what: str) -> NDArray[np.float64]:
        """Return the points (n, 2) after comparing their number with the stated one."""
        found = np.array(self.points, dtype=np.float64).reshape(-1, 2)
        if whole(self.attributes["num_points"], f"num_points of {what}") != len(found) or not len(found):
            raise fail(f"{what} holds {len(found)} points where it says {self.attributes['num_points']}")
        return found


@dataclass
class Glue:
    """The core potential: attributes and tables of types and pairs."""

    attributes: dict[str, str]
    types: list[tuple[dict[str, str], dict[str, Table]]] = field(default_factory=list)
    pairs: list[tuple[dict[str, str], dict[str, Table]]] = field(default_factory=list)


@dataclass
class Document:
    """Everything a file states, before it is judged."""

    root: str = ""
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    e0: dict[int, float] = field(default_factory=dict)
    terms: list[Coordinates] = field(default_factory=list)
    glue: Glue | None = None
    command_line: str = ""
    training_data: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)


class _Handlers:
    """Callbacks of the parser; they fill `document`."""

    def __init__(self) -> None:
        self.document = Document()
        self.stack: list[str] = []
        self.attributes: list[dict[str, str]] = []
        self.seen: list[set[str]] = [set()]
        self.text: list[str] = []
        self.size = 0
        self.slices: list[NDArray[np.float64]] = []
        self.cdata: list[str] | None = None
        self.ended = False

    # ---------------------------------------------------------------------------------- start of an element

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        if not self.stack:
            self.document.root = name
            if attributes:
                raise fail(f"the outermost element {name!r} has attributes")
        else:
            if any(not piece.isspace() for piece in self.text):
                raise fail(f"the element {self.stack[-1]} holds both text and elements")
            self._check(name, attributes)
            self._begin(name, attributes)
        self.stack.append(name)
        self.attributes.append(attributes)
        self.seen.append(set())
        self.text, self.size = [], 0

    def _check(self, name: str, attributes: dict[str, str]) -> None:
        parent = self.stack[-1] if len(self.stack) > 1 else ""
        if name == "point" and parent in _POINTS:
            required, optional = set(_POINTS[parent]), set[str]()
        elif name in _GRAMMAR and _GRAMMAR[name][0] == parent:
            required, optional = (set(words.split()) for words in _GRAMMAR[name][1:])
        else:
            where = parent or "a potential"
            raise fail(
                f"{where} holds the element {name[:60]!r}, which is not supported (other core potentials than "
                "pair tables, and kernels other than ard_se and dot_product, are not)"
            )
        missing, unknown = sorted(required - set(attributes)), sorted(set(attributes) - required - optional)
        if missing:
            raise fail(f"the element {name} lacks {', '.join(missing)}")
        if unknown:
            raise fail(f"the element {name} has the unknown attribute {', '.join(unknown)[:100]}")
        if name in _ONCE:
            if name in self.seen[-1]:
                raise fail(f"the element {name} stands twice in {parent or 'the potential'}")
            self.seen[-1].add(name)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        document = self.document
        if name in ("Potential", "GAP_params", "GAP_data", "gpSparse"):
            document.elements[name] = attributes
        elif name == "e0":
            z = whole(attributes["Z"], "Z of e0", 1, 118)
            if z in document.e0:
                raise fail(f"e0 of element {z} stands twice")
            document.e0[z] = number(attributes["value"], f"e0 of element {z}")
        elif name == "gpCoordinates":
            if len(document.terms) >= _MOST_TERMS:
                raise fail(f"there are more than {_MOST_TERMS} terms")
            document.terms.append(Coordinates(attributes))
        elif name == "sparseX":
            self._sparse_point(document.terms[-1], attributes)
        elif name == "Glue_params":
            document.glue = Glue(attributes)
        elif name in ("per_type_data", "per_pair_data") and document.glue is not None:
            tables = document.glue.types if name == "per_type_data" else document.glue.pairs
            if len(tables) >= _MOST_TERMS:
                raise fail(f"there are more than {_MOST_TERMS} elements {name}")
            tables.append((attributes, {}))
        elif name in _POINTS:
            self._tables()[name] = Table(attributes)
        elif name == "point":
            points = self._tables()[self.stack[-1]].points
            if len(points) >= 2 * _MOST_POINTS:
                raise fail(f"the core potential has more than {_MOST_POINTS} points")
            points.extend(number(attributes[key], f"{key} of a point") for key in _POINTS[self.stack[-1]])

    def _tables(self) -> dict[str, Table]:
        glue = self.document.glue or Glue({})
        return (glue.types if "per_type_data" in self.stack else glue.pairs)[-1][1]

    def _sparse_point(self, term: Coordinates, attributes: dict[str, str]) -> None:
        n = len(term.alphas) + 1
        if term.descriptor is None:
            raise fail(f"term {len(self.document.terms)} has sparse points before its descriptor")
        if whole(attributes["i"], "i of sparseX") != n:
            raise fail(
                f"sparse point {n} of term {len(self.document.terms)} is numbered {attributes['i'][:20]!r}"
            )
        term.alphas.append(number(attributes["alpha"], f"alpha of sparse point {n}"))
        term.cutoffs.append(number(attributes["sparseCutoff"], f"sparseCutoff of sparse point {n}"))
        flag(attributes.get("sliced", "F"), "sliced")
        self.slices = []

    # ------------------------------------------------------------------------------------------------- text

    def characters(self, data: str) -> None:
        """Take a piece of text."""
        name = self.stack[-1] if len(self.stack) > 1 else ""
        if name == "XYZ_data":
            if self.cdata is not None:
                self.cdata.append(data)
            elif not data.isspace():
                raise fail("XYZ_data holds text outside of its lines")
            return
        if name not in _WITH_TEXT:
            if not data.isspace():
                raise fail(f"{name or 'the potential'} holds the stray text {data.strip()[:40]!r}")
            return
        self.size += len(data)
        if self.size > self._longest(name):
            raise fail(f"the text of an element {name} is longer than it can be")
        self.text.append(data)

    def _longest(self, name: str) -> int:
        if name in ("sparseX", "sparseX_slice"):
            descriptor = self.document.terms[-1].descriptor
            return _LONGEST_TEXT + 64 * (descriptor.dimension if descriptor else 0)
        return LARGEST_XML if name == "command_line" else _LONGEST_TEXT

    def cdata_start(self) -> None:
        """Take the start of a literal section; one line of a training set is one."""
        self.cdata = []

    def cdata_end(self) -> None:
        """Take the end of a literal section."""
        if self.stack[-1] == "XYZ_data":
            self.document.training_data.append("".join(self.cdata or []))
        self.cdata = None

    def comment(self, data: str) -> None:
        """Keep a comment."""
        if len(self.document.comments) >= _MOST_COMMENTS:
            raise fail(f"there are more than {_MOST_COMMENTS} comments")
        self.document.comments.append(data)

    def forbidden(self, *_: object) -> None:
        """Refuse a document type or an entity."""
        raise fail("it declares a document type or entities, which no potential does")

    # ------------------------------------------------------------------------------------ end of an element

    def end(self, name: str) -> None:
        """Take the end of an element."""
        text = "".join(self.text)
        attributes = self.attributes.pop()
        self.stack.pop()
        self.seen.pop()
        self.text, self.size = [], 0
        self.ended = not self.stack
        if name == "command_line":
            self.document.command_line = text
            return
        if not self.document.terms or "gpCoordinates" not in self.stack:
            return
        term, place = self.document.terms[-1], f"term {len(self.document.terms)}"
        if name == "theta":
            term.theta = text
        elif name == "descriptor":
            version = self.document.elements.get("GAP_params", {}).get("gap_version", "0")
            term.command = text
            term.descriptor = parse_descriptor(text, version=whole(version, "gap_version", 0, 2**31 - 1))
        elif name == "permutation":
            if whole(attributes["i"], "i of permutation") != len(term.permutations) + 1:
                raise fail(f"permutation {len(term.permutations) + 1} of {place} is numbered otherwise")
            if len(term.permutations) >= 6:
                raise fail(f"{place} has more than the six permutations of a triplet")
            term.permutations.append(text)
        elif name == "sparseX_slice":
            self._slice(term, attributes, text, place)
        elif name == "sparseX":
            self._finish_point(term, attributes, text, place)

    def _slice(self, term: Coordinates, attributes: dict[str, str], text: str, place: str) -> None:
        start, last = (
            whole(attributes["start"], "start of a slice"),
            whole(attributes["end"], "end of a slice"),
        )
        have = sum(map(len, self.slices))
        dimension = term.descriptor.dimension if term.descriptor else 0
        if start != have + 1 or not start <= last <= dimension:
            raise fail(
                f"the slices of a sparse point of {place} do not follow each other ({start} to {last})"
            )
        self.slices.append(numbers_in(text, last - start + 1, f"a slice of a sparse point of {place}"))

    def _finish_point(self, term: Coordinates, attributes: dict[str, str], text: str, place: str) -> None:
        inside = "sparseX_filename" not in term.attributes
        sliced = flag(attributes.get("sliced", "F"), "sliced")
        if (
            (not inside and (text.strip() or sliced or self.slices))
            or (sliced and text.strip())
            or (bool(self.slices) != sliced)
        ):
            raise fail(f"a sparse point of {place} is stated in two ways")
        if inside:
            dimension = term.descriptor.dimension if term.descriptor else 0
            what = f"sparse point {len(term.alphas)} of {place}"
            if sliced:
                row = np.concatenate(self.slices)
                if len(row) != dimension:
                    raise fail(f"{what} holds {len(row)} numbers, expected {dimension}")
            else:
                row = numbers_in(text, dimension, what)
            term.rows.append(row)


def parse(path: Path) -> Document:
    """Return what the file states.

    Raises
    ------
    PotentialError
        If it is not well-formed XML of a potential, or refers to anything outside of itself. The text lacks
        the remedy.
    """
    handlers = _Handlers()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = handlers.start
    parser.EndElementHandler = handlers.end
    parser.CharacterDataHandler = handlers.characters
    parser.CommentHandler = handlers.comment
    parser.StartCdataSectionHandler = handlers.cdata_start
    parser.EndCdataSectionHandler = handlers.cdata_end
    parser.StartDoctypeDeclHandler = handlers.forbidden
    parser.EntityDeclHandler = handlers.forbidden
    fed = 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                fed += len(chunk)
                if fed > LARGEST_XML:
                    raise fail(f"it has more than {LARGEST_XML} bytes, more than any potential needs")
                parser.Parse(chunk, False)
                if fed - parser.CurrentByteIndex > _LONGEST_TAG:
                    raise fail(f"it holds a tag of more than {_LONGEST_TAG} bytes")
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise fail(f"it is truncated or malformed ({error})") from None
    except (UnicodeError, LookupError, ValueError) as error:
        raise fail(f"its encoding cannot be read ({error})") from None
    return handlers.document
