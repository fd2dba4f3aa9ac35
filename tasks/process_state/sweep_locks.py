"""Sweep locks: at most one process runs a given sweep on an inbox, so that a hung mount blocks one worker and not all."""

import contextlib
from collections.abc import Iterator
from typing import cast

import redis

from inboxd.broker import lua
from inboxd.broker.connection import translate_redis_errors
from inboxd.errors import BrokerUnavailable
from inboxd.tasks.process_state.process_identity import Liveness, liveness, process_token

KEY = "inboxd:sweep:"
EXPIRES_SECONDS = 120
"""Time after which a lock expires if its owner lives but does not release the lock: several sweep intervals."""


class SweepLocks:
    """Acquires and releases this process's sweep locks.

    A release is sent together with the next acquisition, or by ``flush``: a sweep over many inboxes asks Redis once per inbox.
    A dead process's lock is taken over at once; redis-py's own lock would wait until it expires.
    """

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._client = client
        self._host = host
        self._unreleased: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def acquire(self, sweep: str, inbox: str) -> Iterator[bool]:
        """Yield whether this process has the lock of one sweep on one inbox. Raises BrokerUnavailable."""
        key, token = f"{KEY}{sweep}:{self._host}:{inbox}", process_token(self._host)
        acquired = True  # until Redis replies: a request whose reply is lost may have been executed
        try:
            acquired = self._acquire(key, token)
            yield acquired
        finally:
            if acquired:
                self._unreleased.add((key, token))

    def flush(self) -> None:
        """Release every lock that is no longer in use; if Redis is unavailable, the next acquisition releases them."""
        with contextlib.suppress(BrokerUnavailable), translate_redis_errors():
            for key, token in [*self._unreleased]:
                self._client.eval(lua.RELEASE_LOCK, 1, key, token)
                self._unreleased.discard((key, token))

    def _acquire(self, key: str, token: str) -> bool:
        owner = self._request(key, token, [*self._unreleased])
        if owner != token and liveness(owner) is Liveness.DEAD:
            owner = self._request(key, token, [(key, owner)])
        return owner == token

    def _request(self, key: str, token: str, releases: list[tuple[str, str]]) -> str:
        """Release the given locks, acquire one if it is free, and return its owner."""
        keys, owners = [key, *(key for key, _ in releases)], [owner for _, owner in releases]
        with translate_redis_errors():
            owner = cast("bytes", self._client.eval(lua.ACQUIRE_LOCK, len(keys), *keys, token, str(EXPIRES_SECONDS), *owners))
        self._unreleased.difference_update(releases)
        return owner.decode("utf-8", "replace")
