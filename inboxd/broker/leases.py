"""Leases: one Redis hash for each parcel says which worker owns it and until when, by Redis's clock.

Losing all leases (FLUSHALL) loses no file: a claimed parcel without a lease is published again.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, discard, finite_number, read_value

KEY = "inboxd:parcel:"
SECONDS_PER_FILE_KEY = "inboxd:seconds_per_file:"
DATASET_KEY = "inboxd:dataset"
PROGRESS_KEY = "inboxd:progress:"
OUTCOME_KEY = "celery-task-meta-"  # Celery's key prefix for results
NEWEST_WEIGHT = 0.3
"""Weight of the newest parcel in an inbox's moving average of seconds per file."""
SECONDS_PER_FILE_MAX = 1e6
LEASE_MS_MAX = 40 * 86_400 * 1000
"""Longer than any lease: the longest delay before a retry is 30 days."""


class LeaseState(StrEnum):
    """The state of a parcel, as stored in its lease."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FILED = "filed"


_STATES = frozenset(state.value.encode() for state in LeaseState)


class StartVerdict(StrEnum):
    """Whether a worker may process its copy of a message: it owns the lease, another worker does, or the parcel is finished."""

    STARTED = "started"
    BUSY = "busy"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as read from Redis.

    ``seconds_left`` is negative once it has expired, and ``expires_ms`` is that time by Redis's clock; ``owner`` is the running
    worker's token, "" if there is none; ``attempt`` counts starts, and ``crashes`` the workers that died. ``lone_file`` is
    what the last start said about the parcel's only file, b"" if it has several.
    """

    state: LeaseState
    seconds_left: float
    owner: str
    attempt: int
    crashes: int
    expires_ms: int = 0
    lone_file: bytes = b""

    @property
    def attempts_used(self) -> int:
        """The number of attempts that count against the retries: those in which the worker died do not."""
        return max(self.attempt - self.crashes, 0)


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """The result of ``Leases.start``: the verdict, the number of the started attempt (1, 2 …), or the owner if it is busy."""

    verdict: StartVerdict
    attempt: int
    owner: str = ""


class Leases:
    """The leases in one Redis. Its methods raise BrokerUnavailable."""

    def __init__(self, client: redis.Redis, keep_seconds: float) -> None:
        """Keep each lease for ``keep_seconds`` after its last change: longer than Redis can redeliver the parcel's message."""
        self._client = client
        self._keep_ms = int(keep_seconds * 1000)
        self._queue = client.register_script(lua.QUEUE)
        self._start = client.register_script(lua.START)
        self._update = client.register_script(lua.TRANSITION)
        self._take_over = client.register_script(lua.REQUEUE_IF_UNCHANGED)
        self._average = client.register_script(lua.AVERAGE)
        self._dataset_age = client.register_script(lua.DATASET_AGE)
        self._expire = client.register_script(lua.EXPIRE)
        self._await_answer = client.register_script(lua.AWAIT_ANSWER)
        self._mark_filed = client.register_script(lua.MARK_FILED)

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        """Record that a new parcel is about to be published; return its inbox's mean seconds per file, None if unknown.

        ``attempts`` is the number of attempts at its file in an earlier parcel.
        """
        with translate_redis_errors():
            mean = cast(
                "bytes",
                self._queue(keys=[KEY + parcel, SECONDS_PER_FILE_KEY + inbox], args=[_to_ms(seconds), self._keep_ms, attempts]),
            )
            return read_value(self._client, SECONDS_PER_FILE_KEY + inbox, mean, _to_seconds_per_file) if mean else None

    def requeue_if_unchanged(self, parcel: str, expected: Lease | None, seconds: float, *, crashed: bool = False) -> int | None:
        """Requeue a parcel for ``seconds`` if its lease is unchanged (compare and set); with ``crashed``, count a dead worker.

        Return the number of crashes so far, or None if the lease has changed: then another process takes care of the parcel.
        """
        fields = [expected.state.value, str(expected.expires_ms), expected.owner] if expected else ["", "", ""]
        args: list[str | int] = [*fields, _to_ms(seconds), self._keep_ms, int(crashed), secrets.token_hex(8)]
        with translate_redis_errors():
            reply = int(cast("int", self._take_over(keys=[KEY + parcel], args=args)))
        return reply - 1 if reply else None

    def await_answer(self, parcel: str, seconds: float) -> bool:
        """Postpone the expiry of a queued parcel's lease: until then, nobody sends it again. False if it is not queued."""
        with translate_redis_errors():
            return bool(self._await_answer(keys=[KEY + parcel], args=[_to_ms(seconds), self._keep_ms]))

    def delete(self, parcel: str) -> None:
        """Delete the lease of a parcel that was not published."""
        with translate_redis_errors():
            self._client.delete(KEY + parcel)

    def start(self, parcel: str, token: str, seconds: float, *, dead_owner: str = "", lone_file: bytes = b"") -> StartAnswer:
        """Acquire a parcel's lease for ``token``; STARTED counts an attempt.

        ``dead_owner`` is the token of a process that has died: its lease counts as expired. ``lone_file`` is kept in the lease.
        """
        args: list[str | int | bytes] = [token, _to_ms(seconds), self._keep_ms, dead_owner, lone_file]
        with translate_redis_errors():
            reply = cast("list[Any]", self._start(keys=[KEY + parcel, OUTCOME_KEY + parcel], args=args))
        verdict, attempt, owner = reply
        return StartAnswer(StartVerdict(verdict.decode()), int(attempt), owner.decode("utf-8", "replace"))

    def renew(self, parcel: str, token: str, seconds: float) -> bool:
        """Extend a lease, or recreate one that Redis has lost; return False if the parcel has another owner or state."""
        return self._transition(parcel, token, LeaseState.RUNNING, seconds, token)

    def finish(self, parcel: str, token: str, seconds: float) -> bool:
        """Record that the outcome is known; later copies of the message are dropped. Return False as ``renew`` does."""
        return self._transition(parcel, token, LeaseState.FINISHED, seconds, token)

    def retry(self, parcel: str, token: str, seconds: float) -> bool:
        """Requeue a parcel, because a message for its next attempt is on its way. Return False as ``renew`` does."""
        return self._transition(parcel, token, LeaseState.QUEUED, seconds, "")

    def count_stop(self, parcel: str) -> int:
        """Count that a worker was stopped while it processed a parcel; return how often that was."""
        with translate_redis_errors():
            return int(self._client.hincrby(KEY + parcel, "stops", 1))

    def _transition(self, parcel: str, token: str, state: LeaseState, seconds: float, next_token: str) -> bool:
        with translate_redis_errors():
            args = [token, state.value, _to_ms(seconds), next_token, self._keep_ms]
            return bool(self._update(keys=[KEY + parcel], args=args))

    def mark_filed(self, parcel: str) -> LeaseState | None:
        """Record that a parcel's files are filed, so that later copies of its message are dropped; delete its other keys.

        Return the previous state, None if there was no lease. FILED means that another process has filed the parcel before.
        """
        with translate_redis_errors():
            keys = [prefix + parcel for prefix in (KEY, PROGRESS_KEY, OUTCOME_KEY)]
            before = cast("bytes", self._mark_filed(keys=keys, args=[self._keep_ms]))
        return LeaseState(before.decode()) if before in _STATES else None

    def expire(self, parcel: str, *, crashed: bool) -> bool:
        """Expire a queued parcel's lease, because its message was removed; return False if the parcel is not queued.

        With ``crashed`` the state becomes RUNNING, so that the stale sweep counts a crash.
        """
        state = LeaseState.RUNNING if crashed else LeaseState.QUEUED
        with translate_redis_errors():
            return bool(self._expire(keys=[KEY + parcel], args=[state.value, self._keep_ms]))

    def read(self, parcels: Sequence[str]) -> dict[str, Lease | None]:
        """Return the leases of these parcels, None for a parcel without one; in one round trip."""
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            for parcel in parcels:
                pipe.hmget(KEY + parcel, ["state", "until", "token", "attempt", "crashes", "lone_file"])
            (seconds, micros), *rows = pipe.execute()
        now = seconds * 1000 + micros // 1000
        return {parcel: self._to_lease(KEY + parcel, row, now) for parcel, row in zip(parcels, rows, strict=True)}

    def _to_lease(self, key: str, row: list[bytes | None], now_ms: int) -> Lease | None:
        try:
            return _to_lease(row, now_ms)
        except DECODE_ERRORS as error:
            with translate_redis_errors():
                discard(self._client, [key], f"{type(error).__name__}: {error}")
            return None

    def dataset_age(self) -> float:
        """Return the age of Redis's dataset in seconds, near 0 after Redis has lost it."""
        with translate_redis_errors():
            return int(cast("int", self._dataset_age(keys=[DATASET_KEY]))) / 1000

    def report_seconds_per_file(self, inbox: str, seconds_per_file: float) -> None:
        """Add a parcel's handler time per file to its inbox's moving average, which ``queue`` returns."""
        with translate_redis_errors():
            self._average(keys=[SECONDS_PER_FILE_KEY + inbox], args=[f"{seconds_per_file:.6f}", NEWEST_WEIGHT])


def _to_seconds_per_file(raw: bytes) -> float:
    return finite_number(raw, maximum=SECONDS_PER_FILE_MAX)


def _to_lease(row: list[bytes | None], now_ms: int) -> Lease | None:
    """Return a lease. Raises ValueError for one that inboxd did not write."""
    state, until, token, attempt, crashes, lone_file = row
    if state is None or until is None:
        return None
    seconds_left = (int(until) - now_ms) / 1000
    owner = (token or b"").decode()
    counts = int(attempt or 0), int(crashes or 0)
    if int(until) - now_ms > LEASE_MS_MAX or min(counts) < 0:
        raise ValueError(f"a lease until {int(until)} ms, with {counts} attempts and crashes")
    return Lease(LeaseState(state.decode()), seconds_left, owner, *counts, int(until), lone_file or b"")


def _to_ms(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
