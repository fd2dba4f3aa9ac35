"""A worker of another Celery project, in an environment without inboxd (see tests/apps)."""

import json
from pathlib import Path
from typing import Any

from support.live.stand import Program, Stand
from support.repository import REPOSITORY

APPS = REPOSITORY / "tests" / "apps"
OLD, NEW = "celery-5.3", "celery-5.7"
TASK = "invoices.tasks.book"


class OtherProject:
    """The project of tests/apps/invoices.py with one version of Celery; ``conf`` are its settings."""

    def __init__(self, stand: Stand, celery: str, *, queue: str = "celery", backend: bool = False, **conf: object) -> None:
        self.stand = stand
        self.queue = queue
        self.python = REPOSITORY / "build" / "apps" / celery / "bin" / "python"
        assert self.python.exists(), f"make build/apps/{celery}/.installed"
        self.ledger = stand.folder / "ledger"
        url = f"redis+socket://{stand.socket}"
        self.environment = {
            **stand.environment(), "PYTHONPATH": str(APPS), "BROKER": url, "BACKEND": url if backend else "",
            "CONF": json.dumps(conf), "LEDGER": str(self.ledger),
        }  # fmt: skip

    def worker(self, name: str = "invoices", *options: str, app: str = "invoices") -> Program:
        """Add a worker of two processes to the stand, and start it."""
        argv = (
            str(self.python), "-m", "celery", "-A", app, "worker", "-c", "2", "-Q", self.queue, "-n", f"{name}@%h",
            "-l", "info", *options,
        )  # fmt: skip
        log = self.stand.folder / f"{name}.log"
        program = self.stand.program(name, argv, lambda start: " ready." in _tail(log, start), environment=self.environment)
        program.start()
        return program

    def calls(self) -> list[dict[str, Any]]:
        """Return what the task has written down, in order."""
        return [json.loads(line) for line in self.ledger.read_text("ascii").splitlines()] if self.ledger.exists() else []

    def names(self) -> list[str]:
        """Return the names of the files that the task has got, sorted; a name for each call."""
        return sorted(call["file"]["filename"] for call in self.calls())


def _tail(log: Path, start: int) -> str:
    return log.read_bytes()[start:].decode("utf-8", "replace") if log.exists() else ""
