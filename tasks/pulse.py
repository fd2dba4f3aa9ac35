"""The worker's pulse: a consumer that has stopped to consume, without a word, ends its worker, so that it is started anew.

A worker asks its queues at least once a second while it has a slot free, and hears an answer even when they are empty. If it
has not for a long time, though Redis answers us, then no message will ever reach it.
"""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from celery.worker import state

from spool import log
from spool.broker import weather
from spool.errors import BrokerAway

LOOKS_PER_SILENCE = 10
EXIT_CODE = 70
"""EX_SOFTWARE: a supervisor that restarts on failure is to see one."""

COLD_STOP_SECONDS = 10.0
"""A worker that is told to stop at once has so long to put back what it has taken."""

_log = log.get(__name__)


class Pulse:
    """Knows when the worker last heard from its queues."""

    def __init__(self, client: redis.Redis, silent_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._heard = clock()

    def beat(self) -> None:
        """Note that an answer has come."""
        self._heard = self._clock()

    def is_silent(self, *, busy: bool) -> bool:
        """Tell whether nothing was heard for too long; ``busy`` says that there is a reason not to ask."""
        if busy or not self._broker_answers():
            self.beat()
        return self._clock() - self._heard > self._silent_seconds

    def watch(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Watch over a worker's consumer from a thread, for as long as the process lives."""
        self.beat()
        threading.Thread(target=self._run, args=(consumer,), name="pulse", daemon=True).start()

    def _run(self, consumer: Any) -> None:  # noqa: ANN401
        while not self.is_silent(busy=is_busy(consumer)):
            time.sleep(self._silent_seconds / LOOKS_PER_SILENCE)
        silent = round(self._clock() - self._heard, 1)
        _log.critical(log.WORKER_SILENT, seconds=silent, remedy="it ends, and is to be started again")
        state.should_terminate = EXIT_CODE  # type: ignore[assignment]  # a cold stop, which puts back what was taken
        time.sleep(COLD_STOP_SECONDS)
        signal.raise_signal(signal.SIGKILL)

    def _broker_answers(self) -> bool:
        try:
            with weather():
                return bool(self._client.ping())
        except BrokerAway:
            return False


def is_busy(consumer: Any) -> bool:  # noqa: ANN401 - celery.worker.consumer.Consumer
    """Tell whether there is a reason for a worker not to ask its queues.

    It is about to stop, it is on its way to a connection, it was told to leave its queues alone, or has no slot free.
    """
    # 0 is an order to stop, too, and equals False
    stops = any(order is not None and order is not False for order in (state.should_stop, state.should_terminate))
    asks = consumer.task_consumer is not None and bool(consumer.task_consumer.queues)
    return stops or consumer.waits or not asks or len(state.reserved_requests) >= _slots(consumer)


def _slots(consumer: Any) -> int:  # noqa: ANN401
    return getattr(consumer.pool, "num_processes", None) or 1
