"""Compiled loops over pairs and triplets of environment vectors. Imported lazily: numba takes a second to load.

Features are laid out for vectors of eight: two-body (atom, species, exponent) and three-body (atom, pair of species,
exponent of the far side, exponent of the near sides), each flat, with the last index padded to a multiple of eight.
"""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._exp import exp
from gapfactory.potentials.gap.engine._simd import LANES, add, fma, load, mul, splat, store, total

__all__ = ["add_core", "add_gradients", "describe", "jacobian"]


@compiled
def _powers(f: float, exponents: np.ndarray, out: np.ndarray, at: int) -> None:
    """Write f^p for every exponent to out[at:]; f is positive."""
    logarithm = splat(math.log(f))
    for k in range(0, exponents.shape[0], LANES):
        store(out, at + k, exp(mul(load(exponents, k), logarithm)))


@compiled
def _row(
    begin: int,
    end: int,
    distance: np.ndarray,
    cutoff: float,
    p3: np.ndarray,
    kept: np.ndarray,
    f: np.ndarray,
    near: np.ndarray,
) -> int:
    """Write which pairs of an atom are within the cutoff, their f(r) and its powers for triplets; return how many."""
    count = 0
    for a in range(begin, end):
        value = 2.0 * (1.0 - distance[a] / cutoff)
        if value <= 0.0:
            continue
        kept[count] = a
        f[count] = value
        _powers(value, p3, near, count * p3.shape[0])
        count += 1
    return count


@compiled
def _far(vector: np.ndarray, a: int, b: int, cutoff: float) -> tuple[float, float]:
    """Return f of the side between two neighbours, and its length; f is 0 beyond the cutoff."""
    x = vector[b, 0] - vector[a, 0]
    y = vector[b, 1] - vector[a, 1]
    z = vector[b, 2] - vector[a, 2]
    square = x * x + y * y + z * z
    if square >= cutoff * cutoff:
        return 0.0, 1.0
    length = math.sqrt(square)
    return max(2.0 * (1.0 - length / cutoff), 0.0), length


@compiled
def _longest(first: np.ndarray) -> int:
    longest = 1
    for i in range(first.shape[0] - 1):
        longest = max(longest, first[i + 1] - first[i])
    return longest


@compiled
def describe(
    kinds: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    cutoff: float,
    table: np.ndarray,
    p2: np.ndarray,
    p3: np.ndarray,
    q3: np.ndarray,
    n_far: int,
    two: np.ndarray,
    three: np.ndarray,
) -> None:
    """Add up powers of f over pairs, and products of powers over pairs of neighbours.

    Parameters
    ----------
    kinds : (N,)
        Species of each atom.
    first, neighbour, vector, distance
        Neighbours as in `System`.
    cutoff
        Å.
    table : (S, S)
        Number of each unordered pair of species.
    p2, p3, q3
        Exponents, padded with zeros; the far side has `n_far` of them, 0 for no triplets.
    two, three
        Zero on entry.
    """
    longest = _longest(first)
    width2 = p2.shape[0]
    width3 = p3.shape[0]
    n_species = table.shape[0]
    n_pairs = n_species * (n_species + 1) // 2
    kept = np.empty(longest, dtype=np.int64)
    f = np.empty(longest)
    near = np.empty(longest * width3 + LANES)
    far = np.empty(q3.shape[0] + LANES)
    power = np.empty(width2)
    for i in range(kinds.shape[0]):
        count = _row(first[i], first[i + 1], distance, cutoff, p3, kept, f, near)
        for a in range(count):
            kind_a = kinds[neighbour[kept[a]]]
            _powers(f[a], p2, power, 0)
            place = (i * n_species + kind_a) * width2
            for k in range(0, width2, LANES):
                store(two, place + k, add(load(two, place + k), load(power, k)))
            if n_far == 0:
                continue
            for b in range(a + 1, count):
                f_far, _ = _far(vector, kept[a], kept[b], cutoff)
                if f_far <= 0.0:
                    continue
                _powers(f_far, q3, far, 0)
                block = i * n_pairs + table[kind_a, kinds[neighbour[kept[b]]]]
                place = block * n_far * width3
                for k in range(0, width3, LANES):
                    both = mul(load(near, a * width3 + k), load(near, b * width3 + k))
                    for o in range(n_far):
                        at = place + o * width3 + k
                        store(three, at, fma(splat(far[o]), both, load(three, at)))


@compiled
def add_gradients(
    kinds: np.ndarray,
    cell_of: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    cutoff: float,
    table: np.ndarray,
    p2: np.ndarray,
    p3: np.ndarray,
    q3: np.ndarray,
    n_far: int,
    by_two: np.ndarray,
    by_three: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add forces and virials of an energy whose derivatives by all features are given, laid out as in `describe`.

    With X = sum_mo g_mo p_m a_m b_m c_o, a, b and c being the powers of the three sides, the derivative by f_ij is
    X / f_ij, by f_ik it is X / f_ik; by f_jk it is sum_mo g_mo q_o a_m b_m c_o / f_jk.
    """
    longest = _longest(first)
    width2 = p2.shape[0]
    width3 = p3.shape[0]
    n_species = table.shape[0]
    n_pairs = n_species * (n_species + 1) // 2
    kept = np.empty(longest, dtype=np.int64)
    f = np.empty(longest)
    near = np.empty(longest * width3 + LANES)
    far = np.empty(q3.shape[0] + LANES)
    power = np.empty(width2)
    gradient = np.empty((longest, 3))
    slope = -2.0 / cutoff
    nothing = splat(0.0)
    for i in range(kinds.shape[0]):
        count = _row(first[i], first[i + 1], distance, cutoff, p3, kept, f, near)
        gradient[:count] = 0.0
        for a in range(count):
            pair_a = kept[a]
            kind_a = kinds[neighbour[pair_a]]
            _powers(f[a], p2, power, 0)
            place = (i * n_species + kind_a) * width2
            sums = nothing
            for k in range(0, width2, LANES):
                sums = fma(mul(load(p2, k), load(power, k)), load(by_two, place + k), sums)
            along_a = total(sums)  # times slope / (f_a r_a): the derivative by the vector to a
            if n_far > 0:
                for b in range(a + 1, count):
                    pair_b = kept[b]
                    f_far, length = _far(vector, pair_a, pair_b, cutoff)
                    if f_far <= 0.0:
                        continue
                    _powers(f_far, q3, far, 0)
                    block = i * n_pairs + table[kind_a, kinds[neighbour[pair_b]]]
                    place = block * n_far * width3
                    sum_near = nothing
                    sum_far = nothing
                    for k in range(0, width3, LANES):
                        both = mul(load(near, a * width3 + k), load(near, b * width3 + k))
                        plain = nothing
                        raised = nothing
                        for o in range(n_far):
                            g = load(by_three, place + o * width3 + k)
                            plain = fma(splat(far[o]), g, plain)
                            raised = fma(splat(q3[o] * far[o]), g, raised)
                        sum_near = fma(mul(load(p3, k), both), plain, sum_near)
                        sum_far = fma(both, raised, sum_far)
                    common = total(sum_near)
                    along_a += common
                    along_b = common * slope / (f[b] * distance[pair_b])
                    along_far = total(sum_far) * slope / (f_far * length)
                    for k in range(3):
                        between = along_far * (vector[pair_b, k] - vector[pair_a, k])
                        gradient[a, k] -= between
                        gradient[b, k] += between + along_b * vector[pair_b, k]
            along_a *= slope / (f[a] * distance[pair_a])
            for k in range(3):
                gradient[a, k] += along_a * vector[pair_a, k]
        cell = cell_of[i]
        for a in range(count):
            pair_a = kept[a]
            j = neighbour[pair_a]
            for k in range(3):
                g = gradient[a, k]
                forces[i, k] += g
                forces[j, k] -= g
                for other in range(3):
                    virials[cell, k, other] -= g * vector[pair_a, other]


@compiled
def jacobian(
    kinds: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    cutoff: float,
    table: np.ndarray,
    p2: np.ndarray,
    p3: np.ndarray,
    q3: np.ndarray,
    sizes: np.ndarray,
    scale: float,
    out: np.ndarray,
) -> None:
    """Add the derivatives of the features of each atom i by the position of each atom j of one structure.

    Parameters
    ----------
    sizes : (3,)
        Numbers of exponents in `p2`, `p3` and `q3` without padding.
    scale
        Factor of the three-body features.
    out : (N, N, 3, L)
        Atom i, atom j, direction, feature in the order of `Features`; 1/Å. Zero on entry.
    """
    longest = _longest(first)
    width3 = p3.shape[0]
    n_species = table.shape[0]
    start3 = n_species * sizes[0]
    kept = np.empty(longest, dtype=np.int64)
    f = np.empty(longest)
    near = np.empty(longest * width3 + LANES)
    far = np.empty(q3.shape[0] + LANES)
    power = np.empty(p2.shape[0])
    slope = -2.0 / cutoff
    for i in range(kinds.shape[0]):
        count = _row(first[i], first[i + 1], distance, cutoff, p3, kept, f, near)
        for a in range(count):
            pair_a = kept[a]
            j = neighbour[pair_a]
            kind_a = kinds[j]
            _powers(f[a], p2, power, 0)
            along_a = slope / (f[a] * distance[pair_a])
            for k in range(3):
                step = along_a * vector[pair_a, k]
                for m in range(sizes[0]):
                    value = step * p2[m] * power[m]
                    out[i, j, k, kind_a * sizes[0] + m] += value
                    out[i, i, k, kind_a * sizes[0] + m] -= value
            if sizes[2] == 0:
                continue
            for b in range(a + 1, count):
                pair_b = kept[b]
                f_far, length = _far(vector, pair_a, pair_b, cutoff)
                if f_far <= 0.0:
                    continue
                other = neighbour[pair_b]
                _powers(f_far, q3, far, 0)
                along_b = slope / (f[b] * distance[pair_b])
                along_far = slope / (f_far * length)
                place = start3 + table[kind_a, kinds[other]] * sizes[1] * sizes[2]
                for k in range(3):
                    step_a = along_a * vector[pair_a, k]
                    step_b = along_b * vector[pair_b, k]
                    between = along_far * (vector[pair_b, k] - vector[pair_a, k])
                    for m in range(sizes[1]):
                        both = scale * near[a * width3 + m] * near[b * width3 + m]
                        for o in range(sizes[2]):
                            value = both * far[o]
                            by_a = value * (p3[m] * step_a - q3[o] * between)
                            by_b = value * (p3[m] * step_b + q3[o] * between)
                            at = place + m * sizes[2] + o
                            out[i, j, k, at] += by_a
                            out[i, other, k, at] += by_b
                            out[i, i, k, at] -= by_a + by_b


@compiled
def add_core(
    cell_of: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    radius: float,
    strength: float,
    energies: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add strength (2 (radius / r - 1))^12 for every neighbour nearer than the radius to the atom's energy."""
    for i in range(energies.shape[0]):
        for a in range(first[i], first[i + 1]):
            r = distance[a]
            if r >= radius:
                continue
            base = 2.0 * (radius / r - 1.0)
            energies[i] += strength * base**12
            along = -24.0 * strength * base**11 * radius / (r * r * r)
            for k in range(3):
                g = along * vector[a, k]
                forces[i, k] += g
                forces[neighbour[a], k] -= g
                for other in range(3):
                    virials[cell_of[i], k, other] -= g * vector[a, other]
