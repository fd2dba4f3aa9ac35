"""What a worker tells of the tasks that it holds: no content of files, which travels in their arguments."""

from typing import Any

from celery.worker.request import Request


class RedactedRequest(Request):
    """Celery's request, which shows its arguments as the sender described them: by the parcel's id.

    `inspect active`, `scheduled` and `query_task` ask for the arguments themselves, and Flower shows what they answer.
    """

    def info(self, safe: bool = False) -> Any:  # noqa: ANN401 - Celery's own signature
        """Return what remote control tells of this request."""
        del safe
        return super().info(safe=True)
