"""Celery's configuration, and the names of the tasks."""

from typing import Any

from celery import Celery
from kombu import Queue

from inboxd.broker.connection import HEALTH_CHECK_SECONDS, celery_broker_url, key_prefix
from inboxd.config.settings import Settings
from inboxd.messaging.queues import (
    UNACKED_INDEX_KEY,
    UNACKED_KEY,
    UNACKED_MUTEX_KEY,
    WORK_QUEUE,
    files_queue,
    host_queue,
    stage_queue,
)
from inboxd.messaging.transport import SteadyChannel, use_channel

PROCESS = "inboxd.process"
STAGE = "inboxd.stage"
SUCCESS_CALLBACK = "inboxd.succeeded"
FAILURE_CALLBACK = "inboxd.failed"
SWEEP_MISSED = "inboxd.sweep_missed"
SWEEP_STALE = "inboxd.sweep_stale"
SWEEP_EXPIRED = "inboxd.sweep_expired"

ETA_TASKS_MAX = 1000
"""Maximum number of messages that a worker keeps in memory until their time has come: retries, or another program's flood."""


def make_app(settings: Settings, *, results: bool = False) -> Celery:
    """Return a Celery app; without ``results`` it has no result store, and publishing does not subscribe to the result."""
    use_channel(SteadyChannel, is_default=True)
    app = Celery("inboxd", set_as_current=results)
    app.conf.update(celery_configuration(settings, results=results))
    return app


def celery_configuration(settings: Settings, *, results: bool) -> dict[str, Any]:
    """Return Celery's configuration; with ``results`` it has a result store."""
    return {
        "broker_url": celery_broker_url(settings),
        # pickle runs code from a message, and JSON has no bytes; JSON is for the callbacks of other apps (see message_check)
        "task_serializer": "msgpack",
        "result_serializer": "msgpack",
        "event_serializer": "msgpack",
        "accept_content": ["msgpack", "json"],
        "result_accept_content": ["msgpack"],
        # own names, so that another Celery app on the same Redis neither gets our broadcasts nor restores our messages
        "control_exchange": "inboxd",
        "event_exchange": "inboxdev",
        "event_queue_prefix": "inboxd.ev",
        "task_default_queue": WORK_QUEUE,
        "task_queues": [Queue(name) for name in own_queues(settings)],
        # a message is acknowledged after its task, so that the message of a killed worker is redelivered
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": True,
        # the error callback counts lost workers in the lease; rejecting the message would redeliver it for ever
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.work.concurrency or None,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_max_tasks_per_child": 10_000,
        "worker_max_memory_per_child": settings.work.child_memory_max // 1024 or None,
        "worker_eta_task_limit": ETA_TASKS_MAX,
        "worker_proc_alive_timeout": 30,
        "worker_send_task_events": False,
        "worker_enable_remote_control": True,
        # in an outage of the broker, a worker reconnects for ever, and a publisher fails after its timeouts
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a full Redis is an outage, too
        "broker_pool_acquire_timeout": settings.redis.socket_timeout_seconds,
        "broker_transport_options": _transport_options(settings),
        "task_publish_retry": False,
        "redis_socket_timeout": settings.redis.socket_timeout_seconds,
        "redis_socket_connect_timeout": settings.redis.connect_timeout_seconds,
        "redis_retry_on_timeout": False,
        "result_backend": celery_broker_url(settings) if results else None,
        "result_expires": settings.redis.result_expires_seconds,
        "result_backend_transport_options": {
            "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
            "global_keyprefix": key_prefix(settings),
        },
        "redis_backend_health_check_interval": HEALTH_CHECK_SECONDS,
        "timezone": "UTC",
        "beat_scheduler": "inboxd.tasks.service.beat:Scheduler",  # keeps no schedule file, which could be damaged
        "beat_max_loop_interval": 2,
    }


def own_queues(settings: Settings) -> list[str]:
    """Return the queues of this host's workers."""
    host = settings.host
    return [host_queue(host), files_queue(host), WORK_QUEUE, *([stage_queue(host)] if settings.stage.url else [])]


def _transport_options(settings: Settings) -> dict[str, Any]:
    return {
        "socket_timeout": settings.redis.socket_timeout_seconds,
        "socket_connect_timeout": settings.redis.connect_timeout_seconds,
        "retry_on_timeout": False,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "socket_keepalive": True,
        # one immediate retry, for a connection that the server closed while it was idle; the caller does the waiting
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
        "visibility_timeout": settings.redis.visibility_timeout_seconds,
        # each check costs three round trips, and expired leases reveal lost messages much sooner
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "global_keyprefix": key_prefix(settings),
        "unacked_key": UNACKED_KEY,
        "unacked_index_key": UNACKED_INDEX_KEY,
        "unacked_mutex_key": UNACKED_MUTEX_KEY,
        "queue_order_strategy": "inboxd.messaging.queue_order:HostQueueFirst",
        "priority_steps": [0],
    }
