"""Hosts with bad links, equal names, wrong clocks, one behind SSH: one campaign, the bits of a single machine."""

from __future__ import annotations

import threading
import time

import pytest
from gf_world import QUICK, World, eventually, seconds_until

from launchpad.database.digest import campaign_digests
from launchpad.workers import list_workers

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.database, pytest.mark.timeout(600)]

#: One host's clock is ahead by this much.
FAST_S = 600
#: Who does what, so that the campaign cannot end without each of them.
NEAR = [word for kind in ("select", "fit", "assess") for word in ("-c", kind)]
SHAKY = ["-c", "reference"]
SITE = ["build", "relax"]


class Weather(threading.Thread):
    """Disturbs a link, each time when its host is at work: cut, silent for longer than a heartbeat, than a lease."""

    SILENCES_S = (2.5, 7.0)

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


def stopped_in_a_task(world, host, node):
    """Stop all processes of a host; return the launch that one of them is at, if they were stopped in time."""
    if not world.launches(node, "RUNNING"):
        return None
    host.good(["sh", "-c", "kill -STOP -1"])
    time.sleep(0.5)  # what is on its way to the database arrives
    found = world.launches(node, "RUNNING")
    if not found:
        host.good(["sh", "-c", "kill -CONT -1"])
    return found[0] if found else None


def test_one_campaign_on_four_hosts(namespaces, programs, tmp_path, tiny, tiny_campaign, capsys):
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
        # a cluster behind SSH: one wire to the host of the database, and on it no way to the database
        closed = world.network.host("closed", routed=False)
        here, door = world.network.wire(server, closed)
        nodes = {host.name: world.node(host) for host in (near, far, shaky)}
        assert len(set(nodes.values())) == 3
        (server.place / "tiny.yaml").write_text(tiny(generations=2))
        world.gapfactory("campaign", "submit", "tiny.yaml")
        weather = Weather(world, "shaky", nodes["shaky"])
        try:
            with world.site(closed, door, categories=SITE):
                for address in (here, server.address):
                    assert world.no_way(closed, address)
                world.push()
                world.work(far)
                eventually(lambda: world.launches(nodes["far"], "COMPLETED"))
                world.work_with_wrong_clock(near, FAST_S, *NEAR)
                world.work(shaky, *SHAKY)
                weather.start()
                lost = eventually(lambda: stopped_in_a_task(world, far, nodes["far"]), step_s=0.01)
                far.kill()
                noticed_s = seconds_until(lambda: world.state_of_launch(lost["launch_id"]) != "RUNNING")
                eventually(lambda: world.launches("push/site", "RUNNING"))
                cuts = world.links["closed"].cut()
                eventually(lambda: world.campaign("tiny") not in {"submitted", "running"}, limit_s=300)
                weather.over.set()
                weather.join(20)
                assert world.campaign("tiny") == "done"
                assert campaign_digests(world.database, "tiny") == tiny_campaign.json(
                    "campaign", "digest", "tiny"
                )

                # everybody had a part; every result is there once; what the killed host was at ran elsewhere
                done = {name: len(world.launches(node, "COMPLETED")) for name, node in nodes.items()}
                done["closed"] = len(world.launches("push/site", "COMPLETED"))
                assert min(done.values()) >= 1, done
                tasks = list(world.database.fireworks.find({}, {"fw_id": 1, "state": 1, "launches": 1}))
                assert {task["state"] for task in tasks} == {"COMPLETED"}
                assert sum(done.values()) == len(tasks)
                again = next(task for task in tasks if task["fw_id"] == lost["fw_id"])
                assert again["launches"] != [lost["launch_id"]]
                assert noticed_s < 3 * QUICK["queue"]["lease_s"]
                assert [seconds for what, seconds in weather.done if what == "silent"] == [2.5, 7.0]
                assert cuts
                offsets = [entry["clock_offset_s"] for entry in world.workers(nodes["near"])]
                assert all(abs(offset - FAST_S) < 5 for offset in offsets), offsets

                # one word stops the workers of all hosts; the entries of the killed one say so
                assert {entry["state"] for entry in world.workers(nodes["far"])} == {"stopped"}
                world.gapfactory("worker", "stop", "--everywhere")
                for host in (near, shaky, server):
                    assert world.ended(host) == 0
                assert list_workers(world.database) == []
        except BaseException:
            with capsys.disabled():
                print(world.logs())  # noqa: T201 - the directory of the hosts is not kept
            raise
