"""One child process: started at the head of its own group, buried with its group, never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: the signal that a process gets when the thread that started it ends."""
REAP_SECONDS = 5.0
"""A killed process that stays longer hangs in the kernel, on a dead network mount: it ends when that lets go of it."""

# looked up here and not between fork and exec, where only little is safe
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, out of the terminal's reach: a Ctrl-C comes to us alone.

    It shares our stdout, stderr and current folder. ``keep`` names the file descriptors that it inherits beside them.
    On Linux it gets SIGTERM when we die, however we die: call this from the main thread, whose end is the one that counts.
    Raises OSError when the program can't be started.
    """
    return subprocess.Popen(  # noqa: S603 - an argv of ours, and no shell
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,
        preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509 - `up` has one thread
    )


def _end_with_parent(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we had asked to be told
            os._exit(1)

    return before_exec


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, and leave it unburied: until then nobody else can get its number."""
    if sys.platform == "darwin":  # Python has no waitid there before 3.13
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill an unburied process with all that is left of its group."""
    os.killpg(process.pid, signal.SIGKILL)


def reap(process: subprocess.Popen[bytes]) -> int:
    """Kill an unburied process with its group; return its exit code, or minus the number of the signal that ended it."""
    kill_group(process)
    try:
        return process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def describe_exit(code: int) -> str:
    """Return an exit code in words: "exit code 3", "signal SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
