"""Who may reach a server, and the files of keys: what URIs say, and what is refused before anything is sent."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest
from pymongo import MongoClient

from gapfactory.errors import DatabaseError
from launchpad.database.connection import open_database
from launchpad.database.entry import require_private_files
from launchpad.database.users import user_uri
from launchpad.queue import Queue


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate with its key in one file, as MongoDB's clients want it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    place = tmp_path_factory.mktemp("certificate")
    key, pem = place / "key.pem", place / "cert.pem"
    subject = "/O=Example/OU=silicon/CN=cluster-a"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", subject]
    subprocess.run([*words, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
    both = place / "cluster-a.pem"
    both.write_text(key.read_text() + pem.read_text())
    both.chmod(0o600)
    return both


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
@pytest.mark.parametrize("connect", [open_database, Queue.from_uri])
def test_a_key_that_others_may_read_is_refused_before_connecting(tmp_path, mode, connect) -> None:
    key = tmp_path / "key.pem"
    key.write_text("a key")
    key.chmod(mode)
    with pytest.raises(DatabaseError, match="chmod 600") as caught:
        connect(f"mongodb://me:secret@192.0.2.1/silicon?tls=true&tlsCertificateKeyFile={key}")
    assert f"mode {mode:04o}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_that_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(DatabaseError, match="No such file"):
        require_private_files(f"mongodb://h/?tlsCertificateKeyFile={tmp_path}/none.pem")
    require_private_files("mongodb://h/?tls=true")


def test_a_user_with_a_certificate_is_what_the_driver_makes_of_the_uri(certificate) -> None:
    uri = user_uri(
        "mongodb://admin:x@db.example.org/admin", "silicon", "", "", ca=str(certificate), key=str(certificate)
    )
    require_private_files(uri)
    with MongoClient(uri, connect=False) as client:
        credentials = client.options.pool_options._credentials
        context = client.options.pool_options._ssl_context
        assert (credentials.mechanism, credentials.source, credentials.password) == (
            "MONGODB-X509",
            "$external",
            None,
        )
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert not client.options.pool_options.tls_allow_invalid_hostnames
        assert client.get_default_database().name == "silicon"
