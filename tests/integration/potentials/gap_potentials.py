"""Small potentials fitted by gap_fit: shared material for every test that needs quippy as the oracle.

A plain module (no fixtures): `potential("si_soap8")` returns the directory with `gap.xml`, fitted at first use
and kept below the temporary directory under a name that changes with this file and with quippy's version, so
that many test processes share it. Run as a script, it fits all of them and prints how long each took.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from gapfactory.reference.analytic import StillingerWeberSilicon

XML = "gap.xml"
SI, CU, AU = 14, 29, 79


@dataclass(frozen=True)
class Recipe:
    """How one potential is fitted: elements, terms (descriptor and kernel), further options."""

    numbers: tuple[int, ...]
    terms: tuple[str, ...]
    options: str = ""


def _distance_2b(a: int, b: int, cutoff: float = 5.0, n: int = 12, more: str = "") -> str:
    return (
        f"distance_2b Z1={a} Z2={b} cutoff={cutoff} cutoff_transition_width=1.0 covariance_type=ard_se "
        f"theta_uniform=0.8 delta=2.0 n_sparse={n} sparse_method=UNIFORM add_species=F {more}"
    )


def _angle_3b(z: int, a: int, b: int, cutoff: float = 3.6, n: int = 30) -> str:
    return (
        f"angle_3b Z={z} Z1={a} Z2={b} cutoff={cutoff} cutoff_transition_width=0.7 covariance_type=ard_se "
        f"theta_uniform=1.2 delta=0.7 n_sparse={n} sparse_method=CUR_POINTS add_species=F"
    )


def _distance_nb(numbers: tuple[int, ...], cutoff: float, n: int, more: str = "") -> str:
    method = "UNIFORM" if len(numbers) == 2 else "CUR_POINTS"
    return (
        f"distance_Nb order={len(numbers)} Z={{{{{' '.join(map(str, numbers))}}}}} cutoff={cutoff} "
        f"cutoff_transition_width=0.8 covariance_type=ard_se theta_uniform=0.9 delta=1.0 n_sparse={n} "
        f"sparse_method={method} add_species=F {more}"
    )


def _soap(
    centre: int, numbers: tuple[int, ...], n_max: int, l_max: int, zeta: int, n: int = 40, more: str = ""
) -> str:
    species = " ".join(map(str, numbers))
    return (
        f"soap l_max={l_max} n_max={n_max} atom_sigma=0.6 cutoff=4.6 cutoff_transition_width=0.9 Z={centre} "
        f"n_species={len(numbers)} species_Z={{{{{species}}}}} covariance_type=dot_product zeta={zeta} delta=0.4 "
        f"n_sparse={n} sparse_method=CUR_POINTS add_species=F {more}"
    )


_SI = (SI,)
_BOTH = (CU, AU)
_PAIRS = tuple(combinations_with_replacement(_BOTH, 2))
_2B = tuple(_distance_2b(a, b) for a, b in _PAIRS)
_3B = tuple(_angle_3b(z, a, b, n=12) for z in _BOTH for a, b in _PAIRS)
RECIPES: dict[str, Recipe] = {
    "si_2b": Recipe(_SI, (_distance_2b(SI, SI),)),
    "si_nb2": Recipe(_SI, (_distance_nb((SI, SI), 5.0, 12),)),
    "si_nb2_closed": Recipe(_SI, (_distance_nb((SI, SI), 5.0, 12, "compact_clusters=F"),)),
    "si_2b_f0": Recipe(_SI, (_distance_2b(SI, SI, more="f0=0.3"),), "sparse_separate_file=F"),
    "si_2b_3b": Recipe(_SI, (_distance_2b(SI, SI), _angle_3b(SI, SI, SI))),
    "si_nb3": Recipe(_SI, (_distance_nb((SI, SI), 5.0, 12), _distance_nb((SI, SI, SI), 3.2, 30))),
    "si_nb3_closed": Recipe(
        _SI, (_distance_2b(SI, SI), _distance_nb((SI, SI, SI), 4.0, 30, "compact_clusters=F"))
    ),
    "si_soap8": Recipe(_SI, (_distance_2b(SI, SI), _angle_3b(SI, SI, SI), _soap(SI, _SI, 8, 8, 4))),
    "si_soap12": Recipe(_SI, (_distance_2b(SI, SI), _angle_3b(SI, SI, SI), _soap(SI, _SI, 12, 12, 2, 30))),
    "si_soap_linear": Recipe(_SI, (_distance_2b(SI, SI), _soap(SI, _SI, 6, 4, 1, more="central_weight=0.5"))),
    "si_core": Recipe(
        _SI,
        (_distance_2b(SI, SI), _soap(SI, _SI, 6, 4, 2)),
        "core_param_file=core.xml core_ip_args={IP Glue} do_copy_at_file=T sparse_separate_file=F",
    ),
    "cuau_2b": Recipe(_BOTH, _2B),
    "cuau_2b_3b": Recipe(_BOTH, _2B + _3B),
    "cuau_nb3": Recipe(
        _BOTH,
        (
            *(_distance_nb(pair, 5.0, 12) for pair in _PAIRS),
            *(_distance_nb(three, 3.6, 12) for three in combinations_with_replacement(_BOTH, 3)),
        ),
    ),
    "cuau_soap8": Recipe(_BOTH, _2B + _3B + tuple(_soap(z, _BOTH, 8, 8, 4, 16) for z in _BOTH)),
    "cuau_soap12": Recipe(_BOTH, _2B + tuple(_soap(z, _BOTH, 12, 12, 2, 12) for z in _BOTH)),
    "cuau_soap_all": Recipe(
        _BOTH,
        tuple(_soap(z, _BOTH, 5, 3, 1, 16, "central_reference_all_species=T") for z in _BOTH),
    ),
}

#: a repulsive table of pair energies in QUIP's Glue format, without embedding
CORE = """<Glue_params n_types="1">
<per_type_data type="1" atomic_num="14">
<density num_points="3" density_y1="0.0" density_yn="0.0">
<point a="0.0" rho="0.0"/><point a="1.0" rho="0.0"/><point a="2.9" rho="0.0"/>
</density>
<potential_density num_points="3">
<point rho="0.0" E="0.0"/><point rho="1.0" E="0.0"/><point rho="2.0" E="0.0"/>
</potential_density>
</per_type_data>
<per_pair_data type1="1" type2="1">
<potential_pair num_points="{n}" y1="{slope}" yn="0.0">
{points}
</potential_pair>
</per_pair_data>
</Glue_params>
"""


def core_xml() -> str:
    """Return a core potential 8 (2.9 - r)^3 exp(-r) eV below 2.9 A, tabulated from 0.8 A."""
    r = np.linspace(0.8, 2.9, 25)
    energy = 8.0 * (2.9 - r) ** 3 * np.exp(-r)
    slope = -8.0 * np.exp(-r[0]) * ((2.9 - r[0]) ** 3 + 3.0 * (2.9 - r[0]) ** 2)
    points = "\n".join(f'<point r="{x:.17g}" E="{y:.17g}"/>' for x, y in zip(r, energy, strict=True))
    return CORE.format(n=len(r), slope=f"{slope:.17g}", points=points)


def labelled(atoms: Atoms) -> Atoms:
    """Return a copy with energy (shifted per atom, so that e0 is not zero), forces and stress attached."""
    found = atoms.copy()
    found.calc = StillingerWeberSilicon() if set(atoms.numbers) == {SI} else EMT()
    found.info["energy"] = found.get_potential_energy() + sum(_SHIFT[int(z)] for z in found.numbers)
    found.arrays["ref_forces"] = found.get_forces()
    if found.pbc.all():
        found.info["stress"] = found.get_stress(voigt=False)
    found.calc = None
    return found


_SHIFT = {SI: -1.25, CU: -0.5, AU: -0.75}


@cache
def training_set(numbers: tuple[int, ...]) -> tuple[Atoms, ...]:
    """Return free atoms, dimers and strained, rattled crystals with their labels."""
    rng = np.random.default_rng(numbers[0])
    found = [Atoms([z], cell=[20.0] * 3, pbc=False) for z in numbers]
    for a, b in combinations_with_replacement(numbers, 2):
        found += [
            Atoms([a, b], positions=[[0, 0, 0], [0, 0, d]], cell=[20.0] * 3, pbc=False)
            for d in np.linspace(1.9, 3.6, 4)
        ]
    for k in range(14):
        if numbers == _SI:
            atoms = bulk("Si", cubic=k % 4 == 0)
        else:
            atoms = bulk("Cu", a=3.85, cubic=k % 3 == 0)
            if len(atoms) == 1:
                atoms *= (2, 1, 1)
            atoms.numbers = rng.choice(numbers, size=len(atoms))
        strain = np.eye(3) * rng.uniform(0.85, 1.25) ** (1 / 3) + 0.03 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        found.append(atoms)
    return tuple(labelled(atoms) for atoms in found)


def write_training_file(path: Path, structures: tuple[Atoms, ...]) -> None:
    """Write extended XYZ the way gap_fit reads it: the virial as nine numbers."""
    lines = []
    for atoms in structures:
        lattice = " ".join(f"{x:.17g}" for x in atoms.cell.array.ravel())
        kind = "isolated_atom" if len(atoms) == 1 else "cell"
        info = f'Lattice="{lattice}" ref_energy={atoms.info["energy"]:.17g} config_type={kind}'
        if "stress" in atoms.info:
            virial = -atoms.get_volume() * atoms.info["stress"]
            info += ' ref_virial="' + " ".join(f"{x:.17g}" for x in virial.ravel()) + '"'
        pbc = " ".join("FT"[int(x)] for x in atoms.pbc)
        lines += [str(len(atoms)), f'{info} Properties=species:S:1:pos:R:3:ref_force:R:3 pbc="{pbc}"']
        for symbol, x, f in zip(atoms.symbols, atoms.positions, atoms.arrays["ref_forces"], strict=True):
            lines.append(symbol + "".join(f" {value:.17g}" for value in (*x, *f)))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def gap_fit(directory: Path, recipe: Recipe, *, timeout: float = 300.0) -> None:
    """Fit into a fresh directory."""
    write_training_file(directory / "train.xyz", training_set(recipe.numbers))
    (directory / "core.xml").write_text(core_xml(), encoding="ascii")
    spec = util.find_spec("quippy")
    assert spec is not None
    program = Path(spec.submodule_search_locations[0]) / "gap_fit"
    options = (
        "atoms_filename=train.xyz default_sigma={0.002 0.05 0.1 0.0} e0_method=isolated sparse_jitter=1e-8 "
        "energy_parameter_name=ref_energy force_parameter_name=ref_force virial_parameter_name=ref_virial "
        "config_type_parameter_name=config_type rnd_seed=1 gap_file=gap.xml"
    )
    defaults = [
        word for word in ("do_copy_at_file=F", "sparse_separate_file=T") if word[:-1] not in recipe.options
    ]
    # one line per option: the program glues words together where it cuts long lines
    lines = ["gap={" + " : ".join(recipe.terms) + "}", options, *defaults, recipe.options]
    arguments = [lines[0], *_words(" ".join(lines[1:]))]
    done = subprocess.run(
        [str(program), *arguments],
        cwd=directory,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    (directory / "gap_fit.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode or not (directory / XML).is_file():
        raise RuntimeError(f"gap_fit failed in {directory}:\n{(done.stdout + done.stderr)[-3000:]}")


def _words(text: str) -> list[str]:
    """Split at blanks outside braces."""
    words, depth, word = [], 0, ""
    for character in text + " ":
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == " " and depth == 0:
            words += [word] if word else []
            word = ""
        else:
            word += character
    return words


@cache
def potential(name: str) -> Path:
    """Return the directory of a fitted potential; it must only be read (copy it to change it)."""
    key = hashlib.sha256(Path(__file__).read_bytes() + metadata.version("quippy-ase").encode()).hexdigest()[
        :16
    ]
    base = Path(tempfile.gettempdir()) / f"gapfactory-test-potentials-{os.getuid()}-{key}"
    base.mkdir(mode=0o700, exist_ok=True)
    place = base / name
    if not place.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=base))
        gap_fit(fresh, RECIPES[name])
        try:
            fresh.rename(place)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return place


def potentials() -> dict[str, Path]:
    """Return the directories of all potentials."""
    return {name: potential(name) for name in RECIPES}


def structures(numbers: tuple[int, ...], seed: int = 0) -> dict[str, Atoms]:
    """Return one structure of every kind that an engine must agree with quippy on."""
    rng = np.random.default_rng([seed, *numbers])

    def crystal(size: int, volume: float, rattle: float) -> Atoms:
        if numbers == _SI:
            atoms = bulk("Si", cubic=size > 2)
        else:
            atoms = bulk("Cu", a=3.85, cubic=True) if size > 2 else bulk("Cu", a=3.85) * (2, 1, 1)
            atoms.numbers = rng.choice(numbers, size=len(atoms))
        atoms.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
        atoms.positions += rattle * rng.normal(size=atoms.positions.shape)
        return atoms

    strained = crystal(8, 1.05, 0.1)
    strained.set_cell(strained.cell.array @ (np.eye(3) + 0.08 * rng.normal(size=(3, 3))), scale_atoms=True)
    slab = crystal(8, 1.0, 0.05)
    slab.center(vacuum=6.0, axis=2)
    slab.pbc = (True, True, False)
    cluster = crystal(8, 1.0, 0.1)
    cluster.pbc = False
    return {
        "bulk": crystal(8, 1.0, 0.0),
        "rattled": crystal(8, 1.1, 0.15),
        "strained": strained,
        # nearest neighbours at 0.6 of their equilibrium distance
        "collapsed": crystal(8, 0.6**3, 0.02),
        "two_atoms": crystal(2, 0.95, 0.08),
        "slab": slab,
        "cluster": cluster,
        "isolated": Atoms([numbers[0]], cell=[20.0] * 3, pbc=False),
        "dimer": Atoms([numbers[0], numbers[-1]], positions=[[0, 0, 0], [0.3, 0.4, 2.2]], cell=[18.0] * 3),
    }


_ORACLE = """
import os
import sys
import numpy as np
from quippy.potential import Potential
from ase.io import read
frames, rows = read(sys.argv[1], ":"), {}
for d, directory in enumerate(sys.argv[3:]):
    os.chdir(directory)
    calculator = Potential(param_filename="gap.xml")
    for k, atoms in enumerate(frames):
        calculator.results = {}
        calculator.calculate(atoms, ["energy", "energies", "forces", "stress"])
        for name in ("energy", "energies", "forces", "stress"):
            rows[f"{name} {d} {k}"] = np.array(calculator.results[name])
np.savez(sys.argv[2], **rows)
print("complete")
"""
_PROPERTIES = ("energy", "energies", "forces", "stress")


def oracle(directory: Path, frames: list[Atoms], *, timeout: float = 120.0) -> list[dict[str, Any]]:
    """Return quippy's energy, energies, forces and stress, from a process of its own: it may end at any time.

    Raises RuntimeError with the end of its output if it does.
    """
    return oracle_of_many([directory], frames, timeout=timeout)[0]


def oracle_of_many(
    directories: list[Path], frames: list[Atoms], *, timeout: float = 240.0
) -> list[list[dict[str, Any]]]:
    """As `oracle`, for several potentials in one process; one list for each potential."""
    from ase.io import write

    with tempfile.TemporaryDirectory() as place:
        frames_file, result = Path(place) / "frames.traj", Path(place) / "result.npz"
        write(frames_file, frames)
        done = subprocess.run(
            [sys.executable, "-c", _ORACLE, str(frames_file), str(result), *map(str, directories)],
            env=dict(os.environ, OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if "complete" not in done.stdout or not result.is_file():
            raise RuntimeError(
                f"quippy ended with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
            )
        with np.load(result) as data:
            return [
                [{name: data[f"{name} {d} {k}"] for name in _PROPERTIES} for k in range(len(frames))]
                for d in range(len(directories))
            ]


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        start = time.monotonic()
        print(wanted, potential(wanted), f"{time.monotonic() - start:.1f} s", flush=True)  # noqa: T201
