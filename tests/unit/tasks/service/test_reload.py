"""A worker's removed inboxes: kept while anything of them is in flight, and then let go."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis
import structlog
from support.disk.spools import Spool
from support.parts.fake_context import HOST, make_worker_context
from support.parts.fakes import FakeLeases, Sent

from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.logs import events
from inboxd.service.sd_notify import ServiceManager
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.service.reload import Reloader
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.shared_settings import CurrentContext
from inboxd.tasks.worker.sweep_locks import SweepLocks


@dataclass
class Broker:
    """A Redis with a watcher's report, or none, or none of its own."""

    values: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    locks: list[str] = field(default_factory=list)

    def eval(self, _script: str, keys: int, key: str, token: str, *_rest: str) -> bytes:
        if keys == 1 and key not in self.locks:
            self.locks.append(key)
        return token.encode()

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
        made = dataclasses.replace(
            make_worker_context(spool.inbox(), FakeLeases(), Sent()),
            client=self.broker,
            sweep_locks=SweepLocks(self.broker, HOST),
        )
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
    assert [(line["event"], line["inbox"]) for line in lines] == [(events.INBOX_RETIRED, "drop")]


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


@pytest.mark.parametrize("sweep", [sweep_missed, sweep_expired])
def test_no_sweep_takes_its_files_in_or_deletes_them(sweep: Callable[[WorkerContext], None], worker: Worker) -> None:
    retired, active = worker.current.get(), dataclasses.replace(worker.current.get(), retiring=frozenset())

    sweep(retired)
    locks_of_retired = [*worker.broker.locks]
    sweep(active)

    assert locks_of_retired == []
    assert len(worker.broker.locks) == 1
