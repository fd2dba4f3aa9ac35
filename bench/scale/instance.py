"""Start inboxd for a scenario, by `inboxd up` with default settings except settle_seconds = 0."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.live.stand import toml

from bench.measure import processes
from bench.peers.peer import Command
from bench.peers.running import FOLDERS, Running

FIRST_INBOX = "drop"
MIB = 1 << 20


@contextmanager
def run_inboxd(folder: Path, others: Sequence[str] = (), **settings: dict[str, Any]) -> Iterator[Running]:
    """Run inboxd with the inbox "drop" and others, from the time when a file has reached done/. Raises NotRunning."""
    with Running(folder) as running:
        for name in others:
            for part in FOLDERS:
                (root_of(running, name) / part).mkdir(parents=True)
        file = write_settings(running, [FIRST_INBOX, *others], **settings)
        yield running.start([Command("inboxd", (sys.executable, "-m", "inboxd", "up", "--settings", str(file)))])


def write_settings(running: Running, inboxes: Sequence[str], **settings: dict[str, Any]) -> Path:
    """Write a settings file with the scenario's tables; all other keys have their defaults."""
    tables: dict[str, Any] = {
        "redis": {"url": running.place.url},
        **settings,
        "defaults": {"settle_seconds": 0, **settings.get("defaults", {})},
        "inbox": {name: {"root": str(root_of(running, name))} for name in inboxes},
    }
    file = running.folder / "settings.toml"
    file.write_text(toml(tables), "utf-8")
    return file


def root_of(running: Running, inbox: str) -> Path:
    """Return an inbox's root."""
    return running.root if inbox == FIRST_INBOX else running.folder / "others" / inbox


def watcher_pid(running: Running) -> int:
    """Return the watcher's pid."""
    return running.find("-m inboxd.watcher")[0]


def peak_mib(pid: int) -> float:
    """Return a process's peak resident memory in MiB, including shared pages."""
    return processes.peak_rss_bytes(pid) / MIB
