"""Compiled steps of the relaxer. Imported lazily: numba takes a second to load.

Every function works on one cell. The cell's variables are a (N + 3, 3) array in Å: the positions in the undeformed cell
and N times the logarithm U of the deformation exp(U).
"""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["closest_pair", "direction", "exponential", "learn", "place", "pull_back", "symmetrise"]

# 0.5^16 / 16! is below the last digit of a double
_TERMS = 16


@compiled
def _multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@compiled
def exponential(
    a: np.ndarray, along: np.ndarray, out: np.ndarray, derivative: np.ndarray, with_derivative: bool
) -> None:
    """Write exp(a) to `out` and its Frechet derivative along `along` to `derivative`, all (3, 3).

    Taylor series of the halved argument, then squarings, and the product rule on both: the upper right block of the
    exponential of [[a, along], [0, a]] without the zeros. For 3 x 3 this is exact to rounding and needs no
    linear algebra library.
    """
    norm = 0.0
    for i in range(3):
        norm = max(norm, abs(a[i, 0]) + abs(a[i, 1]) + abs(a[i, 2]))
    if not math.isfinite(norm):
        out[:] = np.nan
        derivative[:] = np.nan
        return
    halvings = 0
    while norm > 0.5:
        norm *= 0.5
        halvings += 1
    scale = 0.5**halvings
    small, direction_ = np.empty((3, 3)), np.empty((3, 3))
    term, change = np.zeros((3, 3)), np.zeros((3, 3))
    first, second = np.empty((3, 3)), np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            small[i, j] = scale * a[i, j]
            direction_[i, j] = scale * along[i, j] if with_derivative else 0.0
            out[i, j] = 0.0
            derivative[i, j] = 0.0
        term[i, i] = 1.0
        out[i, i] = 1.0
    bound = 1.0
    for k in range(1, _TERMS + 1):
        # bounds what this term adds to the derivative, relative to `along`
        if bound < 1e-19:
            break
        bound *= norm / k
        if with_derivative:
            _multiply(change, small, first)
            _multiply(term, direction_, second)
            for i in range(3):
                for j in range(3):
                    change[i, j] = (first[i, j] + second[i, j]) / k
                    derivative[i, j] += change[i, j]
        _multiply(term, small, first)
        for i in range(3):
            for j in range(3):
                term[i, j] = first[i, j] / k
                out[i, j] += term[i, j]
    for _ in range(halvings):
        if with_derivative:
            _multiply(out, derivative, first)
            _multiply(derivative, out, second)
            for i in range(3):
                for j in range(3):
                    derivative[i, j] = first[i, j] + second[i, j]
        _multiply(out, out, first)
        out[:] = first


@compiled
def _determinant(a: np.ndarray) -> float:
    return (
        a[0, 0] * (a[1, 1] * a[2, 2] - a[1, 2] * a[2, 1])
        - a[0, 1] * (a[1, 0] * a[2, 2] - a[1, 2] * a[2, 0])
        + a[0, 2] * (a[1, 0] * a[2, 1] - a[1, 1] * a[2, 0])
    )


@compiled
def _invert(a: np.ndarray, out: np.ndarray) -> None:
    factor = 1.0 / _determinant(a)
    for i in range(3):
        p, q = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            r, s = (j + 1) % 3, (j + 2) % 3
            out[j, i] = factor * (a[p, r] * a[q, s] - a[p, s] * a[q, r])


@compiled
def place(
    variables: np.ndarray,
    start: np.ndarray,
    deformation: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
) -> float:
    """Write the deformation (3, 3), the positions (N, 3) and the cell (3, 3) of `variables`; return the volume.

    Parameters
    ----------
    variables
        (N + 3, 3) in Å.
    start
        (3, 3) undeformed cell, rows in Å.

    Returns
    -------
    float
        Volume in Å^3; NaN if anything is not finite.
    """
    n = len(positions)
    log, unused = np.empty((3, 3)), np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            log[i, j] = variables[n + i, j] / n
    exponential(log, log, deformation, unused, False)
    total = 0.0
    for i in range(n):
        for j in range(3):
            positions[i, j] = (
                variables[i, 0] * deformation[j, 0]
                + variables[i, 1] * deformation[j, 1]
                + variables[i, 2] * deformation[j, 2]
            )
            total += positions[i, j]
    _multiply(start, deformation.T, cell)
    volume = abs(_determinant(cell))
    return volume if math.isfinite(total) else np.nan


@compiled
def pull_back(
    variables: np.ndarray,
    deformation: np.ndarray,
    volume: float,
    forces: np.ndarray,
    stress: np.ndarray,
    pressure: float,
    fixed_volume: bool,
    gradient: np.ndarray,
) -> tuple[float, float]:
    """Write the gradient of the enthalpy with respect to the variables, (N + 3, 3) in eV/Å; return the residuals.

    Parameters
    ----------
    variables, deformation, volume
        As from `place`.
    forces
        (N, 3) in eV/Å.
    stress
        (6,) xx, yy, zz, yz, xz, xy in eV/Å^3.
    pressure
        In eV/Å^3.
    fixed_volume
        Leave out what changes the volume.

    Returns
    -------
    float, float
        Largest force on an atom in eV/Å; largest row norm of V (stress + p) / N in eV.
    """
    n = len(forces)
    virial = np.empty((3, 3))
    virial[0, 0], virial[1, 1], virial[2, 2] = (
        stress[0] + pressure,
        stress[1] + pressure,
        stress[2] + pressure,
    )
    virial[1, 2] = virial[2, 1] = stress[3]
    virial[0, 2] = virial[2, 0] = stress[4]
    virial[0, 1] = virial[1, 0] = stress[5]
    if fixed_volume:
        third = (virial[0, 0] + virial[1, 1] + virial[2, 2]) / 3.0
        for i in range(3):
            virial[i, i] -= third
    largest_row = 0.0
    for i in range(3):
        row = 0.0
        for j in range(3):
            virial[i, j] *= volume
            row += virial[i, j] ** 2
        largest_row = max(largest_row, row)
    largest_force = 0.0
    for i in range(n):
        square = 0.0
        for j in range(3):
            square += forces[i, j] ** 2
            gradient[i, j] = -(
                forces[i, 0] * deformation[0, j]
                + forces[i, 1] * deformation[1, j]
                + forces[i, 2] * deformation[2, j]
            )
        largest_force = max(largest_force, square)
    # the adjoint of the Frechet derivative is the Frechet derivative at the transpose
    inverse, by_deformation, log = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    unused, by_log = np.empty((3, 3)), np.empty((3, 3))
    _invert(deformation, inverse)
    _multiply(virial, inverse.T, by_deformation)
    for i in range(3):
        for j in range(3):
            log[i, j] = variables[n + j, i] / n
    exponential(log, by_deformation, unused, by_log, True)
    third = (by_log[0, 0] + by_log[1, 1] + by_log[2, 2]) / 3.0 if fixed_volume else 0.0
    for i in range(3):
        for j in range(3):
            gradient[n + i, j] = (by_log[i, j] - (third if i == j else 0.0)) / n
    return math.sqrt(largest_force), math.sqrt(largest_row) / n


@compiled
def symmetrise(
    rotations: np.ndarray, images: np.ndarray, forces: np.ndarray, stress: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return forces (N, 3) and stress (6,) averaged over the operations of a space group.

    Parameters
    ----------
    rotations
        (G, 3, 3) Cartesian rotations.
    images
        (G, N) atom onto which an operation takes each atom.
    """
    operations, n = images.shape
    mean, full, averaged = np.zeros((n, 3)), np.empty((3, 3)), np.zeros((3, 3))
    first, second = np.empty((3, 3)), np.empty((3, 3))
    full[0, 0], full[1, 1], full[2, 2] = stress[0], stress[1], stress[2]
    full[1, 2] = full[2, 1] = stress[3]
    full[0, 2] = full[2, 0] = stress[4]
    full[0, 1] = full[1, 0] = stress[5]
    for k in range(operations):
        rotation = rotations[k]
        for i in range(n):
            for j in range(3):
                mean[images[k, i], j] += (
                    rotation[j, 0] * forces[i, 0]
                    + rotation[j, 1] * forces[i, 1]
                    + rotation[j, 2] * forces[i, 2]
                )
        _multiply(rotation, full, first)
        _multiply(first, rotation.T, second)
        averaged += second
    mean /= operations
    averaged /= operations
    return mean, np.array(
        [averaged[0, 0], averaged[1, 1], averaged[2, 2], averaged[1, 2], averaged[0, 2], averaged[0, 1]]
    )


@compiled
def closest_pair(positions: np.ndarray, cell: np.ndarray, reach: np.ndarray) -> float:
    """Return the shortest distance (Å) of two atoms, or images, nearer than the sum of their `reach`; inf if none.

    Parameters
    ----------
    positions
        (N, 3) in Å.
    cell
        (3, 3) rows in Å, periodic in three directions.
    reach
        (N,) in Å.
    """
    n = len(positions)
    inverse = np.empty((3, 3))
    _invert(cell, inverse)
    far = 2.0 * reach.max()
    # a vector no longer than `far` has fractional coordinates below far / (distance of the lattice planes), so these
    # are the images left after rounding; none but the nearest where the cell is wide
    images = np.empty(3, dtype=np.int64)
    fractional = np.empty((n, 3))
    for k in range(3):
        inverse_height = math.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
        images[k] = int(far * inverse_height + 0.5)
        for i in range(n):
            fractional[i, k] = (
                positions[i, 0] * inverse[0, k]
                + positions[i, 1] * inverse[1, k]
                + positions[i, 2] * inverse[2, k]
            )
    found = np.inf
    single = images[0] == 0 and images[1] == 0 and images[2] == 0
    for i in range(n):
        for j in range(i + 1 if single else i, n):
            a = fractional[i, 0] - fractional[j, 0]
            b = fractional[i, 1] - fractional[j, 1]
            c = fractional[i, 2] - fractional[j, 2]
            a -= np.rint(a)
            b -= np.rint(b)
            c -= np.rint(c)
            limit = (reach[i] + reach[j]) ** 2
            for p in range(-images[0], images[0] + 1):
                for q in range(-images[1], images[1] + 1):
                    for r in range(-images[2], images[2] + 1):
                        if i == j and p == 0 and q == 0 and r == 0:
                            continue
                        square = 0.0
                        for k in range(3):
                            square += (
                                (a + p) * cell[0, k] + (b + q) * cell[1, k] + (c + r) * cell[2, k]
                            ) ** 2
                        if square < limit and square < found:
                            found = square
    return math.sqrt(found)


@compiled
def learn(
    variables: np.ndarray,
    gradient: np.ndarray,
    old_variables: np.ndarray,
    old_gradient: np.ndarray,
    steps: np.ndarray,
    changes: np.ndarray,
    inverse_products: np.ndarray,
    slot: int,
) -> bool:
    """Write the pair of step and change of gradient to row `slot` of the memory; False if it curves downwards.

    Parameters
    ----------
    variables, gradient, old_variables, old_gradient
        (D,) after and before the step.
    steps, changes
        (memory, D).
    inverse_products
        (memory,) inverse scalar product of each pair.
    """
    product = 0.0
    for k in range(len(variables)):
        steps[slot, k] = variables[k] - old_variables[k]
        changes[slot, k] = gradient[k] - old_gradient[k]
        product += steps[slot, k] * changes[slot, k]
    if not product > 0.0:
        return False
    inverse_products[slot] = 1.0 / product
    return True


@compiled(fastmath={"reassoc", "contract"})
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@compiled
def direction(
    gradient: np.ndarray,
    steps: np.ndarray,
    changes: np.ndarray,
    inverse_products: np.ndarray,
    oldest: int,
    count: int,
    inverse_hessian: float,
    preconditioner: np.ndarray,
    out: np.ndarray,
) -> tuple[float, float]:
    """Write the search direction (D,) by the two-loop recursion of the L-BFGS; return its slope and longest row.

    Parameters
    ----------
    gradient
        (D,) with D = 3 (N + 3).
    steps, changes, inverse_products
        Memory, see `learn`; a ring of which `count` rows from `oldest` on are filled.
    inverse_hessian
        Initial inverse Hessian in Å^2/eV.
    preconditioner
        (N + 3, N + 3) inverse of the preconditioner that takes the place of `inverse_hessian`, or (0, 0).
    """
    size = len(gradient)
    memory = len(inverse_products)
    weights = np.empty(count)
    q = gradient.copy()
    for k in range(count - 1, -1, -1):
        row = (oldest + k) % memory
        weights[k] = inverse_products[row] * _dot(steps[row], q)
        for m in range(size):
            q[m] -= weights[k] * changes[row, m]
    if len(preconditioner) == 0:
        for m in range(size):
            out[m] = inverse_hessian * q[m]
    else:
        for i in range(len(preconditioner)):
            for k in range(3):
                total = 0.0
                for j in range(len(preconditioner)):
                    total += preconditioner[i, j] * q[3 * j + k]
                out[3 * i + k] = total
    for k in range(count):
        row = (oldest + k) % memory
        excess = weights[k] - inverse_products[row] * _dot(changes[row], out)
        for m in range(size):
            out[m] += excess * steps[row, m]
    # a direction shorter than this is stretched, so that the trial steps do not drown in rounding
    shortest = math.sqrt(size / 3 * 1e-10)
    length = math.sqrt(_dot(out, out))
    factor = -shortest / length if length <= shortest else -1.0
    slope = 0.0
    longest = 0.0
    for i in range(size // 3):
        square = 0.0
        for k in range(3):
            out[3 * i + k] *= factor
            slope += out[3 * i + k] * gradient[3 * i + k]
            square += out[3 * i + k] ** 2
        longest = max(longest, square)
    return slope, math.sqrt(longest)
