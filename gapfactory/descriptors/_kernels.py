"""Compiled loops of the configuration-averaged SOAP. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["average_chunk", "legendre_coefficients", "scaled_bessel"]

# Contributions below exp(-46) = 1e-20 of the largest are left out; the conditioning of the radial basis may
# amplify them by up to 1e10 before they would be seen at double precision.
_WINDOW = 46.0


def legendre_coefficients(l_max: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the factors of the recursion for orthonormal real spherical harmonics.

    Parameters
    ----------
    l_max
        Highest degree.

    Returns
    -------
    start : (l_max + 1,)
        Value of the (m, m) polynomial without its factor sin^m, times sqrt(2) for m > 0.
    up, back : (l_max + 1, l_max + 1)
        ``P[l, m] = up[l, m] * (z P[l - 1, m]) - back[l, m] * P[l - 2, m]``.
    """
    start = np.zeros(l_max + 1)
    up = np.zeros((l_max + 1, l_max + 1))
    back = np.zeros((l_max + 1, l_max + 1))
    value = math.sqrt(1.0 / (4.0 * math.pi))
    for m in range(l_max + 1):
        if m > 0:
            value *= math.sqrt((2.0 * m + 1.0) / (2.0 * m))
        start[m] = value * (math.sqrt(2.0) if m > 0 else 1.0)
        for l in range(m + 1, l_max + 1):  # noqa: E741 - the degree is called l everywhere in the field
            up[l, m] = math.sqrt((4.0 * l * l - 1.0) / (l * l - m * m))
            if l > m + 1:
                back[l, m] = math.sqrt(
                    (2.0 * l + 1.0) * ((l - 1.0) ** 2 - m * m) / ((2.0 * l - 3.0) * (l * l - m * m))
                )
    return start, up, back


@compiled
def scaled_bessel(x: float, l_max: int, out: np.ndarray) -> None:
    """Write exp(-x) i_l(x), l = 0..l_max, the scaled modified spherical Bessel functions of the first kind.

    Upward recursion where it is stable, the continued fraction of the ratios where it is not (small x).
    """
    if x < 1e-200:
        out[0] = 1.0
        for l in range(1, l_max + 1):  # noqa: E741
            out[l] = 0.0
        return
    inverse = 1.0 / x
    if x < 19.0:
        out[0] = -0.5 * inverse * math.expm1(-2.0 * x)
    else:
        out[0] = 0.5 * inverse
    if l_max == 0:
        return
    if x > 19.0 and 8.0 * x > l_max * (l_max + 1.0):
        # exp(-2x) is below the last digit here
        out[1] = out[0] * (1.0 - inverse)
        for l in range(2, l_max + 1):  # noqa: E741
            out[l] = out[l - 2] - (2.0 * l - 1.0) * inverse * out[l - 1]
        return
    ratio = 0.0
    for l in range(l_max + 30 + int(x), 0, -1):  # noqa: E741
        ratio = x / (2.0 * l + 1.0 + x * ratio)
        if l <= l_max:
            out[l] = ratio
    for l in range(1, l_max + 1):  # noqa: E741
        out[l] *= out[l - 1]


@compiled
def _add_pair(
    x: float,
    y: float,
    z: float,
    r: float,
    weight: float,
    step: int,
    alpha: float,
    spacing: float,
    n_max: int,
    l_max: int,
    start: np.ndarray,
    up: np.ndarray,
    back: np.ndarray,
    ylm: np.ndarray,
    radial: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add one neighbour at (x, y, z) to total (n_max, (l_max + 1)^2); step 2 leaves out odd degrees."""
    reach = math.sqrt(_WINDOW / alpha)
    first = max(0, math.ceil((r - reach) / spacing))
    last = min(n_max - 1, math.floor((r + reach) / spacing))
    if last < first:
        return
    if r > 1e-12:
        x /= r
        y /= r
        z /= r
    cos_m = 1.0
    sin_m = 0.0
    for m in range(l_max + 1):
        two_back = 0.0
        one_back = start[m]
        for l in range(m, l_max + 1):  # noqa: E741
            if l > m:
                value = up[l, m] * z * one_back - back[l, m] * two_back
                two_back = one_back
                one_back = value
            if step == 1 or l % 2 == 0:
                ylm[l * l + l + m] = one_back * cos_m
                ylm[l * l + l - m] = one_back * sin_m if m > 0 else one_back
        cos_m, sin_m = cos_m * x - sin_m * y, cos_m * y + sin_m * x
    for n in range(first, last + 1):
        centre = n * spacing
        gauss = weight * math.exp(-alpha * (r - centre) ** 2)
        scaled_bessel(2.0 * alpha * r * centre, l_max, radial)
        for l in range(0, l_max + 1, step):  # noqa: E741
            g = gauss * radial[l]
            for k in range(l * l, (l + 1) * (l + 1)):
                total[n, k] += g * ylm[k]


@compiled
def _add_cell(
    scaled: np.ndarray,
    lower: np.ndarray,
    periodic: np.ndarray,
    channels: np.ndarray,
    cutoff: float,
    width: float,
    alpha: float,
    spacing: float,
    l_max: int,
    start: np.ndarray,
    up: np.ndarray,
    back: np.ndarray,
    ylm: np.ndarray,
    radial: np.ndarray,
    total: np.ndarray,
) -> None:
    """Sum over all pairs of one cell into total (S, S, n_max, (l_max + 1)^2), [a, b] with a <= b only.

    The cell is lower triangular, so the lattice points inside the sphere are found by three nested intervals,
    with no waste however thin or skew the cell is. Pairs of one species are visited once and their odd
    degrees, which cancel between the two directions, are left out.
    """
    n_atoms = scaled.shape[0]
    n_max = total.shape[2]
    square = cutoff * cutoff
    for i in range(n_atoms):
        for j in range(i, n_atoms):
            sign = 1.0
            a = channels[i]
            b = channels[j]
            if a > b:
                a, b = b, a
                sign = -1.0
            step = 2 if a == b else 1
            f0 = scaled[j, 0] - scaled[i, 0]
            f1 = scaled[j, 1] - scaled[i, 1]
            f2 = scaled[j, 2] - scaled[i, 2]
            low2 = 0
            high2 = 0
            if periodic[2]:
                low2 = math.ceil(-cutoff / lower[2, 2] - f2)
                high2 = math.floor(cutoff / lower[2, 2] - f2)
                if i == j:
                    low2 = 0
            for k2 in range(low2, high2 + 1):
                s2 = f2 + k2
                z = s2 * lower[2, 2]
                rest = square - z * z
                if rest <= 0.0:
                    continue
                low1 = 0
                high1 = 0
                if periodic[1]:
                    half = math.sqrt(rest)
                    shift = s2 * lower[2, 1]
                    low1 = math.ceil((-half - shift) / lower[1, 1] - f1)
                    high1 = math.floor((half - shift) / lower[1, 1] - f1)
                    if i == j and k2 == 0:
                        low1 = 0
                for k1 in range(low1, high1 + 1):
                    s1 = f1 + k1
                    y = s1 * lower[1, 1] + s2 * lower[2, 1]
                    rest1 = rest - y * y
                    if rest1 <= 0.0:
                        continue
                    shift0 = s1 * lower[1, 0] + s2 * lower[2, 0]
                    low0 = 0
                    high0 = 0
                    if periodic[0]:
                        half = math.sqrt(rest1)
                        low0 = math.ceil((-half - shift0) / lower[0, 0] - f0)
                        high0 = math.floor((half - shift0) / lower[0, 0] - f0)
                    if i == j and k2 == 0 and k1 == 0:
                        low0 = 1
                    for k0 in range(low0, high0 + 1):
                        x = (f0 + k0) * lower[0, 0] + shift0
                        r2 = x * x + y * y + z * z
                        if r2 >= square:
                            continue
                        r = math.sqrt(r2)
                        weight = 1.0
                        if r > cutoff - width:
                            weight = 0.5 * (math.cos(math.pi * (r - cutoff + width) / width) + 1.0)
                        _add_pair(
                            sign * x,
                            sign * y,
                            sign * z,
                            r,
                            weight,
                            step,
                            alpha,
                            spacing,
                            n_max,
                            l_max,
                            start,
                            up,
                            back,
                            ylm,
                            radial,
                            total[a, b],
                        )


@compiled
def _power_spectrum(
    channels: np.ndarray, transform: np.ndarray, l_max: int, scratch: np.ndarray, out: np.ndarray
) -> float:
    """Write the unit power spectrum of channels (S, n_max, (l_max + 1)^2) and return its norm before scaling.

    Order: pairs of (species, n) with the second not after the first, degree l fastest; sqrt(2) off the
    diagonal and 1/sqrt(2l + 1), so that the dot product is the sum of Eq. 4 over all n and n'. Last element
    zero.
    """
    n_species, n_max, n_lm = channels.shape
    for s in range(n_species):
        for n in range(n_max):
            row = s * n_max + n
            for k in range(n_lm):
                scratch[row, k] = 0.0
            for q in range(n_max):
                t = transform[q, n]
                if t != 0.0:
                    for k in range(n_lm):
                        scratch[row, k] += t * channels[s, q, k]
    position = 0
    square = 0.0
    for a in range(n_species * n_max):
        for b in range(a + 1):
            factor = 1.0 if a == b else math.sqrt(2.0)
            for l in range(l_max + 1):  # noqa: E741
                value = 0.0
                for k in range(l * l, (l + 1) * (l + 1)):
                    value += scratch[a, k] * scratch[b, k]
                value *= factor / math.sqrt(2.0 * l + 1.0)
                out[position] = value
                square += value * value
                position += 1
    out[position] = 0.0
    norm = math.sqrt(square)
    if norm > 0.0:
        for k in range(position):
            out[k] /= norm
    return norm


@compiled
def average_chunk(
    offsets: np.ndarray,
    scaled: np.ndarray,
    lower: np.ndarray,
    periodic: np.ndarray,
    channels: np.ndarray,
    n_species: int,
    by_species: bool,
    cutoff: float,
    width: float,
    alpha: float,
    spacing: float,
    l_max: int,
    central: np.ndarray,
    transform: np.ndarray,
    start: np.ndarray,
    up: np.ndarray,
    back: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write the vectors of consecutive cells to out and return the index of the first null one, or -1.

    Parameters
    ----------
    offsets : (M + 1,)
        Atoms of cell c are rows offsets[c]:offsets[c + 1].
    scaled : (atoms, 3)
        Scaled positions.
    lower : (M, 3, 3)
        Lower triangular cells with positive diagonal, in Å.
    periodic : (M, 3)
        Periodic directions.
    channels : (atoms,)
        Species index of each atom.
    central : (n_max,)
        Radial coefficients of the central atom in the basis before `transform`, times Y_00.
    transform : (n_max, n_max)
        From overlaps with the radial Gaussians to coefficients in the orthonormal basis.
    out : (M, d)
        Unit vectors.
    """
    n_max = transform.shape[0]
    n_lm = (l_max + 1) ** 2
    length = (l_max + 1) * (n_species * n_max) * (n_species * n_max + 1) // 2 + 1
    ylm = np.zeros(n_lm)
    radial = np.zeros(l_max + 1)
    scratch = np.zeros((n_species * n_max, n_lm))
    merged = np.zeros((n_species, n_max, n_lm))
    total = np.zeros((n_species, n_species, n_max, n_lm))
    bad = -1
    for c in range(offsets.shape[0] - 1):
        begin = offsets[c]
        end = offsets[c + 1]
        total[:] = 0.0
        _add_cell(
            scaled[begin:end], lower[c], periodic[c], channels[begin:end], cutoff, width, alpha, spacing,
            l_max, start, up, back, ylm, radial, total,
        )  # fmt: skip
        for a in range(n_species):
            total[a, a] *= 2.0
            for b in range(a + 1, n_species):
                for l in range(l_max + 1):  # noqa: E741
                    parity = 1.0 if l % 2 == 0 else -1.0
                    for n in range(n_max):
                        for k in range(l * l, (l + 1) * (l + 1)):
                            total[b, a, n, k] = parity * total[a, b, n, k]
        for i in range(begin, end):
            a = channels[i]
            for n in range(n_max):
                total[a, a, n, 0] += central[n]
        if by_species:
            for a in range(n_species):
                count = 0
                for i in range(begin, end):
                    if channels[i] == a:
                        count += 1
                part = out[c, a * length : (a + 1) * length]
                if count == 0:
                    part[:] = 0.0
                    continue
                norm = _power_spectrum(total[a], transform, l_max, scratch, part)
                part *= count / (end - begin)
                if norm == 0.0 and bad < 0:
                    bad = c
            square = 0.0
            for k in range(out.shape[1]):
                square += out[c, k] * out[c, k]
            if square > 0.0:
                out[c] /= math.sqrt(square)
        else:
            merged[:] = 0.0
            for a in range(n_species):
                for b in range(n_species):
                    merged[b] += total[a, b]
            norm = _power_spectrum(merged, transform, l_max, scratch, out[c])
            if norm == 0.0 and bad < 0:
                bad = c
    return bad
