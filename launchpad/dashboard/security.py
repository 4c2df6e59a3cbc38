"""What every answer carries and every request has to satisfy, whatever page it is for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from flask import abort, g, request

if TYPE_CHECKING:
    from flask import Flask, Response

    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["EVAL_ENDPOINTS", "bearer", "is_api", "protect"]

#: The map compiles its shaders' loops at run time (chemiscope): this page alone may do that.
EVAL_ENDPOINTS: Final = frozenset({"structures.map_page"})

_REQUESTS: Final = logging.getLogger("launchpad.dashboard.requests")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def bearer() -> str | None:
    """Return the token that came with the request, None if there is none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def is_api() -> bool:
    """Return whether a program asks: it is answered in JSON, and never sent to a form."""
    return "/api/" in request.path or bearer() is not None


def _origin(address: str | None) -> tuple[str, str] | None:
    try:
        parts = urlsplit(address or "")
    except ValueError:
        return None
    return (parts.scheme, parts.netloc) if parts.netloc else None


def _log(response: Response) -> None:
    """Write a line about a request: without its arguments, which may hold a ticket, and on one line whatever it is."""
    who = g.account.name if g.get("account") is not None else "-"
    _REQUESTS.info(
        "%s %s %s %s %s",
        request.remote_addr,
        who,
        request.method[:10],
        quote(request.path)[:500],
        response.status_code,
    )


def protect(app: Flask, settings: DashboardSettings) -> None:
    """Add the checks and the headers."""

    @app.before_request
    def whole_body() -> None:
        """Refuse a body whose length nobody says: of one that is too long, a part would be taken for the whole."""
        if "Transfer-Encoding" in request.headers:
            abort(411)

    @app.before_request
    def same_origin() -> None:
        """Refuse what changes something and was not sent by a page of ours."""
        if request.method in _SAFE or bearer() is not None:
            return  # a token is not sent by a browser on its own, and where there is one no cookie counts
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            if site != "same-origin":
                abort(403, "This request came from another site.")
            return
        expected = _origin(settings.public_url or request.host_url)
        if expected is None or expected != _origin(
            request.headers.get("Origin") or request.headers.get("Referer")
        ):
            abort(403, "This request came from another site.")

    @app.after_request
    def headers(response: Response) -> Response:
        if response.location is not None:
            # to the same address with a slash: without the Host that the request gave, which may be anybody's
            place = urlsplit(response.location)
            response.location = place._replace(scheme="", netloc="").geturl()
            response.set_data(b"")  # it would name the Host
        script = (
            "script-src 'self' 'unsafe-eval'" if request.endpoint in EVAL_ENDPOINTS else "script-src 'self'"
        )
        response.headers.setdefault(
            "Content-Security-Policy",
            f"default-src 'self'; {script}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        )
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if settings.secure:
            response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        if not request.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "private, no-cache")
        if settings.request_log:
            _log(response)
        return response
