"""How far a parcel of many files has come: a handler is not asked again for what it had done when its worker was killed.

Each answer is sent to Redis as soon as it is there, on a connection that is told to give no replies: that costs a few
microseconds, and what was sent is received even if we are killed right after. Losing it costs another call of a handler.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import msgpack
import redis

from spool.broker import weather
from spool.folders import split_path
from spool.lease import PROGRESS_KEY
from spool.outcome import FileOutcome, Verdict

EXPIRE_SECONDS = 1.0
"""How long a parcel's notes are kept is told with its first note, and then as often as this."""

REST_SECONDS = 5.0
"""After Redis has failed us, we do without for so long."""


class Progress:
    """What is known of parcels that are being worked on."""

    def __init__(self, client: redis.Redis, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep what is noted of a parcel for ``keep_seconds``."""
        self._clock = clock
        self._client = client
        self._keep = int(keep_seconds)
        self._lock = threading.Lock()
        self._line: Any = None  # a redis.Connection, whose methods have no types
        self._rests_until = self._lasts_until = 0.0
        self._parcel = ""

    def note(self, parcel: str, file: FileOutcome) -> None:
        """Note what became of one file. Does not wait, and never raises: nothing depends on it but time."""
        if self._clock() < self._rests_until:
            return
        key, value = PROGRESS_KEY + parcel, msgpack.packb([file.verdict.value, file.reason, file.result])
        commands: list[tuple[object, ...]] = [("HSET", key, file.path, value)]
        if parcel != self._parcel or self._clock() >= self._lasts_until:
            commands.append(("EXPIRE", key, self._keep))
            self._parcel, self._lasts_until = parcel, self._clock() + EXPIRE_SECONDS
        with self._lock:
            # a line that was kept may have gone stale: that costs one more try, and only a Redis that is away costs a rest
            if not (self._line and self._send(commands)) and not self._send(commands):
                self._rests_until = self._clock() + REST_SECONDS

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        """Return what has become of a parcel's files so far, by path. Raises BrokerAway."""
        with weather():
            noted = cast("dict[bytes, bytes]", self._client.hgetall(PROGRESS_KEY + parcel))
        found = {}
        for path, value in noted.items():
            with contextlib.suppress(ValueError, TypeError, msgpack.UnpackException):  # another version's, or nobody's
                verdict, reason, result = msgpack.unpackb(value)
                split_path(path)
                found[path] = FileOutcome(path, Verdict(verdict), None if reason is None else str(reason), result)
        return found

    def _send(self, commands: list[tuple[object, ...]]) -> bool:
        try:
            self._line = self._line or self._connect()
            self._line.send_packed_command(self._line.pack_commands(commands), check_health=False)
        except (redis.RedisError, OSError):
            self._hang_up()
            return False
        except BaseException:  # interrupted by a time limit or a stop: who knows what was sent of it
            self._hang_up()
            raise
        return True

    def _connect(self) -> Any:  # noqa: ANN401
        pool = self._client.connection_pool
        line: Any = pool.connection_class(**pool.connection_kwargs)  # one beside the pool, which counts its own
        line.connect()
        line.send_packed_command(line.pack_command("CLIENT", "REPLY", "OFF"), check_health=False)
        return line

    def _hang_up(self) -> None:
        if self._line is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._line.disconnect()
        self._line = None
