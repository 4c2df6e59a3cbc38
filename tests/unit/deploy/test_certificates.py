"""Certificates by the script: real TLS handshakes with what it makes, and what it refuses."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def certificates(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DEPLOY / "certificates.sh"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("tls") / "authority"
    assert certificates("ca", str(made)).returncode == 0
    done = certificates("server", str(made), "mongo-0", "db.example.org", "10.1.2.3", "fd00::1", "localhost")
    assert done.returncode == 0, done.stderr
    done = certificates("client", str(made), "cluster-a")
    assert done.stdout.strip() == "CN=cluster-a,OU=clients,O=gapfactory"
    return made


def handshake(authority: Path, name: str, *, client: str | None = None, trusted: Path | None = None) -> str:
    """Connect to a server that uses the certificate, under a name; return the client that the server saw."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority / "ca.pem"))
    server.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
    server.load_cert_chain(authority / "mongo-0.pem")
    ours = ssl.create_default_context(cafile=str((trusted or authority) / "ca.pem"))
    if client:
        ours.load_cert_chain(authority / f"{client}.pem")
    seen: list[str] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            raw, _ = listener.accept()
            raw.settimeout(30)
            try:
                with server.wrap_socket(raw, server_side=True) as connection:
                    subject = dict(pair[0] for pair in (connection.getpeercert() or {}).get("subject", ()))
                    seen.append(subject.get("commonName", ""))
                    connection.sendall(b"x")
            except OSError:  # the client did not like the certificate: it says why
                raw.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=30) as raw,
                ours.wrap_socket(raw, server_hostname=name) as connection,
            ):
                assert connection.recv(1) == b"x"
        finally:
            thread.join(60)
    return seen[0]


@pytest.mark.parametrize(
    "name", ["mongo-0", "localhost", "127.0.0.1", "db.example.org", "10.1.2.3", "fd00::1"]
)
def test_a_server_is_known_by_each_of_its_names(authority, name) -> None:
    assert handshake(authority, name) == ""


def test_a_server_is_not_taken_for_another(authority, tmp_path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, "other.example.org")
    assert certificates("ca", str(tmp_path / "other")).returncode == 0
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(authority, "mongo-0", trusted=tmp_path / "other")


def test_a_client_shows_who_it_is_and_cannot_be_a_server(authority) -> None:
    assert handshake(authority, "mongo-0", client="cluster-a") == "cluster-a"
    check = ["openssl", "verify", "-CAfile", str(authority / "ca.pem"), "-purpose"]
    done = subprocess.run([*check, "sslclient", str(authority / "cluster-a.pem")], capture_output=True)
    assert done.returncode == 0
    done = subprocess.run([*check, "sslserver", str(authority / "cluster-a.pem")], capture_output=True)
    assert done.returncode != 0


def test_keys_are_private_and_an_authority_is_never_replaced(authority) -> None:
    for path in authority.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path.name == "ca.pem" else 0o600), path
    before = (authority / "ca.key").read_bytes()
    again = certificates("ca", str(authority))
    assert again.returncode == 1
    assert "holds an authority already" in again.stderr
    assert (authority / "ca.key").read_bytes() == before


def test_a_certificate_is_renewed_and_the_days_are_shown(authority, tmp_path) -> None:
    copy = tmp_path / "authority"
    shutil.copytree(authority, copy)
    before = (copy / "mongo-0.pem").read_text()
    assert certificates("server", str(copy), "mongo-0", GAPFACTORY_CERT_DAYS="11").returncode == 0
    assert (copy / "mongo-0.pem").read_text() != before
    assert handshake(copy, "mongo-0") == ""
    shown = certificates("show", str(copy)).stdout
    assert (
        "mongo-0.pem: CN=mongo-0,OU=servers,O=gapfactory, 11 days left" in shown or ", 10 days left" in shown
    )


@pytest.mark.parametrize("name", ["../x", "a b", "x,DNS:evil", "x/CN=y", "", "-x"])
def test_a_name_that_says_more_is_refused(authority, name) -> None:
    before = sorted(authority.iterdir())
    for kind in ("server", "client"):
        assert certificates(kind, str(authority), name).returncode != 0
    assert sorted(authority.iterdir()) == before


def test_the_machine_of_the_compose_file_is_prepared_once(tmp_path) -> None:
    def prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(DEPLOY / "compose" / "prepare.sh"), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "GAPFACTORY_COMPOSE": str(tmp_path)},
        )

    assert prepare().returncode == 2
    assert "other machines cannot reach" in prepare("localhost").stderr
    first = prepare("db.example.org")
    assert first.returncode == 0, first.stderr
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    secrets = tmp_path / "secrets"
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    password = (secrets / "admin.password").read_text().strip()
    assert len(password) == 64
    assert password not in first.stdout + first.stderr
    assert password in (secrets / "admin.uri").read_text()
    assert len((secrets / "keyfile").read_text()) > 700
    from ruamel.yaml import YAML

    assert YAML(typ="safe").load(secrets / "backup.yaml")["uri"].startswith("mongodb://backup:")
    # every secret that the compose file names is there
    named = YAML(typ="safe", pure=True).load(DEPLOY / "compose" / "compose.yaml")["secrets"]
    assert {Path(entry["file"]).name for entry in named.values()} <= {path.name for path in secrets.iterdir()}
    assert prepare("db.example.org").returncode == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
