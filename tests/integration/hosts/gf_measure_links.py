"""How long until a worker's connection notices that its link is bad, and until it goes on: measured, in seconds.

Run as root: ``python tests/integration/hosts/gf_measure_links.py [OPTIONS OF THE URI]``; its table is part of
docs/evidence/several-hosts.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [
    str(ROOT),
    str(ROOT / "tests"),
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "remote"),
]

from gf_world import World, eventually  # noqa: E402

#: What a worker does all day, with the times of every command; runs on a host.
ASK = """
import json, os, sys, time
from pymongo.errors import PyMongoError
from launchpad.queue import Queue
with open(os.environ["GAPFACTORY_DB_FILE"]) as secret:
    queue = Queue.from_uri(secret.read())
print("ready", flush=True)
while True:
    begin = time.time()
    try:
        queue.fireworks.find_one({"fw_id": 1})
        ended = "ok"
    except PyMongoError as error:
        ended = type(error).__name__
    print(json.dumps([begin, time.time(), ended]), flush=True)
    time.sleep(0.1)
"""


def main() -> None:
    """Disturb one link in every way, and print what became of the commands on it."""
    options = sys.argv[1] if len(sys.argv) > 1 else ""
    with tempfile.TemporaryDirectory() as place, World(Path(place)) as world:
        host = world.network.host("host")
        address = world.link("host", f"{world.server.address}:27101", round_trip_ms=5)
        world.join(host, address=address, options=options or "appName=measure")
        link = world.links["host"]

        def silent_then_new(seconds: float) -> None:
            link.black_hole()
            time.sleep(seconds)
            link.heal()

        def packets_lost(seconds: float) -> None:
            world.network.drop(host)
            time.sleep(seconds)
            world.network.deliver(host)

        def refused(seconds: float) -> None:
            link.refuse()
            link.cut()
            time.sleep(seconds)
            link.accept()

        cases = [
            ("connections reset", link.cut, 0.0),
            ("connections closed", lambda: link.cut(reset=False), 0.0),
            ("server not there for 10 s", lambda: refused(10.0), 10.0),
            ("connections forgotten by a router (1 s of silence)", lambda: silent_then_new(1.0), 1.0),
            ("silent for 40 s, old connections forgotten", lambda: silent_then_new(40.0), 40.0),
            ("all packets lost for 10 s", lambda: packets_lost(10.0), 10.0),
            ("all packets lost for 60 s", lambda: packets_lost(60.0), 60.0),
        ]
        print("| what happens to the link | first error after (s) | works again, from its return (s) |")
        print("| --- | --- | --- |")
        for number, (name, disturb, lasts_s) in enumerate(cases):
            log = f"ask-{number}.log"
            asking = host.start([sys.executable, "-c", ASK], log=log, **world.of_host(host))

            def rows(path: Path = host.place / log) -> list[list[object]]:
                lines = path.read_text().splitlines() if path.exists() else []
                return [json.loads(line) for line in lines[1:] if line.endswith("]")]

            eventually(lambda rows=rows: len(rows()) > 20)
            begin = time.time()
            disturb()
            back = begin + lasts_s
            eventually(lambda rows=rows, back=back: any(r[2] == "ok" and r[0] > back for r in rows()), 180.0)
            time.sleep(1.0)
            found = rows()
            failed = [r for r in found if r[2] != "ok"]
            first = f"{failed[0][1] - begin:.1f} ({failed[0][2]})" if failed else "none seen"
            # a command that began in the dark and was answered in the end counts too
            again = min(r[1] for r in found if r[2] == "ok" and r[1] > back + 0.05)
            print(f"| {name} | {first} | {again - back:.1f} |", flush=True)
            asking.terminate()


if __name__ == "__main__":
    main()
