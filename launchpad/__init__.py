"""The service of gapfactory: FireWorks tasks and workflows, database, workers, embedded server and CLI."""

from __future__ import annotations
