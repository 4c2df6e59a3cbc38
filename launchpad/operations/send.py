"""Send one notice: by mail, or as JSON to an address. Secrets are read when they are needed and named nowhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from ssl import SSLContext

    from launchpad.operations.settings import MailSettings, TargetSettings, WebhookSettings

__all__ = ["SendError", "check_secrets", "send"]

#: Of what a receiver answers so much is kept.
_ANSWER = 200


class SendError(ServiceError):
    """A receiver did not take a notice; the text holds no secret and no address."""

    code = "notify"


def _secret(path: Path, what: str) -> str:
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            msg = f"{what}: {path} is open to everybody; chmod 600 it"
            raise InputError(msg)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{what}: {path} cannot be read: {error}"
        raise InputError(msg) from error
    if not text:
        msg = f"{what}: {path} is empty"
        raise InputError(msg)
    return text


def _password(mail: MailSettings) -> str:
    if mail.password_file is not None:
        return _secret(mail.password_file, "password of the mail server")
    value = os.environ.get(mail.password_env or "", "")
    if not value:
        msg = f"password of the mail server: the environment has no {mail.password_env}"
        raise InputError(msg)
    return value


def _address(hook: WebhookSettings) -> str:
    if hook.url_file is None:
        return str(hook.url)
    address = _secret(hook.url_file, "address of the webhook")
    if not address.startswith(("https://", "http://")):
        msg = f"address of the webhook: {hook.url_file} must hold one that begins with https:// or http://"
        raise InputError(msg)
    return address


def check_secrets(target: TargetSettings) -> None:
    """Make sure that everything a target needs can be read.

    Raises
    ------
    InputError
        A file or variable is missing, empty, or may be read by others.
    """
    if target.mail is not None:
        if target.mail.user is not None:
            _password(target.mail)
        _trusted(target.mail.ca_file)
    elif target.webhook is not None:
        _address(target.webhook)
        if target.webhook.secret_file is not None:
            _secret(target.webhook.secret_file, "key of the webhook")
        _trusted(target.webhook.ca_file)


def _trusted(authority: Path | None) -> SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        msg = f"ca_file {authority} cannot be used: {error}"
        raise InputError(msg) from error


def send(target: TargetSettings, notice: Mapping[str, Any], *, limit_s: float) -> None:
    """Send a notice to a target.

    Parameters
    ----------
    target
        To whom.
    notice
        ``id``, ``event``, ``database``, ``subject``, ``text``, ``details``, ``created`` (ISO). The same id is sent
        again only where it is not known whether the receiver took it.
    limit_s
        How long each answer of the receiver may take (s).

    Raises
    ------
    SendError
        It is away, refuses, or takes too long.
    InputError
        A secret cannot be read.
    """
    if target.mail is not None:
        _mail(target.mail, notice, limit_s)
    elif target.webhook is not None:
        _post(target.webhook, notice, limit_s)


def _mail(mail: MailSettings, notice: Mapping[str, Any], limit_s: float) -> None:
    import smtplib
    from email.message import EmailMessage
    from email.utils import formatdate

    message = EmailMessage()
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.recipients)
    # a reason may have several lines, a header has one
    message["Subject"] = " ".join(f"[gapfactory {notice['database']}] {notice['subject']}".split())
    message["Date"] = formatdate(localtime=False)
    # the same for a repetition: receivers may drop it
    message["Message-ID"] = f"<{hashlib.sha256(str(notice['id']).encode()).hexdigest()[:32]}@gapfactory>"
    message.set_content(f"{notice['text']}\n\n{notice['created']}\n")
    password = _password(mail) if mail.user is not None else ""
    trusted = _trusted(mail.ca_file)
    try:
        server: smtplib.SMTP = (
            smtplib.SMTP_SSL(mail.host, mail.port, timeout=limit_s, context=trusted)
            if mail.security == "ssl"
            else smtplib.SMTP(mail.host, mail.port, timeout=limit_s)
        )
        with server:
            if mail.security == "starttls":
                server.starttls(context=trusted)
            if mail.user is not None:
                server.login(mail.user, password)
            server.send_message(message)
    except smtplib.SMTPResponseException as error:
        # what a server says may repeat what it was told
        msg = f"the mail server answered {error.smtp_code} ({type(error).__name__})"
        raise SendError(msg) from None
    except (smtplib.SMTPException, OSError) as error:
        msg = f"the mail server did not take it: {type(error).__name__}"
        raise SendError(msg) from None


def _post(hook: WebhookSettings, notice: Mapping[str, Any], limit_s: float) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

    class Nowhere(HTTPRedirectHandler):
        """A signed notice goes to the address that was given and to no other."""

        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    body = json.dumps(dict(notice), sort_keys=True, default=str).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "gapfactory",
        "X-Gapfactory-Notice": hashlib.sha256(str(notice["id"]).encode()).hexdigest()[:32],
    }
    if hook.secret_file is not None:
        key = _secret(hook.secret_file, "key of the webhook").encode()
        headers["X-Gapfactory-Signature"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
    request = Request(_address(hook), data=body, headers=headers, method="POST")  # noqa: S310 - http(s), see settings
    opener = build_opener(HTTPSHandler(context=_trusted(hook.ca_file)), Nowhere)
    try:
        with opener.open(request, timeout=limit_s) as answer:
            answer.read(_ANSWER)
    except HTTPError as error:
        error.close()
        msg = f"the webhook answered {error.code}"
        raise SendError(msg) from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        msg = f"the webhook did not take it: {type(reason).__name__}"
        raise SendError(msg) from None
