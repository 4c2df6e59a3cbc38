"""Links that die without a word: noticed in seconds, and words that help where only the URI can."""

from __future__ import annotations

import time

import pytest
from gf_proxy import Proxy
from pymongo.errors import ConnectionFailure
from pymongo.uri_parser import parse_uri

pytestmark = pytest.mark.database


@pytest.fixture
def link(database_uri, tmp_path):
    host, port = parse_uri(database_uri)["nodelist"][0]
    with Proxy(host if port is None else f"{host}:{port}", tmp_path / "p.sock") as made:
        yield made


def test_options_for_links_unless_the_uri_has_them():
    from launchpad.queue.connection import client_options

    found = client_options("mongodb://db/x", server_selection_s=5.0)
    assert (found["connectTimeoutMS"], found["maxIdleTimeMS"], found["socketTimeoutMS"]) == (
        10_000,
        60_000,
        60_000,
    )
    own = client_options("mongodb://db/x?maxIdleTimeMS=5000&connecttimeoutms=700", server_selection_s=5.0)
    assert not {"connectTimeoutMS", "maxIdleTimeMS"} & own.keys()


def test_a_dead_link_is_noticed_while_a_command_waits(database_uri, link):
    from launchpad.queue import Queue

    options = "&connectTimeoutMS=1000&heartbeatFrequencyMS=500"
    with Queue.from_uri(link.through(database_uri) + options) as queue:
        queue.fireworks.find_one({})
        # a router forgets all connections: nobody is told
        link.black_hole()
        link.heal()
        begin = time.monotonic()
        while True:
            try:
                queue.fireworks.find_one({})
                break
            except ConnectionFailure:
                continue  # that it was noticed is what counts
        # the socket alone would have waited for 60 s
        assert time.monotonic() - begin < 10.0


def test_a_connection_that_rested_is_not_trusted(database_uri, link):
    from launchpad.queue import Queue

    with Queue.from_uri(link.through(database_uri) + "&maxIdleTimeMS=200") as queue:
        queue.fireworks.find_one({})
        link.black_hole()
        link.heal()
        time.sleep(0.3)
        begin = time.monotonic()
        queue.fireworks.find_one({})
        assert time.monotonic() - begin < 5.0


def test_a_server_that_calls_itself_by_another_address(namespaces, tmp_path):
    from gf_world import World

    with World(tmp_path) as world:
        host = world.network.host("host")
        address = world.link("host", f"{world.server.address}:27101")
        world.join(host, address=address, options="serverSelectionTimeoutMS=1500")
        assert '"running": true' in world.gapfactory("db", "status", "--json", host=host)
        secret = host.place / "db.uri"
        secret.write_text(secret.read_text().replace("directConnection=true&", ""))
        said = world.gapfactory("db", "status", "--json", host=host)
        assert "calls itself 127.0.0.1:" in said
        assert "add directConnection=true" in said
