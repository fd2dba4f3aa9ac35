"""Start a child process as the leader of its own process group; kill and reap it with its whole group."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from inboxd.console.up.collector import OutputPipe

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: sets the signal that a process gets when the thread that started it exits."""
REAP_SECONDS = 5.0
"""Timeout for reaping, in seconds: a killed process exits at once unless it blocks in the kernel, on a dead network mount."""

OpenOutput = Callable[[], AbstractContextManager[OutputPipe]]

# loaded here, since few operations are safe between fork and exec
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, inherited_fds: Sequence[int] = (),
    open_output: OpenOutput | None = None,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start a program in a new session, so that a Ctrl-C in the terminal does not signal it.

    The child inherits the current folder and ``inherited_fds``, and stdout and stderr unless ``open_output`` makes a pipe
    for them. On Linux it gets SIGTERM when the thread that started it exits, however that happens: call this from the main
    thread.
    Raises OSError if the program can't be started.
    """
    with open_output() if open_output else nullcontext() as pipe:
        output = pipe.fd if pipe else None
        variables = os.environ if environment is None else environment
        return subprocess.Popen(  # noqa: S603 - no shell, and no arguments from outside
            argv,
            env={**variables, **(pipe.environment if pipe else {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited_fds,
            start_new_session=True,
            # of the threads of `up` the child has only this one, and what it calls takes no lock
            preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509
        )


def _end_with_parent(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent exited before the call of prctl()
            os._exit(1)

    return before_exec


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has exited, without reaping it: its pid and its group's id are not reused until then."""
    if sys.platform == "darwin":  # os.waitid is missing there before Python 3.13
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that is not reaped yet, with its process group."""
    os.killpg(process.pid, signal.SIGKILL)


def reap(process: subprocess.Popen[bytes]) -> int:
    """Kill a process with its group, and reap it; return its exit code, or the negated number of the signal that killed it."""
    kill_group(process)
    try:
        return process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL
