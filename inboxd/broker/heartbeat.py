"""Signs of life: what the watcher watches and how, and when a sweep last ran; Redis keys for each host, which expire."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.config.settings import Settings

KEY = "inboxd:watcher:"
SWEPT_KEY = "inboxd:swept:"
EXPIRES_SECONDS = 10
EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class InboxReport:
    """One inbox as its watcher sees it; ``busy`` while it has files to take beyond this moment."""

    mode: str
    mode_reason: str
    is_busy: bool
    outage: str | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A watcher's report, made ``at`` unix seconds; it runs ``since`` then."""

    at: float
    inboxes: Mapping[str, InboxReport]
    started_at: float = 0.0


def write_heartbeat(client: redis.Redis, host: str, beat: Heartbeat) -> None:
    """Store a report. Raises BrokerAway."""
    inboxes = {  # not by asdict, which copies: a thousand inboxes are reported every two seconds
        name: {"mode": report.mode, "mode_reason": report.mode_reason, "is_busy": report.is_busy, "outage": report.outage}
        for name, report in beat.inboxes.items()
    }
    table = {"at": beat.at, "started_at": beat.started_at, "inboxes": inboxes}
    with translate_redis_errors():
        client.set(KEY + host, json.dumps(table), ex=EXPIRES_SECONDS)


def read_heartbeat(client: redis.Redis, host: str) -> Heartbeat | None:
    """Read a host's report; None if its watcher has been silent for too long. Raises BrokerAway."""
    with translate_redis_errors():
        raw = cast("bytes | None", client.get(KEY + host))
    if raw is None:
        return None
    table: dict[str, Any] = json.loads(raw)
    inboxes = {name: InboxReport(**report) for name, report in table["inboxes"].items()}
    return Heartbeat(table["at"], inboxes, table["started_at"])


def sweep_deadline_seconds(settings: Settings) -> int:
    """Return the seconds within which a sweep must have been, or Redis was away, or beat or all workers are."""
    return math.ceil(settings.sweep.stale_seconds + settings.work.lease_seconds)


def record_sweep(client: redis.Redis, settings: Settings) -> bool:
    """Note that a sweep runs now; returns whether the last was not too long ago. Raises BrokerAway."""
    with translate_redis_errors():
        return client.set(SWEPT_KEY + settings.host, "", ex=sweep_deadline_seconds(settings), get=True) is not None


def seconds_since_sweep(client: redis.Redis, settings: Settings) -> float | None:
    """Return how many seconds ago the last sweep ran; None if that is too long ago to be known. Raises BrokerAway."""
    with translate_redis_errors():
        left = client.pttl(SWEPT_KEY + settings.host)
    return None if left < 0 else max(sweep_deadline_seconds(settings) - left / 1000, 0.0)
