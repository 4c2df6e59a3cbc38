"""What the benchmark of the dashboard asks for: every page, fragment and read, as people and programs do."""

from __future__ import annotations

import http.client
import json
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from gf_dashboard_data import CAMPAIGNS, GENERATIONS, Size, name_of

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["GROUP", "LEFT_OUT", "PASSWORD", "Ask", "Client", "asked", "page"]

GROUP = "gapfactory"
PASSWORD = "correct horse battery"  # noqa: S105 - of a database that lives as long as the measurement
#: Routes that are not asked, and why.
LEFT_OUT = {
    "static": "files from the disk",
    "campaigns.picture": "drawn by a process of its own, then a file from the disk: not a page",
}


@dataclass(frozen=True)
class Ask:
    """Something to ask for: what it is, route, path, and the answers that are as they should be."""

    label: str
    endpoint: str
    path: str
    status: tuple[int, ...] = (200,)


def page(path: str, **arguments: Any) -> str:
    """Return a path of the group with arguments."""
    text = f"/g/{GROUP}{path}"
    return f"{text}?{urlencode(arguments, doseq=True)}" if arguments else text


class Asker(Protocol):
    """Who can ask."""

    def ask(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, content and headers."""
        ...


class Client:
    """One connection of one person."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self.headers: dict[str, str] = {"Accept": "text/html"}

    def ask(self, path: str, body: str | None = None) -> tuple[int, bytes, dict[str, str]]:
        """Send a request."""
        headers = dict(self.headers)
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        try:
            self._connection.request("GET" if body is None else "POST", path, body, headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            # it had been idle for too long
            self._connection.close()
            self._connection.request("GET" if body is None else "POST", path, body, headers)
            answer = self._connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}

    def log_in(self, name: str) -> None:
        """Log in as somebody."""
        body = urlencode({"group": GROUP, "name": name, "password": PASSWORD})
        status, text, headers = self.ask("/login", body)
        if status != 303:
            raise SystemExit(f"no login: {status} {text[:300]!r}")
        self.headers["Cookie"] = headers["set-cookie"].partition(";")[0]


def asked(database: Database[Any], size: Size, client: Asker) -> list[Ask]:
    """Return what is asked for: every page with the filters, orders and places in its table that people use."""
    big, small = name_of(0), name_of(3)
    last = GENERATIONS - 1
    _, many = size.tasks_of(0)
    # a task of the small campaign
    some = 3 * (size.tasks // CAMPAIGNS) + many // 5
    chosen = database.selections.find_one({"_id": f"{big}/g{last:03d}"}, {"train": 1})
    frame = chosen["train"][10] if chosen else ""
    cell = f"{big}/g004/cell/{size.cells // 2:06d}"
    relaxation = frame.partition("/frame/")[0]
    energies = [
        r["energy"] for r in database.dashboard_rows.find({"campaign": big, "label": "done"}, {"energy": 1})
    ]
    middle = statistics.median(energy for energy in energies if energy is not None)
    some_hash = database.structures.find_one({"_id": cell}, {"hash": 1})
    found = [
        Ask("form of the login", "login.form", "/login"),
        Ask("the address itself", "login.start", "/", (200, 302)),
        Ask("health check", "login.healthz", "/healthz"),
        Ask("numbers for Prometheus", "programs.metrics", page("/metrics")),
        Ask("description of the API", "programs.openapi", "/api/v1/openapi.json"),
        Ask("description to read", "programs.readable", "/api/v1/"),
        Ask("overview", "overview.page", page("/")),
        Ask("overview, live part", "overview.now", page("/overview/now")),
        Ask("campaigns", "campaigns.page", page("/campaigns/")),
        Ask("campaigns, live part", "campaigns.now", page("/campaigns/now")),
        Ask("campaign", "campaigns.one", page(f"/campaigns/{big}/")),
        Ask("campaign, live part", "campaigns.one_now", page(f"/campaigns/{big}/now")),
        Ask("campaign, ordinary", "campaigns.one", page(f"/campaigns/{small}/")),
        Ask("settings", "campaigns.settings", page(f"/campaigns/{big}/settings")),
        Ask("settings against a campaign", "campaigns.settings", page(f"/campaigns/{big}/settings", **{"with": small})),
        Ask("fits of two generations", "campaigns.settings",
            page(f"/campaigns/{big}/settings", **{"from": 0, "to": last - 1})),
        Ask("recoveries", "campaigns.recoveries", page(f"/campaigns/{big}/recoveries")),
        Ask("chart: learning curve", "campaigns.chart", page(f"/campaigns/{small}/charts/learning_curve.json")),
        Ask("chart: parity", "campaigns.chart", page(f"/campaigns/{small}/charts/energy_scatter.json")),
        Ask("chart: training set", "campaigns.chart", page(f"/campaigns/{small}/charts/training_set.json")),
        Ask("numbers of a chart", "campaigns.table", page(f"/campaigns/{small}/charts/training_set.csv")),
        Ask("workers", "workers.page", page("/workers")),
        Ask("workers, live part", "workers.now", page("/workers/now")),
        Ask("accounts", "users.page", page("/users/")),
        Ask("own account", "users.own", page("/account/")),
        Ask("audit trail", "users.trail", page("/audit/")),
        Ask("queue", "queue.page", page("/queue")),
        Ask("queue, live part", "queue.now", page("/queue/now")),
        Ask("task, one of a big layer", "tasks.page", page(f"/tasks/{some + many // 4}")),
        Ask("task that waits for all", "tasks.page", page(f"/tasks/{many // 2 + 1}")),
        Ask("failed task", "tasks.page", page(f"/tasks/{_failed(database)}")),
        Ask("task, live part", "tasks.now", page(f"/tasks/{some}/now")),
        Ask("tasks of a generation", "tasks.graph", page(f"/campaigns/{small}/generations/{last}/tasks")),
        Ask("the same, live part", "tasks.graph_now", page(f"/campaigns/{small}/generations/{last}/tasks/now")),
        Ask("tasks of a big generation", "tasks.graph",
            page(f"/campaigns/{name_of(CAMPAIGNS - 1)}/generations/1/tasks")),
        Ask("the same, live part", "tasks.graph_now",
            page(f"/campaigns/{name_of(CAMPAIGNS - 1)}/generations/1/tasks/now")),
        Ask("structure: random cell", "structures.page", page(f"/structures/of/{quote(cell)}")),
        Ask("structure: labelled frame", "structures.page", page(f"/structures/of/{quote(frame)}")),
        Ask("structure: relaxation", "structures.page", page(f"/structures/of/{quote(relaxation)}")),
        Ask("trajectory for the viewer", "structures.frames", page(f"/structures/frames/{quote(relaxation)}")),
        Ask("structure for the map", "structures.atoms", page(f"/structures/atoms/{quote(relaxation)}")),
        Ask("extxyz", "structures.file", page(f"/structures/file/extxyz/{quote(relaxation)}", trajectory=1)),
        Ask("cif", "structures.file", page(f"/structures/file/cif/{quote(cell)}")),
        # worked out by a process of its own
        Ask("values of atoms", "structures.values", page(f"/structures/values/{quote(frame)}"), (200, 202)),
        Ask("map", "structures.map_page", page(f"/structures/map/{big}/{last}")),
        Ask("map, how far it is", "structures.map_now", page(f"/structures/map/{big}/{last}/now")),
        Ask("map of the campaign", "structures.map_page", page(f"/structures/map/{big}/")),
        Ask("map of the campaign, how far it is", "structures.map_now", page(f"/structures/map/{big}/now")),
        Ask("map of the campaign, points", "structures.map_data", page(f"/structures/map/{big}/data")),
        Ask("map, points", "structures.map_data", page(f"/structures/map/{big}/{last}/data")),
        Ask("API: campaigns", "api.campaigns", page("/api/v1/campaigns")),
        Ask("API: campaign", "api.campaign", page(f"/api/v1/campaigns/{big}")),
        Ask("API: generations", "api.generations", page(f"/api/v1/campaigns/{big}/generations")),
        Ask("API: generation", "api.metrics_of_generation", page(f"/api/v1/campaigns/{big}/generations/{last - 1}")),
        Ask("API: structure", "api.structure", page("/api/v1/structure", id=cell)),
        Ask("API: task", "api.task", page(f"/api/v1/tasks/{some}")),
        Ask("API: queue", "api.queue", page("/api/v1/queue")),
        Ask("API: workers", "api.workers", page("/api/v1/workers")),
    ]  # fmt: skip
    tasks: dict[str, dict[str, Any]] = {
        "all": {},
        "oldest first": {"sort": "id"},
        "200 rows": {"size": 200},
        "state (few)": {"state": "FIZZLED"},
        "state (most)": {"state": "COMPLETED"},
        "state (none)": {"state": "PAUSED"},
        "kind (few)": {"kind": "fit"},
        "kind (most)": {"kind": "reference"},
        "campaign": {"campaign": name_of(7)},
        "campaign, none such": {"campaign": "nobody"},
        "campaign, state, kind": {"campaign": name_of(7), "state": "COMPLETED", "kind": "relax"},
        "campaign, kind (few)": {"campaign": big, "kind": "assess"},
        "state, kind (few)": {"state": "COMPLETED", "kind": "fit"},
        "generation": {"generation": 3},
        "generation, none such": {"generation": 99},
        "generation, kind": {"generation": 3, "kind": "relax"},
        "campaign, generation, kind": {"campaign": small, "generation": last, "kind": "reference"},
        "generation, state (few)": {"generation": last, "state": "FIZZLED"},
        "ids": {"id_min": some, "id_max": some + 10},
        "ids (most), state": {"id_min": 10, "state": "READY"},
        "ids, campaign (none)": {"campaign": name_of(7), "id_min": 10**8},
        "ids, campaign elsewhere": {"campaign": name_of(CAMPAIGNS - 1), "id_max": some},
        "name": {"name": f"{name_of(7)} g003 relax"},
        "name (most)": {"name": "camp"},
        "name (a campaign)": {"name": name_of(7)},
        "name (a generation), state": {"name": f"{name_of(7)} g003", "state": "COMPLETED"},
        "name, none such": {"name": "zzz"},
    }
    for label, arguments in tasks.items():
        found.append(Ask(f"tasks: {label}", "queue.table", page("/queue/table", **arguments)))
        found.append(Ask(f"API tasks: {label}", "api.tasks", page("/api/v1/tasks", **arguments)))
    for label, arguments in {
        "all": {},
        "campaign, state": {"campaign": big, "state": "COMPLETED"},
        "name": {"name": name_of(7)},
    }.items():
        deep = _deep(client, page("/api/v1/tasks", **arguments, size=200), 12)
        found.append(
            Ask(
                f"tasks: {label}, page 13",
                "queue.table",
                page("/queue/table", **arguments, size=200, after=deep),
            )
        )
        found.append(
            Ask(
                f"API tasks: {label}, page 13",
                "api.tasks",
                page("/api/v1/tasks", **arguments, size=200, after=deep),
            )
        )
    tables: dict[str, dict[str, Any]] = {
        "chosen": {"campaign": big},
        "chosen, 200 rows": {"campaign": big, "size": 200},
        "chosen, by energy": {"campaign": big, "sort": "energy"},
        "chosen, by force, largest first": {"campaign": big, "sort": "-force"},
        "chosen, generation": {"campaign": big, "generation": 4},
        "chosen, failed": {"campaign": big, "label": "failed"},
        "chosen, fault, by force": {"campaign": big, "fault": "self-consistency not reached", "sort": "-force"},
        "chosen, held out and waiting": {"campaign": big, "purpose": "held-out", "label": "waiting"},
        "chosen, generation, held out, failed": {"campaign": big, "generation": last, "purpose": "held-out",
            "label": "failed"},
        "chosen, composition": {"campaign": big, "composition": "Si"},
        "chosen, composition, none such": {"campaign": big, "composition": "Xx"},
        "chosen, energy window": {"campaign": big, "energy_min": middle, "energy_max": middle + 0.01},
        "chosen, energy and force windows": {
            "campaign": big, "energy_min": middle - 0.05, "energy_max": middle + 0.05, "force_min": 2.5,
            "force_max": 2.6
        },
        "chosen, energy and force windows (none)": {
            "campaign": big, "energy_min": middle - 1, "energy_max": middle + 1, "force_min": 90
        },
        "chosen, energy window by rank": {"campaign": big, "energy_min": middle, "sort": "rank", "label": "done"},
        "chosen, rank window, failed": {"campaign": big, "rank_min": 5_000_000, "label": "failed"},
        "cells": {"campaign": big, "view": "cell"},
        "cells, backwards": {"campaign": big, "view": "cell", "sort": "-index"},
        "cells, generation, composition": {"campaign": big, "view": "cell", "generation": 4, "composition": "Si"},
        "cells, composition, none such": {"campaign": big, "view": "cell", "composition": "Xx"},
        "relaxations": {"campaign": big, "view": "relaxation"},
        "relaxations, by energy": {"campaign": big, "view": "relaxation", "sort": "final"},
        "relaxations, status": {"campaign": big, "view": "relaxation", "status": "failed"},
        "relaxations, status, window": {
            "campaign": big, "view": "relaxation", "status": "converged", "final_min": -4.2, "final_max": -4.1,
            "sort": "-final",
        },
    }  # fmt: skip
    for label, arguments in tables.items():
        found.append(Ask(f"structures: {label}", "structures.table", page("/structures/", **arguments)))
        if label in ("chosen", "cells", "relaxations"):
            found.append(
                Ask(f"structures: {label}, live part", "structures.now", page("/structures/now", **arguments))
            )
    for label in ("chosen", "chosen, by energy", "cells", "relaxations, by energy"):
        arguments = {**tables[label], "size": 200}
        deep = _deep_page(client, page("/structures/", **arguments), 12)
        found.append(
            Ask(
                f"structures: {label}, page 13",
                "structures.table",
                page("/structures/", **arguments, after=deep),
            )
        )
    for label, arguments in {
        "all": {},
        "oldest first": {"sort": "id"},
        "campaign": {"campaign": big},
        "campaign, none such": {"campaign": "nobody"},
        "campaign, generation": {"campaign": big, "generation": 4},
        "campaign, generation, frames": {"campaign": big, "generation": 4, "stage": "frame"},
        "campaign, generation, dimers": {"campaign": big, "generation": 0, "stage": "dimer"},
        "campaign, generation, composition": {"campaign": big, "generation": 4, "composition": "Si"},
        "campaign, generation, frames, composition": {
            "campaign": big, "generation": 4, "stage": "frame", "composition": "Si"
        },
        "hash": {"hash": (some_hash or {}).get("hash", "")},
        "hash and campaign": {"hash": (some_hash or {}).get("hash", ""), "campaign": big},
        "hash, none such": {"hash": "0" * 64},
        "id": {"id": cell},
    }.items():  # fmt: skip
        found.append(
            Ask(f"API structures: {label}", "api.structures", page("/api/v1/structures", **arguments))
        )
    # these say that more has to be named
    for label, arguments in {
        "generation": {"generation": 4},
        "composition": {"composition": "Xx"},
        "stage": {"stage": "cell"},
    }.items():
        found.append(
            Ask(
                f"API structures: {label} alone",
                "api.structures",
                page("/api/v1/structures", **arguments),
                (400,),
            )
        )
    deep = _deep(client, page("/api/v1/structures", campaign=big, size=200), 12)
    found.append(
        Ask("API structures: campaign, page 13", "api.structures",
            page("/api/v1/structures", campaign=big, size=200, after=deep))
    )  # fmt: skip
    return found


def _failed(database: Database[Any]) -> int:
    found = database.fireworks.find_one({"state": "FIZZLED"}, {"fw_id": 1})
    return int(found["fw_id"]) if found else 1


def _deep(client: Asker, path: str, pages: int) -> str:
    """Go on for some pages of the API; return where the next one begins."""
    after = ""
    for _ in range(pages):
        _, text, _ = client.ask(f"{path}&after={after}" if after else path)
        following = json.loads(text).get("following")
        if following is None:
            break
        after = following
    return after


def _deep_page(client: Asker, start: str, pages: int) -> str:
    """Go on for some pages of a table; return where the next one begins."""
    after = ""
    for _ in range(pages):
        _, text, _ = client.ask(f"{start}&after={after}" if after else start)
        following = re.search(rb"[?&;]after=([A-Za-z0-9_=%-]+)", text)
        if following is None:
            break
        after = following.group(1).decode()
    return after.replace("%3D", "=")
