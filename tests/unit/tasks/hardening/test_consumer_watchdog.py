from types import SimpleNamespace

import redis

from inboxd.errors import BrokerUnavailable
from inboxd.messaging.queues import WORK_QUEUE
from inboxd.tasks.hardening.consumer_watchdog import ConsumerWatchdog


class FakeRedis:
    """A client whose ``ping`` succeeds, or fails as during an outage."""

    def __init__(self) -> None:
        self.is_unavailable = False

    def ping(self) -> bool:
        if self.is_unavailable:
            raise redis.ConnectionError("unavailable")
        return True


class Watched:
    """A watchdog with a clock and a Redis of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.redis = FakeRedis()
        self.watchdog = ConsumerWatchdog(self.redis, 60.0, lambda: self.now)

    def is_silent_at(self, now: float, *, is_busy: bool = False) -> bool:
        self.now = now
        return self.watchdog.check_silence(is_busy=is_busy)


def test_a_worker_without_a_reply_for_too_long_is_silent() -> None:
    watched = Watched()

    assert [watched.is_silent_at(now) for now in (1, 60, 61)] == [False, False, True]


def test_each_reply_restarts_the_timeout() -> None:
    watched = Watched()
    watched.now = 50.0
    watched.watchdog.record_reply()

    assert [watched.is_silent_at(now) for now in (61, 110, 111)] == [False, False, True]


def test_the_timeout_starts_when_a_busy_worker_becomes_idle() -> None:
    watched = Watched()

    assert not watched.is_silent_at(1000, is_busy=True)
    assert [watched.is_silent_at(now) for now in (1060, 1061)] == [False, True]


def test_the_timeout_starts_when_an_outage_of_redis_ends() -> None:
    watched = Watched()
    watched.redis.is_unavailable = True

    assert not watched.is_silent_at(1000)
    watched.redis.is_unavailable = False
    assert [watched.is_silent_at(now) for now in (1060, 1061)] == [False, True]


class FakeRegistry:
    """Keeps the queues that a worker has registered."""

    def __init__(self) -> None:
        self.queues: list[list[str]] = []
        self.is_unavailable = False

    def register(self, queues: list[str]) -> None:
        if self.is_unavailable:
            raise BrokerUnavailable("unavailable")
        self.queues.append(queues)


def consuming(*queues: str) -> SimpleNamespace:
    """Return a consumer of these queues, with free slots."""
    task_consumer = SimpleNamespace(queues=[SimpleNamespace(name=queue) for queue in queues])
    return SimpleNamespace(task_consumer=task_consumer, is_connecting=False, pool=SimpleNamespace(num_processes=2))


def test_a_worker_registers_its_queues_at_its_start_and_at_each_check() -> None:
    registry = FakeRegistry()
    watchdog = ConsumerWatchdog(FakeRedis(), 60.0, registry=registry)
    assert watchdog.check()
    assert registry.queues == []

    watchdog.watch(consuming(WORK_QUEUE, "inboxd.host.here"))
    assert registry.queues == [[WORK_QUEUE, "inboxd.host.here"]]
    assert watchdog.check()

    assert len(registry.queues) == 2


def test_a_check_succeeds_even_if_the_registration_fails() -> None:
    registry = FakeRegistry()
    registry.is_unavailable = True
    watchdog = ConsumerWatchdog(FakeRedis(), 60.0, registry=registry)
    watchdog.watch(consuming(WORK_QUEUE))

    assert watchdog.check()
