"""The order in which a worker polls its queues. Kombu imports it by its name, which ``celery_app`` configures."""

from kombu.utils.scheduling import round_robin_cycle

from inboxd.messaging.queues import HOST_QUEUE_PREFIX


class HostQueueFirst(round_robin_cycle):  # type: ignore[type-arg]  # generic in the stubs only
    """The order in which a worker polls its queues: the host's own first, so that files are filed soon; the others in turn."""

    def rotate(self, last_used: str) -> None:
        """Move the queue of the last message behind the others, unless it is the host's own."""
        items: list[str] = self.items or []
        items.sort(key=lambda queue: (not queue.startswith(HOST_QUEUE_PREFIX), queue == last_used))
