"""Runs several `gapfactory` commands one after the other in one process: the imports are paid once.

Arguments: one JSON list of command lines. Prints one JSON list of ``[exit code, output]``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback


def run(arguments: list[str]) -> tuple[int, str]:
    """Run one command as the shell would; return its exit code and what it printed."""
    from launchpad.cli import main

    sys.argv = ["gapfactory", *arguments]
    output, code = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:  # noqa: BLE001 - shown, and the caller looks for it
            traceback.print_exc()
            code = 1
    return code, output.getvalue()


if __name__ == "__main__":
    done = [run(arguments) for arguments in json.loads(sys.argv[1])]
    json.dump(done, sys.stdout)
