"""Three hosts with bad links, equal names and wrong clocks run one campaign to the bits of a single machine."""

from __future__ import annotations

import json
import threading

import pytest
from gf_world import QUICK, World, eventually, seconds_until

pytestmark = [pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(300)]

#: One host's clock is ahead by this much.
FAST_S = 600
#: Options of workers that make no labels.
OTHER_WORK = [word for kind in ("build", "relax", "select", "fit", "assess") for word in ("-c", kind)]


class Weather(threading.Thread):
    """Disturbs a link, each time when its host is at work: cut, silent for longer than a heartbeat, than a lease."""

    SILENCES_S = (2.5, 7.0, 2.5)

    def __init__(self, world, name, node):
        super().__init__(daemon=True)
        self.world, self.link, self.node = world, world.links[name], node
        self.over = threading.Event()
        self.done = []

    def run(self):
        for silent_s in self.SILENCES_S:
            for disturb in (self._cut, self._silence):
                while not self.world.launches(self.node, "RUNNING"):
                    if self.over.wait(0.02):
                        return
                disturb(silent_s)
                self.over.wait(0.5)

    def _cut(self, _):
        self.done.append(("cut", self.link.cut()))

    def _silence(self, seconds):
        self.link.black_hole()
        self.over.wait(seconds)
        self.link.heal()
        self.done.append(("silent", seconds))


def test_one_campaign_on_three_hosts(namespaces, tmp_path, tiny, tiny_campaign, capsys):
    with World(tmp_path) as world:
        server = world.server
        # two clusters whose nodes have one name, three ways to name the server
        near = world.network.host("near", hostname="node001", names={server.address: "db.cluster.example"})
        far = world.network.host("far", hostname="node001")
        shaky = world.network.host("shaky")
        world.link("near", f"{server.address}:27101", round_trip_ms=5)
        world.join(near, address="db.cluster.example:27101")
        world.join(far, address=world.link("far", f"{server.address}:27102", round_trip_ms=50))
        world.join(shaky, address=world.link("shaky", f"[{server.address6}]:27103"))
        nodes = {host.name: world.node(host) for host in (near, far, shaky)}
        assert len(set(nodes.values())) == 3
        (server.place / "tiny.yaml").write_text(tiny(generations=2))
        world.gapfactory("campaign", "submit", "tiny.yaml")

        weather = Weather(world, "shaky", nodes["shaky"])
        try:
            world.work(far)
            eventually(lambda: world.launches(nodes["far"], "COMPLETED"))
            # the campaign cannot end without the host of the bad link: only there are labels made from now on
            world.work_with_wrong_clock(near, FAST_S, *OTHER_WORK)
            world.work(shaky, "-c", "reference")
            weather.start()
            eventually(lambda: world.workers(nodes["near"]))
            (lost,) = eventually(lambda: world.launches(nodes["far"], "RUNNING"), step_s=0.01)
            far.kill()
            noticed_s = seconds_until(lambda: world.state_of_launch(lost["launch_id"]) != "RUNNING")
            eventually(lambda: world.campaign("tiny") not in {"submitted", "running"}, limit_s=150)
            weather.over.set()
            weather.join(20)
            assert world.campaign("tiny") == "done"
            found = json.loads(world.gapfactory("campaign", "digest", "tiny", "--json"))
            assert found == tiny_campaign.json("campaign", "digest", "tiny")

            # who did what
            done = {name: len(world.launches(node, "COMPLETED")) for name, node in nodes.items()}
            assert min(done.values()) >= 1, done
            tasks = list(world.database.fireworks.find({}, {"fw_id": 1, "state": 1, "launches": 1}))
            assert sum(done.values()) == len(tasks), "every result is there once"
            assert {task["state"] for task in tasks} == {"COMPLETED"}
            again = next(task for task in tasks if task["fw_id"] == lost["fw_id"])
            assert again["launches"] != [lost["launch_id"]]
            assert noticed_s < 3 * QUICK["queue"]["lease_s"]
            silent = [seconds for what, seconds in weather.done if what == "silent"]
            assert silent[:2] == [2.5, 7.0], weather.done
            offsets = [entry["clock_offset_s"] for entry in world.workers(nodes["near"])]
            assert all(abs(offset - FAST_S) < 5 for offset in offsets), offsets

            # one word stops the workers of all hosts; the entries of the dead one say so
            assert {entry["state"] for entry in world.workers(nodes["far"])} == {"stopped"}
            world.gapfactory("worker", "stop", "--everywhere")
            for host in (near, shaky):
                assert world.ended(host) == 0
            assert json.loads(world.gapfactory("worker", "list", "--json")) == []
        except BaseException:
            with capsys.disabled():
                print(world.logs())  # noqa: T201 - the directory of the hosts is not kept
            raise
