"""Sites: directories with everything that brings workers to one cluster through its scheduler."""

from __future__ import annotations

from launchpad.sites.model import SCHEDULERS, Site
from launchpad.sites.submit import submit_pilots
from launchpad.sites.write import read_uri, write_site

__all__ = ["SCHEDULERS", "Site", "read_uri", "submit_pilots", "write_site"]
