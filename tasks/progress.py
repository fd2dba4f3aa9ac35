"""How far a parcel of many files has come: a handler is not asked again for what it had done when its worker was killed.

Each answer is noted at once in a file, in state_dir, which costs little more than a microsecond, and outlives this process and
all its kin. A thread sends the notes to Redis a fiftieth of a second later, for those on other hosts: a message for each would
wake the server, which costs more than a quick handler. Where nothing can be written, each note is such a message. They go on a
connection that is told to give no replies: what was sent is received even if we are killed right after. Losing a note costs
another call of a handler.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import Any, cast

import msgpack
import redis

from spool.broker import weather
from spool.disk import Disk
from spool.folders import split_path
from spool.lease import PROGRESS_KEY
from spool.outcome import FileOutcome, Verdict
from tasks import notebook
from tasks.notebook import Notebook

FOLDER = "progress"
"""… in state_dir."""

SEND_SECONDS = 0.02
"""Notes wait so long for others to be sent with."""

REST_SECONDS = 5.0
"""After Redis has failed us, we do without for so long."""


class Progress:
    """What is known of parcels that are being worked on."""

    def __init__(
        self,
        client: redis.Redis,
        keep_seconds: float,
        disk: Disk,
        folder: PurePath,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is noted of a parcel for ``keep_seconds`` in Redis, and until it is settled in ``folder``."""
        self._clock = clock
        self._client = client
        self._keep = int(keep_seconds)
        self._disk = disk
        self._folder = folder
        self._book: Notebook | None = Notebook(disk, folder)
        self._title = ""
        self._unsent: list[bytes] = []
        self._writing, self._sending = threading.Lock(), threading.Lock()
        self._noted = threading.Event()
        self._thread: threading.Thread | None = None
        self._line: Any = None  # a redis.Connection, whose methods have no types
        self._rests_until = 0.0

    def begin(self) -> None:
        """Send what processes that were killed have left; what can't be sent just now is there for those on this host."""
        for left in notebook.of_the_dead(self._disk, self._folder):
            notes = list(_notes(left.notes))
            if left.title and notes and not self._send(left.title, map(msgpack.packb, notes)):
                return

    def note(self, parcel: str, file: FileOutcome) -> None:
        """Note what became of one file. Never raises: nothing depends on it but time."""
        note = msgpack.packb([file.path, file.verdict.value, file.reason, file.result])
        if not self._write_down(parcel, note):
            self._send(parcel, [note])

    def settle(self, parcel: str) -> None:
        """Send what is left, for the parcel's outcome is about to be settled; then there is nothing to be told by others."""
        if parcel == self._title and self.flush():
            self._write_down("", b"")

    def flush(self) -> bool:
        """Send what is not sent yet; False if it may not have got there."""
        with self._sending:
            with self._writing:
                title, notes, self._unsent = self._title, self._unsent, []
            return not notes or self._deliver(title, notes)

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        """Return what has become of a parcel's files so far, by path. Raises BrokerAway."""
        # first: what is removed from the disk is in Redis by then
        on_disk = [left.notes for left in notebook.read(self._disk, self._folder) if left.title == parcel]
        with weather():
            sent = cast("dict[bytes, bytes]", self._client.hgetall(PROGRESS_KEY + parcel))
        found = {}
        for note in chain.from_iterable(map(_notes, (*sent.values(), *on_disk))):
            with contextlib.suppress(ValueError, TypeError):  # another version's, or nobody's
                path, verdict, reason, result = note
                split_path(path)
                found[path] = FileOutcome(path, Verdict(verdict), None if reason is None else str(reason), result)
        return found

    def _write_down(self, parcel: str, note: bytes) -> bool:
        """Write a note into our file; False if that can't be. A pool of threads has one file, and its main thread no work."""
        if self._book is None or threading.current_thread() is not threading.main_thread():
            return False
        try:
            if self._title != parcel:
                self.flush()  # of a parcel that a time limit has ended, if anything
                self._title = ""
                self._book.begin(parcel)
                self._title = parcel
            if note:
                self._book.add(note)
        except OSError:
            self._book = None
            return False
        if note:
            with self._writing:
                self._unsent.append(note)
            self._send_soon()
        return True

    def _send_soon(self) -> None:
        if self._thread is None:  # with the first note, so: after the fork
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()
        if not self._noted.is_set():
            self._noted.set()

    def _run(self) -> None:
        while self._noted.wait():
            time.sleep(SEND_SECONDS)
            self._noted.clear()
            self.flush()

    def _send(self, parcel: str, notes: Iterable[bytes]) -> bool:
        with self._sending:
            return self._deliver(parcel, notes)

    def _deliver(self, parcel: str, notes: Iterable[bytes]) -> bool:
        """Send notes to Redis; False if they may not have got there."""
        if self._clock() < self._rests_until:
            return False
        key = PROGRESS_KEY + parcel
        pairs = ((msgpack.unpackb(note)[0], note) for note in notes)
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
        yield from (note for note in unpacker if isinstance(note, list))
