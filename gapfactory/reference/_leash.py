"""Start a program that does not outlive its supervisor: ``python -I -S _leash.py PID SIGNAL program arguments``.

On Linux the kernel sends the signal when the supervisor dies, however it dies; the request survives `exec`.
"""

import ctypes
import os
import sys

if __name__ == "__main__":
    parent, number, *command = sys.argv[1:]
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(1, int(number))
        if os.getppid() != int(parent):
            sys.exit("the supervisor ended before the program began")
    os.execvp(command[0], command)  # noqa: S606
