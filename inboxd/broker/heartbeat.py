"""Signs of life: what the watcher watches and how, and when a sweep last ran; Redis keys for each host, which expire."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from inboxd.broker.connection import weather
from inboxd.config.settings import Settings

KEY = "inboxd:watcher:"
SWEPT_KEY = "inboxd:swept:"
EXPIRES_SECONDS = 10
EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Watched:
    """One inbox as its watcher sees it; ``busy`` while it has files to take beyond this moment."""

    mode: str
    why: str
    busy: bool
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A watcher's report, made ``at`` unix seconds; it runs ``since`` then."""

    at: float
    inboxes: Mapping[str, Watched]
    since: float = 0.0


def write(client: redis.Redis, host: str, beat: Heartbeat) -> None:
    """Store a report. Raises BrokerAway."""
    inboxes = {
        name: {"mode": watched.mode, "why": watched.why, "busy": watched.busy, "trouble": watched.trouble}
        for name, watched in beat.inboxes.items()
    }
    with weather():
        client.set(KEY + host, json.dumps({"at": beat.at, "since": beat.since, "inboxes": inboxes}), ex=EXPIRES_SECONDS)


def read(client: redis.Redis, host: str) -> Heartbeat | None:
    """Read a host's report; None if its watcher has been silent for too long. Raises BrokerAway."""
    with weather():
        raw = cast("bytes | None", client.get(KEY + host))
    if raw is None:
        return None
    table: dict[str, Any] = json.loads(raw)
    inboxes = {name: Watched(**watched) for name, watched in table["inboxes"].items()}
    return Heartbeat(table["at"], inboxes, table.get("since", 0.0))


def sweeps_every(settings: Settings) -> int:
    """Return the seconds within which a sweep must have been, or Redis was away, or beat or all workers are."""
    return math.ceil(settings.sweep.stale_seconds + settings.work.lease_seconds)


def swept(client: redis.Redis, settings: Settings) -> bool:
    """Note that a sweep runs now; returns whether the last was not too long ago. Raises BrokerAway."""
    with weather():
        return client.set(SWEPT_KEY + settings.host, "", ex=sweeps_every(settings), get=True) is not None


def last_sweep(client: redis.Redis, settings: Settings) -> float | None:
    """Return how many seconds ago the last sweep ran; None if that is too long ago to be known. Raises BrokerAway."""
    with weather():
        left = client.pttl(SWEPT_KEY + settings.host)
    return None if left < 0 else max(sweeps_every(settings) - left / 1000, 0.0)
