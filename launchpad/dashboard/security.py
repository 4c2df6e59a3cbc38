"""What every answer carries and every request has to satisfy, whatever page it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import abort, request

if TYPE_CHECKING:
    from flask import Flask, Response

    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["EVAL_ENDPOINTS", "protect"]

#: The map compiles its shaders' loops at run time (chemiscope): this page alone may do that.
EVAL_ENDPOINTS: Final = frozenset({"structures.map_page"})

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def protect(app: Flask, settings: DashboardSettings) -> None:
    """Add the checks and the headers."""

    @app.before_request
    def same_origin() -> None:
        """Refuse what changes something and was not sent by a page of ours."""
        if request.method in _SAFE or request.headers.get("Authorization", "").startswith("Bearer "):
            return  # a token is not sent by a browser on its own
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            if site != "same-origin":
                abort(403, "This request came from another site.")
            return
        origin = request.headers.get("Origin") or request.headers.get("Referer")
        expected = urlsplit(settings.public_url or request.host_url)
        found = urlsplit(origin or "")
        if (found.scheme, found.netloc) != (expected.scheme, expected.netloc):
            abort(403, "This request came from another site.")

    @app.after_request
    def headers(response: Response) -> Response:
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
        return response
