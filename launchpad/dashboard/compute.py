"""``python -m launchpad.dashboard.compute``: work out one thing that pages need; what, is read from standard input."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from bson.binary import Binary
from pymongo.errors import PyMongoError

from gapfactory.errors import GapFactoryError, ServiceError
from launchpad.dashboard.derived import FORM, LEASE_S, PARTS, RESULTS, stem
from launchpad.database.documents import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymongo.database import Database

    from launchpad.dashboard.works import Made

__all__ = ["Claim", "main"]

#: Bytes of one document of `PARTS`, far below the 16 MB of a document.
PIECE: Final = 4 * 2**20
#: Bytes of a whole result; a browser could not draw more.
MOST: Final = 64 * 2**20
#: News of the progress are written this often (seconds).
_NEWS_S: Final = 1.0


class Claim:
    """What this process has announced to work out; others may take it when nothing is heard of it any more."""

    def __init__(self, database: Database[Any], order: Mapping[str, Any]) -> None:
        self.database, self.order = database, order
        self._mine = {"_id": order["id"], "claim": order["claim"], "state": "computing"}
        self._progress: dict[str, Any] = {}
        self._ended = threading.Event()
        self._speaks = threading.Thread(target=self._speak, name="alive", daemon=True)

    def begin(self) -> None:
        """Say from now on that this process lives."""
        self._speaks.start()

    def tell(self, text: str, done: int = 0, total: int = 0) -> None:
        """Say how far the work is; ``total`` 0 where nobody knows."""
        self._progress = {"text": text, "done": done, "total": total}

    def fail(self, error: GapFactoryError) -> None:
        """Record why there is no result."""
        self._stop()
        failed = {"state": "failed", "reason": str(error), "code": error.code, "heard": now()}
        self.database[RESULTS].update_one(self._mine, {"$set": failed})

    def finish(self, made: Made) -> None:
        """Store the result; the one before stays until it is there.

        Raises
        ------
        ServiceError
            It is too large.
        """
        size = sum(len(data) for data in made.parts.values())
        if size > MOST:
            raise ServiceError(
                f"it has {size / 2**20:.0f} MB, more than the {MOST / 2**20:.0f} MB that are kept"
            )
        begin, claim = stem(self.order["id"]), self.order["claim"]
        parts = []
        for name, data in made.parts.items():
            pieces = range(0, len(data), PIECE)
            for number, start in enumerate(pieces):
                piece = {
                    "_id": f"{begin}/{claim}/{name}/{number}",
                    "data": Binary(data[start : start + PIECE]),
                }
                self.database[PARTS].insert_one(piece)
            digest = hashlib.sha256(data).hexdigest()
            parts.append({"name": name, "size": len(data), "pieces": len(pieces), "digest": digest})
        self._stop()
        content = {
            "claim": claim, "form": FORM, "of": self.order["of"], "made": now(), "facts": made.facts, "parts": parts,
        }  # fmt: skip
        done = {"state": "done", "content": content, "progress": {}, "heard": now()}
        before = self.database[RESULTS].find_one_and_update(self._mine, {"$set": done})
        # another process took over, or the one before is not needed any more; if this process is killed here, the
        # next one who claims the work removes it
        old = claim if before is None else (before["content"] or {}).get("claim")
        if old is not None:
            self.database[PARTS].delete_many({"_id": {"$gte": f"{begin}/{old}/", "$lt": f"{begin}/{old}0"}})

    def _stop(self) -> None:
        self._ended.set()
        if self._speaks.is_alive():
            self._speaks.join()

    def _speak(self) -> None:
        said, last = self._progress, time.monotonic()
        while not self._ended.wait(_NEWS_S):
            progress, moment = self._progress, time.monotonic()
            if progress == said and moment - last < LEASE_S / 4:
                continue
            try:
                found = self.database[RESULTS].update_one(
                    self._mine, {"$set": {"heard": now(), "progress": progress}}
                )
            except PyMongoError as error:
                sys.stderr.write(f"not heard: {error}\n")
                continue
            if not found.matched_count:
                # somebody else does it: nobody waits for this process
                os._exit(0)
            said, last = progress, moment


def _works() -> dict[str, Callable[..., Made]]:
    from launchpad.dashboard.works import charts, maps, published, rows, values

    return {
        "charts": charts.all_charts,
        "figures": published.published_figures,
        "picture": charts.picture,
        "rows": rows.write_rows,
        "map": maps.draw_map,
        "values": values.values_of_atoms,
    }


def main() -> None:
    """Do what standard input asks for; a failure that has a reason is a result as well."""
    from launchpad.database.connection import open_database

    order = json.load(sys.stdin)
    # nobody need live to end this process: the alarm does
    signal.setitimer(signal.ITIMER_REAL, order["limit_s"])
    os.nice(10)
    database = open_database(order["uri"])
    claim = Claim(database, order)
    claim.begin()
    try:
        claim.finish(_works()[order["kind"]](database, claim.tell, **order["arguments"]))
    except GapFactoryError as error:
        claim.fail(error)


if __name__ == "__main__":
    main()
