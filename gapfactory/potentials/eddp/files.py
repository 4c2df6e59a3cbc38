"""Text files of networks (`.ddp`) and ensembles (`.eddp`), as the published EDDP programs read and write them.

A `.ddp` has 14 lines: numbers of layers, inputs, outputs, weights and nodes (offsets counted); nodes of each layer;
weights; the state of the program's work arrays (five lines, without meaning here); the functions of the layers; mean
and standard deviation of the inputs, and of the output; and a comment

    composition: H-Sc rmax: 6.000 length: 5 25 0 0 powers: 2.000 2.991 4.472 6.687 10.000

with the species, the cutoff (Å), the number of features of each block of two to five bodies, and the exponents. Two
things that a potential needs are not in it. The factor of the three-body features is 1 / (number of exponents) in the
programs of 2023; the members of published ensembles for C (5.5 Å, 5 exponents), Pb (7 Å, 6) and Sc-H (6 Å, 5) agree
with each other 30 to 80 times better with it than with 1 / cutoff. A file from elsewhere does not say which program
wrote it, so it is refused where the two differ, unless the caller says which it is. A core is given on the command line
there. Files written here state what they need after the exponents, where the published programs do not look:
`scale: 0.2 core: 1 0.5 origins: -13.6 -1280.1 three: 2 10`, with radius (Å) and strength (eV) of the core, energies of
the species (eV), which those programs would not add, and the three-body exponents where they are not those of two
bodies.
Numbers are written so that they are read back exactly.

An `.eddp` has a line `file weight` for each network.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.eddp.features import Features
from gapfactory.potentials.eddp.network import Baseline, Ensemble, Network

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["EDDP_NAME", "format_ddp", "parse_ddp", "read_ddp", "read_eddp", "write_eddp"]

#: The file of an ensemble that is stored as a potential.
EDDP_NAME = "potential.eddp"

_WORK_LINES = 5
_KEYS = ("composition", "rmax", "length", "powers", "scale", "core", "origins", "three")
#: how far 1 / (number of exponents) and 1 / cutoff may be apart to count as one
_SAME = 1e-9


def _numbers(values: Iterable[float]) -> str:
    return " " + " ".join(repr(float(value)) for value in values)


def format_ddp(network: Network, baseline: Baseline | None = None) -> str:
    """Return the text of a `.ddp`."""
    sizes, features = network.sizes, network.features
    nodes = sum(sizes) + len(sizes)
    three = len(features.three_body)
    comment = (
        f"composition: {'-'.join(features.symbols)} rmax: {features.cutoff!r} "
        f"length: {len(features.two_body)} {three * three} 0 0 powers:{_numbers(features.two_body)} "
        f"scale: {features.three_body_scale!r}"
    )
    if baseline is not None and baseline.radius > 0.0:
        comment += f" core: {baseline.radius!r} {baseline.strength!r}"
    if baseline is not None and baseline.origins:
        comment += f" origins:{_numbers(baseline.origins)}"
    if three and not np.array_equal(features.two_body, features.three_body):
        comment += f" three:{_numbers(features.three_body)}"
    lines = [
        f" {len(sizes)} {sizes[0]} 1 {len(network.weights)} {nodes}",
        " " + " ".join(str(size) for size in sizes),
        _numbers(network.weights),
        _numbers(np.ones(len(network.weights))),
        *[_numbers(np.zeros(nodes))] * (_WORK_LINES - 1),
        " " + " ".join(["tanh"] * (len(sizes) - 1) + ["linear"]),
        _numbers(network.input_mean),
        _numbers(network.input_scale),
        _numbers([network.output_mean]),
        _numbers([network.output_scale]),
        comment,
    ]
    return "\n".join(lines) + "\n"


def parse_ddp(text: str, name: str, *, three_body_scale: float | None = None) -> tuple[Network, Baseline]:
    """Return the network and the baseline in the text of a `.ddp`.

    Parameters
    ----------
    text
        The text.
    name
        What messages call it.
    three_body_scale
        Factor of the three-body features, where the file does not state it.

    Raises
    ------
    PotentialError
        If the text is not a complete `.ddp`, has functions or features that are not supported, or does not determine
        the three-body features.
    """
    lines = text.splitlines()
    if len(lines) != 9 + _WORK_LINES:
        raise PotentialError(f"{name} has {len(lines)} lines instead of 14: it is truncated or not a .ddp")
    head = [_whole(word, name, 1) for word in lines[0].split()]
    sizes = tuple(_whole(word, name, 2) for word in lines[1].split())
    if len(head) != 5 or head[0] != len(sizes) or sizes[:1] != (head[1],) or sizes[-1:] != (head[2],):
        raise PotentialError(f"the first two lines of {name}, {head} and {sizes}, do not fit together")
    functions = lines[3 + _WORK_LINES].split()
    if functions != ["tanh"] * (len(sizes) - 1) + ["linear"]:
        raise PotentialError(
            f"the layers of {name} are {' '.join(functions)}: only tanh, and linear for the last, are supported"
        )
    features, baseline = _comment(lines[-1], name, three_body_scale)
    counts = {2: head[3], 9: sizes[0], 10: sizes[0], 11: 1, 12: 1}
    values = {row: _floats(lines[row].split(), name, row + 1, count) for row, count in counts.items()}
    try:
        network = Network(
            features,
            sizes,
            np.array(values[2]),
            np.array(values[9]),
            np.array(values[10]),
            values[11][0],
            values[12][0],
        )
    except PotentialError as error:
        raise PotentialError(f"{name}: {error}") from None
    return network, baseline


def _comment(line: str, name: str, scale: float | None) -> tuple[Features, Baseline]:
    """Return what the last line says about features and baseline."""
    fields: dict[str, list[str]] = {}
    words: list[str] = []
    for word in line.split():
        if word.endswith(":"):
            if word[:-1] not in _KEYS or word[:-1] in fields:
                raise PotentialError(
                    f"line 14 of {name} has an unknown or repeated key {word!r}: expected {_KEYS}"
                )
            words = fields.setdefault(word[:-1], [])
        else:
            words.append(word)
    missing = [key for key in _KEYS[:4] if not fields.get(key)]
    if missing:
        raise PotentialError(f"line 14 of {name} does not state {', '.join(missing)}: {line.strip()!r}")
    cutoff = _floats(fields["rmax"], name, 14, 1)[0]
    lengths = [_whole(word, name, 14) for word in fields["length"]]
    powers = _floats(fields["powers"], name, 14)
    three = _floats(fields["three"], name, 14) if "three" in fields else powers
    if len(lengths) != 4 or any(lengths[2:]):
        raise PotentialError(
            f"{name} has features of lengths {lengths}: only two and three bodies are supported"
        )
    if lengths[0] != len(powers) or lengths[1] not in (0, len(three) ** 2):
        raise PotentialError(
            f"{name} has {lengths[0]} two-body and {lengths[1]} three-body features with {len(powers)} and "
            f"{len(three)} exponents: which exponents belong to three bodies is not determined"
        )
    three = three if lengths[1] else []
    stated = _floats(fields["scale"], name, 14, 1)[0] if "scale" in fields else None
    if stated is not None and scale is not None and stated != scale:
        raise PotentialError(
            f"{name} states three_body_scale {stated!r}, not {scale!r}: leave the argument out"
        )
    symbols = tuple("-".join(fields["composition"]).split("-"))
    found = stated if stated is not None else scale
    if found is None:
        found = 1.0 / len(three) if three else 1.0
        if three and abs(found - 1.0 / cutoff) > _SAME:
            raise PotentialError(
                f"{name} does not state the factor of its three-body features: give three_body_scale, which is "
                f"1/{len(three)} = {found:.6g} by the published programs and {1.0 / cutoff:.6g} where 1/cutoff is meant"
            )
    core = _floats(fields["core"], name, 14, 2) if "core" in fields else (0.0, 1.0)
    origins = _floats(fields["origins"], name, 14, len(symbols)) if "origins" in fields else ()
    features = Features(symbols, cutoff, np.array(powers), np.array(three), found)
    return features, Baseline(core[0], core[1], tuple(origins))


def _whole(word: str, name: str, line: int) -> int:
    if not word.isdecimal() or int(word) > 10_000_000:
        raise PotentialError(f"line {line} of {name} has {word!r} where a whole number was expected")
    return int(word)


def _floats(words: list[str], name: str, line: int, count: int | None = None) -> list[float]:
    if count is not None and len(words) != count:
        raise PotentialError(
            f"line {line} of {name} has {len(words)} values instead of {count}: it is truncated"
        )
    try:
        found = [float(word) for word in words]
    except ValueError as error:
        raise PotentialError(f"line {line} of {name} has a value that is no number: {error}") from None
    if not np.isfinite(found).all():
        raise PotentialError(f"line {line} of {name} has values that are not finite")
    return found


def read_ddp(path: Path, *, three_body_scale: float | None = None) -> tuple[Network, Baseline]:
    """Return the network and the baseline of a `.ddp` file; see `parse_ddp`."""
    return parse_ddp(_text(path), path.name, three_body_scale=three_body_scale)


def read_eddp(path: Path, *, three_body_scale: float | None = None) -> Ensemble:
    """Return the ensemble of an `.eddp` file, whose networks are found relative to it.

    Weights are divided by their sum, as the published programs do.

    Raises
    ------
    PotentialError
        If the file or a network cannot be read, or networks differ in features, layers or baseline.
    """
    members, baselines, parts = [], [], []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise PotentialError(f"line {number} of {path.name} is {line!r}: expected a file and a weight")
        inside = PurePosixPath(words[0])
        if inside.is_absolute() or ".." in inside.parts:
            raise PotentialError(
                f"line {number} of {path.name} names {words[0]!r}, which is not below the file itself"
            )
        network, baseline = read_ddp(path.parent / inside, three_body_scale=three_body_scale)
        members.append(network)
        baselines.append(baseline)
        parts.append(_floats(words[1:], path.name, number, 1)[0])
    if not members or min(parts) < 0.0 or sum(parts) <= 0.0:
        raise PotentialError(
            f"{path.name} lists {len(members)} networks with weights {parts}: they must be positive"
        )
    if any(baseline != baselines[0] for baseline in baselines):
        raise PotentialError(
            f"the networks of {path.name} have different baselines: {sorted(set(map(str, baselines)))}"
        )
    total = sum(parts)
    whole = abs(total - 1.0) <= 1e-12  # what is already normalised keeps its bits
    shares = tuple(parts if whole else [part / total for part in parts])
    return Ensemble(tuple(members), shares, baselines[0])


def write_eddp(ensemble: Ensemble, path: Path) -> tuple[Path, ...]:
    """Write an ensemble and its networks beside it; return the files, the `.eddp` first."""
    names = [f"{path.stem}-{number:03d}.ddp" for number in range(1, len(ensemble.members) + 1)]
    for name, member in zip(names, ensemble.members, strict=True):
        (path.parent / name).write_text(format_ddp(member, ensemble.baseline), encoding="ascii")
    lines = [f"{name} {part!r}\n" for name, part in zip(names, ensemble.parts, strict=True)]
    path.write_text("".join(lines), encoding="ascii")
    return (path, *(path.parent / name for name in names))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PotentialError(f"{path.name} cannot be read: {error}") from None
