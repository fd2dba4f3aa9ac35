"""Task requests that report no arguments to remote control: the arguments may hold the content of files."""

from typing import Any

from celery.worker.request import Request


class RedactedRequest(Request):
    """Celery's request, which reports its arguments as the sender described them: by the parcel's id.

    `inspect active`, `scheduled` and `query_task` request the arguments themselves, and Flower shows their replies.
    """

    def info(self, safe: bool = False) -> Any:  # noqa: ANN401 - Celery's own signature
        """Return this request's fields for remote control."""
        del safe
        return super().info(safe=True)
