"""Discrete structures of a crystal with partly occupied sites: drawn at random, to a composition, or enumerated.

Positions nearer to each other than the minimum separation are never both occupied. Among all distributions of atoms
that obey this and give every site its published occupation, models follow the one of largest entropy: no correlation
but the one that the separations force. Positions that exclude each other form small clusters, whose
states are listed; a convolution over the clusters then gives exact draws, probabilities and counts under a composition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from gapfactory._spglib import ask_spglib
from gapfactory.build.occupation import Setting  # noqa: TC001 - pydantic needs it
from gapfactory.errors import BuildError, InputError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.build.occupation import OccupiedCrystal

__all__ = ["DiscreteModel", "DiscreteModels", "DiscreteSettings"]

#: Å, as for reading crystals: published coordinates are rounded
_SYMPREC = 0.02
#: states of one cluster of positions that exclude each other
_MOST_STATES = 100_000
#: occupations that exclusions allow only in a limit (two split positions that sum to 1) are met to this
_OCCUPATION_ERROR = 1e-4


class DiscreteSettings(Settings):
    """Which discrete structures are made of a crystal with partly occupied sites."""

    setting: Setting = "primitive"
    """Cell: as in the file, primitive, conventional, or hexagonal (of rhombohedral and hexagonal crystals)."""
    supercell: tuple[int, int, int] | None = None
    """Repeats of that cell along its three axes."""
    minimum_separation: float = Field(default=0.0, ge=0)
    """Two positions nearer than this (Å) are never both occupied; 0: no such rule."""
    atoms: int | None = Field(default=None, ge=1)
    """Number of atoms in the cell; by default it follows from the occupations and varies."""
    composition: dict[str, int] | None = None
    """Number of atoms of each named species in the cell."""
    sites: dict[str, int] | None = None
    """Number of atoms on each named site, in the whole cell."""

    @model_validator(mode="after")
    def _counts(self) -> DiscreteSettings:
        counts = [*(self.composition or {}).values(), *(self.sites or {}).values(), *(self.supercell or (1,))]
        if min(counts) < 0 or min(self.supercell or (1,)) < 1:
            raise ValueError("numbers of atoms must not be negative, repeats of the cell must be positive")
        return self


@dataclass(frozen=True)
class DiscreteModel:
    """One structure with whole atoms.

    Parameters
    ----------
    atoms
        Periodic, without calculator.
    site_labels
        Label of the site of each atom.
    partial
        (n,) whether the atom sits on a partly occupied site.
    configuration
        Occupant of each partly occupied position: 0 is empty, k the k-th species of its site.
    log_probability
        Natural logarithm of the probability of this configuration among all that the settings allow.
    equivalents
        Number of configurations that are this one up to a symmetry operation of the average crystal, itself included.
    """

    atoms: Atoms
    site_labels: tuple[str, ...]
    partial: NDArray[np.bool_]
    configuration: tuple[int, ...]
    log_probability: float
    equivalents: int

    @property
    def probability(self) -> float:
        """Probability that a drawn model is this one or equivalent to it by symmetry."""
        return self.equivalents * math.exp(self.log_probability)


@dataclass(frozen=True)
class _Cluster:
    """Positions that exclude each other, directly or through others, and the states they can be in."""

    members: tuple[int, ...]  # among the partial positions
    states: NDArray[np.int64]  # (s, m) occupants
    counts: NDArray[np.int64]  # (s, k) atoms by constraint
    occupied: NDArray[np.int64]  # (s, n_sites) atoms by site
    log_shares: NDArray[np.float64]  # (s,) logarithm of the product of published shares


class DiscreteModels:
    """The distribution of discrete models of a crystal.

    Parameters
    ----------
    crystal
        Average structure.
    settings
        Cell, separations and composition.

    Raises
    ------
    InputError
        A site can never be occupied beside its neighbours, occupations cannot be met under the minimum separation, or
        no model has the wanted composition; the text names sites and remedy.
    """

    def __init__(self, crystal: OccupiedCrystal, settings: DiscreteSettings) -> None:
        cell = crystal.in_setting(settings.setting)
        self.crystal = cell if settings.supercell is None else cell.supercell(settings.supercell)
        self.settings = settings
        full = np.array([site.is_full for site in self.crystal.sites])
        #: indices of the partly occupied positions among all positions
        self.partial: NDArray[np.int64] = np.flatnonzero(~full[self.crystal.site_of])
        self._targets = self._wanted(full)
        self._clusters = self._find_clusters()
        activities = self._activities()
        self._weights = [c.log_shares + c.occupied @ activities for c in self._clusters]
        self._suffixes = self._convolve(self._weights)
        if not np.isfinite(self._suffixes[0].get(self._targets, -np.inf)):
            raise InputError(
                f"no model has {self._described()}: {self.crystal.source or 'the crystal'} offers {self.reachable()}; "
                "change the number, the cell, or minimum_separation"
            )

    # -- setting up ------------------------------------------------------------------------------------------

    def _wanted(self, full: NDArray[np.bool_]) -> tuple[int, ...]:
        """Return the numbers of atoms on partial positions that the settings ask for, one for each constraint."""
        settings, sites = self.settings, self.crystal.sites
        self._counters: list[tuple[str, str]] = []
        wanted: list[int] = []
        fixed: dict[str, int] = {}
        for index in self.crystal.site_of[full[self.crystal.site_of]]:
            symbol = sites[int(index)].occupants[0][0]
            fixed[symbol] = fixed.get(symbol, 0) + 1
        if settings.atoms is not None:
            self._counters.append(("atoms", ""))
            wanted.append(settings.atoms - sum(fixed.values()))
        for symbol, number in (settings.composition or {}).items():
            if symbol not in self.crystal.composition:
                raise InputError(f"composition names {symbol!r}, which the crystal does not hold")
            self._counters.append(("species", symbol))
            wanted.append(number - fixed.get(symbol, 0))
        for label, number in (settings.sites or {}).items():
            match = [site for site in sites if site.label == label]
            if not match or match[0].is_full:
                partial = ", ".join(s.label for s in sites if not s.is_full) or "none"
                raise InputError(
                    f"sites names {label!r}, which is no partly occupied site; there are: {partial}"
                )
            self._counters.append(("site", label))
            wanted.append(number)
        return tuple(wanted)

    def _described(self) -> str:
        names = {"atoms": "atoms in all", "species": "{} atoms", "site": "atoms on site {}"}
        full = len(self.crystal.positions) - len(self.partial)
        parts = [
            f"{n} " + names[kind].format(what)
            for (kind, what), n in zip(self._counters, self._targets, strict=True)
        ]
        return (
            ", ".join(parts) or "these separations"
        ) + f" on partly occupied sites, beside {full} atoms on full ones"

    def reachable(self) -> str:
        """Return in words how many atoms the partly occupied positions can hold."""
        fewest = sum(int((c.states > 0).sum(axis=1).min()) for c in self._clusters)
        most = sum(int((c.states > 0).sum(axis=1).max()) for c in self._clusters)
        return f"{fewest} to {most} atoms on {len(self.partial)} partly occupied positions"

    def _exclusions(self) -> NDArray[np.int64]:
        """Return pairs (p, 2) of partial positions that are too near, as indices among them."""
        from ase.neighborlist import primitive_neighbor_list

        limit = self.settings.minimum_separation
        if limit <= 0:
            return np.empty((0, 2), dtype=np.int64)
        crystal = self.crystal
        cartesian = crystal.positions @ crystal.cell
        i, j, d = primitive_neighbor_list("ijd", (True, True, True), crystal.cell, cartesian, limit)
        partial = np.full(len(cartesian), -1)
        partial[self.partial] = np.arange(len(self.partial))
        for a, b, distance in zip(i, j, d, strict=True):
            if distance >= limit or (partial[a] >= 0 and partial[b] >= 0 and a != b):
                continue
            first, second = (crystal.sites[crystal.site_of[k]].label for k in (a, b))
            raise InputError(
                f"sites {first} and {second} are {distance:.3f} Å apart, nearer than minimum_separation = {limit} Å, "
                "and one of them is always full (or both are one atom and its image); lower it, or leave a site out"
            )
        pairs = np.stack([partial[i], partial[j]], axis=1)[d < limit]
        return np.asarray(pairs[pairs[:, 0] < pairs[:, 1]], dtype=np.int64)

    def _find_clusters(self) -> list[_Cluster]:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n = len(self.partial)
        pairs = self._exclusions()
        links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        count, group = connected_components(links, directed=False) if n else (0, np.empty(0, dtype=int))
        near: dict[int, set[int]] = {k: set() for k in range(n)}
        for a, b in pairs.tolist():
            near[a].add(b)
            near[b].add(a)
        return [self._cluster(tuple(np.flatnonzero(group == k).tolist()), near) for k in range(count)]

    def _cluster(self, members: tuple[int, ...], near: dict[int, set[int]]) -> _Cluster:
        """List the states of a cluster, and what each holds."""
        sites = [self.crystal.sites[self.crystal.site_of[self.partial[m]]] for m in members]
        before = [[k for k in range(i) if members[k] in near[m]] for i, m in enumerate(members)]
        states: list[list[int]] = [[]]
        for site, others in zip(sites, before, strict=True):
            free = site.occupation < 1.0
            choices = range(len(site.occupants) + 1)
            states = [
                [*state, c]
                for state in states
                for c in choices
                if (free if c == 0 else not any(state[k] for k in others))
            ]
            if len(states) > _MOST_STATES:
                labels = sorted({s.label for s in sites})
                raise InputError(
                    f"{len(members)} positions of sites {', '.join(labels)} exclude each other in one cluster of more "
                    f"than {_MOST_STATES} states; lower minimum_separation = {self.settings.minimum_separation} Å"
                )
        if not states:
            labels = sorted({s.label for s in sites})
            raise InputError(
                f"sites {', '.join(labels)} are full of atoms that are nearer to each other than minimum_separation = "
                f"{self.settings.minimum_separation} Å; lower it"
            )
        table = np.array(states, dtype=np.int64).reshape(len(states), len(members))
        occupied = np.zeros((len(table), len(self.crystal.sites)), dtype=np.int64)
        counts = np.zeros((len(table), len(self._counters)), dtype=np.int64)
        log_shares = np.zeros(len(table))
        for column, (member, site) in enumerate(zip(members, sites, strict=True)):
            index = int(self.crystal.site_of[self.partial[member]])
            occupied[:, index] += table[:, column] > 0
            scale = max(1.0, sum(share for _, share in site.occupants))
            shares = np.array([1.0 - site.occupation, *(share / scale for _, share in site.occupants)])
            # a state that the site does not allow (empty, of a full one) is not in the table
            log_shares += np.log(np.where(shares > 0, shares, 1.0))[table[:, column]]
            symbols = ["", *(symbol for symbol, _ in site.occupants)]
            for k, (kind, what) in enumerate(self._counters):
                counts[:, k] += [
                    c > 0 and (kind == "atoms" or what == (symbols[c] if kind == "species" else site.label))
                    for c in table[:, column]
                ]
        return _Cluster(members, table, counts, occupied, log_shares)

    def _activities(self) -> NDArray[np.float64]:
        """Return the logarithm of the factor by which each site's shares are multiplied to keep its occupation.

        Without exclusions all are 0. With them, Newton's method on the convex dual of the largest entropy.
        """
        sites = self.crystal.sites
        result = np.zeros(len(sites))
        coupled = [c for c in self._clusters if len(c.members) > 1]
        if not coupled:
            return result
        # every cluster with one of the coupled sites counts, so that symmetry-equivalent positions stay alike
        active = sorted({int(s) for c in coupled for s in np.flatnonzero(c.occupied.any(axis=0))})
        active = [s for s in active if sites[s].occupation < 1.0]
        clusters = [c for c in self._clusters if c.occupied[:, active].any()]
        multiplicity = np.array([np.sum(self.crystal.site_of == s) for s in active], dtype=float)
        wanted = multiplicity * [sites[s].occupation for s in active]
        error = np.inf
        for _ in range(200):
            mean, covariance = np.zeros(len(active)), np.zeros((len(active), len(active)))
            for c in clusters:
                x = c.occupied[:, active].astype(float)
                log_weight = c.log_shares + x @ result[active]
                weight = np.exp(log_weight - log_weight.max())
                weight /= weight.sum()
                first = weight @ x
                mean += first
                covariance += (x * weight[:, None]).T @ x - np.outer(first, first)
            error = float(np.max(np.abs(mean - wanted) / multiplicity))
            if error < 1e-9:
                break
            step = np.linalg.lstsq(covariance + 1e-12 * np.eye(len(active)), wanted - mean, rcond=None)[0]
            result[active] += np.clip(step, -1.0, 1.0)
        if error > _OCCUPATION_ERROR:
            shown = ", ".join(f"{sites[s].label} ({sites[s].occupation:g})" for s in active)
            raise InputError(
                f"the occupations of sites {shown} cannot all be met when no two atoms are nearer than "
                f"{self.settings.minimum_separation} Å; lower minimum_separation or the occupations"
            )
        return result

    def _convolve(self, weights: list[NDArray[np.float64]]) -> list[dict[tuple[int, ...], float]]:
        """Return for each cluster the log weight of all ways in which it and those after it hold given numbers."""
        suffixes: list[dict[tuple[int, ...], float]] = [{(0,) * len(self._counters): 0.0}]
        for cluster, log_weights in zip(reversed(self._clusters), reversed(weights), strict=True):
            terms: dict[tuple[int, ...], list[float]] = {}
            own = _by_counts(cluster.counts, log_weights)
            for counts, value in own.items():
                for rest, other in suffixes[-1].items():
                    total = tuple(a + b for a, b in zip(counts, rest, strict=True))
                    if all(t <= w for t, w in zip(total, self._targets, strict=True)):
                        terms.setdefault(total, []).append(value + other)
            suffixes.append({k: float(np.logaddexp.reduce(v)) for k, v in terms.items()})
        return suffixes[::-1]

    # -- answers ---------------------------------------------------------------------------------------------

    @cached_property
    def configurations(self) -> int:
        """Number of different configurations that the settings allow."""
        table: dict[tuple[int, ...], int] = {(0,) * len(self._counters): 1}
        for cluster in self._clusters:
            new: dict[tuple[int, ...], int] = {}
            ways: dict[tuple[int, ...], int] = {}
            for counts in map(tuple, cluster.counts.tolist()):
                ways[counts] = ways.get(counts, 0) + 1
            for counts, n in ways.items():
                for rest, other in table.items():
                    total = tuple(a + b for a, b in zip(counts, rest, strict=True))
                    if all(t <= w for t, w in zip(total, self._targets, strict=True)):
                        new[total] = new.get(total, 0) + n * other
            table = new
        return table.get(self._targets, 0)

    @cached_property
    def permutations(self) -> NDArray[np.int64]:
        """(g, n) what each symmetry operation of the average crystal does to the partly occupied positions."""
        crystal = self.crystal
        found = ask_spglib(
            "get_symmetry",
            (crystal.cell.tolist(), crystal.positions.tolist(), (crystal.site_of + 1).tolist()),
            symprec=_SYMPREC,
        )
        if found is None:
            return np.arange(len(self.partial))[None, :]
        points = crystal.positions[self.partial]
        rows = set()
        for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
            moved = points @ rotation.T + translation
            difference = moved[:, None, :] - points[None, :, :]
            difference -= np.rint(difference)
            rows.add(tuple(np.argmin(np.linalg.norm(difference @ crystal.cell, axis=2), axis=1).tolist()))
        table = np.array(sorted(rows), dtype=np.int64).reshape(len(rows), len(points))
        if any(len(set(row)) != len(points) for row in table.tolist()):
            raise BuildError("symmetry operations do not map the partly occupied positions onto themselves")
        return table

    def draw(self, rng: np.random.Generator) -> DiscreteModel:
        """Draw one model.

        Parameters
        ----------
        rng
            Source of all randomness: the same state gives the same model.
        """
        left = self._targets
        chosen = np.zeros(len(self.partial), dtype=np.int64)
        for k, (cluster, weights) in enumerate(zip(self._clusters, self._weights, strict=True)):
            rest = self._suffixes[k + 1]
            log_p = np.array(
                [
                    w + rest.get(tuple(a - b for a, b in zip(left, counts, strict=True)), -np.inf)
                    for w, counts in zip(weights, cluster.counts.tolist(), strict=True)
                ]
            )
            cumulated = np.cumsum(np.exp(log_p - log_p.max()))
            state = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
            state = min(state, len(log_p) - 1)
            chosen[list(cluster.members)] = cluster.states[state]
            left = tuple(a - b for a, b in zip(left, cluster.counts[state].tolist(), strict=True))
        return self.model(chosen)

    def draws(self, count: int, *, seed: int) -> list[DiscreteModel]:
        """Draw models; model i depends on the seed and i only.

        Parameters
        ----------
        count
            Number of models; the same one may come twice.
        seed
            Non-negative integer.
        """
        return [self.draw(np.random.default_rng(np.random.SeedSequence([seed, i]))) for i in range(count)]

    def distinct(self, most: int = 100_000) -> list[DiscreteModel]:
        """Return every model once, up to the symmetry of the average crystal, most probable first.

        Parameters
        ----------
        most
            Largest number of configurations that are listed.

        Raises
        ------
        InputError
            There are more configurations.
        """
        if self.configurations > most:
            raise InputError(
                f"10^{math.log10(self.configurations):.1f} configurations are too many to list (most = {most}); draw "
                "models at random"
            )
        found: dict[bytes, NDArray[np.int64]] = {}
        for configuration in self._all():
            key = self._orbit(configuration)[0].tobytes()
            found.setdefault(key, configuration)
        models = [self.model(c) for c in found.values()]
        return sorted(models, key=lambda m: (-round(m.probability, 12), m.configuration))

    def _all(self) -> Iterator[NDArray[np.int64]]:
        """Walk through the clusters' states, leaving those after which the wanted numbers cannot be reached."""
        open_ends = [(np.zeros(len(self.partial), dtype=np.int64), self._targets)]
        for k, cluster in enumerate(self._clusters):
            grown = []
            for chosen, left in open_ends:
                for state, counts in zip(cluster.states, cluster.counts.tolist(), strict=True):
                    rest = tuple(a - b for a, b in zip(left, counts, strict=True))
                    if rest in self._suffixes[k + 1]:
                        new = chosen.copy()
                        new[list(cluster.members)] = state
                        grown.append((new, rest))
            open_ends = grown
        for chosen, _ in open_ends:
            yield chosen

    def _orbit(self, configuration: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the different configurations (m, n) that symmetry makes of one, in a fixed order."""
        return np.unique(configuration[self.permutations], axis=0)

    def model(self, configuration: NDArray[np.int64]) -> DiscreteModel:
        """Return the structure of a configuration (see `DiscreteModel.configuration`)."""
        from ase import Atoms

        crystal = self.crystal
        log_probability = -self._suffixes[0][self._targets]
        for cluster, weights in zip(self._clusters, self._weights, strict=True):
            mine = configuration[list(cluster.members)]
            state = np.flatnonzero((cluster.states == mine).all(axis=1))
            if not len(state):
                raise InputError(f"configuration {configuration.tolist()} is not one that the settings allow")
            log_probability += float(weights[state[0]])
        occupant = np.ones(len(crystal.positions), dtype=np.int64)
        occupant[self.partial] = configuration
        kept = np.flatnonzero(occupant)
        sites = [crystal.sites[s] for s in crystal.site_of[kept]]
        atoms = Atoms(
            [site.occupants[k - 1][0] for site, k in zip(sites, occupant[kept], strict=True)],
            cell=crystal.cell,
            scaled_positions=crystal.positions[kept],
            pbc=True,
        )
        return DiscreteModel(
            atoms,
            tuple(site.label for site in sites),
            np.isin(kept, self.partial),
            tuple(configuration.tolist()),
            log_probability,
            len(self._orbit(configuration)),
        )


def _by_counts(counts: NDArray[np.int64], log_weights: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], list[float]] = {}
    for key, weight in zip(map(tuple, counts.tolist()), log_weights.tolist(), strict=True):
        found.setdefault(key, []).append(weight)
    return {k: float(np.logaddexp.reduce(v)) for k, v in found.items()}
