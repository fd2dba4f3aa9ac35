"""Who is looking after a parcel, until when: one Redis hash for each parcel, judged by Redis's own clock.

Losing them all (FLUSHALL) loses no file: a claimed parcel without a lease is published again.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors

KEY = "inboxd:parcel:"
SECONDS_PER_FILE_KEY = "inboxd:seconds_per_file:"
DATASET_KEY = "inboxd:dataset"
PROGRESS_KEY = "inboxd:progress:"
OUTCOME_KEY = "celery-task-meta-"  # Celery's own, for a task's result
NEWEST_WEIGHT = 0.3
"""How much the newest parcel counts in an inbox's mean time per file."""


class LeaseState(StrEnum):
    """What a lease says of its parcel."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FILED = "filed"


class StartVerdict(StrEnum):
    """The answer to a worker that asks whether it may work on its copy of a message."""

    STARTED = "started"
    BUSY = "busy"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as read.

    ``left`` are seconds until it lapses, negative once it has, and ``until_ms`` is that moment by Redis's clock; ``token`` is
    the running worker's, "" if there is none; ``attempt`` counts starts, and ``crashes`` the workers that died.
    """

    state: LeaseState
    seconds_left: float
    owner: str
    attempt: int
    crashes: int
    expires_ms: int = 0

    @property
    def used_retries(self) -> int:
        """How many attempts count as used: a worker's death is not the handler's failure."""
        return max(self.attempt - self.crashes, 0)


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """The answer to a worker that wants to begin: the verdict, which attempt this is (1, 2 …), or who is busy with it."""

    verdict: StartVerdict
    attempt: int
    owner: str = ""


class Leases:
    """The leases on one Redis. Every method raises BrokerAway when that can't be asked."""

    def __init__(self, client: redis.Redis, keep_seconds: float) -> None:
        """Keep each record for ``keep_seconds`` after its last change: longer than Redis may hold a message back."""
        self._client = client
        self._keep_ms = int(keep_seconds * 1000)
        self._queue = client.register_script(lua.QUEUE)
        self._start = client.register_script(lua.START)
        self._update = client.register_script(lua.TRANSITION)
        self._take_over = client.register_script(lua.TAKE_OVER)
        self._average = client.register_script(lua.AVERAGE)
        self._dataset_age = client.register_script(lua.DATASET_AGE)
        self._expire = client.register_script(lua.EXPIRE)
        self._mark_filed = client.register_script(lua.MARK_FILED)

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        """Note that a new parcel's message is about to be sent; returns the inbox's mean seconds per file, None if unknown.

        ``attempts`` were made at its file before it had a parcel of its own.
        """
        with translate_redis_errors():
            pace = self._queue(
                keys=[KEY + parcel, SECONDS_PER_FILE_KEY + inbox], args=[_to_ms(seconds), self._keep_ms, attempts]
            )
        return float(pace) if pace else None

    def take_over(self, parcel: str, seen: Lease | None, seconds: float, *, crashed: bool = False) -> int | None:
        """Make a parcel queued again, if its lease still is what was ``seen``: whoever moved it on meanwhile looks after it.

        With ``crashed`` its owner's death is counted. Returns how many deaths were, or None if the parcel has moved on.
        """
        was = [seen.state.value, str(seen.expires_ms), seen.owner] if seen else ["", "", ""]
        args: list[str | int] = [*was, _to_ms(seconds), self._keep_ms, int(crashed), secrets.token_hex(8)]
        with translate_redis_errors():
            answer = int(cast("int", self._take_over(keys=[KEY + parcel], args=args)))
        return answer - 1 if answer else None

    def delete(self, parcel: str) -> None:
        """Drop the lease of a parcel that came to nothing."""
        with translate_redis_errors():
            self._client.delete(KEY + parcel)

    def start(self, parcel: str, token: str, seconds: float, *, dead_owner: str = "") -> StartAnswer:
        """Ask to work on a parcel; STARTED gives the lease to ``token`` and counts an attempt.

        ``over`` is an owner that is known to be dead: its lease does not count.
        """
        with translate_redis_errors():
            answer = cast(
                "list[Any]", self._start(keys=[KEY + parcel], args=[token, _to_ms(seconds), self._keep_ms, dead_owner])
            )
        verdict, attempt, owner = answer
        return StartAnswer(StartVerdict(verdict.decode()), int(attempt), owner.decode())

    def renew(self, parcel: str, token: str, seconds: float) -> bool:
        """Prolong the lease of a running parcel, or take it anew if Redis has forgotten it; False if it has moved on."""
        return self._transition(parcel, token, LeaseState.RUNNING, seconds, token)

    def finish(self, parcel: str, token: str, seconds: float) -> bool:
        """Note that the outcome is settled: later copies of the message are dropped."""
        return self._transition(parcel, token, LeaseState.FINISHED, seconds, token)

    def retry(self, parcel: str, token: str, seconds: float) -> bool:
        """Note that the handler raised, and that a message for the next attempt is on its way."""
        return self._transition(parcel, token, LeaseState.QUEUED, seconds, "")

    def _transition(self, parcel: str, token: str, held: LeaseState, seconds: float, next_token: str) -> bool:
        with translate_redis_errors():
            done = self._update(keys=[KEY + parcel], args=[token, held.value, _to_ms(seconds), next_token, self._keep_ms])
        return bool(done)

    def mark_filed(self, parcel: str) -> LeaseState | None:
        """Note that a parcel's files are filed away: a copy of its message that turns up later is dropped.

        All else that Redis keeps of the parcel is forgotten. Returns what its lease said before, None if there was none: FILED
        tells that another has been here.
        """
        with translate_redis_errors():
            keys = [kind + parcel for kind in (KEY, PROGRESS_KEY, OUTCOME_KEY)]
            before = cast("bytes", self._mark_filed(keys=keys, args=[self._keep_ms]))
        return LeaseState(before.decode()) if before else None

    def expire(self, parcel: str, *, crashed: bool) -> bool:
        """Let a queued parcel's lease lapse, because its message is known to be gone; False if it is not queued.

        With ``crashed`` it looks as if a worker had died over it: the sweep counts that.
        """
        held = LeaseState.RUNNING if crashed else LeaseState.QUEUED
        with translate_redis_errors():
            return bool(self._expire(keys=[KEY + parcel], args=[held.value, self._keep_ms]))

    def read(self, parcels: Sequence[str]) -> dict[str, Lease | None]:
        """Read many leases at once; None where there is none."""
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            for parcel in parcels:
                pipe.hmget(KEY + parcel, ["state", "until", "token", "attempt", "crashes"])
            (seconds, micros), *rows = pipe.execute()
        now = seconds * 1000 + micros // 1000
        return {parcel: _to_lease(row, now) for parcel, row in zip(parcels, rows, strict=True)}

    def dataset_age(self) -> float:
        """Return for how many seconds Redis has had its memory; near 0 right after it lost all it knew."""
        with translate_redis_errors():
            return int(cast("int", self._dataset_age(keys=[DATASET_KEY]))) / 1000

    def report_seconds_per_file(self, inbox: str, seconds_per_file: float) -> None:
        """Mix a parcel's handler time per file into its inbox's mean, which ``queue`` returns."""
        with translate_redis_errors():
            self._average(keys=[SECONDS_PER_FILE_KEY + inbox], args=[f"{seconds_per_file:.6f}", NEWEST_WEIGHT])


def _to_lease(row: list[bytes | None], now_ms: int) -> Lease | None:
    state, until, token, attempt, crashes = row
    if state is None or until is None:
        return None
    left = (int(until) - now_ms) / 1000
    owner = (token or b"").decode()
    return Lease(LeaseState(state.decode()), left, owner, int(attempt or 0), int(crashes or 0), int(until))


def _to_ms(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
