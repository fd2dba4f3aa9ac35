"""Processes that have ended."""

import subprocess
import sys

from inboxd.tasks.worker.process_identity import process_token


def dead_token(host: str) -> str:
    """Return the token of a process of this machine that has ended, and was reaped."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()
    owner, world, _, _, attempt = process_token(host).rsplit("/", 4)
    return f"{owner}/{world}/{child.pid}/1/{attempt}"
