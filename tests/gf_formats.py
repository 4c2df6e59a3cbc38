"""Every file format that is read, as a whole file that is read without complaint, and the reader of it.

For the tests of damaged files and for benchmarks/fuzz.py. `make` writes the files of a format into a directory, `read`
reads them as the packages do and forces whatever is read lazily; nothing but `expected` may come out of a damaged one.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import GapFactoryError

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parent
RECORDED = TESTS / "data" / "recorded"
OUTPUTS = TESTS / "unit" / "reference" / "data"

#: What `gapfactory.reference.recovery` takes as the fault of one structure's output.
OF_AN_OUTPUT = (
    GapFactoryError,
    ArithmeticError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    name
        For reports.
    make
        Writes a whole file, or several.
    read
        Reads what `make` wrote.
    expected
        What may be raised.
    files
        Names of the files that are damaged; all of `make`'s where there are none.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    expected: tuple[type[Exception], ...] = (GapFactoryError,)
    files: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {}


def format_of(
    name: str, make: Callable[[Path], object], *, output: bool = False, files: tuple[str, ...] = ()
) -> Any:
    """Register a reader under a name."""

    def register(read: Callable[[Path], object]) -> Callable[[Path], object]:
        FORMATS[name] = Format(name, make, read, OF_AN_OUTPUT if output else (GapFactoryError,), files)
        return read

    return register


def text(name: str, content: str) -> Callable[[Path], object]:
    """Return what writes a text under a name."""
    return lambda place: (place / name).write_text(content, encoding="utf-8")


def copied(**names: Path) -> Callable[[Path], object]:
    """Return what copies files; two underscores in a name stand for a dot, three for a slash."""

    def make(place: Path) -> None:
        for name, source in names.items():
            target = place / name.replace("___", "/").replace("__", ".")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())

    return make


def cells(count: int = 3) -> list[Atoms]:
    """Return shaken silicon cells."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(count):
        atoms = bulk("Si")
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.05, 0.05, (3, 3))), scale_atoms=True)
        atoms.positions += rng.uniform(-0.1, 0.1, (2, 3))
        found.append(atoms)
    return found


def sound(structures: list[Atoms]) -> list[Atoms]:
    """Return structures that were read; what is no number must not have come through."""
    for atoms in structures:
        assert np.isfinite(atoms.positions).all(), "a coordinate is not finite"
        assert np.isfinite(atoms.cell.array).all(), "a cell vector is not finite"
    return structures


def sound_labels(frames: Any) -> Any:
    """Return labelled structures that were read, judged likewise."""
    sound([frame.atoms for frame in frames])
    for frame in frames:
        assert np.isfinite(frame.energy), "an energy is not finite"
        assert frame.forces is None or np.isfinite(frame.forces).all(), "a force is not finite"
        assert frame.forces is None or frame.forces.shape == (len(frame.atoms), 3), "forces of other atoms"
        assert frame.stress is None or np.isfinite(frame.stress).all(), "a stress is not finite"
    return frames


# ---- structures and labels ---------------------------------------------------------------------------------------


def _frames() -> list[Any]:
    from gapfactory.io.extxyz import LabelledFrame

    rng = np.random.default_rng(6)
    return [
        LabelledFrame(
            f"s{number}",
            atoms,
            -10.0 - number,
            rng.normal(size=(2, 3)),
            0.01 * rng.normal(size=6),
            info=(("generation", number),),
        )
        for number, atoms in enumerate(cells())
    ]


def _training_set(place: Path) -> None:
    from gapfactory.io.extxyz import write_training_set

    write_training_set(place / "labels.extxyz", _frames())


@format_of("training-set", _training_set)
def _(place: Path) -> object:
    from gapfactory.io.extxyz import read_training_set

    return sound_labels(read_training_set(place / "labels.extxyz"))


@format_of("extxyz-structures", _training_set)
def _(place: Path) -> object:
    from gapfactory.io.structures import read_structures

    return sound([one.atoms for one in read_structures(place / "labels.extxyz")])


@format_of("extxyz-labels", _training_set)
def _(place: Path) -> object:
    from gapfactory.io.labelled import read_labelled, read_partly_labelled

    try:
        return sound_labels(read_labelled(place / "labels.extxyz").frames)
    except GapFactoryError:
        return sound([one[1] for one in read_partly_labelled(place / "labels.extxyz")])


def _crystals() -> str:
    from gapfactory.io.structure_text import text_of_crystals

    return text_of_crystals(cells())


@format_of("crystals-in-settings", lambda place: (place / "text").write_text(_crystals()))
def _(place: Path) -> object:
    from gapfactory.io.structure_text import given_crystals

    return sound(given_crystals((place / "text").read_text(encoding="utf-8", errors="replace")))


def _res(place: Path) -> None:
    from gapfactory.io.res import res_from_atoms, write_res

    structures = [
        res_from_atoms(a, f"s{k}", enthalpy=-9.0, remarks=["by hand"]) for k, a in enumerate(cells())
    ]
    write_res(place / "all.res", structures)


@format_of("res", _res)
def _(place: Path) -> object:
    from gapfactory.io.res import read_res

    return sound([structure.atoms() for structure in read_res(place / "all.res")])


CIF = """data_mixed
_cell_length_a 5.2
_cell_length_b 5.2
_cell_length_c 5.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
_symmetry_Int_Tables_number 225
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 Si 0.0 0.0 0.0 0.6
Ge1 Ge 0.0 0.0 0.0 0.4
O1 O 0.5 0.5 0.5 1.0
"""


@format_of("cif", text("a.cif", CIF))
def _(place: Path) -> object:
    from gapfactory.io.structures import read_structures

    return sound([one.atoms for one in read_structures(place / "a.cif")])


@format_of("cif-occupations", text("a.cif", CIF))
def _(place: Path) -> object:
    from gapfactory.build.occupation import partly_occupied, read_occupied_crystal

    return read_occupied_crystal(place / "a.cif"), partly_occupied(place / "a.cif")


POSCAR = """Si
1.0
0.0 2.7 2.7
2.7 0.0 2.7
2.7 2.7 0.0
Si
2
Direct
0.0 0.0 0.0
0.25 0.25 0.25
"""


@format_of("structure-of-any-kind", text("POSCAR", POSCAR))
def _(place: Path) -> object:
    from gapfactory.io.structures import read_atoms

    return sound([read_atoms(place / "POSCAR", "crystal")])


def _ase_database(place: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    with connect(place / "labels.db") as database:
        for atoms in cells():
            atoms.calc = SinglePointCalculator(atoms, energy=-9.0, forces=np.zeros((2, 3)))
            database.write(atoms)


@format_of("ase-database", _ase_database)
def _(place: Path) -> object:
    from gapfactory.io.labelled import read_labelled

    return sound_labels(read_labelled(place / "labels.db").frames)


for _name, _source in {
    "label__castep": RECORDED / "castep" / "md.castep",
    "vasprun__xml": RECORDED / "vasp" / "vasprun_pstress.xml",
    "run__abo": OUTPUTS / "abinit" / "finished.abo",
}.items():

    @format_of(f"labels-of-{_source.parent.name}-{_source.name}", copied(**{_name: _source}))
    def _(place: Path) -> object:
        from gapfactory.io.labelled import read_labelled

        return sound_labels(read_labelled(next(place.iterdir())).frames)


# ---- what engines read of their programs -------------------------------------------------------------------------


@format_of(
    "engine-espresso",
    copied(
        stdout__txt=OUTPUTS / "espresso" / "finished.txt", out___pw__xml=OUTPUTS / "espresso" / "finished.xml"
    ),
    output=True,
)
def _(place: Path) -> object:
    from gapfactory.reference.engines.espresso import EspressoEngine, EspressoSettings
    from gapfactory.reference.site import ProgramSite

    engine = EspressoEngine(EspressoSettings(), ProgramSite(pseudopotentials=place))
    return engine.read(_silicon(), place), engine.iterations(place), engine.diagnose(place, 1)


@format_of(
    "engine-vasp",
    copied(
        vasprun__xml=RECORDED / "vasp" / "vasprun_pstress.xml",
        OUTCAR=RECORDED / "vasp" / "convergence_OUTCAR_n_y",
    ),
    output=True,
)
def _(place: Path) -> object:
    from gapfactory.reference.engines.vasp import VaspEngine, VaspSettings
    from gapfactory.reference.site import ProgramSite

    engine = VaspEngine(VaspSettings(), ProgramSite())
    return engine.read(Atoms("Si2", cell=[5, 5, 5], pbc=True), place), engine.diagnose(place, 1)


@format_of("engine-castep", copied(label__castep=RECORDED / "castep" / "md.castep"), output=True)
def _(place: Path) -> object:
    from gapfactory.reference.engines.castep import CastepEngine, CastepSettings
    from gapfactory.reference.site import ProgramSite

    engine = CastepEngine(CastepSettings(), ProgramSite())
    return engine.read(bulk("Si", cubic=True), place), engine.iterations(place), engine.diagnose(place, 1)


@format_of("engine-cp2k", copied(stdout__txt=OUTPUTS / "cp2k" / "crystal.txt"), output=True)
def _(place: Path) -> object:
    from gapfactory.reference.engines.cp2k import Cp2kEngine, Cp2kSettings
    from gapfactory.reference.site import ProgramSite

    engine = Cp2kEngine(Cp2kSettings(), ProgramSite())
    return engine.read(_silicon(), place), engine.iterations(place), engine.diagnose(place, 1)


@format_of("engine-abinit", copied(out__abo=OUTPUTS / "abinit" / "finished.abo"), output=True)
def _(place: Path) -> object:
    from gapfactory.reference.engines._abinit_output import error_reports, read_output, scf_energies

    found = (place / "out.abo").read_text(encoding="utf-8", errors="replace")
    return read_output(found), scf_energies(found), error_reports(found)


GPAW_RESULT = {
    "energy": -10.0,
    "free_energy": -10.1,
    "forces": [[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]],
    "stress": [0.0] * 6,
    "magnetic_moment": 0.0,
    "iterations": 12,
    "complete": True,
}


@format_of("engine-gpaw", text("result.json", json.dumps(GPAW_RESULT)), output=True)
def _(place: Path) -> object:
    from gapfactory.reference.engines.gpaw import GpawEngine, GpawSettings
    from gapfactory.reference.site import ProgramSite

    engine = GpawEngine(GpawSettings(), ProgramSite())
    return engine.read(_silicon(), place), engine.diagnose(place, 1)


def _silicon() -> Atoms:
    vectors = [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]
    return Atoms("Si2", positions=[[0, 0, 0], [1.45, 1.3, 1.5]], cell=vectors, pbc=True)


GTH = """# CP2K's format
H GTH-PBE-q1 GTH-PBE
    1
     0.20000000    2    -4.17890044     0.72446331
    0
Si GTH-PBE-q4 GTH-PBE
    2    2
     0.44000000    1    -6.26928833
    2
     0.43563383    2     8.95174150    -2.70627082
                                        3.49378060
     0.49794218    1     2.43127673
"""


@format_of("gth-potentials", text("GTH_POTENTIALS", GTH))
def _(place: Path) -> object:
    from gapfactory.reference.engines._abinit_potentials import functional, potential_of
    from gapfactory.reference.site import ProgramSite

    return potential_of("Si", functional("PBE"), {}, ProgramSite(pseudopotentials=place))


UPF = """<UPF version="2.0.1">
<PP_HEADER generated="" element="Si" pseudo_type="NC" has_so="false" functional="PBE"
   z_valence="4.000000000000e0" wfc_cutoff="0.0"/>
"""


@format_of("upf-header", text("Si.UPF", UPF))
def _(place: Path) -> object:
    from gapfactory.reference.engines._espresso_pseudo import find_pseudopotential

    return find_pseudopotential("Si", "PBE", place, {})


@format_of(
    "site-file", text("site.toml", "[espresso]\ncommand = ['mpirun', '-n', '2', 'pw.x']\nprocesses = 2\n")
)
def _(place: Path) -> object:
    from gapfactory.reference.site import load_site

    return load_site("espresso", place / "site.toml")


# ---- seeds and campaigns -----------------------------------------------------------------------------------------

SEED = """%BLOCK LATTICE_ABC
5.0 5.0 5.0
90 90 90
#FIX
%ENDBLOCK LATTICE_ABC
%BLOCK POSITIONS_FRAC
B 0.1 0.2 0.3 # one % NUM=2 POSAMP=0.5
B 0.5 0.5 0.5 # two % FIX
%ENDBLOCK POSITIONS_FRAC
#SLACK=0.25
#MINSEP=1.5-2.0
#TARGVOL=7-8
KPOINTS_MP_SPACING 0.07
"""
SPECIES_SEED = """#VARVOL=7.3
#SPECIES=B%NUM=12
#SYMMOPS=2-4
#NFORM=1
#SLACK=0.25
#MINSEP=1.5 B-B=1.6
#COMPACT
"""

for _name, _text in {"seed-positions": SEED, "seed-species": SPECIES_SEED}.items():

    @format_of(_name, text("a.cell", _text))
    def _(place: Path) -> object:
        from gapfactory.build.seed_file import read_seed

        return read_seed(place / "a.cell")


CAMPAIGN = """name: test
element: Si
preset: quickstart-Si
seed: 3
build:
  atoms_min: 2
  atoms_max: 8
reference:
  engine: gpaw
  cutoff_eV: 300.0
select:
  labels_per_generation: 20
  kt_eV: [0.3, 0.1]
"""


@format_of("campaign", text("si.yaml", CAMPAIGN))
def _(place: Path) -> object:
    from gapfactory.campaign.load import load_campaign

    return load_campaign(place / "si.yaml")


# ---- potentials --------------------------------------------------------------------------------------------------


def _gap(place: Path) -> None:
    from gapfactory.potentials.gap.files import write_manifest
    from gapfactory.potentials.gap.model import GapModel, empty_term, with_points
    from gapfactory.potentials.gap.xml import write_gap

    rng = np.random.default_rng(0)
    terms = []
    for command, covariance in (
        ("distance_2b Z1=14 Z2=14 cutoff=4.0", "covariance_type=ard_se theta_uniform=1.0"),
        (
            "soap l_max=2 n_max=2 atom_sigma=0.5 cutoff=4.0 Z=14 n_species=1 species_Z={14}",
            "covariance_type=dot_product zeta=4",
        ),
    ):
        term = empty_term(command, covariance, 1.0)
        points = rng.uniform(1.0, 3.0, (4, term.dimension))
        if "zeta" in covariance:
            points /= np.linalg.norm(points, axis=1)[:, None]
        terms.append(with_points(term, points, rng.normal(size=4)))
    write_gap(GapModel(terms=tuple(terms), e0={14: -1.0}), place / "gap.xml")
    write_manifest(place)


@format_of("gap-xml", _gap)
def _(place: Path) -> object:
    from gapfactory.potentials.gap.xml import read_gap

    return read_gap(place / "gap.xml")


@format_of("sealed-potential", _gap, files=("manifest.json", "gap.xml"))
def _(place: Path) -> object:
    from gapfactory.potentials.gap.files import read_manifest

    return read_manifest(place)


@format_of("sparse-points", text("points", "".join(f"{x}\n" for x in np.linspace(0.5, 9.5, 12))))
def _(place: Path) -> object:
    from gapfactory.potentials.gap.sparse import read_sparse_file

    return read_sparse_file(place / "points", 3)


def _eddp(place: Path) -> None:
    from gf_eddp import features, network

    from gapfactory.potentials.eddp import Ensemble
    from gapfactory.potentials.eddp.files import write_eddp
    from gapfactory.potentials.eddp.network import Baseline

    vector = features("Si")
    ensemble = Ensemble((network(vector, 1), network(vector, 2)), (0.5, 0.5), Baseline(1.0, 0.5, (-1.0,)))
    write_eddp(ensemble, place / "potential.eddp")


@format_of("eddp", _eddp)
def _(place: Path) -> object:
    from gapfactory.potentials.eddp.files import read_eddp

    return read_eddp(place / "potential.eddp")


# ---- what travels, and what operators write ----------------------------------------------------------------------

FACTS = {
    "holds": "bundle",
    "database": "d",
    "fw_id": 3,
    "launch_id": 7,
    "token": "t",
    "campaign": "c",
    "generation": 0,
    "kind": "build",
    "task": "c g000 build",
    "versions": {},
}


def _bundle(place: Path) -> None:
    import bson

    from launchpad.remote.archive import write_archive

    documents = [bson.encode({"n": n, "text": "x" * n}) for n in range(40)]
    write_archive(place / "bundle", FACTS, {"task": [bson.encode({"a": 1})], "data/x": documents})


@format_of("bundle", _bundle)
def _(place: Path) -> object:
    from launchpad.remote.archive import Archive
    from launchpad.remote.recording import decoded

    with Archive.open(place / "bundle", "bundle") as archive:
        return [decoded(raw) for name in archive.manifest.members for raw in archive.documents(name)]


def _write_log(place: Path) -> None:
    from launchpad.remote.recording import WriteLog

    log = WriteLog(place / "log", "d" * 64)
    for number in range(20):
        log.append({"insert": "labels", "documents": [{"_id": number, "text": "x" * number}]})
    log.close()


@format_of("write-log", _write_log)
def _(place: Path) -> object:
    from launchpad.remote.recording import WriteLog, decoded

    log = WriteLog(place / "log", "d" * 64)
    try:
        return [decoded(raw) for raw in log.statements()]
    finally:
        log.close()


def _document(place: Path) -> None:
    import bson

    (place / "document").write_bytes(
        bson.encode({"a": [1, {"b": 2.5}], "text": "x", "at": None, "raw": b"12"})
    )


@format_of("document", _document)
def _(place: Path) -> object:
    from launchpad.remote.recording import decoded

    return decoded((place / "document").read_bytes())


def _retention_archive(place: Path) -> None:
    import bson

    from launchpad.operations.archive import ArchiveWriter

    with ArchiveWriter(place / "archive.tar.gz") as writer:
        content = io.BytesIO(b"".join(bson.encode({"_id": n}) for n in range(30)))
        writer.add("structures.bson", content, 30)
        writer.finish(campaign="c")


@format_of("retention-archive", _retention_archive)
def _(place: Path) -> object:
    from launchpad.operations.archive import read_documents, read_files, verified

    path = place / "archive.tar.gz"
    manifest = verified(path)
    return manifest, list(read_documents(path)), list(read_files(path))


def _export(place: Path) -> None:
    import bson

    from launchpad.database.transfer import add_member

    with tarfile.open(place / "export.tar.gz", "w:gz") as archive:
        for name in ("campaigns", "labels"):
            add_member(
                archive, f"{name}.bson", io.BytesIO(b"".join(bson.encode({"_id": n}) for n in range(9)))
            )
        facts = {"format": 1, "schema": 0, "collections": {"campaigns": 9, "labels": 9}}
        add_member(archive, "manifest.json", io.BytesIO(json.dumps(facts).encode()))


@format_of("export", _export)
def _(place: Path) -> object:
    from launchpad.database.transfer import checked_archive

    return checked_archive(place / "export.tar.gz")


PUSH_SITE = """name: uni
host: login.example.org
directory: ~/gapfactory
setup: [module load python]
bundles: 20
scheduler: slurm
cores: 4
walltime: "12:00:00"
"""


@format_of("push-site", text("uni.yaml", PUSH_SITE))
def _(place: Path) -> object:
    from launchpad.remote.settings import load_push_site

    return load_push_site(place / "uni.yaml")


@format_of(
    "worker-settings", text("w.yaml", "queue: {heartbeat_s: 5, lease_s: 20}\nsupervisor: {reap_s: 1}\n")
)
def _(place: Path) -> object:
    from launchpad.workers.configuration import service_settings

    return service_settings(place / "w.yaml")


NOTICES = "targets:\n  - {name: chat, webhook: {url: 'http://127.0.0.1:9/x'}}\n"


@format_of("notices", text("n.yaml", NOTICES))
def _(place: Path) -> object:
    from launchpad.operations.notices import read_notices

    return read_notices(place / "n.yaml")
