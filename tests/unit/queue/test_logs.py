"""Lines of the logs: stable names, both formats, no password."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gapfactory.errors import InputError
from launchpad.logs import LineFormatter, configure_logs, event

ROOT = Path(__file__).parents[3]


def line(form, message, *arguments, extra=None, error=None):
    logger = logging.getLogger("launchpad.queue")
    information = (type(error), error, None) if error else None
    record = logger.makeRecord(
        logger.name, logging.WARNING, "f", 1, message, arguments, information, extra=extra
    )
    return LineFormatter(form).format(record)


def test_text():
    said = line(
        "text", "launch %d\nis lost", 7, extra=event("launch.lost", launch_id=7, reason="it died", host=None)
    )
    _, process, level, rest = said.split(" ", 3)
    assert (level, rest) == (
        "WARNING",
        'launchpad.queue launch.lost launch_id=7 reason="it died": launch 7\\nis lost',
    )
    assert int(process)
    assert line("text", "words").endswith(" WARNING launchpad.queue: words")


def test_json():
    said = json.loads(line("json", "launch %d", 7, extra=event("launch.lost", launch_id=7, path=Path("/a"))))
    assert said["event"] == "launch.lost"
    assert (said["level"], said["launch_id"], said["path"], said["message"]) == (
        "warning",
        7,
        "/a",
        "launch 7",
    )
    assert json.loads(line("json", "words", error=ValueError("x")))["trace"] == "ValueError: x"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_password(form):
    uri = "mongodb://me:s3cret%2Fx@db.example.org:27017,other:1/group?authSource=admin"
    error = ValueError(f"cannot reach {uri}")
    for said in (
        line(form, "away: %s", uri),
        line(form, "away", extra=event("database.away", uri=uri)),
        line(form, "away", error=error),
    ):
        assert "s3cret" not in said
        assert "://***@db.example.org" in said


def test_the_page_lists_every_event():
    used = {}
    for path in (ROOT / "launchpad").rglob("*.py"):
        text = path.read_text()
        for call in re.finditer(r"\bevent\(\s*(\"[^)]*?)[,)]", text):
            for name in re.findall(r'"([a-z_]+\.[a-z_]+)"', text[call.start() : call.start() + 120]):
                used.setdefault(name, path.name)
    page = (ROOT / "docs/reference/logs.md").read_text()
    listed = {
        name
        for row in re.findall(r"^\| (`[^|]*`) \|", page, flags=re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", row)
    }
    assert set(used) - {"launch.lost"} == listed - {"launch.lost"}, set(used) ^ listed


def test_formats_that_do_not_exist(monkeypatch):
    with pytest.raises(InputError, match="one of text, json"):
        configure_logs("xml")
    monkeypatch.setenv("GAPFACTORY_LOG_FORMAT", "yaml")
    with pytest.raises(InputError, match="log format 'yaml'"):
        configure_logs()


def test_a_process_writes_to_standard_error_and_hands_the_format_on(tmp_path):
    code = (
        "import logging, os; from launchpad.logs import configure_logs, event\n"
        "configure_logs('json')\n"
        "logging.getLogger('launchpad.x').info('hello', extra=event('task.done', fw_id=1))\n"
        "print(os.environ['GAPFACTORY_LOG_FORMAT'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "json\n"
    assert json.loads(done.stderr)["event"] == "task.done"
