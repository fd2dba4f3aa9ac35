"""A watcher over real folders, with a broker that can be away."""

import contextlib
import errno
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import pytest
import redis
import structlog
from support.disk.spools import Spool
from support.parts.fake_context import means
from support.parts.fakes import FakeCounters, FakeLeases, Sent
from support.waiting import eventually

from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.service.reloading import SettingsChange
from inboxd.service.sd_notify import ServiceManager
from inboxd.watcher.daemon import Daemon
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import SCAN

STOP = Hint(HintKind.STOP)
FAST = {"settle_seconds": 0.02, "empty_file_seconds": 0.02, "poll_seconds": 0.05}


@dataclass
class Broker:
    """A Redis that keeps what is set, or is away."""

    away: bool = False
    asked: int = 0
    beats: list[dict[str, Any]] = field(default_factory=list)
    troubles: dict[str, bytes] = field(default_factory=dict)

    def set(self, _key: str, value: str, *, ex: int) -> None:
        assert ex
        self.ping()
        self.beats.append(json.loads(value))

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.troubles.get(key.rpartition(":")[2]) for key in keys]

    def ping(self) -> None:
        self.asked += 1
        if self.away:
            raise redis.ConnectionError("gone fishing")


@dataclass
class Leases(FakeLeases):
    """Leases that are away with their broker."""

    broker: Broker = field(default_factory=Broker)
    asked: int = 0

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        self.asked += 1
        if self.broker.away:
            raise BrokerUnavailable("redis: gone fishing")
        return super().queue(parcel, inbox, seconds, attempts=attempts)


class CountingHints(HintQueue):
    """Counts how often the loop waits."""

    waits = 0

    def wait(self, seconds: float) -> set[Hint]:
        self.waits += 1
        return super().wait(seconds)


class Refusing(Observer):
    """Has no watches left."""

    def watch(self, inbox: str, root: PurePath) -> None:
        del inbox, root
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


@dataclass
class Watcher:
    """A daemon over real folders, in a thread once it runs; all else that it stands on can be turned off."""

    spools: dict[str, Spool]
    lines: list[dict[str, Any]]
    make_observer: Callable[[HintQueue], Observer] = Observer
    rules: dict[str, object] = field(default_factory=dict)
    service_manager: ServiceManager = field(default_factory=ServiceManager)
    change: SettingsChange | None = None
    """What the next reload brings."""

    def __post_init__(self) -> None:
        self.broker = Broker()
        self.leases = Leases(broker=self.broker)
        self.sent = Sent()
        self.counters = FakeCounters()
        self.deps = means(Disk(), self.leases, self.sent)
        self.hints = CountingHints()
        self.observer = self.make_observer(self.hints)
        rules = {**FAST, **self.rules}
        inboxes = {name: {"root": str(spool.root), **rules} for name, spool in self.spools.items()}
        self.daemon = Daemon(
            Settings(host="here", inbox=inboxes),
            self.deps,
            self.broker,
            self.counters,
            self.hints,
            self.observer,
            self.service_manager,
            lambda _old: self.change,
        )

    @property
    def spool(self) -> Spool:
        return self.spools["drop"]

    def logs(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def has_sent(self, *paths: bytes) -> bool:
        return sorted(self.sent.paths()) == sorted(paths)

    def is_idle(self, name: str = "drop") -> bool:
        """Tell whether an inbox is looked at again by an event or, late, by the clock."""
        watched = self.daemon.watches.inboxes.get(name)
        return watched is not None and watched.next_turn.reason == SCAN and watched.requested is None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.daemon.run)
        thread.start()
        try:
            eventually(lambda: bool(self.logs(events.STARTED)))
            yield
        finally:
            self.hints.put(STOP)
            thread.join(10.0)
            assert not thread.is_alive()


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def watcher(tmp_path: Path, logged: list[dict[str, Any]]) -> Watcher:
    return Watcher({"drop": Spool.make(tmp_path / "drop")}, logged)
