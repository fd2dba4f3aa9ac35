"""Publishes parcels: to inboxd's own workers, or to a task of another Celery app."""

from typing import Any

import redis
from celery import Celery, signature
from kombu.exceptions import OperationalError

from inboxd.broker.leases import Leases
from inboxd.config.rules import Inbox
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.messaging.celery_app import FAILURE_CALLBACK, PROCESS, STAGE, SUCCESS_CALLBACK
from inboxd.messaging.other_app.task_message import task_message
from inboxd.messaging.payload import Parcel, parcel_to_wire
from inboxd.messaging.queues import WORK_QUEUE, files_queue, host_queue, stage_queue

_log = get_logger(__name__)


class Publisher:
    """Publishes parcels with their success and error callbacks; a parcel's id is the task's id."""

    def __init__(self, app: Celery, leases: Leases, *, stages: bool = False) -> None:
        """``stages``: large files go to the task that decides whether they are uploaded to the store for other hosts."""
        self._app = app
        self._leases = leases
        self._stages = stages

    def publish(
        self, parcel: Parcel, inbox: Inbox, *, retries: int = 0, countdown: float = 0.0, avoids_store: bool = False
    ) -> None:
        """Publish a parcel. Return within a few socket timeouts.

        ``retries`` is the number of used attempts, ``countdown`` a delay in seconds; ``avoids_store``: a worker could not read
        the files from there. Raises BrokerUnavailable if publishing may
        have failed: publishing the parcel again is idempotent.
        """
        reprs: dict[str, Any] = {"argsrepr": parcel.id, "kwargsrepr": ""}  # no file content in headers, logs and events
        # publishing a callback is retried, because a sweep makes up for a lost one only later
        retry_policy = {"max_retries": 3, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 2.0}
        callback = {"queue": host_queue(parcel.host), "retry": True, "retry_policy": retry_policy, **reprs}
        if inbox.task:
            name, options = inbox.task, task_message(self._app, parcel, inbox, callback, retries + 1)
        elif self._stages and parcel.by_reference:
            name, options = STAGE, {"args": [parcel_to_wire(parcel), retries, avoids_store], "queue": stage_queue(parcel.host)}
        else:
            name, options = PROCESS, self._own_message(parcel, inbox, callback, retries)
        try:
            self._app.send_task(name, task_id=parcel.id, countdown=countdown or None, retry=False, **options, **reprs)
        except (OperationalError, redis.RedisError, ConnectionError, TimeoutError) as error:
            raise BrokerUnavailable(f"can't publish to {options['queue']}: {error}") from error
        if inbox.task:
            # If we die here: the lease lapses soon, and the file is sent again.
            self._leases.await_answer(parcel.id, inbox.answer_seconds + countdown)
            # the other app's worker logs elsewhere: until the answer comes, this line is all that is known
            log = _log.bind(inbox=parcel.inbox, parcel=parcel.id, task=name, queue=inbox.queue, copy=retries + 1)
            for part in parcel.files:
                log.info(events.FILE_SENT, file=part.filename)

    def _own_message(self, parcel: Parcel, inbox: Inbox, callback: dict[str, Any], retries: int) -> dict[str, Any]:
        return {
            "args": [parcel_to_wire(parcel)],
            "queue": files_queue(parcel.host) if parcel.by_reference else WORK_QUEUE,
            "retries": retries,
            "soft_time_limit": inbox.time_limit_seconds,
            "time_limit": inbox.time_limit_seconds + HARD_LIMIT_GRACE_SECONDS,
            "link": signature(SUCCESS_CALLBACK, options=callback, app=self._app),
            "link_error": signature(
                FAILURE_CALLBACK, args=(parcel.inbox, parcel.id), immutable=True, options=callback, app=self._app
            ),
        }
