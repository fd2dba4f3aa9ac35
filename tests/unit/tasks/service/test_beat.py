"""A stop signal ends beat between its calls to Redis, never within one, where the exception would be lost."""

import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import celery.beat
import pytest
from celery import Celery

from inboxd.tasks.service.beat import Beat, Scheduler


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """Return a scheduler for which beat's handlers of signals are installed."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    new_scheduler = Scheduler(Celery("test", broker="memory://", set_as_current=False), lazy=True)
    Beat.install_sync_handler(SimpleNamespace(), SimpleNamespace(scheduler=new_scheduler))  # type: ignore[arg-type]
    yield new_scheduler
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_tick_takes_effect_at_its_end(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    finished = []

    def tick(*_arguments: Any) -> float:  # noqa: ANN401
        signal.raise_signal(number)
        finished.append("a call to Redis")
        return 1.0

    monkeypatch.setattr(celery.beat.Scheduler, "tick", tick)

    with pytest.raises(SystemExit):
        scheduler.tick()

    assert finished == ["a call to Redis"]


def test_a_signal_between_two_ticks_takes_effect_at_once(scheduler: Scheduler) -> None:
    assert not scheduler.is_ticking
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)


def test_a_tick_without_a_signal_returns_at_most_two_seconds(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery.beat.Scheduler, "tick", lambda *_: 300.0)

    assert scheduler.tick() == 2.0
