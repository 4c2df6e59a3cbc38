"""The science of gapfactory: pure functions over `ase.Atoms` and arrays.

This package knows nothing of FireWorks, MongoDB or where it runs; `launchpad` imports it, never the reverse.
Heavy libraries are imported inside functions so that ``import gapfactory`` stays fast.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
