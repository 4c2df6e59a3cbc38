"""What a server process loads: pages are made of what is stored, and what computes is a process of its own.

To resume a campaign or to try labels again, its settings are checked, which loads what they are of (50 MB more): those
routes are not asked here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.database

#: Asks every route that can be asked, in a process of its own, and says what that process has loaded.
ASK = """
import json, sys
from launchpad.dashboard.app import create_app
from launchpad.dashboard.groups import Group
from launchpad.dashboard.settings import DashboardSettings

uri, fw_id, frame = json.load(sys.stdin)
group = Group("si", uri)
app = create_app([group], DashboardSettings(picture_wait_s=60.0), b"k" * 32, ticket="t" * 32)
client = app.test_client()
client.get("/login?ticket=" + "t" * 32)
values = {
    "group": "si", "campaign": "tiny", "name": "tiny", "structure": frame, "key": frame, "fw_id": fw_id,
    "number": fw_id, "generation": 1, "kind": "png",
}
asked = {}
for rule in app.url_map.iter_rules():
    given = {name: values.get(name, "1") for name in rule.arguments}
    if rule.endpoint.startswith("campaigns."):
        given["key"] = "hull"
    kinds = ("extxyz", "cif") if rule.endpoint == "structures.file" else (given.get("kind"),)
    for kind in kinds:
        if "kind" in given:
            given["kind"] = kind
        if rule.endpoint == "api.metrics_of_generation":
            given["number"] = 1
        path = app.url_map.bind("localhost").build(rule.endpoint, {k: given[k] for k in rule.arguments})
        if rule.endpoint == "api.structure":
            path += "?id=" + frame
        if "GET" in rule.methods:
            asked[path] = client.get(path).status_code
with open("/proc/self/status") as stream:
    (line,) = [line for line in stream if line.startswith("VmRSS")]
print(json.dumps({"asked": asked, "loaded": sorted(sys.modules), "MB": int(line.split()[1]) / 1024}))
"""


@pytest.fixture(scope="module")
def found(uri, stored):
    frame = stored.structures.find_one({"stage": "frame"})["_id"]
    given = json.dumps([uri, stored.fireworks.find_one()["fw_id"], frame])
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=given,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_route_was_asked_and_answered(found):
    assert len(found["asked"]) > 40
    assert not [path for path, status in found["asked"].items() if status >= 500]
    answered = [path for path, status in found["asked"].items() if status in {200, 202}]
    for part in (
        "structures/of",
        "structures/file/cif",
        "structures/frames",
        "structures/map",
        "charts/hull.png",
    ):
        assert any(part in path for path in answered), (part, found["asked"])


def test_a_server_process_loads_nothing_that_computes(found):
    """numpy alone is there: FireWorks' own serialisation loads it where it is installed."""
    heavy = {"scipy", "ase", "matplotlib", "numba", "llvmlite", "spglib", "custodian", "quippy", "pandas"}
    assert {name.split(".")[0] for name in found["loaded"]} & heavy == set()
    assert not [
        name for name in found["loaded"] if name.startswith(("gapfactory.potentials", "gapfactory.report"))
    ]


def test_the_memory_of_a_server_process(found):
    """76 MB where this was written; the bound is half of what one worker may have with 10^6 structures."""
    assert found["MB"] < 110
