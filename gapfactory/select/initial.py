"""Generation 0: from random cells straight to the structures that are labelled."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import SelectionError
from gapfactory.select.labels import (
    PER_GROUP,
    choose_labels,
    group_weights,
    label_shares,
    noise_picks,
    require_unique,
    shortfall,
    too_few,
)
from gapfactory.select.report import SelectionReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from gapfactory.select.labels import Streams
    from gapfactory.select.report import Pick, StageReport
    from gapfactory.select.settings import SelectSettings

__all__ = ["select_initial"]


def select_initial(
    ids: Sequence[str],
    vectors: ArrayLike,
    *,
    settings: SelectSettings,
    zeta: int,
    streams: Streams,
    groups: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    cores: int = 1,
) -> SelectionReport:
    """Choose the cells of generation 0: leverage-score CUR straight from all of them.

    Parameters
    ----------
    ids
        Identities of the cells.
    vectors : (n, d)
        Their unit vectors, in the same order.
    settings
        Sizes and method.
    zeta
        Exponent of the kernel.
    streams
        Gives the random stream of decision k.
    groups
        Composition group of each cell; one group when None.
    weights
        Share of each group in the labels; None means in proportion to its cells.
    cores
        Threads; results do not depend on it.

    Raises
    ------
    SelectionError
        If there are no cells, an id is repeated, lengths differ, or a group has no weight.
    """
    table = np.asarray(vectors, dtype=np.float64)
    names = ["all"] * len(ids) if groups is None else list(groups)
    if len(ids) == 0 or len(ids) != len(table) or len(ids) != len(names):
        msg = (
            "a selection needs at least one cell and as many vectors and groups as ids; there are "
            f"{len(ids)} ids, {len(table)} vectors and {len(names)} groups"
        )
        raise SelectionError(msg)
    require_unique(ids, "cell")
    members: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda i: ids[i]):
        members[names[index]].append(index)
    capacity = {group: len(rows) for group, rows in members.items()}
    shares = label_shares(settings, group_weights(weights, capacity), capacity)
    picks: list[Pick] = []
    stages: list[StageReport] = []
    for number, group in enumerate(sorted(members)):
        rows = members[group]
        chosen, done, _ = choose_labels(
            None,
            [ids[i] for i in rows],
            table[rows],
            group=group,
            sizes={purpose: share[group] for purpose, share in shares.items()},
            settings=settings,
            zeta=zeta,
            streams=streams,
            base=number * PER_GROUP,
            cores=cores,
        )
        picks += chosen
        stages += done
    return SelectionReport(
        tuple(picks),
        noise_picks(picks, settings, streams),
        tuple(stages),
        {"cells": len(ids)},
        tuple(shortfall(stages) + too_few(settings, shares)),
    )
