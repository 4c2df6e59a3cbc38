"""Serving the application by gunicorn, in the foreground or beside a campaign that runs here."""

from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

from gapfactory.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask

    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["free_address", "serve"]


def free_address(settings: DashboardSettings) -> socket.socket:
    """Return a listening socket at the address of the settings.

    Raises
    ------
    ServiceError
        The port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ServiceError(
            f"cannot listen at {settings.host} port {settings.port}: {error.strerror}. Another dashboard may run "
            "there; --port 0 takes any free port."
        ) from error
    # its connections inherit it: one that falls silent in the middle holds a thread no longer
    limit = struct.pack("ll", settings.silence_s, 0)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    listening.listen(128)
    return listening


def serve(
    groups: Mapping[str, str],
    settings: DashboardSettings,
    secret: bytes,
    listening: socket.socket,
    *,
    ticket: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    groups
        URI of the database of each group by its name.
    settings
        How it behaves.
    secret
        Key that signs cookies.
    listening
        From `free_address`.
    ticket
        See `launchpad.dashboard.app.create_app`.
    """
    from gunicorn.app.base import BaseApplication
    from gunicorn.http import wsgi

    # which server answers is nobody's business; its access log stays off, the application writes one without queries
    wsgi.Response.default_headers = _without_server(wsgi.Response.default_headers)

    # whose connection fell silent is nothing that the log need trace
    logging.getLogger("gunicorn.error").addFilter(lambda record: not _silent(record))
    log = logging.getLogger("launchpad.dashboard.requests")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler())
    log.handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in {
                "bind": [f"fd://{listening.fileno()}"],
                "workers": settings.processes,
                "threads": settings.threads,
                "worker_class": "gthread",
                "timeout": 60,
                "graceful_timeout": 10,
                "keepalive": 5,
                "limit_request_line": 8190,
                # who asked, and how, is taken from headers by the application alone, if proxies are said to be there
                "forwarded_allow_ips": "",
                "forwarder_headers": "",
                "secure_scheme_headers": {},
                "accesslog": None,
                "loglevel": "warning",
                "control_socket_disable": True,
                "max_requests": 20_000,
                "max_requests_jitter": 2_000,
            }.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> Flask:
            # in the process that answers: clients of the database do not survive a fork
            from launchpad.dashboard.app import create_app
            from launchpad.dashboard.groups import Group

            return create_app(
                [Group(name, uri) for name, uri in sorted(groups.items())], settings, secret, ticket=ticket
            )

        def init(self, parser: Any, opts: Any, args: Any) -> None:
            """Take nothing from the command line: it is not gunicorn's."""

    Application().run()


def _silent(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and isinstance(record.exc_info[1], BlockingIOError)


def _without_server(original: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    def default_headers(response: Any) -> list[str]:
        return [line for line in original(response) if not line.lower().startswith("server:")]

    return default_headers
