"""Mail and requests to receivers that take them, refuse, are slow or away; no secret gets anywhere else."""

from __future__ import annotations

import email
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import time

import pytest
from gf_receivers import MailServer, WebServer
from pydantic import ValidationError

from gapfactory.errors import InputError
from launchpad.operations.send import SendError, send
from launchpad.operations.settings import MailSettings, NoticeSettings, TargetSettings, WebhookSettings

PASSWORD, KEY = "correct-horse-battery", "key-of-the-signature"
NOTICE = {
    "id": "si/done/1.0 -> operators",
    "event": "done",
    "database": "silicon",
    "subject": "campaign si is done\nBcc: everybody@example.org",
    "text": "Campaign si in silicon is done: Δ below the limit.",
    "details": {"campaign": "si"},
    "created": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    place = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", names]
    made = ["-keyout", str(place / "key.pem"), "-out", str(place / "ca.pem")]
    subprocess.run([*command, *made], check=True, capture_output=True)
    both = place / "both.pem"
    both.write_text((place / "key.pem").read_text() + (place / "ca.pem").read_text())
    return both, place / "ca.pem"


def secret(path, text, mode=0o600):
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def mail_to(server, **more) -> TargetSettings:
    fields = {
        "host": "localhost",
        "sender": "gf@example.org",
        "recipients": ["a@example.org", "b@example.org"],
    }
    return TargetSettings(name="operators", mail=MailSettings(port=server.port, **fields, **more))


def hook_to(port, **more) -> TargetSettings:
    return TargetSettings(name="chat", webhook=WebhookSettings(url=f"http://127.0.0.1:{port}/hook", **more))


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_mail_over_tls_with_a_password(certificate, tmp_path, security) -> None:
    both, authority = certificate
    file = secret(tmp_path / "password", PASSWORD)
    with MailServer(certificate=both, security=security, login=("gf", PASSWORD)) as server:
        login = {"user": "gf", "password_file": file}
        send(mail_to(server, security=security, ca_file=authority, **login), NOTICE, limit_s=5)
        send(mail_to(server, security=security, ca_file=authority, **login), NOTICE, limit_s=5)
        # a server whose certificate nobody vouches for gets neither the password nor the notice
        with pytest.raises(SendError, match="SSLCertVerificationError"):
            send(mail_to(server, security=security, **login), NOTICE, limit_s=5)
    assert server.logins == [("gf", PASSWORD)] * 2
    assert server.encrypted == [True, True]
    first, second = (email.message_from_bytes(text.encode()) for text in server.messages)
    assert first["To"] == "a@example.org, b@example.org"
    assert first["Bcc"] is None
    assert first["Subject"].startswith("[gapfactory silicon] campaign si is done")
    assert first["Message-ID"] == second["Message-ID"]
    assert "Δ below the limit" in first.get_payload(decode=True).decode()


def test_a_server_that_offers_no_encryption_gets_no_password(tmp_path) -> None:
    file = secret(tmp_path / "password", PASSWORD)
    with (
        MailServer(login=("gf", PASSWORD)) as server,
        pytest.raises(SendError, match="SMTPNotSupportedError"),
    ):
        send(mail_to(server, user="gf", password_file=file), NOTICE, limit_s=5)
    assert server.logins == []
    with pytest.raises(ValidationError, match="not sent over a connection without encryption"):
        mail_to(server, security="none", user="gf", password_file=file)


def test_mail_servers_that_refuse_are_slow_or_away(certificate, tmp_path, monkeypatch) -> None:
    both, authority = certificate
    monkeypatch.setenv("GF_TEST_PASSWORD", "wrong-" + PASSWORD)
    with MailServer(certificate=both, security="starttls", login=("gf", PASSWORD)) as server:
        target = mail_to(server, ca_file=authority, user="gf", password_env="GF_TEST_PASSWORD")  # noqa: S106 - a name
        with pytest.raises(SendError, match="answered 535") as caught:
            send(target, NOTICE, limit_s=5)
    assert PASSWORD not in str(caught.value), "the server's words, which repeat it, are not passed on"
    with MailServer(refuse=550) as server, pytest.raises(SendError, match="SMTPRecipientsRefused"):
        send(mail_to(server, security="none"), NOTICE, limit_s=5)
    with MailServer(silent_s=5.0) as server:
        begun = time.monotonic()
        with pytest.raises(SendError, match=r"SMTPServerDisconnected|TimeoutError"):
            send(mail_to(server, security="none"), NOTICE, limit_s=0.3)
        assert time.monotonic() - begun < 3.0
    with pytest.raises(SendError, match="ConnectionRefusedError"):
        send(mail_to(server, security="none"), NOTICE, limit_s=5)


def test_requests_are_signed_and_go_nowhere_else(tmp_path) -> None:
    file = secret(tmp_path / "key", KEY)
    with WebServer() as server:
        send(hook_to(server.port, secret_file=file), NOTICE, limit_s=5)
        [(headers, body)] = server.requests
        assert json.loads(body) == NOTICE
        assert headers["Content-Type"] == "application/json"
        wanted = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Gapfactory-Signature"] == f"sha256={wanted}"
        # an address that is a secret by itself
        place = secret(tmp_path / "url", f"http://127.0.0.1:{server.port}/token-1234")
        send(TargetSettings(name="chat", webhook=WebhookSettings(url_file=place)), NOTICE, limit_s=5)
        assert len(server.requests) == 2
        assert "X-Gapfactory-Signature" not in server.requests[1][0]
    with WebServer(answer=302) as server:
        with pytest.raises(SendError, match="answered 302"):
            send(hook_to(server.port, secret_file=file), NOTICE, limit_s=5)
        assert len(server.requests) == 1, "a redirection is not followed"


def test_receivers_of_requests_that_refuse_are_slow_or_away(tmp_path) -> None:
    with WebServer(answer=500) as server, pytest.raises(SendError, match="answered 500"):
        send(hook_to(server.port), NOTICE, limit_s=5)
    with WebServer(silent_s=1.0) as server, pytest.raises(SendError, match="TimeoutError"):
        send(hook_to(server.port), NOTICE, limit_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = secret(tmp_path / "url", f"http://127.0.0.1:{port}/token-1234")
    target = TargetSettings(name="chat", webhook=WebhookSettings(url_file=place))
    with pytest.raises(SendError, match="ConnectionRefusedError") as caught:
        send(target, NOTICE, limit_s=5)
    assert "token-1234" not in str(caught.value)


def test_secrets_that_others_may_read_are_refused(tmp_path) -> None:
    file = secret(tmp_path / "key", KEY, 0o644)
    with pytest.raises(InputError, match="chmod 600"):
        send(hook_to(9, secret_file=file), NOTICE, limit_s=1)
    with pytest.raises(InputError, match="cannot be read"):
        send(hook_to(9, secret_file=tmp_path / "nothing"), NOTICE, limit_s=1)
    with pytest.raises(InputError, match="is empty"):
        send(hook_to(9, secret_file=secret(tmp_path / "empty", "")), NOTICE, limit_s=1)
    with pytest.raises(ValidationError, match="one of url and url_file"):
        WebhookSettings()
    with pytest.raises(ValidationError, match="same name"):
        NoticeSettings(targets=(hook_to(9), hook_to(9)))
