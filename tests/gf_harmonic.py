"""Evaluators with known thermal averages."""

import numpy as np

from gapfactory.search.evaluator import Evaluation


class Springs:
    """A crystal of springs between all atoms: E = 1/2 u K u with u the displacements from the sites."""

    def __init__(self, sites, strength=4.0, seed=1):
        n = len(sites)
        rng = np.random.default_rng(seed)
        coupling = np.zeros((n, n))
        for i in range(n):
            for j in range(i):
                coupling[i, j] = coupling[j, i] = strength * (0.2 + rng.random()) / n
        laplacian = np.diag(coupling.sum(axis=1)) - coupling
        self.sites, self.matrix = sites, np.kron(laplacian, np.diag([1.0, 1.4, 0.7]))
        self.calls = 0

    def energy(self, positions):
        u = (positions - self.sites).ravel()
        return 0.5 * u @ self.matrix @ u

    def __call__(self, structures):
        found = []
        for atoms in structures:
            self.calls += 1
            forces = -(self.matrix @ (atoms.positions - self.sites).ravel()).reshape(-1, 3)
            found.append(Evaluation(float(self.energy(atoms.positions)), forces, np.zeros(6)))
        return found


class Einstein:
    """Atoms on springs of their own."""

    def __init__(self, sites, strength):
        self.sites, self.strength = sites, strength

    def __call__(self, structures):
        found = []
        for atoms in structures:
            u = atoms.positions - self.sites
            u = u - u.mean(axis=0)
            found.append(
                Evaluation(float(0.5 * self.strength * (u**2).sum()), -self.strength * u, np.zeros(6))
            )
        return found


class ElasticBox:
    """No forces; U = 1/2 k (ln V/V0)^2 + 1/2 g (tr C - 3) with C the stretch at constant volume."""

    def __init__(self, cell, k, g):
        self.inverse, self.k, self.g = np.linalg.inv(cell), k, g

    def __call__(self, structures):
        found = []
        for atoms in structures:
            f = self.inverse @ atoms.cell.array
            j = np.linalg.det(f)
            c = f.T @ f / j ** (2 / 3)
            energy = 0.5 * self.k * np.log(j) ** 2 + 0.5 * self.g * (np.trace(c) - 3)
            slope = self.k * np.log(j) * np.eye(3) + self.g * (c - np.trace(c) / 3 * np.eye(3))
            s = slope / atoms.get_volume()
            stress = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
            found.append(Evaluation(float(energy), np.zeros((len(atoms), 3)), stress))
        return found
