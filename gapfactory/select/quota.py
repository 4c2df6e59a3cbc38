"""How a total is shared out between composition groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["share_out"]


def share_out(total: int, weights: Mapping[str, float], capacity: Mapping[str, int]) -> dict[str, int]:
    """Share `total` between groups in proportion to their weights, by largest remainders.

    A group never gets more than its capacity; what it cannot take goes to the others by the same rule. Ties
    go to the group whose name sorts first.

    Parameters
    ----------
    total
        How many there are to share.
    weights
        Weight of each group, not negative.
    capacity
        How many each group can take. Groups without a weight get nothing.

    Returns
    -------
    dict
        Share of every group of `capacity`.

    Raises
    ------
    SelectionError
        If a weight is negative or not a number.
    """
    for group, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            msg = f"weight of composition {group} is {weight}; it must be zero or positive"
            raise SelectionError(msg)
    shares = dict.fromkeys(sorted(capacity), 0)
    left = total
    while left > 0:
        open_groups = [g for g in shares if shares[g] < capacity[g] and weights.get(g, 0.0) > 0.0]
        if not open_groups:
            break
        weight_sum = sum(weights[g] for g in open_groups)
        ideal = {g: left * weights[g] / weight_sum for g in open_groups}
        whole = {g: int(ideal[g]) for g in open_groups}
        spare = left - sum(whole.values())
        for g in sorted(open_groups, key=lambda g: (-(ideal[g] - whole[g]), g))[:spare]:
            whole[g] += 1
        for g in open_groups:
            taken = min(whole[g], capacity[g] - shares[g])
            shares[g] += taken
            left -= taken
    return shares
