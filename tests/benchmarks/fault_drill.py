"""Faults injected into real DFT codes; what became of each label.

::

    OMP_NUM_THREADS=1 python tests/benchmarks/fault_drill.py run DIRECTORY [gpaw espresso cp2k abinit]    resumable
    python tests/benchmarks/fault_drill.py report DIRECTORY docs/evidence/fault-drill               .md and .json

Every drill labels the same rattled cell of silicon with a disturbed program and compares with the undisturbed label. The
program that is disturbed is the real one; `gf_injector.py` of the tests stands before it. A drill passes when it ends in
the same label (1 meV/atom, 5 meV/Å), in quarantine with a reason that names the cause, or as a fault of the machine that
blames no structure, as the drill expects.
"""

# ruff: noqa: T201, E501

import dataclasses
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ase.build import bulk

from gapfactory.errors import GapFactoryError
from gapfactory.reference import label_structures, make_engine, parse_settings
from gapfactory.reference.faults import MachineFaultError
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite

INJECTOR = Path(__file__).parents[1] / "integration" / "reference" / "gf_injector.py"
ALWAYS = list(range(1, 60))
#: coarse, a second or a few a label; the threshold of self-consistency is each code's default
SETTINGS = {
    "gpaw": {"cutoff_eV": 200.0, "kpoint_grid": (5, 5, 5)},
    "espresso": {"cutoff_eV": 272.0, "kpoint_grid": (7, 7, 7)},
    "cp2k": {"kpoint_grid": (2, 2, 2)},
    "abinit": {"cutoff_eV": 272.0, "kpoint_grid": (6, 6, 6)},
}
#: files that `read` needs, and words in them that become NaN, per code
RESULTS = {
    "gpaw": ("result.json", ('"free_energy": [-0-9.e]+', '"free_energy": NaN')),
    "espresso": ("out/pw.xml", ("<etot>[^<]*</etot>", "<etot>NaN</etot>")),
    "cp2k": ("stdout.txt", ("(Total FORCE_EVAL.*:) +\\S+", "\\1 NaN")),
    "abinit": ("run.abo", ("( ETOT +\\d+ +)\\S+", "\\1NaN")),
}
#: numerics with which the plain calculation ends too early
FEW = {code: {"iterations": 0.03} for code in SETTINGS} | {"abinit": {"steps": 0.04}}
#: an address space in which the program starts, and a cutoff with which it is too small
MEMORY = {
    "gpaw": (400_000_000, 3000.0),
    "espresso": (500_000_000, 6000.0),
    "cp2k": (900_000_000, 60000.0),
    "abinit": (400_000_000, 6000.0),
}


@dataclasses.dataclass(frozen=True)
class Drill:
    """One fault.

    Attributes
    ----------
    name
        For people.
    ends
        "label", "quarantine" or "machine".
    says
        Word that the reason, or the history of the recovered label, must contain.
    plan
        For the injector; None for an undisturbed program.
    """

    name: str
    ends: str
    says: str
    plan: dict | None = None
    site: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    numerics: dict = dataclasses.field(default_factory=dict)
    environment: dict = dataclasses.field(default_factory=dict)
    distance: float | None = None
    disk: bool = False
    twice: bool = False


def drills(code):
    """Return the drills of a code."""
    files, (old, new) = RESULTS[code]
    memory, cutoff = MEMORY[code]
    frozen = {"frozen_after_s": 4.0}
    return [
        Drill("killed by SIGKILL", "label", "SIGKILL", {"fault": "kill"}),
        Drill("killed by SIGTERM", "label", "SIGTERM", {"fault": "kill", "signal": "SIGTERM"}),
        Drill("segmentation fault, always", "quarantine", "SIGSEGV", {"fault": "kill", "signal": "SIGSEGV", "attempts": ALWAYS}),
        Drill("frozen", "label", "frozen", {"fault": "freeze"}, site=frozen),
        Drill("frozen, always", "quarantine", "frozen", {"fault": "freeze", "attempts": ALWAYS}, site=frozen),
        Drill("status 0 and no result", "label", "", {"fault": "silent"}),
        Drill("status 0 and no result, always", "quarantine", "", {"fault": "silent", "attempts": ALWAYS}),
        Drill("result cut in half", "label", "", {"fault": "truncate", "files": [files]}),
        Drill("NaN in the result", "label", "finite", {"fault": "replace", "files": {files: [old, new]}}),
        Drill("self-consistency not reached", "label", "self-consistency", numerics=FEW[code]),
        Drill("time limit, no answer", "quarantine", "time limit", {"fault": "freeze", "attempts": ALWAYS, "after_s": 0.1},
              settings={"time_limit_s": 2.0, "max_attempts": 2}, site={"grace_s": 1.0}),
        Drill("end of the allocation", "machine", "allocation", {"fault": "freeze", "after_s": 0.1},
              environment={"GAPFACTORY_JOB_END": "1000"}, site={"grace_s": 1.0}),
        Drill("end of the allocation, then the next one", "label", "", environment={"GAPFACTORY_JOB_END": "soon"}, twice=True),
        Drill("node lost, as srun says it", "machine", "node lost",
              {"fault": "says", "text": "srun: error: n017: task 0: Node failure on n017", "attempts": ALWAYS}),
        Drill("no licence, once", "label", "licence", {"fault": "says", "text": "License checkout failed: FLEXnet error -15"}),
        Drill("no licence, always", "machine", "licence",
              {"fault": "says", "text": "License checkout failed: FLEXnet error -15", "attempts": ALWAYS}),
        Drill("too little memory", "machine", "out of memory",
              {"fault": "limited", "limits": {"RLIMIT_AS": memory}, "attempts": ALWAYS}, settings={"cutoff_eV": cutoff}),
        Drill("disk full", "machine", "disk full", disk=True),
        Drill("scratch missing", "machine", "scratch", site={"scratch": "missing"}),
        Drill("atoms inside each other", "quarantine", "overlap", distance=0.2),
        Drill("program not installed", "error", "not on PATH", site={"command": ("no-such-program",)}),
    ]  # fmt: skip


def silicon(distance=None):
    atoms = bulk("Si", a=5.4)
    atoms.positions[1] += [0.10, -0.05, 0.15]
    if distance is not None:
        atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, distance]
    return atoms


@contextmanager
def small_disk(place):
    """A real file system that is full after 16 kB."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def label(drill, settings, place):
    """Label the cell as the drill says; return the outcome, or the error."""
    site = ProgramSite(pause_s=0.2)
    command = make_engine(settings, site).program()
    changed = dict(drill.site)
    if changed.get("scratch"):
        (place / "file").write_text("")
        changed["scratch"] = place / "file"
    if drill.plan is not None:
        plan = place / "plan.json"
        plan.write_text(json.dumps({"attempts": [1], "after_s": 0.7, **drill.plan}))
        changed["command"] = (sys.executable, str(INJECTOR), str(plan), *command)
    site = ProgramSite(**{"pause_s": 0.2, **changed})
    settings = settings.model_copy(update=drill.settings)
    atoms = silicon(drill.distance)
    if drill.numerics:
        done = run_program(make_engine(settings, site), atoms, place / "work", numerics=drill.numerics)
        history = [f"{a.remedy}: {a.fault}" for a in done.attempts if a.fault]
        if done.raw is None:
            return {"ends": "quarantine", "reason": str(done.diagnosis), "history": history}
        return {"ends": "label", "energy": done.raw.energy, "forces": np.array(done.raw.forces), "history": history,
                "recovery": done.attempts[-1].remedy, "reason": ""}  # fmt: skip
    for name, value in drill.environment.items():
        os.environ[name] = str(time.time() + site.stop_before_s + 1.5) if value == "soon" else value
    try:
        if drill.disk:
            with small_disk(place / "disk") as disk:
                [outcome] = label_structures([("cell", atoms)], settings, disk, site=site)
        else:
            [outcome] = label_structures([("cell", atoms)], settings, place / "work", site=site)
    except MachineFaultError as error:
        if drill.twice:
            for name in drill.environment:
                os.environ.pop(name)
            [outcome] = label_structures([("cell", atoms)], settings, place / "work", site=site)
            history = [str(error), *outcome.history]
            return {**found(outcome), "history": history}
        return {"ends": "machine", "reason": str(error), "history": []}
    except GapFactoryError as error:
        return {"ends": "error", "reason": str(error), "history": []}
    finally:
        for name in drill.environment:
            os.environ.pop(name, None)
    return found(outcome)


def found(outcome):
    if outcome.label is None:
        return {"ends": "quarantine", "reason": outcome.reason, "history": list(outcome.history)}
    return {
        "ends": "label",
        "reason": "",
        "energy": outcome.label.energy,
        "forces": outcome.label.forces,
        "history": list(outcome.history),
        "recovery": outcome.label.details["recovery"],
        "custodian": len(outcome.custodian[0]["corrections"]),
    }


def run(code, directory):
    """Drill one code; drills that have been done are skipped."""
    settings = parse_settings({"engine": code, "xc": "PBE", **SETTINGS[code]})
    file = directory / f"{code}.json"
    content = json.loads(file.read_text()) if file.exists() else {"drills": {}}
    with tempfile.TemporaryDirectory() as scratch:
        if "energy" not in content:
            [plain] = label_structures(
                [("cell", silicon())], settings, Path(scratch) / "plain", site=ProgramSite()
            )
            content |= {"energy": plain.label.energy, "forces": plain.label.forces.tolist(),
                        "seconds": plain.label.walltime_s, "version": plain.label.version}  # fmt: skip
        for number, drill in enumerate(drills(code)):
            if drill.name in content["drills"]:
                continue
            place = Path(scratch) / f"drill-{number}"
            place.mkdir()
            started = time.monotonic()
            done = label(drill, settings, place)
            # where this machine keeps its temporary files is nobody's business
            done["reason"] = done["reason"].replace(scratch, "scratch")
            done["history"] = [line.replace(scratch, "scratch") for line in done["history"]]
            entry = {"ends": done["ends"], "reason": done["reason"], "history": done["history"],
                     "recovery": done.get("recovery", ""), "seconds": round(time.monotonic() - started, 1)}  # fmt: skip
            same = True
            if done["ends"] == "label":
                entry["energy_difference_meV"] = 1000 * abs(done["energy"] - content["energy"]) / 2
                entry["force_difference_meV"] = 1000 * float(np.abs(done["forces"] - content["forces"]).max())
                same = entry["energy_difference_meV"] < 1 and entry["force_difference_meV"] < 5
            words = " ".join([done["reason"], *done["history"]])
            # a fault that left no trace did not take place
            happened = bool(done["history"]) or done["ends"] != "label"
            entry["passed"] = bool(happened and same and done["ends"] == drill.ends and drill.says in words)
            content["drills"][drill.name] = entry
            file.write_text(json.dumps(content, indent=1))
            print(f"{code}: {drill.name}: {'passed' if entry['passed'] else 'FAILED'}: {entry}", flush=True)


def report(directory, target):
    """Write what `run` found."""
    contents = {
        c: json.loads((directory / f"{c}.json").read_text())
        for c in SETTINGS
        if (directory / f"{c}.json").exists()
    }
    entries = [entry for content in contents.values() for entry in content["drills"].values()]
    lines = [
        "# Faults injected into real codes",
        "",
        (
            f"Made by `tests/benchmarks/fault_drill.py` on {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}: "
            f"{len(entries)} drills, {sum(e['passed'] for e in entries)} passed. Each labels one rattled cell of two silicon atoms "
            "with a disturbed program; *same* is the largest difference from the undisturbed label in energy (meV/atom) and "
            "force (meV/Å). The words of a lost node and of a licence manager are printed by the injector: the free codes have "
            "no licence, and no node could be lost. Everything else happens to the real program."
        ),
        "",
        "Versions: " + ", ".join(f"{code} {content['version']}" for code, content in contents.items()) + ".",
    ]
    for code, content in contents.items():
        lines += [
            "",
            f"## {code}",
            "",
            "| fault | ends as | how | same | passed |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, e in content["drills"].items():
            how = e["recovery"] or e["reason"]
            same = (
                f"{e['energy_difference_meV']:.2g}, {e['force_difference_meV']:.2g}"
                if e["ends"] == "label"
                else ""
            )
            how = " ".join(how.replace("|", "/").split())
            how = how if len(how) < 160 else how[:157] + "..."
            lines.append(f"| {name} | {e['ends']} | {how} | {same} | {'yes' if e['passed'] else '**no**'} |")
    target.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    target.with_suffix(".json").write_text(json.dumps(contents, indent=1))
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
        for chosen in sys.argv[3:] or list(SETTINGS):
            run(chosen, Path(sys.argv[2]))
    else:
        report(Path(sys.argv[2]), Path(sys.argv[3]))
