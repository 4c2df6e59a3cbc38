"""Start a program that does not outlive its supervisor: ``python -I -S _leash.py PID SIGNAL program arguments``.

It stays as the program's parent in a process group of their own, since the program may be a script that starts the real
one. On Linux the kernel tells when the supervisor dies, however it dies; the whole group is killed then: at once, or
with 5 s of grace for a launcher that has to end processes elsewhere. It ends as the program ends.
"""

import ctypes
import os
import resource
import signal
import sys

GRACE_S = 5


def end_with_parent(number: int, parent: int) -> None:
    """Have this process signalled when its parent dies; end it if that has happened."""
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(1, number)
        if os.getppid() != parent:
            sys.exit("the supervisor ended before the program began")


def end_group(number: int) -> None:
    """Signal the whole group; what is left of it after the grace is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(GRACE_S)
    os.killpg(0, number)


def main(arguments: list[str]) -> None:
    """Run the program, and end as it does."""
    number = int(arguments[1])
    signal.signal(signal.SIGTERM, lambda *_: end_group(number))
    end_with_parent(signal.SIGTERM, int(arguments[0]))
    me, command = os.getpid(), arguments[2:]
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent(number, me)
        try:
            os.execvp(command[0], command)  # noqa: S606
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        # die by the same signal, without a dump of this process
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(me, -status)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
