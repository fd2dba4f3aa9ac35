"""The watcher's sign of life: what it watches and how, in one Redis key for each host, which expires."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import redis

from spool.broker import weather

KEY = "inboxd:watcher:"
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
    """A watcher's report, made ``at`` unix seconds."""

    at: float
    inboxes: Mapping[str, Watched]


def write(client: redis.Redis, host: str, beat: Heartbeat) -> None:
    """Store a report. Raises BrokerAway."""
    with weather():
        client.set(KEY + host, json.dumps(asdict(beat)), ex=EXPIRES_SECONDS)


def read(client: redis.Redis, host: str) -> Heartbeat | None:
    """Read a host's report; None if its watcher has been silent for too long. Raises BrokerAway."""
    with weather():
        raw = cast("bytes | None", client.get(KEY + host))
    if raw is None:
        return None
    table: dict[str, Any] = json.loads(raw)
    inboxes = {name: Watched(**watched) for name, watched in table["inboxes"].items()}
    return Heartbeat(table["at"], inboxes)
