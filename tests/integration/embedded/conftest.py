"""Servers and clients for the tests of the embedded server."""

import os

import pytest
from pymongo import MongoClient

from launchpad.embedded import EmbeddedServer, stop


@pytest.fixture(scope="session")
def conformance_uri(tmp_path_factory):
    """The URI under test: GAPFACTORY_TEST_URI, or an embedded server of our own."""
    uri = os.environ.get("GAPFACTORY_TEST_URI")
    if uri:
        yield uri
        return
    with EmbeddedServer(tmp_path_factory.mktemp("conformance") / "db") as server:
        yield server.uri


@pytest.fixture(scope="session")
def conformance_client(conformance_uri):
    with MongoClient(conformance_uri) as client:
        yield client


@pytest.fixture
def db(conformance_client):
    """An empty database, dropped afterwards."""
    name = "gapfactory_conformance"
    conformance_client.drop_database(name)
    yield conformance_client[name]
    conformance_client.drop_database(name)


@pytest.fixture(autouse=True)
def no_server_left_behind(tmp_path):
    """Stop a detached server that a failed test has left on its directory."""
    yield
    if (tmp_path / "db" / "server.lock").exists():
        stop(tmp_path / "db")
