"""Make tokens of dead processes."""

import subprocess
import sys

from inboxd.tasks.process_state.process_identity import process_token


def dead_token(host: str) -> str:
    """Return the token of a process of this machine that has exited and was reaped."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()
    owner, pid_namespace, _, _, attempt = process_token(host).rsplit("/", 4)
    return f"{owner}/{pid_namespace}/{child.pid}/1/{attempt}"
