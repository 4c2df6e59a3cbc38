"""Hot against plain random search at equal cost, on a landscape whose ground states are known.

A salt of Lennard-Jones pairs: unlike atoms attract each other, like ones hardly do and keep farther apart. Its ground
state is the lowest of five simple structures, and no sample may be lower. For each size, hot
samples (relax, anneal, relax) are made, then plain ones until these have cost as many evaluations of forces. What is
reported, whatever it is: rate per sample with its 95 % interval, rate per evaluation, densities of states, and the
size from which hot search finds more for its cost. With ``--symmetry``, the group and the energy over a long
symmetrised run as well.

    python tests/benchmarks/hot_search.py --symmetry 100000 --output docs/evidence/hot-search
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from ase import Atoms
from ase.build import bulk

from gapfactory._spglib import space_group_number
from gapfactory.build import BuildSettings, build_cell
from gapfactory.elements import species
from gapfactory.search import AnnealSettings, RelaxSettings, search_each
from gapfactory.search.anneal import anneal
from gapfactory.search.anneal_search import SearchJob
from gapfactory.search.evaluator import Evaluation

#: eV, Å, Å: depth and length of unlike pairs, and where all pairs end
EPSILON, SIGMA, CUT = 0.1, 2.5, 6.25
#: depth and length of like pairs, in units of those of unlike ones
LIKE_DEPTH, LIKE_LENGTH = 0.1, 1.3


@numba.njit(cache=False)
def pairs(positions, kinds, cell, cut, epsilons, sigmas):
    """Return energy, forces (N, 3) and dE/d(strain) (3, 3) of force-shifted Lennard-Jones pairs by kind (0 or 1)."""
    n = len(positions)
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    reach = np.empty(3, dtype=np.int64)
    for k in range(3):
        reach[k] = int(np.floor(cut * np.sqrt((inverse[:, k] ** 2).sum()) + 0.5))
    energy = 0.0
    forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
    vector, nearest = np.empty(3), np.empty(3)
    for i in range(n):
        for j in range(i, n):
            same = 1 if kinds[i] == kinds[j] else 0
            epsilon, sigma = epsilons[same], sigmas[same]
            q6 = (sigma / cut) ** 6
            shift = 4 * epsilon * (q6 * q6 - q6)
            slope = -24 * epsilon * (2 * q6 * q6 - q6) / cut
            half = 0.5 if i == j else 1.0
            for k in range(3):
                d = fractional[j, k] - fractional[i, k]
                nearest[k] = d - np.floor(d + 0.5)
            for a in range(-reach[0], reach[0] + 1):
                for b in range(-reach[1], reach[1] + 1):
                    for c in range(-reach[2], reach[2] + 1):
                        if i == j and a == 0 and b == 0 and c == 0:
                            continue
                        u, v, w = nearest[0] + a, nearest[1] + b, nearest[2] + c
                        r2 = 0.0
                        for k in range(3):
                            vector[k] = u * cell[0, k] + v * cell[1, k] + w * cell[2, k]
                            r2 += vector[k] ** 2
                        if r2 >= cut * cut:
                            continue
                        r = np.sqrt(r2)
                        q6 = (sigma * sigma / r2) ** 3
                        energy += half * (4 * epsilon * (q6 * q6 - q6) - shift - slope * (r - cut))
                        gradient = half * (-24 * epsilon * (2 * q6 * q6 - q6) / r - slope) / r
                        for k in range(3):
                            if i != j:
                                forces[i, k] += gradient * vector[k]
                                forces[j, k] -= gradient * vector[k]
                            for m in range(3):
                                virial[k, m] += gradient * vector[k] * vector[m]
    return energy, forces, virial


class Salt:
    """Batch evaluator that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, structures: Any) -> list[Evaluation]:
        """Evaluate."""
        found = []
        for atoms in structures:
            self.calls += 1
            cell = np.ascontiguousarray(atoms.cell.array)
            energy, forces, v = pairs(
                atoms.positions,
                atoms.numbers,
                cell,
                CUT,
                np.array([EPSILON, LIKE_DEPTH * EPSILON]),
                np.array([SIGMA, LIKE_LENGTH * SIGMA]),
            )
            v = v / abs(np.linalg.det(cell))
            stress = np.array([v[0, 0], v[1, 1], v[2, 2], v[1, 2], v[0, 2], v[0, 1]])
            found.append(Evaluation(float(energy), forces, stress))
        return found


def settings_of(hot: AnnealSettings | None) -> RelaxSettings:
    """Return the relaxation, with thresholds on the scale of the salt."""
    return RelaxSettings(
        force_threshold=2e-3, cell_force_threshold=1e-3, max_steps=400, max_step=0.3, anneal=hot
    )


def annealing(kelvin: float | None, ps: float, **more: Any) -> AnnealSettings:
    """Return an anneal on the scale of the salt."""
    scale = {"timestep_fs": 5.0, "friction_per_ps": 1.0, "cell_time_ps": 1.0, "bulk_modulus_GPa": 20.0}
    return AnnealSettings(
        temperature_K=kelvin, time_ps=ps, frames=0, checkpoint_steps=10**6, **(scale | more)
    )


def random_cells(size: int, seed: int) -> Any:
    """Yield random cells without end."""
    table = {symbol: species(symbol, radius=1.2, bonding="metallic") for symbol in ("Na", "Cl")}
    volume = 1.2 * SIGMA**3
    wanted = BuildSettings.model_validate(
        {
            "atoms_min": size,
            "atoms_max": size,
            "symmetry_operations_min": 1,
            "symmetry_operations_max": 1,
            "volume": {"per_atom": [volume, 1.3 * volume]},
        }
    )
    index = 0
    while True:
        rng = np.random.default_rng([seed, size, index])
        made = build_cell(rng, composition={"Na": 1, "Cl": 1}, species=table, generation=0, settings=wanted)
        yield made.atoms
        index += 1


def ground_states() -> dict[str, float]:
    """Return the energies of relaxed simple structures, in epsilon per atom."""
    d = 1.12 * SIGMA
    cells = {
        "rock salt": bulk("NaCl", "rocksalt", a=2 * d),
        "CsCl type": bulk("NaCl", "cesiumchloride", a=2 * d / math.sqrt(3)),
        "zinc blende": bulk("NaCl", "zincblende", a=4 * d / math.sqrt(3)),
        "wurtzite": bulk("NaCl", "wurtzite", a=d * math.sqrt(8 / 3), c=d * 8 / 3),
        "NiAs type": Atoms(
            "Na2Cl2",
            scaled_positions=[[0, 0, 0], [0, 0, 0.5], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]],
            cell=[math.sqrt(2) * d, math.sqrt(2) * d, 4 * d / math.sqrt(3), 90, 90, 120],
            pbc=True,
        ),
    }
    jobs = [SearchJob(atoms, 0.0, settings_of(None)) for atoms in cells.values()]
    found = {done.index: done.trajectory for done in search_each(jobs, Salt())}
    return {
        name: float(found[k].energies[-1]) / len(atoms) / EPSILON
        for k, (name, atoms) in enumerate(cells.items())
    }


def wilson(found: int, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson's score)."""
    z, p = 1.959964, found / samples
    centre = (p + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * math.sqrt(p * (1 - p) / samples + z * z / (4 * samples**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Search:
    """What one search found."""

    size: int
    kind: str
    samples: int
    failed: int
    found: int
    rate_low: float
    rate_high: float
    evaluations: int
    seconds: float
    mean: float
    lowest_twentieth: float
    energies: list[float]

    @property
    def per_million(self) -> float:
        """Ground states found in a million evaluations."""
        return 1e6 * self.found / self.evaluations


def run(
    size: int,
    kind: str,
    hot: AnnealSettings | None,
    ground: float,
    tolerance: float,
    *,
    samples: int,
    budget: int,
) -> Search:
    """Search until the number of samples, or the budget of evaluations, is spent; nothing unfinished is thrown away."""
    evaluate, began = Salt(), time.process_time()
    energies, failed = [], 0
    cells = random_cells(size, 1)

    def jobs() -> Any:
        for number in range(samples):
            if evaluate.calls >= budget:
                return
            yield SearchJob(next(cells), 0.0, settings_of(hot), seed=number)

    for done in search_each(jobs(), evaluate, width=4):
        if done.trajectory.status == "failed":
            failed += 1
        else:
            energies.append(float(done.trajectory.energies[-1]) / size / EPSILON - ground)
    count, found = len(energies) + failed, sum(e < tolerance for e in energies)
    low, high = wilson(found, count)
    return Search(
        size, kind, count, failed, found, low, high, evaluate.calls, time.process_time() - began,
        float(np.mean(energies)), float(np.quantile(energies, 0.05)), sorted(round(e, 5) for e in energies),
    )  # fmt: skip


def break_even(searches: list[Search]) -> str:
    """Say from which size on a hot search finds more per evaluation."""
    by = {(s.size, s.kind): s for s in searches}
    sizes = sorted({s.size for s in searches})
    better = [n for n in sizes if by[n, "hot"].per_million > by[n, "plain"].per_million]
    above = [n for n in sizes if all(m in better for m in sizes if m >= n)]
    if not above:
        return f"not reached up to {sizes[-1]} atoms"
    if above[0] == sizes[0]:
        return f"{above[0]} atoms or fewer"
    return f"between {sizes[sizes.index(above[0]) - 1]} and {above[0]} atoms"


def symmetrised(steps: int) -> dict[str, Any]:
    """Run symmetrised dynamics without and with a thermostat for many steps; return groups seen and the drift."""
    atoms = bulk("NaCl", "cesiumchloride", a=1.293 * SIGMA) * (2, 2, 1)
    positions = atoms.get_scaled_positions()
    atoms.set_scaled_positions(positions + 0.02 * np.sin(2 * np.pi * positions + 0.3) * [1, 0, 1])
    report: dict[str, Any] = {"group": space_group_number(atoms, 1e-4), "atoms": len(atoms), "steps": steps}
    for name, friction in (("no friction", 0.0), ("thermostat", 1.0)):
        groups: set[int | None] = set()

        def look(state: Any, groups: set[int | None] = groups) -> None:
            cell = Atoms(atoms.numbers, state.positions, cell=state.cell, pbc=True)
            groups.add(space_group_number(cell, 1e-4))

        wanted = annealing(
            150.0, steps * 0.005, friction_per_ps=friction, cell="fixed", keep_symmetry=True
        ).model_copy(update={"checkpoint_steps": max(1, steps // 200)})
        machine = anneal(atoms, settings_of(wanted), seed=3, pressure_GPa=0.0, save=look)
        evaluate, answer = Salt(), None
        while True:
            try:
                answer = evaluate([machine.send(answer)])[0]
            except StopIteration as end:
                done = end.value
                break
        facts = done.facts
        report[name] = {
            "status": done.path.reason, "groups": sorted(map(str, groups)), "degrees": facts.degrees,
            "kinetic_K": facts.kinetic_K, "drift_meV_per_atom": facts.drift_meV, "n_steps": facts.n_steps,
        }  # fmt: skip
    return report


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[24, 32, 40, 48])
    parser.add_argument("--hot", type=int, default=60, help="hot samples of each size")
    parser.add_argument("--kelvin", type=float, default=360.0)
    parser.add_argument("--ps", type=float, default=10.0)
    parser.add_argument(
        "--tolerance", type=float, default=0.01, help="epsilon per atom above the ground state"
    )
    parser.add_argument("--symmetry", type=int, default=0, help="steps of symmetrised dynamics")
    parser.add_argument("--output", type=Path, help="writes this name with .json")
    given = parser.parse_args()
    grounds = ground_states()
    ground = min(grounds.values())
    hot = annealing(given.kelvin, given.ps)
    print(f"ground states (epsilon/atom): {grounds}", flush=True)
    report: dict[str, Any] = {
        "ground_states": grounds,
        "anneal": hot.model_dump(),
        "tolerance": given.tolerance,
    }
    searches: list[Search] = []
    for size in given.sizes:
        first = run(size, "hot", hot, ground, given.tolerance, samples=given.hot, budget=10**12)
        second = run(size, "plain", None, ground, given.tolerance, samples=10**9, budget=first.evaluations)
        searches += [first, second]
        for s in (first, second):
            print(
                f"{s.size:3d} atoms {s.kind:5s}: {s.found} of {s.samples} ({100 * s.rate_low:.1f}-"
                f"{100 * s.rate_high:.1f} %), {s.failed} failed, {s.evaluations} evaluations, "
                f"{s.per_million:.1f} per million, mean +{s.mean:.3f}, 5 % +{s.lowest_twentieth:.3f} eps, "
                f"{s.seconds:.0f} s",
                flush=True,
            )
        report |= {
            "searches": [asdict(s) | {"per_million": s.per_million} for s in searches],
            "break_even": break_even(searches),
        }
        # what is done stays, should the rest be interrupted
        _write(report, given.output)
    print("break-even:", report.get("break_even"), flush=True)
    if given.symmetry:
        report["symmetrised"] = symmetrised(given.symmetry)
        print(json.dumps(report["symmetrised"], indent=1), flush=True)
        _write(report, given.output)


def _write(report: dict[str, Any], output: Path | None) -> None:
    if output is not None:
        output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
