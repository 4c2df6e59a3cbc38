"""Structures of a seed file, one random stream for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapfactory.build.cells import build_cell
from gapfactory.elements import species
from gapfactory.errors import BuildError
from gapfactory.seeds import Stage, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gapfactory.build.cells import BuiltCell
    from gapfactory.build.seed_translation import Seed

__all__ = ["Failure", "structures_of"]


@dataclass(frozen=True)
class Failure:
    """A structure that could not be built, and why."""

    index: int
    reason: str


def structures_of(seed: Seed, count: int, random_seed: int) -> Iterator[BuiltCell | Failure]:
    """Yield structures 0 to count - 1 of a seed file; number `i` is the same whatever the count.

    Parameters
    ----------
    seed
        From `gapfactory.build.seed_file.read_seed`.
    count
        How many.
    random_seed
        Seed of all random draws, not negative.
    """
    table = {symbol: species(symbol) for symbol in seed.symbols}
    for index in range(count):
        rng = stream(random_seed, 0, Stage.CELL, index)
        variant = seed.variants[int(rng.integers(len(seed.variants)))]
        try:
            yield build_cell(
                rng,
                composition=variant.composition,
                species={symbol: table[symbol] for symbol in variant.composition},
                generation=0,
                settings=variant.settings,
            )
        except BuildError as error:
            yield Failure(index, str(error))
