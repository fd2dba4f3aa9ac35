"""The order in which a worker polls its queues. Kombu imports it by its name, which ``celery_app`` configures."""

from typing import Any

from celery.worker import state
from kombu.utils.scheduling import round_robin_cycle

from inboxd.messaging.celery_app import STAGE
from inboxd.messaging.queues import HOST_QUEUE_PREFIX, STAGE_QUEUE_PREFIX


class HostQueueFirst(round_robin_cycle):  # type: ignore[type-arg]  # generic in the stubs only
    """The order in which a worker polls its queues: the host's own first, so that files are filed soon; the others in turn."""

    def consume(self, n: int) -> Any:  # noqa: ANN401 - a list, but for the stubs
        """Return the queues to poll: while this worker copies a file into the store, no other file's turn comes there."""
        queues: Any = super().consume(n)
        if any(request.name == STAGE for request in state.reserved_requests):
            return [queue for queue in queues if not queue.startswith(STAGE_QUEUE_PREFIX)]
        return queues

    def rotate(self, last_used: str) -> None:
        """Move the queue of the last message behind the others, unless it is the host's own."""
        items: list[str] = self.items or []
        items.sort(key=lambda queue: (not queue.startswith(HOST_QUEUE_PREFIX), queue == last_used))
