"""Expiring Redis keys of each host: its watcher's heartbeat, and the time of its last sweep."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import finite_number, read_value
from inboxd.config.settings import Settings

KEY = "inboxd:watcher:"
SWEPT_KEY = "inboxd:swept:"
EXPIRES_SECONDS = 10
EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class InboxReport:
    """One watched inbox: how its changes are detected and why, whether complete files are not claimed yet, and its outage.

    ``sub_mounts`` has a sentence for each mount below inbox/, ``problems`` one for each part that can't be scanned.
    """

    mode: str
    mode_reason: str
    is_busy: bool
    outage: str | None
    sub_mounts: Sequence[str] = ()
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A watcher's report: the times at which it was made and at which the watcher started (unix seconds), and its inboxes."""

    at: float
    inboxes: Mapping[str, InboxReport]
    started_at: float = 0.0


def write_heartbeat(client: redis.Redis, host: str, heartbeat: Heartbeat) -> None:
    """Store a report. Raises BrokerUnavailable."""
    inboxes = {  # not asdict, which copies each value: a thousand inboxes are reported every two seconds
        name: {
            "mode": report.mode,
            "mode_reason": report.mode_reason,
            "is_busy": report.is_busy,
            "outage": report.outage,
            "sub_mounts": report.sub_mounts,
            "problems": report.problems,
        }
        for name, report in heartbeat.inboxes.items()
    }
    table = {"at": heartbeat.at, "started_at": heartbeat.started_at, "inboxes": inboxes}
    with translate_redis_errors():
        client.set(KEY + host, json.dumps(table), ex=EXPIRES_SECONDS)


def read_heartbeat(client: redis.Redis, host: str) -> Heartbeat | None:
    """Return a host's last report, None if it has expired. Raises BrokerUnavailable."""
    with translate_redis_errors():
        raw = cast("bytes | None", client.get(KEY + host))
        return read_value(client, KEY + host, raw, _decode)


def _decode(raw: bytes) -> Heartbeat:
    table: dict[str, Any] = json.loads(raw)
    inboxes = {name: _to_report(report) for name, report in table["inboxes"].items()}
    return Heartbeat(finite_number(table["at"]), inboxes, finite_number(table["started_at"]))


def _to_report(table: dict[str, Any]) -> InboxReport:
    outage = table["outage"]
    return InboxReport(
        str(table["mode"]), str(table["mode_reason"]), bool(table["is_busy"]), None if outage is None else str(outage),
        tuple(map(str, table["sub_mounts"])), tuple(map(str, table["problems"])),
    )  # fmt: skip


def sweep_deadline_seconds(settings: Settings) -> int:
    """Return the longest normal time between two sweeps; a longer one means an outage of Redis, beat or all workers."""
    return math.ceil(settings.sweep.stale_seconds + settings.work.lease_seconds)


def record_sweep(client: redis.Redis, settings: Settings) -> bool:
    """Record that a sweep runs now; return whether the previous one is within the deadline. Raises BrokerUnavailable."""
    with translate_redis_errors():
        return client.set(SWEPT_KEY + settings.host, "", ex=sweep_deadline_seconds(settings), get=True) is not None


def seconds_since_sweep(client: redis.Redis, settings: Settings) -> float | None:
    """Return the seconds since the last sweep, None if they exceed the deadline. Raises BrokerUnavailable."""
    with translate_redis_errors():
        ttl_ms = client.pttl(SWEPT_KEY + settings.host)
    return None if ttl_ms < 0 else max(sweep_deadline_seconds(settings) - ttl_ms / 1000, 0.0)
