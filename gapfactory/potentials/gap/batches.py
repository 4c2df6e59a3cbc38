"""Structures in batches: many small cells per compiled call, errors that name the structure all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gapfactory.errors import FitError, InputError, PotentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ase import Atoms

__all__ = ["batches", "in_batches"]

Result = TypeVar("Result")

#: atoms per batch
ATOMS = 2048


def batches(structures: Sequence[Atoms]) -> Iterator[slice]:
    """Cut structures into runs of about `ATOMS` atoms."""
    start = atoms = 0
    for k, structure in enumerate(structures):
        atoms += len(structure)
        if atoms >= ATOMS:
            yield slice(start, k + 1)
            start, atoms = k + 1, 0
    if start < len(structures):
        yield slice(start, len(structures))


def in_batches(
    structures: Sequence[Atoms],
    work: Callable[[Sequence[Atoms]], Result],
    *,
    threads: int = 1,
    names: Sequence[str] | None = None,
) -> Iterator[Result]:
    """Yield `work` of each batch, in order.

    Parameters
    ----------
    work
        Called with the structures of a batch, on any thread.
    threads
        Batches that are worked on at the same time.
    names
        What to call the structures in an error; their places by default.

    Raises
    ------
    FitError
        If `work` refuses a structure (InputError, PotentialError, FitError); it is named.
    """

    def run(part: slice) -> Result:
        try:
            return work(structures[part])
        except (InputError, PotentialError, FitError) as error:
            reason = error
        for k in range(len(structures))[part]:
            try:
                work(structures[k : k + 1])
            except (InputError, PotentialError, FitError) as error:
                name = repr(names[k]) if names is not None else str(k)
                msg = f"structure {name} ({structures[k].symbols}) cannot be used: {error}; quarantine it"
                raise FitError(msg) from None
        msg = f"structures {part.start} to {part.stop - 1} cannot be used together: {reason}"
        raise FitError(msg)

    if threads <= 1:
        yield from map(run, batches(structures))
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, batches(structures))
