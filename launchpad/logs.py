"""One line for everything that happens, with a stable name: for people as text, for programs as JSON.

>>> logger.warning("launch %d is lost", 7, extra=event("launch.lost", launch_id=7))

The names and their fields are listed in docs/reference/logs.md. Passwords inside URIs are removed from every line.
"""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from gapfactory.errors import InputError

__all__ = ["FORMATS", "LOG_FORMAT", "LineFormatter", "configure_logs", "event"]

#: Environment variable that names the format of the logs of this process and of those that it starts.
LOG_FORMAT = "GAPFACTORY_LOG_FORMAT"

FORMATS = ("text", "json")

#: User and password of a URI.
_SECRET = re.compile(r"(?<=://)[^/@\s\"']+@")


def event(name: str, /, **fields: Any) -> dict[str, Any]:
    """Return what a logging call takes as `extra`: the name of what happened, and its fields."""
    return {"event": name, "fields": fields}


class LineFormatter(logging.Formatter):
    """Writes a record as one line.

    Parameters
    ----------
    form
        ``text``: time, process, level, logger, name of the event and its fields, then words for people;
        ``json``: the same as an object.
    """

    def __init__(self, form: str = "text") -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        name, fields = getattr(record, "event", None), getattr(record, "fields", {})
        message = record.getMessage()
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._json:
            content = {
                "time": moment,
                "level": record.levelname.lower(),
                "logger": record.name,
                "pid": record.process,
                "event": name,
                **{key: value for key, value in fields.items() if value is not None},
                "message": message,
                **({"trace": trace} if trace else {}),
            }
            line = json.dumps(content, default=str)
        else:
            pairs = [f"{key}={_plain(value)}" for key, value in fields.items() if value is not None]
            words = [moment, str(record.process), record.levelname, record.name]
            head = " ".join([*words, *([name] if name else []), *pairs])
            line = f"{head}: {message}" + (f" | {trace}" if trace else "")
            line = line.replace("\r", "\\r").replace("\n", "\\n")
        return _SECRET.sub("***@", line)


def _plain(value: object) -> str:
    """Return a value that has no blanks, quoted if it needs to be."""
    text = str(value)
    return text if re.fullmatch(r"[\w./:+@%-]+", text) else json.dumps(text)


def configure_logs(form: str | None = None, *, level: int = logging.INFO) -> None:
    """Send the logs of this process to standard error.

    Parameters
    ----------
    form
        One of `FORMATS`, also for the processes that this one starts (default: ``GAPFACTORY_LOG_FORMAT``, else text).
    level
        What is less important is left out.

    Raises
    ------
    InputError
        There is no such format.
    """
    wanted = form or os.environ.get(LOG_FORMAT) or "text"
    if wanted not in FORMATS:
        raise InputError(f"log format {wanted!r}: one of {', '.join(FORMATS)} (--log-format, {LOG_FORMAT})")
    if form is not None:
        os.environ[LOG_FORMAT] = form
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(wanted))
    # whatever a library has set up: a service is judged by its log
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("pymongo").setLevel(logging.WARNING)
