"""A watcher on real folders, with a broker that can be unavailable."""

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
from support.parts.fake_context import make_intake_deps
from support.parts.fakes import FakeCounters, FakeLeases, FakePublisher
from support.waiting import eventually

from inboxd.config.settings import Settings
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.service.reloading import SettingsChange
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.watcher.daemon import Daemon
from inboxd.watcher.hints import Hint, HintKind, HintQueue
from inboxd.watcher.observer import Observer
from inboxd.watcher.watched_inbox import SCAN

STOP = Hint(HintKind.STOP)
FAST = {"settle_seconds": 0.02, "empty_file_seconds": 0.02, "poll_seconds": 0.05}


@dataclass
class Broker:
    """A fake Redis that records heartbeats and returns outages, or is unavailable."""

    is_unavailable: bool = False
    pings: int = 0
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    outages: dict[str, bytes] = field(default_factory=dict)

    def set(self, _key: str, value: str, *, ex: int) -> None:
        assert ex
        self.ping()
        self.heartbeats.append(json.loads(value))

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.outages.get(key.rpartition(":")[2]) for key in keys]

    def ping(self) -> None:
        self.pings += 1
        if self.is_unavailable:
            raise redis.ConnectionError("no connection")


@dataclass
class Leases(FakeLeases):
    """Fake leases that are unavailable while their broker is."""

    broker: Broker = field(default_factory=Broker)
    calls: int = 0

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        self.calls += 1
        if self.broker.is_unavailable:
            raise BrokerUnavailable("redis: no connection")
        return super().queue(parcel, inbox, seconds, attempts=attempts)


class CountingHints(HintQueue):
    """A queue that counts how often the loop waits."""

    waits = 0

    def wait(self, seconds: float) -> set[Hint]:
        self.waits += 1
        return super().wait(seconds)


class RefusingObserver(Observer):
    """An observer for which the kernel has no watches left."""

    def watch(self, inbox: str, root: PurePath) -> None:
        del inbox, root
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


@dataclass
class Watcher:
    """A daemon on real folders, in a thread while it runs; its other dependencies are fakes that can fail."""

    spools: dict[str, Spool]
    lines: list[dict[str, Any]]
    make_observer: Callable[[HintQueue], Observer] = Observer
    rules: dict[str, object] = field(default_factory=dict)
    service_manager: ServiceNotifier = field(default_factory=ServiceNotifier)
    change: SettingsChange | None = None
    """The change that the next reload returns."""

    def __post_init__(self) -> None:
        self.broker = Broker()
        self.leases = Leases(broker=self.broker)
        self.sent = FakePublisher()
        self.counters = FakeCounters()
        self.deps = make_intake_deps(Disk(), self.leases, self.sent)
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
        """Return whether an inbox has no work left, so that only an event or the periodic scan causes its next turn."""
        watched = self.daemon.watches.inboxes.get(name)
        return watched is not None and watched.next_turn.reason == SCAN and watched.requested_reason is None

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
