"""How far a parcel of many files has come: a handler is not asked again for what it had done when its worker was killed.

Each answer is noted at once in a file, in state_dir, which costs little more than a microsecond, and outlives this process and
all its kin. A thread sends the notes to Redis a fiftieth of a second later, for those on other hosts: a message for each would
wake the server, which costs more than a quick handler. Where nothing can be written, each note is such a message. They go on a
connection that is told to give no replies: what was sent is received even if we are killed right after. Losing a note costs
another call of a handler.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import Any, cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.leases import PROGRESS_KEY
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.spool.layout import split_path
from inboxd.tasks.worker import progress_journal
from inboxd.tasks.worker.progress_journal import ProgressJournal

FOLDER = "progress"
"""… in state_dir."""

SEND_DELAY_SECONDS = 0.02
"""Notes wait so long for others to be sent with."""

PAUSE_SECONDS = 5.0
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
        """Keep what is noted of a parcel for ``keep_seconds`` in Redis, and until this process's next parcel in ``folder``."""
        self._clock = clock
        self._client = client
        self._keep = int(keep_seconds)
        self._disk = disk
        self._folder = folder
        self._journal = ProgressJournal(disk, folder)
        self._journal_parcel = self._unwritable_parcel = ""
        self._unsent: deque[tuple[str, bytes, bytes]] = deque()  # parcel, path, note
        self._send_lock = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # a lock of Python's own might stay taken after a time limit
        self._awake = False
        self._thread: threading.Thread | None = None
        self._connection: Any = None  # a redis.Connection, whose methods have no types
        self._paused_until = 0.0

    def send_orphaned(self) -> None:
        """Send what processes that were killed have left. Before that it is there for those on this host."""
        with contextlib.suppress(BrokerUnavailable):
            for left in progress_journal.orphaned_journals(self._disk, self._folder, self._keep):
                notes = {note[0]: msgpack.packb(note) for note in unpack_records(left.records)}
                if notes:
                    with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
                        pipe.hset(PROGRESS_KEY + left.parcel_id, items=[*chain.from_iterable(notes.items())])
                        pipe.expire(PROGRESS_KEY + left.parcel_id, self._keep)
                        pipe.execute()

    def record(self, parcel: str, file: FileOutcome) -> None:
        """Note what became of one file. Never raises but what a time limit does: nothing depends on it but time."""
        note = msgpack.packb([file.path, file.verdict.value, file.reason, file.result])
        self._unsent.append((parcel, file.path, note))
        if not self._write_to_journal(parcel, note):
            self.flush()
        elif not self._awake:
            if self._thread is None or not self._thread.is_alive():  # with the first note, so: after the fork
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
            self._wake.put(None)
            self._awake = True

    def flush(self) -> None:
        """Send what is not sent yet."""
        with self._send_lock:
            taken = [self._unsent.popleft() for _ in range(len(self._unsent))]
            for parcel in dict.fromkeys(about for about, _, _ in taken):
                if not self._send(parcel, [(path, note) for about, path, note in taken if about == parcel]):
                    # it may not have got there; of what is worked on no more it is not worth another try
                    self._unsent.extendleft(reversed([note for note in taken if note[0] == self._journal_parcel]))
                    return

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        """Return what has become of a parcel's files so far, by path. Raises BrokerAway."""
        on_disk = progress_journal.read_records(
            self._disk, self._folder, parcel
        )  # first: what is removed from there is in Redis by then
        with translate_redis_errors():
            sent = cast("dict[bytes, bytes]", self._client.hgetall(PROGRESS_KEY + parcel))
        found = {}
        for note in chain.from_iterable(map(unpack_records, (*sent.values(), on_disk))):
            with contextlib.suppress(ValueError, TypeError):  # another version's, or nobody's
                path, verdict, reason, result = note
                split_path(path)
                found[path] = FileOutcome(path, Verdict(verdict), None if reason is None else str(reason), result)
        return found

    def _write_to_journal(self, parcel: str, note: bytes) -> bool:
        """Write a note into our file; False if that can't be. In a pool of threads nobody does: they would share one file."""
        if parcel == self._unwritable_parcel or threading.current_thread() is not threading.main_thread():
            return False
        try:
            if self._journal_parcel != parcel:
                self._journal_parcel = ""
                self._journal.begin(parcel)
                self._journal_parcel = parcel
            self._journal.add(note)
        except OSError:
            self._journal_parcel, self._unwritable_parcel = "", parcel  # the next parcel tries again
            return False
        return True

    def _run(self) -> None:
        while True:
            self._wake.get()
            time.sleep(SEND_DELAY_SECONDS)
            self._awake = False
            self.flush()

    def _send(self, parcel: str, notes: list[tuple[bytes, bytes]]) -> bool:
        if self._clock() < self._paused_until:
            return False
        key = PROGRESS_KEY + parcel
        commands: list[tuple[object, ...]] = [("HSET", key, *chain.from_iterable(notes)), ("EXPIRE", key, self._keep)]
        # a line that was kept may have gone stale: that costs one more try, and only a Redis that is away costs a rest
        if (self._connection and self._send_commands(commands)) or self._send_commands(commands):
            return True
        self._paused_until = self._clock() + PAUSE_SECONDS
        return False

    def _send_commands(self, commands: list[tuple[object, ...]]) -> bool:
        try:
            self._connection = self._connection or self._connect()
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        except (redis.RedisError, OSError):
            self.close()
            return False
        except BaseException:  # interrupted by a time limit or a stop: who knows what was sent of it
            self.close()
            raise
        return True

    def _connect(self) -> Any:  # noqa: ANN401
        pool = self._client.connection_pool
        line: Any = pool.connection_class(**pool.connection_kwargs)  # one beside the pool, which counts its own
        line.connect()
        line.send_packed_command(line.pack_command("CLIENT", "REPLY", "OFF"), check_health=False)
        return line

    def close(self) -> None:
        """Close the connection; the next send opens another one."""
        if self._connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._connection.disconnect()
        self._connection = None


def unpack_records(packed: bytes) -> Iterator[list[Any]]:
    """Yield one note after the other: a list that begins with a path; what can't be read ends it."""
    with contextlib.suppress(ValueError, msgpack.UnpackException):
        unpacker = msgpack.Unpacker()
        unpacker.feed(packed)
        yield from (note for note in unpacker if isinstance(note, list) and note and isinstance(note[0], bytes))
