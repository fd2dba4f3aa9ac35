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
from inboxd.messaging.worker_registry import REGISTRATION_SECONDS, WorkerRegistry
from inboxd.service.sd_notify import PINGS_PER_PERIOD, ServiceManager

CHECKS_PER_SILENCE = 10
CHECK_SECONDS_MAX = 5.0
"""… or so often, where no silence is too long."""
EXIT_CODE = 70
"""EX_SOFTWARE: a supervisor that restarts on failure is to see one."""

COLD_STOP_SECONDS = 10.0
"""A worker that is told to stop at once has so long to put back what it has taken."""

_log = get_logger(__name__)


class ConsumerWatchdog:
    """Knows when the worker last heard from its queues."""

    def __init__(
        self,
        client: redis.Redis,
        silent_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        service_manager: ServiceManager | None = None,
        registry: WorkerRegistry | None = None,
    ) -> None:
        """``helpers`` is told, as long as the worker is there, which queues it takes from."""
        self._service_manager = service_manager or ServiceManager()
        self._registry = registry
        self._consumer: Any = None
        self._is_broker_unavailable = False
        self._client = client
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._last_reply = clock()

    def record_reply(self) -> None:
        """Note that an answer has come."""
        self._last_reply = self._clock()

    def is_silent(self, *, busy: bool) -> bool:
        """Tell whether nothing was heard for too long; ``busy`` says that there is a reason not to ask."""
        self._is_broker_unavailable = not busy and not self._broker_answers()
        if busy or self._is_broker_unavailable:
            self.record_reply()
        return self._silent_seconds > 0 and self._clock() - self._last_reply > self._silent_seconds

    @property
    def check_seconds(self) -> float:
        """How long it is from one look to the next."""
        watchdog = self._service_manager.watchdog_seconds
        look = min(self._silent_seconds / CHECKS_PER_SILENCE or CHECK_SECONDS_MAX, REGISTRATION_SECONDS / 4)
        return look if watchdog is None else min(look, watchdog / PINGS_PER_PERIOD)

    def start(self) -> None:
        """Look at the worker from a thread, for as long as the process lives, and feed its watchdog while all is well."""
        self.record_reply()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def watch(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Watch over a worker's consumer from now on: it has its connection."""
        self.record_reply()
        self._consumer = consumer
        self._register(consumer)
        self._service_manager.set_status("consuming")

    def _run(self) -> None:
        while self.check():
            time.sleep(self.check_seconds)
        self._terminate()

    def check(self) -> bool:
        """Take one look, and tell what it has shown; False if the worker is to end."""
        consumer = self._consumer
        silent = self.is_silent(busy=consumer is not None and is_busy(consumer))
        if not silent:
            self._service_manager.ping_watchdog()
            self._register(consumer)
        if consumer is None:  # it has not begun: whether it is to be started anew is for the service manager to say
            return True
        self._service_manager.set_status("Redis is away, waiting for it" if self._is_broker_unavailable else "consuming")
        return not silent

    def _register(self, consumer: Any) -> None:  # noqa: ANN401
        if self._registry and consumer is not None and not self._is_broker_unavailable:
            with contextlib.suppress(BrokerUnavailable):
                self._registry.register(consumed_queues(consumer))

    def _terminate(self) -> None:
        _log.critical(
            events.WORKER_SILENT,
            seconds=round(self._clock() - self._last_reply, 1),
            remedy="it ends, and is to be started again",
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
    return (
        stops
        or consumer.is_connecting
        or not consumed_queues(consumer)
        or len(state.reserved_requests) >= _count_slots(consumer)
    )


def consumed_queues(consumer: Any) -> Collection[str]:  # noqa: ANN401
    """Return the names of the queues that a worker takes from just now."""
    known = consumer.task_consumer
    return [] if known is None else [queue.name for queue in known.queues]


def _count_slots(consumer: Any) -> int:  # noqa: ANN401
    return getattr(consumer.pool, "num_processes", None) or 1
