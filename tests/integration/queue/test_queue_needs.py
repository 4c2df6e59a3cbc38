"""Tasks that need more than a worker has are left to others; what tasks need comes from the campaign file."""

from __future__ import annotations

import time

import pytest
from fireworks import Firework
from fireworks.core.fworker import FWorker
from queue_tasks import Nothing

from gapfactory.campaign import parse_campaign
from launchpad.queue.offer import Offer
from launchpad.sites import Site
from launchpad.workflows.generation import generation_workflow

RESOURCES = """
execution:
  resources:
    reference: {cores: 32, memory_gb: 64, minutes: 1600}
    fit: {memory_gb: 50}
"""


def add(queue, **needs):
    return next(iter(queue.add_wf(Firework(Nothing(), spec={"needs": needs} if needs else {})).values()))


def taken(queue, **offer):
    queue.offer = Offer(**offer)
    found = queue.take(FWorker(name="test"), "/nowhere")
    return None if found is None else found.fw_id


def test_a_task_goes_where_its_needs_are_met(queue):
    large = add(queue, cores=32, memory_gb=64.0)
    long = add(queue, minutes=100.0)
    plain = add(queue)
    small = {"cores": 4, "memory_gb": 8.0, "until": time.time() + 600}
    assert taken(queue, **small) == plain
    assert taken(queue, **small) is None
    assert taken(queue, **{**small, "until": time.time() + 7200}) == long
    assert taken(queue, cores=32, memory_gb=63.9) is None
    assert taken(queue, cores=32, memory_gb=64.0) == large


def test_a_worker_that_says_nothing_takes_everything(queue):
    ids = {add(queue, cores=1000, memory_gb=1e6, minutes=1e6), add(queue)}
    assert {taken(queue), taken(queue)} == ids


def test_why_says_which_tasks_no_worker_can_take(queue):
    from launchpad import service
    from launchpad.database.campaigns import create_campaign
    from launchpad.database.connection import durable
    from launchpad.workers.registry import Registration

    text = f"preset: quickstart-Si-analytic\nname: si\n{RESOURCES}"
    campaign = parse_campaign(text)
    create_campaign(durable(queue.db), campaign, text, {})
    queue.add_wf(generation_workflow(campaign, 0))
    queue.fireworks.update_many({"spec._category": "reference"}, {"$set": {"state": "READY"}})
    Registration(queue, "worker", [], cores=16).report("idle")
    advice = service.explain(durable(queue.db), "si")["advice"]
    assert any("reference tasks need cores 32, memory_gb 64, minutes 1600" in line for line in advice), advice
    Registration(queue, "worker", [], cores=32, memory_gb=64.0).report("idle")
    advice = service.explain(durable(queue.db), "si")["advice"]
    assert not any("no worker has" in line for line in advice), advice


def test_the_specs_of_a_campaign_say_what_its_file_says():
    campaign = parse_campaign(f"preset: quickstart-Si-analytic\nname: si\n{RESOURCES}")
    needs = {
        firework.spec["_category"]: firework.spec.get("needs")
        for firework in generation_workflow(campaign, 0).fws
    }
    assert needs["reference"] == {"cores": 32, "memory_gb": 64.0, "minutes": 1600.0}
    assert needs["fit"] == {"memory_gb": 50.0}
    assert needs["build"] is None


@pytest.mark.parametrize(
    ("categories", "given", "wanted"),
    [
        (("reference",), {}, {"cores": 32, "workers": 1, "memory_gb": 64, "walltime": "26:42:00"}),
        (("reference",), {"workers": 2}, {"cores": 64, "workers": 2, "memory_gb": 128}),
        (("fit",), {"cores": 4}, {"cores": 4, "memory_gb": 200}),
        (("build",), {}, {"cores": 1}),
        ((), {"memory_gb": 512, "walltime": "01:00:00"}, {"cores": 32, "memory_gb": 512, "walltime": "01:00:00"}),
    ],
)  # fmt: skip
def test_a_pilot_asks_for_what_its_tasks_need(categories, given, wanted):
    resources = parse_campaign(f"element: Si\nname: si\n{RESOURCES}").execution.resources
    site = Site(scheduler="slurm", categories=categories, **Site.needed(resources, categories, given))
    assert {key: getattr(site, key) for key in wanted} == wanted
