"""The cheap campaign of the chaos tests: many small workflows, results under natural keys, each run noted."""

from __future__ import annotations

import hashlib
import os
import random
import time
from pathlib import Path

from fireworks import FiretaskBase, Firework, FWAction, Workflow, explicit_serialize

#: build -> 4 x relax -> select -> 2 x reference -> fit -> assess
KINDS = ("build", *("relax",) * 4, "select", *("reference",) * 2, "fit", "assess")
PARENTS = {0: (), 1: (0,), 2: (0,), 3: (0,), 4: (0,), 5: (1, 2, 3, 4), 6: (5,), 7: (5,), 8: (6, 7), 9: (8,)}


def key(chain: int, generation: int, place: int) -> str:
    """Return the natural key of a result."""
    return f"c{chain:04d}/g{generation:02d}/{place}"


def uptime() -> float:
    """Return a time that is the same for all processes of this machine, whatever their clocks say."""
    return float(Path("/proc/uptime").read_text().split()[0])


def value(name: str, inputs: list[str]) -> str:
    """Return what a task computes from what its parents have."""
    return hashlib.sha256("\n".join([name, *inputs]).encode()).hexdigest()


def expected(chains: int, generations: int) -> dict[str, str]:
    """Return every result of a campaign."""
    found: dict[str, str] = {}
    for chain in range(chains):
        for generation in range(generations):
            for place in range(len(KINDS)):
                name = key(chain, generation, place)
                before = [key(chain, generation - 1, 9)] if place == 0 and generation else []
                inputs = before + [key(chain, generation, parent) for parent in PARENTS[place]]
                found[name] = value(name, [found[parent] for parent in inputs])
    return found


def workflow(chain: int, generation: int, generations: int, sleep_s: float) -> Workflow:
    """Return one generation of one chain."""
    fireworks: list[Firework] = []
    for place, kind in enumerate(KINDS):
        task = Step(chain=chain, generation=generation, generations=generations, place=place, sleep=sleep_s)
        spec = {"_category": kind, "_add_launchpad_and_fw_id": True}
        parents = [fireworks[parent] for parent in PARENTS[place]]
        fireworks.append(Firework(task, spec=spec, name=key(chain, generation, place), parents=parents))
    return Workflow(fireworks, name=f"c{chain:04d}/g{generation:02d}")


@explicit_serialize
class Step(FiretaskBase):
    """One task: read what its parents have, work on the scratch, store the result under its key, last of all."""

    def run_task(self, fw_spec):
        began = uptime()
        chain, generation, place = self["chain"], self["generation"], self["place"]
        name = key(chain, generation, place)
        results = self.launchpad.db.chaos_results
        needed = [key(chain, generation, parent) for parent in PARENTS[place]]
        if place == 0 and generation:
            needed = [key(chain, generation - 1, 9)]
        stored = {found["_id"]: found["value"] for found in results.find({"_id": {"$in": needed}})}
        scratch = Path("work.bin")
        with scratch.open("wb") as stream:
            stream.write(os.urandom(64 * 1024))
            stream.flush()
            os.fsync(stream.fileno())
        time.sleep(self["sleep"] * (0.5 + random.random()))
        results.update_one(
            {"_id": name},
            {
                "$set": {"value": value(name, [stored[parent] for parent in needed])},
                "$push": {"runs": {"site": os.environ["GF_SITE"], "pid": os.getpid(), "began": began}},
            },
            upsert=True,
        )
        if place == 9 and generation + 1 < self["generations"]:
            following = workflow(chain, generation + 1, self["generations"], self["sleep"])
            self.launchpad.submit_once(following, f"chaos/{chain}/{generation + 1}")
        return FWAction(stored_data={"key": name})
