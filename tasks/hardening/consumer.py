"""A consumer that survives the loss of Redis while it is busy, and a Redis that is full.

Celery 5.7.0 ends the worker ("'NoneType' object has no attribute 'hostname'") when Redis dies while a message is unacknowledged
and a BRPOP is pending: closing the channel reads the pending reply from the dead socket, fails half-way, and the second close
that 5.7 added trips over what is left. Forgetting the pending reply first avoids it. A test shows the crash with the stock
consumer, and fails when a later Celery no longer needs this.

A Redis that refuses (full, no permission) ends the worker, too, unless ``broker_channel_error_retry`` is set; then it is asked
again without a pause.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.consumer.events import Events
from celery.worker.state import maybe_shutdown
from redis import ResponseError

REFUSED_PAUSE_SECONDS = 2.0
"""A Redis that answers, and refuses, is asked again after so long."""

STOP_CHECK_SECONDS = 0.1

# Celery tells at each lost connection of a default that it means to change
warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced an optional breaking change")


class SteadyConsumer(Consumer):
    """Celery's consumer, which forgets pending replies of a connection that is lost, and sends no heartbeats."""

    def __init__(self, *args: Any, quarantine_failed: Callable[[Any, Exception], None], **kwargs: Any) -> None:  # noqa: ANN401
        """``set_aside`` is told of a message that Celery stumbles over, before it is acknowledged; the rest is Celery's own."""
        self._quarantine_failed = quarantine_failed
        # a heartbeat is tried again for ever: while the server hangs, nothing else would be looked at, not even a stop
        asked_for = kwargs.get("task_events")
        super().__init__(*args, **{**kwargs, "without_heartbeat": True, "task_events": True})
        own: Any = self
        for step in own.steps:
            # without gossip and heartbeats Celery leaves events out for good, and Flower sees no task. So they are in, but
            # nothing is told until somebody asks for it (`enable_events`, which Flower sends), or unless -E did
            if isinstance(step, Events) and not asked_for:
                step.groups = ["worker"]  # type: ignore[attr-defined]  # celery-types does not have it
        self.is_connecting = True
        """Whether it is on its way to a connection; else it asks its queues."""

    def on_ready(self) -> None:
        """Begin to ask the queues, after each connection that was made."""
        self.is_connecting = False
        super().on_ready()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """Return what takes a message: one that Celery stumbles over is set aside, where it would have ended the worker."""
        take = super().create_task_handler(*args, **kwargs)
        own: Any = self
        passes_on = (*own.connection_errors, *own.channel_errors, MemoryError)

        def take_or_set_aside(message: Any) -> None:  # noqa: ANN401 - kombu.message.Message
            try:
                take(message)
            except passes_on:
                raise
            except Exception as error:  # noqa: BLE001 - what a message can bring about is without number
                self._quarantine_failed(message, error)
                message.ack()

        return take_or_set_aside

    def on_connection_error_after_connected(self, exc: Exception) -> Any:  # noqa: ANN401 - Celery's own signature
        """Let go of replies that will never come, before the channels are closed."""
        self.is_connecting = True
        for channel in list(getattr(getattr(self.connection, "transport", None), "channels", None) or ()):
            channel._in_poll = None  # noqa: SLF001 - the very attribute that the crash reads
        answer = super().on_connection_error_after_connected(exc)
        self._pause_if_refused(exc)
        return answer

    def on_connection_error_before_connected(self, exc: Exception) -> Any:  # noqa: ANN401 - Celery's own signature
        """Ask again, but not at once."""
        self.is_connecting = True
        answer = super().on_connection_error_before_connected(exc)
        self._pause_if_refused(exc)
        return answer

    def _pause_if_refused(self, exc: Exception) -> None:
        """Let some time pass after a refusal; Celery itself waits only where there is no connection."""
        deadline = time.monotonic() + (REFUSED_PAUSE_SECONDS if isinstance(exc, ResponseError) else 0.0)
        while time.monotonic() < deadline:
            maybe_shutdown()
            time.sleep(STOP_CHECK_SECONDS)
