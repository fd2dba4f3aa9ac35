"""The worker's pulse: a consumer that has stopped to consume, without a word, ends its worker, so that it is started anew.

A worker asks its queues at least once a second while it has a slot free, and hears an answer even when they are empty. If it
has not for a long time, though Redis answers us, then no message will ever reach it.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import redis
from celery.worker import state

from inboxd.broker.connection import translate_redis_errors
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.setup import get_logger
from inboxd.messaging.worker_registry import FRESH_SECONDS, Helpers
from inboxd.service.sd_notify import PINGS_PER_PERIOD, Notify

LOOKS_PER_SILENCE = 10
LOOK_SECONDS = 5.0
"""… or so often, where no silence is too long."""
EXIT_CODE = 70
"""EX_SOFTWARE: a supervisor that restarts on failure is to see one."""

COLD_STOP_SECONDS = 10.0
"""A worker that is told to stop at once has so long to put back what it has taken."""

_log = get_logger(__name__)


class Pulse:
    """Knows when the worker last heard from its queues."""

    def __init__(
        self,
        client: redis.Redis,
        silent_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        notify: Notify | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        """``helpers`` is told, as long as the worker is there, which queues it takes from."""
        self._notify = notify or Notify()
        self._helpers = helpers
        self._consumer: Any = None
        self._away = False
        self._client = client
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._heard = clock()

    def beat(self) -> None:
        """Note that an answer has come."""
        self._heard = self._clock()

    def is_silent(self, *, busy: bool) -> bool:
        """Tell whether nothing was heard for too long; ``busy`` says that there is a reason not to ask."""
        self._away = not busy and not self._broker_answers()
        if busy or self._away:
            self.beat()
        return self._silent_seconds > 0 and self._clock() - self._heard > self._silent_seconds

    @property
    def look_seconds(self) -> float:
        """How long it is from one look to the next."""
        watchdog = self._notify.watchdog_seconds
        look = min(self._silent_seconds / LOOKS_PER_SILENCE or LOOK_SECONDS, FRESH_SECONDS / 4)
        return look if watchdog is None else min(look, watchdog / PINGS_PER_PERIOD)

    def attend(self) -> None:
        """Look at the worker from a thread, for as long as the process lives, and feed its watchdog while all is well."""
        self.beat()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def watch(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Watch over a worker's consumer from now on: it has its connection."""
        self.beat()
        self._consumer = consumer
        self._show(consumer)
        self._notify.status("consuming")

    def _run(self) -> None:
        while self._look():
            time.sleep(self.look_seconds)
        self._end()

    def _look(self) -> bool:
        """Take one look, and tell what it has shown; False if the worker is to end."""
        consumer = self._consumer
        silent = self.is_silent(busy=consumer is not None and is_busy(consumer))
        if not silent:
            self._notify.alive()
            self._show(consumer)
        if consumer is None:  # it has not begun: whether it is to be started anew is for the service manager to say
            return True
        self._notify.status("Redis is away, waiting for it" if self._away else "consuming")
        return not silent

    def _show(self, consumer: Any) -> None:  # noqa: ANN401
        if self._helpers and consumer is not None and not self._away:
            with contextlib.suppress(BrokerUnavailable):
                self._helpers.show(queues(consumer))

    def _end(self) -> None:
        _log.critical(
            events.WORKER_SILENT, seconds=round(self._clock() - self._heard, 1), remedy="it ends, and is to be started again"
        )
        state.should_terminate = EXIT_CODE  # type: ignore[assignment]  # a cold stop, which puts back what was taken
        time.sleep(COLD_STOP_SECONDS)
        signal.raise_signal(signal.SIGKILL)

    def _broker_answers(self) -> bool:
        try:
            with translate_redis_errors():
                return bool(self._client.ping())
        except BrokerUnavailable:
            return False


def is_busy(consumer: Any) -> bool:  # noqa: ANN401 - celery.worker.consumer.Consumer
    """Tell whether there is a reason for a worker not to ask its queues.

    It is about to stop, it is on its way to a connection, it was told to leave its queues alone, or has no slot free.
    """
    # 0 is an order to stop, too, and equals False
    stops = any(order is not None and order is not False for order in (state.should_stop, state.should_terminate))
    return stops or consumer.waits or not queues(consumer) or len(state.reserved_requests) >= _slots(consumer)


def queues(consumer: Any) -> Collection[str]:  # noqa: ANN401
    """Return the names of the queues that a worker takes from just now."""
    known = consumer.task_consumer
    return [] if known is None else [queue.name for queue in known.queues]


def _slots(consumer: Any) -> int:  # noqa: ANN401
    return getattr(consumer.pool, "num_processes", None) or 1
