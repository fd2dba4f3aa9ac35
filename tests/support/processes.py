"""Tokens of dead processes, and the end of living ones."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from inboxd.tasks.process_state.process_identity import process_token


def dead_token(host: str) -> str:
    """Return the token of a process of this machine that has exited and was reaped."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()
    owner, pid_namespace, _, _, attempt = process_token(host).rsplit("/", 4)
    return f"{owner}/{pid_namespace}/{child.pid}/1/{attempt}"


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started, and wait for its end."""
    for pid in (*_descendants(process.pid), process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    children = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return [*children, *(below for child in children for below in _descendants(child))]
