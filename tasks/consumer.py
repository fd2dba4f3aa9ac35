"""A consumer that survives the loss of Redis while it is busy.

Celery 5.7.0 ends the worker ("'NoneType' object has no attribute 'hostname'") when Redis dies while a message is unacknowledged
and a BRPOP is pending: closing the channel reads the pending reply from the dead socket, fails half-way, and the second close
that 5.7 added trips over what is left. Forgetting the pending reply first avoids it. A test shows the crash with the stock
consumer, and fails when a later Celery no longer needs this.
"""

from typing import Any

from celery.worker.consumer import Consumer


class SteadyConsumer(Consumer):
    """Celery's consumer, which forgets pending replies of a connection that is lost."""

    def on_connection_error_after_connected(self, exc: Exception) -> Any:  # noqa: ANN401 - Celery's own signature
        """Let go of replies that will never come, before the channels are closed."""
        for channel in list(getattr(getattr(self.connection, "transport", None), "channels", None) or ()):
            channel._in_poll = None  # noqa: SLF001 - the very attribute that the crash reads
        return super().on_connection_error_after_connected(exc)
