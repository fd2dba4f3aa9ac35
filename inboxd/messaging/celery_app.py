"""The Celery contract: the app's settings, the names of tasks and queues, and sending a parcel by name."""

from typing import Any

import redis
from celery import Celery, signature
from kombu import Queue
from kombu.exceptions import OperationalError

from inboxd.broker.connection import celery_broker_url
from inboxd.config.settings import HARD_LIMIT_GRACE_SECONDS, Inbox, Settings
from inboxd.errors import BrokerUnavailable
from inboxd.messaging.payload import Parcel, parcel_to_wire
from inboxd.messaging.queues import UNACKED_KEY, WORK_QUEUE, files_queue, host_queue

PROCESS = "inboxd.process"
SUCCEEDED = "inboxd.succeeded"
FAILED = "inboxd.failed"
MISSED = "inboxd.sweep_missed"
STALE = "inboxd.sweep_stale"
EXPIRED = "inboxd.sweep_expired"


def make_app(settings: Settings, *, results: bool = False) -> Celery:
    """Build a Celery app that sends. With ``results`` outcomes can be read, too.

    A watcher without a result store does not subscribe to each parcel's result.
    """
    app = Celery("inboxd", set_as_current=results)
    app.conf.update(celery_configuration(settings, results=results))
    return app


def celery_configuration(settings: Settings, *, results: bool) -> dict[str, Any]:
    """Return Celery's configuration. With ``results`` outcomes are stored and can be read."""
    timeouts = {
        "socket_timeout": settings.redis.socket_timeout_seconds,
        "socket_connect_timeout": settings.redis.connect_timeout_seconds,
        "retry_on_timeout": False,
        "health_check_interval": 5,
        "socket_keepalive": True,
    }
    return {
        "broker_url": celery_broker_url(settings),
        # msgpack and nothing else, in every direction: no pickle, no JSON
        "task_serializer": "msgpack",
        "result_serializer": "msgpack",
        "event_serializer": "msgpack",
        "accept_content": ["msgpack"],
        "result_accept_content": ["msgpack"],
        # names of our own: another app on the same Redis neither hears our broadcasts nor restores our messages
        "control_exchange": "inboxd",
        "event_exchange": "inboxdev",
        "task_default_queue": WORK_QUEUE,
        "task_queues": [Queue(name) for name in (host_queue(settings.host), files_queue(settings.host), WORK_QUEUE)],
        # a message is acknowledged when its work is over, so that a killed worker's comes back
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        # a lost worker is counted once, in the lease, by the error callback: Celery's own counter would be a second one,
        # and rejecting would hand the same message out for ever
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.work.concurrency or None,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_max_tasks_per_child": 10_000,
        "worker_proc_alive_timeout": 30,
        "worker_send_task_events": False,
        "worker_enable_remote_control": True,
        # the broker may come and go; a worker waits for it for ever, a caller only for so long
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a full Redis is weather, too
        "broker_pool_acquire_timeout": settings.redis.socket_timeout_seconds,
        "broker_transport_options": {
            **timeouts,
            # one more try when a connection that was kept has gone stale; the waiting is the caller's business
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
            "visibility_timeout": settings.redis.visibility_timeout_seconds,
            # three questions each time, one after the other: leases find what is lost much sooner
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_key": UNACKED_KEY,
            "unacked_index_key": "inboxd.unacked_index",
            "unacked_mutex_key": "inboxd.unacked_mutex",
            "queue_order_strategy": "inboxd.messaging.queues:HostQueueFirst",
            "priority_steps": [0],
        },
        "task_publish_retry": False,
        "redis_socket_timeout": settings.redis.socket_timeout_seconds,
        "redis_socket_connect_timeout": settings.redis.connect_timeout_seconds,
        "redis_retry_on_timeout": False,
        "result_backend": celery_broker_url(settings) if results else None,
        "result_expires": settings.redis.result_expires_seconds,
        "result_backend_transport_options": {"retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}},
        "redis_backend_health_check_interval": 5,
        "timezone": "UTC",
        "beat_scheduler": "inboxd.tasks.service.beat:Scheduler",  # no file to break
        "beat_max_loop_interval": 2,
    }


def send_parcel(app: Celery, parcel: Parcel, inbox: Inbox, *, retries: int = 0, countdown: float = 0.0) -> None:
    """Send a parcel to the workers, with its two callbacks; the parcel's id is the task's id.

    ``retries`` are the attempts that count as used. Returns within a few socket timeouts. Raises BrokerAway when the outcome is
    unknown: the message may have got through, and sending it again with the same id is harmless.
    """
    # a callback is worth waiting for: its loss is repaired, but later
    patience = {"max_retries": 3, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 2.0}
    shown: dict[str, Any] = {"argsrepr": parcel.id, "kwargsrepr": ""}  # no content in headers, logs and events
    home = {"queue": host_queue(parcel.host), "retry": True, "retry_policy": patience, **shown}
    try:
        app.send_task(
            PROCESS,
            args=[parcel_to_wire(parcel)],
            task_id=parcel.id,
            queue=files_queue(parcel.host) if parcel.by_reference else WORK_QUEUE,
            retries=retries,
            countdown=countdown or None,
            retry=False,
            soft_time_limit=inbox.time_limit_seconds,
            time_limit=inbox.time_limit_seconds + HARD_LIMIT_GRACE_SECONDS,
            link=signature(SUCCEEDED, options=home, app=app),
            link_error=signature(FAILED, args=(parcel.inbox, parcel.id), immutable=True, options=home, app=app),
            **shown,
        )
    except (OperationalError, redis.RedisError, ConnectionError, TimeoutError) as error:
        raise BrokerUnavailable(f"can't send to {WORK_QUEUE}: {error}") from error
