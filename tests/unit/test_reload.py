"""A worker's removed inboxes: kept while anything of them is in flight, and then let go."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import structlog
from support.fakes import FakeLeases, Sent
from support.rooms import HOST, workshop
from support.spools import Spool

from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.logs import events
from inboxd.service.sd_notify import ServiceManager
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.service.reload import Reloader
from inboxd.tasks.sweeps import sweeps
from inboxd.tasks.worker.shared_settings import CurrentContext


@dataclass
class Broker:
    """A Redis with a watcher's report, or none, or none of its own."""

    values: dict[str, bytes] = field(default_factory=dict)
    away: bool = False

    def set(self, key: str, value: str, **_: object) -> None:
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes | None:
        if self.away:
            raise redis.ConnectionError("gone fishing")
        return self.values.get(key)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]


class Worker:
    """A worker whose only inbox has been removed from the settings."""

    def __init__(self, spool: Spool) -> None:

        self.spool = spool
        self.broker = Broker()
        made = dataclasses.replace(workshop(spool.inbox(), FakeLeases(), Sent()), client=self.broker)
        self.current = CurrentContext(made)
        self.current.update(made.settings, ["drop"])
        self.reload = Reloader(self.current, ServiceManager())

    def knows(self) -> bool:
        return "drop" in self.current.get().settings.inbox

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.reload.drop_retired()

    def watch(self, *names: str) -> None:
        report = Heartbeat(0.0, {name: InboxReport("inotify", "", is_busy=False, outage=None) for name in names})
        write_heartbeat(self.broker, HOST, report)


@pytest.fixture
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker(Spool.make(tmp_path_factory.mktemp("spool") / "drop"))


def test_a_removed_inbox_that_is_empty_twice_is_let_go(worker: Worker) -> None:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        worker.look(1)
        known = worker.knows()
        worker.look(1)

    assert known
    assert not worker.knows()
    assert worker.current.get().retiring == frozenset()
    assert [(line["event"], line["inbox"]) for line in lines] == [(events.INBOX_FORGOTTEN, "drop")]


def test_one_with_files_in_flight_is_kept(worker: Worker) -> None:
    parcel = new_parcel_id()
    worker.spool.put(b"claimed/%s/a" % parcel.encode())

    worker.look(5)

    assert worker.knows()


def test_one_that_a_watcher_still_watches_is_kept(worker: Worker) -> None:
    worker.watch("drop")
    worker.look(5)
    known = worker.knows()
    worker.watch("other")
    worker.look()

    assert known
    assert not worker.knows()


def test_one_whose_folders_are_away_is_kept(worker: Worker) -> None:
    worker.spool.root.rename(worker.spool.root.with_name("away"))

    worker.look(5)

    assert worker.knows()


def test_while_redis_is_away_nobody_knows_who_watches(worker: Worker) -> None:
    worker.broker.away = True

    worker.look(5)

    assert worker.knows()


def test_nothing_is_taken_in_for_it_and_nothing_of_it_expires(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[Any] = []
    monkeypatch.setattr(sweeps, "_turn", lambda *about: turns.append(about))

    sweeps.sweep_missed(worker.current.get())
    sweeps.sweep_expired(worker.current.get())

    assert turns == []
