"""A worker's removed inboxes: kept while their parcels are in flight, and then dropped."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis
import structlog
from support.disk.spools import Spool
from support.parts.fake_context import HOST, make_worker_context
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.broker.heartbeat import Heartbeat, InboxReport, write_heartbeat
from inboxd.logs import events
from inboxd.service.sd_notify import ServiceNotifier
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.shared_settings import CurrentContext
from inboxd.tasks.process_state.sweep_locks import SweepLocks
from inboxd.tasks.service.worker_reload import Reloader
from inboxd.tasks.sweeps.expired import sweep_expired
from inboxd.tasks.sweeps.missed import sweep_missed


@dataclass
class FakeRedis:
    """A fake Redis client, which may hold a watcher's report, and may be unavailable."""

    values: dict[str, bytes] = field(default_factory=dict)
    is_unavailable: bool = False
    locks: list[str] = field(default_factory=list)

    def eval(self, _script: str, keys: int, key: str, token: str, *_rest: str) -> bytes:
        if keys == 1 and key not in self.locks:
            self.locks.append(key)
        return token.encode()

    def set(self, key: str, value: str, **_: object) -> None:
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes | None:
        if self.is_unavailable:
            raise redis.ConnectionError("unavailable")
        return self.values.get(key)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]


class Worker:
    """A worker whose only inbox has been removed from the settings."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.redis = FakeRedis()
        context = dataclasses.replace(
            make_worker_context(spool.inbox(), FakeLeases(), FakePublisher()),
            client=self.redis,
            sweep_locks=SweepLocks(self.redis, HOST),
        )
        self.current = CurrentContext(context)
        self.current.update(context.settings, ["drop"])
        self.reload = Reloader(self.current, ServiceNotifier())

    def has_inbox(self) -> bool:
        return "drop" in self.current.get().settings.inbox

    def check_retired(self, times: int = 2) -> None:
        for _ in range(times):
            self.reload.drop_retired()

    def report_watcher(self, *names: str) -> None:
        report = Heartbeat(0.0, {name: InboxReport("inotify", "", is_busy=False, outage=None) for name in names})
        write_heartbeat(self.redis, HOST, report)


@pytest.fixture
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker(Spool.make(tmp_path_factory.mktemp("spool") / "drop"))


def test_a_removed_inbox_found_empty_twice_is_dropped(worker: Worker) -> None:
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        worker.check_retired(1)
        had_inbox = worker.has_inbox()
        worker.check_retired(1)

    assert had_inbox
    assert not worker.has_inbox()
    assert worker.current.get().retiring == frozenset()
    assert [(line["event"], line["inbox"]) for line in lines] == [(events.INBOX_RETIRED, "drop")]


def test_a_removed_inbox_with_files_in_flight_is_kept(worker: Worker) -> None:
    parcel = new_parcel_id()
    worker.spool.put(b"claimed/%s/a" % parcel.encode())

    worker.check_retired(5)

    assert worker.has_inbox()


def test_a_removed_inbox_that_a_watcher_still_watches_is_kept(worker: Worker) -> None:
    worker.report_watcher("drop")
    worker.check_retired(5)
    had_inbox = worker.has_inbox()
    worker.report_watcher("other")
    worker.check_retired()

    assert had_inbox
    assert not worker.has_inbox()


def test_a_removed_inbox_whose_folders_are_missing_is_kept(worker: Worker) -> None:
    worker.spool.root.rename(worker.spool.root.with_name("moved"))

    worker.check_retired(5)

    assert worker.has_inbox()


def test_a_removed_inbox_is_kept_while_redis_is_unavailable(worker: Worker) -> None:
    worker.redis.is_unavailable = True

    worker.check_retired(5)

    assert worker.has_inbox()


@pytest.mark.parametrize("sweep", [sweep_missed, sweep_expired])
def test_a_removed_inbox_is_only_swept_for_stale_files(sweep: Callable[[WorkerContext], None], worker: Worker) -> None:
    retired, active = worker.current.get(), dataclasses.replace(worker.current.get(), retiring=frozenset())

    sweep(retired)
    locks_of_retired = [*worker.redis.locks]
    sweep(active)

    assert locks_of_retired == []
    assert len(worker.redis.locks) == 1
