"""A consumer that survives losing Redis while tasks run, and a Redis that replies with errors.

Celery 5.7.0 ends the worker ("'NoneType' object has no attribute 'hostname'") when Redis dies while a message is unacknowledged
and a BRPOP is pending: closing the channel reads the pending reply from the dead socket, fails half-way, and the second close
that 5.7 added fails on the half-closed channel. Clearing the pending reply first avoids the crash. A test shows the crash with
the stock consumer, and fails when a later Celery no longer needs this.

An error reply from Redis (out of memory, no permission) ends the worker, too, unless ``broker_channel_error_retry`` is set;
with it, Celery retries without a delay.
"""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.consumer.events import Events
from celery.worker.state import maybe_shutdown
from redis import ResponseError

from inboxd.errors import BrokerUnavailable

REFUSED_PAUSE_SECONDS = 2.0
"""Delay before retrying after Redis replied with an error (out of memory, no permission)."""

STOP_CHECK_SECONDS = 0.1

# Celery repeats this announcement of a changed default at each lost connection
warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced an optional breaking change")


class SteadyConsumer(Consumer):
    """Celery's consumer, which clears a lost connection's pending replies, sends no heartbeats and quarantines bad messages."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - Celery's own signature
        quarantine_failed: Callable[[Any, Exception], None],
        check_keys: Callable[[], None],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """``quarantine_failed`` receives a message on which Celery fails, before it is acknowledged.

        ``check_keys`` is called after Redis has replied with an error; all else is Celery's.
        """
        self._quarantine_failed = quarantine_failed
        self._check_keys = check_keys
        sends_events = kwargs.get("task_events")
        # Celery retries a heartbeat for ever: while the server hangs, the consumer would do nothing else, not even stop.
        # Mingling takes a second at each start, and what anybody answers as the list of revoked tasks
        super().__init__(*args, **{**kwargs, "without_heartbeat": True, "without_mingle": True, "task_events": True})
        untyped: Any = self
        for step in untyped.steps:
            # without gossip and heartbeats Celery omits the Events step, and Flower sees no task. So the step is included,
            # but sends no task events until a client (Flower) sends `enable_events`, unless -E was given
            if isinstance(step, Events) and not sends_events:
                step.groups = ["worker"]  # type: ignore[attr-defined]  # missing in celery-types
        self.is_connecting = True
        """Whether the consumer is connecting to Redis; if not, it polls its queues."""

    def on_ready(self) -> None:
        """Start polling the queues; called after each connect."""
        self.is_connecting = False
        super().on_ready()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """Return Celery's message handler, changed to quarantine a message that it fails on: the error would end the worker."""
        handle = super().create_task_handler(*args, **kwargs)
        untyped: Any = self
        propagated = (*untyped.connection_errors, *untyped.channel_errors, MemoryError)

        def handle_or_quarantine(message: Any) -> None:  # noqa: ANN401 - kombu.message.Message
            try:
                handle(message)
            except propagated:
                raise
            except Exception as error:  # noqa: BLE001 - a bad message may cause any exception
                self._quarantine_failed(message, error)
                message.ack()

        return handle_or_quarantine

    def on_connection_error_after_connected(self, exc: Exception) -> Any:  # noqa: ANN401 - Celery's own signature
        """Clear the pending replies, which will never arrive, before the channels are closed."""
        self.is_connecting = True
        for channel in list(getattr(getattr(self.connection, "transport", None), "channels", None) or ()):
            channel._in_poll = None  # noqa: SLF001 - the very attribute that the crash reads
        result = super().on_connection_error_after_connected(exc)
        self._pause_if_refused(exc)
        return result

    def on_connection_error_before_connected(self, exc: Exception) -> Any:  # noqa: ANN401 - Celery's own signature
        """Retry, after a delay if Redis replied with an error."""
        self.is_connecting = True
        result = super().on_connection_error_before_connected(exc)
        self._pause_if_refused(exc)
        return result

    def _pause_if_refused(self, exc: Exception) -> None:
        """Wait after an error reply: Celery itself waits only if it can't connect."""
        if not isinstance(exc, ResponseError):
            return
        with contextlib.suppress(BrokerUnavailable):
            self._check_keys()
        deadline = time.monotonic() + REFUSED_PAUSE_SECONDS
        while time.monotonic() < deadline:
            maybe_shutdown()
            time.sleep(STOP_CHECK_SECONDS)
