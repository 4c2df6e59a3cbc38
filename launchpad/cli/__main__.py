"""``python -m launchpad.cli``: the `gapfactory` command, where its script is not on PATH."""

from __future__ import annotations

from launchpad.cli import main

if __name__ == "__main__":
    main()
