"""Settings of workers from a file, and names of machines that are not unique."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from gapfactory.errors import InputError
from launchpad.queue.identity import ProcessIdentity
from launchpad.workers.configuration import ServiceSettings, service_settings
from launchpad.workers.registry import worker_id


def test_settings_from_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("GAPFACTORY_SETTINGS", raising=False)
    assert service_settings() == ServiceSettings()
    path = tmp_path / "site.yaml"
    path.write_text("queue: {heartbeat_s: 5, lease_s: 20}\nsupervisor: {reap_s: 1}\n")
    monkeypatch.setenv("GAPFACTORY_SETTINGS", str(path))
    found = service_settings()
    assert (found.queue.heartbeat_s, found.queue.lease_s, found.supervisor.reap_s) == (5, 20, 1)
    assert found.worker == ServiceSettings().worker
    path.write_text("")
    assert service_settings(path) == ServiceSettings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("queue: {heartbeat_s: 60, lease_s: 100}", "below two heartbeats"),
        ("queue: {heartbeats: 60}", "queue.heartbeats: Extra inputs"),
        ("worker: [1", "cannot be read"),
        ("[1]", "valid dictionary"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        service_settings(path)
    with pytest.raises(InputError, match="cannot be read"):
        service_settings(tmp_path / "none.yaml")


def test_equal_names_on_two_clusters_are_two_machines():
    mine = ProcessIdentity.current()
    theirs = dataclasses.replace(mine, node="another-boot/pid:[4026531836]")
    assert mine.here
    assert not theirs.here
    assert worker_id(mine) != worker_id(theirs)
    assert mine.node_tag != theirs.node_tag
    assert theirs.fate == "unknown"


def test_the_page_names_every_setting():
    page = (Path(__file__).parents[3] / "docs/reference/worker-settings.md").read_text()
    for name in ServiceSettings.model_fields:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        named = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
        known = list(type(getattr(ServiceSettings(), name)).model_fields)
        assert named == known, f"docs/reference/worker-settings.md differs: {set(named) ^ set(known)}"
        for key, shown in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", section, flags=re.MULTILINE):
            assert getattr(getattr(ServiceSettings(), name), key) == float(shown), (
                f"default of {key} on the page"
            )
