from types import SimpleNamespace

import redis

from inboxd.errors import BrokerUnavailable
from inboxd.messaging.queues import WORK_QUEUE
from inboxd.tasks.hardening.consumer_watchdog import ConsumerWatchdog


class Broker:
    """A Redis that answers, or is away."""

    def __init__(self) -> None:
        self.away = False

    def ping(self) -> bool:
        if self.away:
            raise redis.ConnectionError("gone fishing")
        return True


class Patient:
    """A pulse with a clock and a broker of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.broker = Broker()
        self.pulse = ConsumerWatchdog(self.broker, 60.0, lambda: self.now)

    def is_silent_at(self, now: float, *, busy: bool = False) -> bool:
        self.now = now
        return self.pulse.is_silent(busy=busy)


def test_a_worker_that_hears_nothing_for_too_long_is_silent() -> None:
    patient = Patient()

    assert [patient.is_silent_at(now) for now in (1, 60, 61)] == [False, False, True]


def test_an_answer_counts_even_if_it_is_empty() -> None:
    patient = Patient()
    patient.now = 50.0
    patient.pulse.record_reply()

    assert [patient.is_silent_at(now) for now in (61, 110, 111)] == [False, False, True]


def test_a_busy_worker_does_not_ask_and_gets_its_time_when_it_is_not() -> None:
    patient = Patient()

    assert not patient.is_silent_at(1000, busy=True)
    assert [patient.is_silent_at(now) for now in (1060, 1061)] == [False, True]


def test_while_the_broker_is_away_there_is_nothing_to_hear() -> None:
    patient = Patient()
    patient.broker.away = True

    assert not patient.is_silent_at(1000)
    patient.broker.away = False
    assert [patient.is_silent_at(now) for now in (1060, 1061)] == [False, True]


class Shows:
    """Keeps what the worker has shown."""

    def __init__(self) -> None:
        self.queues: list[list[str]] = []
        self.away = False

    def register(self, queues: list[str]) -> None:
        if self.away:
            raise BrokerUnavailable("gone fishing")
        self.queues.append(queues)


def consuming(*queues: str) -> SimpleNamespace:
    """A consumer that takes from these queues, and has slots free."""
    takes = SimpleNamespace(queues=[SimpleNamespace(name=queue) for queue in queues])
    return SimpleNamespace(task_consumer=takes, is_connecting=False, pool=SimpleNamespace(num_processes=2))


def test_a_worker_shows_from_which_queues_it_takes_at_its_start_and_at_each_look() -> None:
    shown = Shows()
    pulse = ConsumerWatchdog(Broker(), 60.0, registry=shown)
    assert pulse.check()
    assert shown.queues == []

    pulse.watch(consuming(WORK_QUEUE, "inboxd.host.here"))
    assert shown.queues == [[WORK_QUEUE, "inboxd.host.here"]]
    assert pulse.check()

    assert len(shown.queues) == 2


def test_a_worker_that_can_not_show_itself_lives_on() -> None:
    shown = Shows()
    shown.away = True
    pulse = ConsumerWatchdog(Broker(), 60.0, registry=shown)
    pulse.watch(consuming(WORK_QUEUE))

    assert pulse.check()
