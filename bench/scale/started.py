"""inboxd at work over as many inboxes as a scenario needs: `inboxd up` with default settings, but for settle_seconds = 0."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.live.stand import toml

from bench.measure import processes
from bench.peers.peer import Command
from bench.peers.running import FOLDERS, Running

FIRST = "drop"
MIB = 1 << 20


@contextmanager
def inboxd(folder: Path, others: Sequence[str] = (), **settings: dict[str, Any]) -> Iterator[Running]:
    """Start inboxd over the inbox "drop" and others; it is ready when a file has come through. Raises NotRunning."""
    with Running(folder) as running:
        for name in others:
            for part in FOLDERS:
                (root(running, name) / part).mkdir(parents=True)
        file = write_settings(running, [FIRST, *others], **settings)
        yield running.start([Command("inboxd", (sys.executable, "-m", "inboxd", "up", "--settings", str(file)))])


def write_settings(running: Running, inboxes: Sequence[str], **settings: dict[str, Any]) -> Path:
    """Write a settings file: all keys that a scenario does not need otherwise have their defaults."""
    tables: dict[str, Any] = {
        "redis": {"url": running.place.url},
        **settings,
        "defaults": {"settle_seconds": 0, **settings.get("defaults", {})},
        "inbox": {name: {"root": str(root(running, name))} for name in inboxes},
    }
    file = running.folder / "settings.toml"
    file.write_text(toml(tables), "utf-8")
    return file


def root(running: Running, inbox: str) -> Path:
    """Return an inbox's root."""
    return running.root if inbox == FIRST else running.folder / "others" / inbox


def watcher(running: Running) -> int:
    """Return the watcher's process number."""
    return running.find("-m inboxd.watcher")[0]


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has ever held (RSS, shared pages too)."""
    return processes.peak_rss_bytes(pid) / MIB
