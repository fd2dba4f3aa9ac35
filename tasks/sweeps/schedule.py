"""Beat's schedule of the sweeps."""

from typing import Any

from celery.schedules import schedule

from inboxd.config.settings import Settings
from inboxd.messaging.celery_app import SWEEP_EXPIRED, SWEEP_MISSED, SWEEP_STALE
from inboxd.messaging.queues import host_queue


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return beat's schedule in Celery's format. A sweep that no worker starts in time expires: the next one follows."""
    intervals = {
        SWEEP_MISSED: settings.sweep.missed_seconds,
        SWEEP_STALE: settings.sweep.stale_seconds,
        SWEEP_EXPIRED: settings.sweep.expired_seconds,
    }
    return {
        name: {
            "task": name,
            "schedule": schedule(seconds),
            "options": {"queue": host_queue(settings.host), "expires": max(2 * seconds, 10.0), "ignore_result": True},
        }
        for name, seconds in intervals.items()
    }
