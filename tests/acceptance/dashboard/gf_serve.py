"""Serve a dashboard with logins as `gapfactory dashboard run --login` does, but look for news every second."""

from __future__ import annotations

import secrets
import sys

from launchpad.dashboard.serve import free_address, serve
from launchpad.dashboard.settings import DashboardSettings
from launchpad.queue.connection import database_name

settings = DashboardSettings(port=0, processes=1, refresh_s=1.0, charts_s=2.0, rows_s=2.0)
listening = free_address(settings)
sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
sys.stdout.flush()
uri = sys.argv[1]
serve({database_name(uri): uri}, settings, secrets.token_hex(32).encode(), listening)
