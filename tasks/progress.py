"""How far a parcel of many files has come: a handler is not asked again for what it had done when its worker was killed.

Each answer is noted at once in memory that this process's siblings share, which costs about a microsecond: what a killed child
has noted is there for who repairs its parcel. What is noted goes to Redis as well, a fiftieth of a second later at most if
more notes follow: should all processes of a worker be killed at one moment, no more is lost. It goes on a connection that is
told to give no replies: what was sent is received even if we are killed right after. Losing a note costs another call of a
handler.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, cast

import msgpack
import redis

from spool.broker import weather
from spool.folders import split_path
from spool.lease import PROGRESS_KEY
from spool.outcome import FileOutcome, Verdict
from tasks.pages import Page, Pages

SEND_SECONDS = 0.02
"""Notes wait so long for others to be sent with: a message wakes the server, which costs more than a quick handler."""

REST_SECONDS = 5.0
"""After Redis has failed us, we do without for so long."""


class Progress:
    """What is known of parcels that are being worked on."""

    def __init__(
        self,
        client: redis.Redis,
        keep_seconds: float,
        pages: Pages | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is noted of a parcel for ``keep_seconds``. Made before the fork, if children are to share ``pages``."""
        self._clock = clock
        self._client = client
        self._keep = int(keep_seconds)
        self._pages = pages or Pages(1)
        self._page: Page | None = None
        self._lock = threading.Lock()
        self._line: Any = None  # a redis.Connection, whose methods have no types
        self._sent_at = self._rests_until = -REST_SECONDS

    def note(self, parcel: str, file: FileOutcome) -> None:
        """Note what became of one file. Does not wait, and never raises: nothing depends on it but time."""
        note = msgpack.packb([file.path, file.verdict.value, file.reason, file.result])
        with self._lock:
            self._page = self._page or self._pages.mine()
            if self._page is None:
                self._send(parcel, note)
                return
            if self._page.title != parcel:
                self._send_unsent(self._page)  # a predecessor's, who was killed; else it is needed no more, and does no harm
                self._page.begin(parcel)
            if not self._page.add(note):
                self._send(parcel, self._page.unsent() + note)
                self._page.begin(parcel)
            elif self._clock() >= self._sent_at + SEND_SECONDS:
                self._send_unsent(self._page)

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        """Return what has become of a parcel's files so far, by path. Raises BrokerAway."""
        with weather():
            sent = cast("dict[bytes, bytes]", self._client.hgetall(PROGRESS_KEY + parcel))
        found = {}
        for note in chain.from_iterable(map(_notes, (*sent.values(), self._pages.read(parcel)))):
            with contextlib.suppress(ValueError, TypeError):  # another version's, or nobody's
                path, verdict, reason, result = note
                split_path(path)
                found[path] = FileOutcome(path, Verdict(verdict), None if reason is None else str(reason), result)
        return found

    def _send_unsent(self, page: Page) -> None:
        if (notes := page.unsent()) and self._send(page.title, notes):
            page.sent()

    def _send(self, parcel: str, notes: bytes) -> bool:
        """Send notes to Redis; False if they may not have got there."""
        self._sent_at = self._clock()
        if self._sent_at < self._rests_until:
            return False
        key, pairs = PROGRESS_KEY + parcel, [(note[0], msgpack.packb(note)) for note in _notes(notes)]
        commands = [("HSET", key, *chain.from_iterable(pairs)), ("EXPIRE", key, self._keep)]
        # a line that was kept may have gone stale: that costs one more try, and only a Redis that is away costs a rest
        if (self._line and self._write(commands)) or self._write(commands):
            return True
        self._rests_until = self._clock() + REST_SECONDS
        return False

    def _write(self, commands: list[tuple[object, ...]]) -> bool:
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


def _notes(packed: bytes) -> Iterator[Any]:
    """Yield one note after the other; what makes no sense ends it."""
    with contextlib.suppress(ValueError, msgpack.UnpackException):
        unpacker = msgpack.Unpacker()
        unpacker.feed(packed)
        yield from unpacker
