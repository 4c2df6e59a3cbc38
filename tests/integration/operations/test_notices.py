"""People are told of everything once, whoever watches, whatever dies, however long a receiver is away."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time

import pytest
from bson import json_util
from gf_receivers import WebServer

from launchpad.database.campaigns import set_state
from launchpad.database.connection import open_database
from launchpad.database.documents import CampaignDocument
from launchpad.operations.notices import Notifier
from launchpad.operations.send import SendError
from launchpad.operations.settings import NoticeSettings, Quota, TargetSettings, WebhookSettings
from launchpad.operations.stored import store_quota
from launchpad.states import CampaignState

pytestmark = [pytest.mark.database]

KEY = "key-of-the-signature"


def settings_for(port: int = 9, **more) -> NoticeSettings:
    hook = WebhookSettings(url=f"http://127.0.0.1:{port}/hook")
    quick = {"retry_first_s": 0.001, "quota_every_s": 0.001, "send_limit_s": 0.5}
    return NoticeSettings(targets=(TargetSettings(name="chat", webhook=hook),), **(quick | more))


def add_campaign(database, name: str) -> None:
    document = CampaignDocument(id=name, file="", settings={}, digest="").to_bson()
    database.campaigns.insert_one({**document, "state": "running"})


@pytest.fixture
def told():
    """What was delivered, and a function that delivers."""
    found: list[dict] = []

    def deliver(target, notice, *, limit_s) -> None:
        found.append({"target": target.name, **notice})

    return found, deliver


def since_long_ago(database, what: str) -> None:
    assert database.notices.update_one({"_id": f"seen/{what}"}, {"$inc": {"since": -7200.0}}).matched_count


def test_an_end_is_told_once_by_however_many_and_what_was_before_by_nobody(
    database, database_uri, told
) -> None:
    found, deliver = told
    for name in ("before", "si", "ge"):
        add_campaign(database, name)
    set_state(database, "before", CampaignState.DONE, "long ago")
    assert Notifier(database, settings_for(), deliver=deliver).step() == 0
    set_state(database, "si", CampaignState.DONE, "budget reached")
    set_state(database, "ge", CampaignState.HALTED, "quorum")

    watchers = [open_database(database_uri) for _ in range(4)]
    notifiers = [Notifier(watcher, settings_for(), deliver=deliver) for watcher in watchers]
    threads = [threading.Thread(target=lambda n=n: [n.step() for _ in range(3)]) for n in notifiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted((n["event"], n["details"]["campaign"]) for n in found) == [("done", "si"), ("halted", "ge")]
    assert "budget reached" in next(n["text"] for n in found if n["event"] == "done")

    # another halt is another occasion, a restart is none
    set_state(database, "ge", CampaignState.RUNNING, "resumed")
    set_state(database, "ge", CampaignState.HALTED, "quorum")
    for _ in range(2):
        Notifier(database, settings_for(), deliver=deliver).step()
    assert [n["event"] for n in found[2:]] == ["halted"]
    # somebody who is added later is not told of all that was before
    second = settings_for().model_copy(
        update={
            "targets": (*settings_for().targets, settings_for().targets[0].model_copy(update={"name": "new"}))
        }
    )
    Notifier(database, second, deliver=deliver).step()
    assert len(found) == 3
    for watcher in watchers:
        watcher.client.close()


def test_what_is_recorded_is_not_written_again(database, told, monkeypatch) -> None:
    """A group has hundreds of campaigns that have ended, and they are looked at every half minute."""
    from pymongo.collection import Collection

    _, deliver = told
    for number in range(3):
        add_campaign(database, f"c{number}")
        set_state(database, f"c{number}", CampaignState.DONE, "budget reached")
    notifier = Notifier(database, settings_for(), deliver=deliver)
    notifier.step()
    written: list[str] = []
    original = Collection.update_one

    def noted(self, *arguments, **options):
        written.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Collection, "update_one", noted)
    notifier.step()
    assert written == []
    add_campaign(database, "c3")
    set_state(database, "c3", CampaignState.HALTED, "quorum")
    written.clear()
    notifier.step()
    assert "notices" in written


def test_a_receiver_that_is_away_gets_it_later_and_one_that_stays_away_is_given_up(
    database, tmp_path, caplog
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    add_campaign(database, "si")
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    hook = WebhookSettings(url=f"http://127.0.0.1:{port}/token-1234", secret_file=key)
    settings = settings_for().model_copy(update={"targets": (TargetSettings(name="chat", webhook=hook),)})
    notifier = Notifier(database, settings)
    notifier.step()
    set_state(database, "si", CampaignState.DONE, "budget reached")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert notifier.step() == 0
        waiting = database.notices.find_one({"event": "done"})
        assert (waiting["state"], waiting["fault"]) == (
            "pending",
            "the webhook did not take it: ConnectionRefusedError",
        )
        assert waiting["attempts"] >= 1
        with WebServer(port=port) as server:
            # by another process, after a restart
            time.sleep(0.05)  # longer than the last pause
            assert Notifier(database, settings).step() == 1
            assert Notifier(database, settings).step() == 0
        assert [n["event"] for n in server.notices] == ["done"]
        set_state(database, "si", CampaignState.CANCELLED, "")  # not allowed: it is done
        add_campaign(database, "ge")
        set_state(database, "ge", CampaignState.CANCELLED, "by a person")
        impatient = settings.model_copy(update={"give_up_after_s": 1e-6})
        assert Notifier(database, impatient).step() == 0
    assert database.notices.find_one({"event": "cancelled"})["state"] == "given up"
    everything = caplog.text + json_util.dumps(
        [list(database[n].find()) for n in database.list_collection_names()]
    )
    assert KEY not in everything
    assert "token-1234" not in everything


def test_whoever_dies_between_sending_and_recording_leaves_it_to_the_next(database, told) -> None:
    found, deliver = told
    add_campaign(database, "si")
    Notifier(database, settings_for(), deliver=deliver).step()
    set_state(database, "si", CampaignState.DONE, "")

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Notifier(database, settings_for(), deliver=dies).step()
    assert Notifier(database, settings_for(), deliver=deliver).step() == 0, "it may still be sending"
    database.notices.update_one({"event": "done"}, {"$inc": {"due": -60.0}})
    assert Notifier(database, settings_for(), deliver=deliver).step() == 1
    assert len(found) == 1


def test_standstill_missing_workers_quotas_and_what_the_reaper_gave_up(database, told) -> None:
    found, deliver = told
    add_campaign(database, "si")
    spec = {"campaign": "si", "generation": 0}
    database.fireworks.insert_many(
        [
            {"fw_id": 1, "name": "a", "state": "COMPLETED", "spec": spec},
            {"fw_id": 2, "name": "b", "state": "READY", "spec": spec},
        ]
    )
    notifier = Notifier(database, settings_for(), deliver=deliver)
    notifier.step()
    assert notifier.step() == 0
    since_long_ago(database, "progress/si")
    since_long_ago(database, "workers")
    notifier.step()
    notifier.step()
    assert sorted(n["event"] for n in found) == ["stalled", "workers-gone"]
    assert "nothing is running" in next(n["text"] for n in found if n["event"] == "stalled")

    # progress, and another standstill
    found.clear()
    database.fireworks.update_one({"fw_id": 2}, {"$set": {"state": "RUNNING"}})
    database.fireworks.insert_one({"fw_id": 3, "name": "c", "state": "COMPLETED", "spec": spec})
    notifier.step()
    assert found == []
    since_long_ago(database, "progress/si")
    notifier.step()
    assert [n["event"] for n in found] == ["stalled"]
    assert "1 tasks are running" in found[0]["text"]

    found.clear()
    database.queue_retries.insert_one({"_id": 3, "dead": [4, 5], "transient": [], "exhausted": True})
    notifier.step()
    notifier.step()
    assert [(n["event"], n["details"]["fw_id"]) for n in found] == [("gave-up", 3)]

    found.clear()
    store_quota(database, Quota(labels=10))
    database.labels.insert_many([{"_id": f"a{k}", "status": "done"} for k in range(8)])
    notifier.step()
    notifier.step()
    assert [n["subject"] for n in found] == ["quota of labels is nearly used"]
    database.labels.insert_many([{"_id": f"b{k}", "status": "done"} for k in range(2)])
    notifier.step()
    assert [n["subject"] for n in found[1:]] == ["quota of labels is used up"]
    database.labels.delete_many({"_id": {"$regex": "^a"}})
    notifier.step()
    database.labels.insert_many([{"_id": f"a{k}", "status": "done"} for k in range(8)])
    notifier.step()
    assert len(found) == 4, "after there was room again it is told again"


def test_events_that_nobody_wants_are_not_recorded(database, told) -> None:
    found, deliver = told
    target = settings_for().targets[0].model_copy(update={"events": ("halted",)})
    settings = settings_for().model_copy(update={"targets": (target,)})
    add_campaign(database, "si")
    notifier = Notifier(database, settings, deliver=deliver)
    notifier.step()
    set_state(database, "si", CampaignState.DONE, "")
    notifier.step()
    assert found == []
    assert database.notices.count_documents({"event": {"$exists": True}}) == 0


def test_one_target_that_fails_does_not_keep_another_from_being_told(database) -> None:
    both = tuple(settings_for().targets[0].model_copy(update={"name": name}) for name in ("bad", "good"))
    reached: list[str] = []

    def deliver(target, notice, *, limit_s) -> None:
        if target.name == "bad":
            raise SendError("away")
        reached.append(notice["event"])

    add_campaign(database, "si")
    notifier = Notifier(database, settings_for().model_copy(update={"targets": both}), deliver=deliver)
    notifier.step()
    set_state(database, "si", CampaignState.DONE, "")
    notifier.step()
    notifier.step()
    assert reached == ["done"]


def test_the_commands(database, database_uri, place) -> None:
    with WebServer() as server:
        url = f"http://127.0.0.1:{server.port}/hook"
        place.write("notices.yaml", f"targets:\n  - {{name: chat, webhook: {{url: '{url}'}}}}\n")
        place.write("wrong.yaml", "targets:\n  - {name: chat, webhook: {url: 'ftp://user:hidden@host'}}\n")
        assert place.json("notify", "test", "notices.yaml")[0]["outcome"] == "sent"
        assert "hidden" not in place.refused("notify", "test", "wrong.yaml")
        add_campaign(database, "si")
        Notifier(database, settings_for(server.port)).step()
        set_state(database, "si", CampaignState.DONE, "budget reached")
        place.good("db", "maintain", "--once", "--notify", "notices.yaml", GAPFACTORY_DB=database_uri)
        place.good("notify", "run", "notices.yaml", "--once", GAPFACTORY_DB=database_uri)
        assert [n["event"] for n in server.notices] == ["test", "done"]
    done = place.run("notify", "test", "notices.yaml", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["outcome"] == "the webhook did not take it: ConnectionRefusedError"
