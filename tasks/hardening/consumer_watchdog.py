"""A watchdog that ends a worker whose consumer has silently stopped consuming, so that its service manager restarts it.

A consumer polls its queues at least once a second while its pool has a free slot, and Redis replies even if they are empty. If
no reply has arrived for a long time although Redis answers a ping, no message will ever reach the worker.
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
from inboxd.broker.installations import EVERY_SECONDS, NAMESPACE_REMEDY, Registration
from inboxd.errors import BrokerUnavailable, NamespaceConflict, SettingsError
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.service.sd_notify import PINGS_PER_PERIOD, ServiceNotifier

CHECKS_PER_SILENCE = 10
CHECK_SECONDS_DEFAULT = 5.0
"""Interval of the checks if ``silent_seconds`` is 0, which switches the detection off."""
EXIT_CODE = 70
"""EX_SOFTWARE: a supervisor that restarts programs only on failure must see a failure."""

CONFLICT_SECONDS = 1.0
"""Interval between two tries to register beside another installation."""

COLD_STOP_SECONDS = 10.0
"""Maximum time for a cold stop, in which the worker requeues its unacknowledged messages; then it is killed."""

_log = get_logger(__name__)


class ConsumerWatchdog:
    """Checks from a thread that replies from the queues arrive; ends the worker if none has for ``silent_seconds``."""

    def __init__(
        self,
        client: redis.Redis,
        silent_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        service_manager: ServiceNotifier | None = None,
        registry: WorkerRegistry | None = None,
        registration: Registration | None = None,
    ) -> None:
        """``silent_seconds`` 0: never; ``registry`` and ``registration`` are renewed at each check."""
        self._registration = registration
        self._service_manager = service_manager or ServiceNotifier()
        self._registry = registry
        self._consumer: Any = None
        self._is_broker_unavailable = False
        self._client = client
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._last_reply = clock()

    def record_reply(self) -> None:
        """Record that a reply has arrived now."""
        self._last_reply = self._clock()

    def check_silence(self, *, is_busy: bool) -> bool:
        """Return whether no reply has arrived for too long; ``is_busy``: the consumer has a reason not to poll."""
        self._is_broker_unavailable = not is_busy and not self._is_broker_answering()
        if is_busy or self._is_broker_unavailable:
            self.record_reply()
        return self._silent_seconds > 0 and self._clock() - self._last_reply > self._silent_seconds

    @property
    def check_seconds(self) -> float:
        """Interval between two checks."""
        watchdog = self._service_manager.watchdog_seconds
        interval = min(self._silent_seconds / CHECKS_PER_SILENCE or CHECK_SECONDS_DEFAULT, EVERY_SECONDS)
        return interval if watchdog is None else min(interval, watchdog / PINGS_PER_PERIOD)

    def start(self) -> None:
        """Start the thread that checks the consumer, and pings the service manager's watchdog after each successful check."""
        self.record_reply()
        threading.Thread(target=self._run, name="consumer-watchdog", daemon=True).start()

    def watch(self, consumer: Any) -> None:  # noqa: ANN401 - celery.worker.consumer.Consumer
        """Check this consumer from now on; call when it has connected. Return once no other installation is in its way.

        Raises SettingsError if other hosts need no password for Redis.
        """
        self._await_namespace()
        self.record_reply()
        self._consumer = consumer
        self._register(consumer)
        self._service_manager.set_status("consuming")

    def _await_namespace(self) -> None:
        """Register the installation; wait while one that came first uses the namespace, or until the worker is to stop."""
        is_logged = False
        while self._registration and not _is_stopping():
            try:
                self._registration.register()
            except NamespaceConflict as error:
                if not is_logged:
                    _log.error(events.INSTALLATION_CONFLICT, why=str(error), remedy=NAMESPACE_REMEDY)
                    self._service_manager.set_status("waiting: another installation uses the same redis.namespace")
                is_logged = True
                time.sleep(CONFLICT_SECONDS)
            except BrokerUnavailable:  # the consumer meets it, too
                return
            else:
                return

    def _run(self) -> None:
        while self.check():
            time.sleep(self.check_seconds)
        self._terminate()

    def check(self) -> bool:
        """Check once, and report the result to the service manager; return False if the worker must end."""
        consumer = self._consumer
        is_silent = self.check_silence(is_busy=consumer is not None and is_busy(consumer))
        if not is_silent:
            self._service_manager.ping_watchdog()
            self._register(consumer)
            self._service_manager.ping_watchdog()  # Redis may have hung since: the next check takes as long once more
        if consumer is None:  # it has not started yet: without pings, the service manager restarts the worker
            return True
        self._service_manager.set_status("Redis is unavailable, reconnecting" if self._is_broker_unavailable else "consuming")
        return not is_silent

    def _register(self, consumer: Any) -> None:  # noqa: ANN401
        if self._registry and consumer is not None and not self._is_broker_unavailable:
            with contextlib.suppress(BrokerUnavailable, SettingsError):  # after the next connection they are raised again
                self._registry.register(consumed_queues(consumer))
                if self._registration:
                    self._registration.register()

    def _terminate(self) -> None:
        _log.critical(
            events.WORKER_SILENT,
            seconds=round(self._clock() - self._last_reply, 1),
            remedy=f"the worker exits with code {EXIT_CODE} so that its service manager restarts it",
        )
        self._consumer.controller.exitcode = EXIT_CODE  # Celery exits with 0 otherwise
        state.should_terminate = EXIT_CODE  # type: ignore[assignment]  # a cold stop: messages are requeued
        time.sleep(COLD_STOP_SECONDS)
        signal.raise_signal(signal.SIGKILL)

    def _is_broker_answering(self) -> bool:
        try:
            with translate_redis_errors():
                return bool(self._client.ping())
        except BrokerUnavailable:
            return False


def is_busy(consumer: Any) -> bool:  # noqa: ANN401 - celery.worker.consumer.Consumer
    """Return whether the consumer has a reason not to poll its queues.

    The worker is stopping, the consumer is connecting or consumes from no queue, or the pool has no free slot.
    """
    return (
        _is_stopping()
        or consumer.is_connecting
        or not consumed_queues(consumer)
        or len(state.reserved_requests) >= _count_slots(consumer)
    )


def _is_stopping() -> bool:
    # exit code 0 requests a stop, too, and equals False
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def consumed_queues(consumer: Any) -> Collection[str]:  # noqa: ANN401
    """Return the names of the queues from which a consumer currently consumes."""
    task_consumer = consumer.task_consumer
    return [] if task_consumer is None else [queue.name for queue in task_consumer.queues]


def _count_slots(consumer: Any) -> int:  # noqa: ANN401
    return getattr(consumer.pool, "num_processes", None) or 1
