"""Records the outcomes of files in multi-file parcels, so that a parcel whose worker was killed repeats no handler call.

Each record is written at once to a journal in state_dir, which costs little more than a microsecond, and survives the death of
all processes. A thread sends the records to Redis 20 ms later, for workers on other hosts: a message per record would cost more
than a quick handler, since each wakes the server. If the journal can't be written, each record is a message. The connection has
replies turned off, so that messages arrive even if this process is killed right after the send. A lost record costs one more
handler call.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any, cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import with_namespace
from inboxd.broker.leases import PROGRESS_KEY
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Verdict, kind_from_wire
from inboxd.messaging.payload import version_from_wire
from inboxd.spool.layout import split_path
from inboxd.tasks.process_state import progress_journal
from inboxd.tasks.process_state.progress_journal import ProgressJournal

FOLDER = "progress"
"""Name of the journals' folder in state_dir."""

SEND_DELAY_SECONDS = 0.02
"""Time that a record waits for others, to be sent in one batch."""

PAUSE_SECONDS = 5.0
"""Time without attempts to send after Redis was unavailable."""


class Progress:
    """The outcomes recorded so far of the files in running parcels."""

    def __init__(
        self,
        client: redis.Redis,
        keep_seconds: float,
        disk: Disk,
        folder: PurePath,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep a parcel's records for ``keep_seconds`` in Redis, and in ``folder`` until this process's next parcel."""
        self._clock = clock
        self._client = client
        self._keep_seconds = int(keep_seconds)
        self._disk = disk
        self._folder = folder
        self._journal = ProgressJournal(disk, folder)
        self._journal_parcel = self._unwritable_parcel = ""
        self._unsent: deque[tuple[str, bytes, bytes]] = deque()  # parcel, path, record
        self._send_lock = threading.Lock()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()  # a Condition's lock may stay locked after a time limit
        self._is_woken = False
        self._thread: threading.Thread | None = None
        self._connection: Any = None  # a redis.Connection, whose methods have no types
        self._paused_until = 0.0

    def send_orphaned(self) -> None:
        """Send the records of killed processes to Redis; until then only workers on this host can read them."""
        with contextlib.suppress(BrokerUnavailable):
            for journal in progress_journal.orphaned_journals(self._disk, self._folder, self._keep_seconds):
                records = {record[0]: msgpack.packb(record) for record in unpack_records(journal.records)}
                if records:
                    with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
                        pipe.hset(PROGRESS_KEY + journal.parcel_id, items=[*chain.from_iterable(records.items())])
                        pipe.expire(PROGRESS_KEY + journal.parcel_id, self._keep_seconds)
                        pipe.execute()

    def record(self, parcel: str, file: FileOutcome) -> None:
        """Record one file's outcome. Raises only what a time limit raises: a lost record costs no more than time."""
        record = msgpack.packb(
            [file.path, file.verdict.value, file.reason, file.result, file.version, file.kind and file.kind.value]
        )
        self._unsent.append((parcel, file.path, record))
        if not self._write_to_journal(parcel, record):
            self.flush()
        elif not self._is_woken:
            if self._thread is None or not self._thread.is_alive():  # started by the first record, and so after the fork
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
            self._wakeups.put(None)
            self._is_woken = True

    def flush(self) -> None:
        """Send the records that were not sent yet."""
        with self._send_lock:
            batch = [self._unsent.popleft() for _ in range(len(self._unsent))]
            for parcel in dict.fromkeys(owner for owner, _, _ in batch):
                if not self._send(parcel, [(path, record) for owner, path, record in batch if owner == parcel]):
                    # they may not have arrived; those of earlier parcels are not worth a retry
                    self._unsent.extendleft(reversed([unsent for unsent in batch if unsent[0] == self._journal_parcel]))
                    return

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        """Return the recorded outcomes of a parcel's files, by path. Raises BrokerUnavailable."""
        # the journals before Redis: a journal is removed only after its records were sent
        on_disk = progress_journal.read_records(self._disk, self._folder, parcel)
        with translate_redis_errors():
            sent = cast("dict[bytes, bytes]", self._client.hgetall(PROGRESS_KEY + parcel))
        outcomes = {}
        for record in chain.from_iterable(map(unpack_records, (*sent.values(), on_disk))):
            with contextlib.suppress(ValueError, TypeError):  # written by another version, or invalid
                path, verdict, reason, result, version, *kinds = record
                split_path(path)
                reason = None if reason is None else str(reason)
                kind = kind_from_wire(kinds[0]) if kinds else None
                outcomes[path] = FileOutcome(path, Verdict(verdict), reason, result, version_from_wire(version), kind)
        return outcomes

    def _write_to_journal(self, parcel: str, record: bytes) -> bool:
        """Write a record to the journal; return False if that fails, or in a pool of threads, which would share one file."""
        if parcel == self._unwritable_parcel or threading.current_thread() is not threading.main_thread():
            return False
        try:
            if self._journal_parcel != parcel:
                self._journal_parcel = ""
                self._journal.begin(parcel)
                self._journal_parcel = parcel
            self._journal.add(record)
        except OSError:
            self._journal_parcel, self._unwritable_parcel = "", parcel  # retried with the next parcel
            return False
        return True

    def _run(self) -> None:
        while True:
            self._wakeups.get()
            time.sleep(SEND_DELAY_SECONDS)
            self._is_woken = False
            self.flush()

    def _send(self, parcel: str, records: list[tuple[bytes, bytes]]) -> bool:
        if self._clock() < self._paused_until:
            return False
        key = PROGRESS_KEY + parcel
        commands = [
            with_namespace(self._client, command)  # they bypass the client
            for command in (("HSET", key, *chain.from_iterable(records)), ("EXPIRE", key, self._keep_seconds))
        ]
        # a kept connection may be stale, so retry once on a new one; only an unavailable Redis causes a pause
        if (self._connection and self._send_commands(commands)) or self._send_commands(commands):
            return True
        self._paused_until = self._clock() + PAUSE_SECONDS
        return False

    def _send_commands(self, commands: Sequence[Sequence[object]]) -> bool:
        try:
            self._connection = self._connection or self._connect()
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        except (redis.RedisError, OSError):
            self.close()
            return False
        except BaseException:  # interrupted by a time limit or a stop: part of the commands may have been sent
            self.close()
            raise
        return True

    def _connect(self) -> Any:  # noqa: ANN401
        pool = self._client.connection_pool
        connection: Any = pool.connection_class(**pool.connection_kwargs)  # outside the pool, whose connections need replies
        connection.connect()
        connection.send_packed_command(connection.pack_command("CLIENT", "REPLY", "OFF"), check_health=False)
        return connection

    def close(self) -> None:
        """Close the connection; the next send opens another one."""
        if self._connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                self._connection.disconnect()
        self._connection = None


def unpack_records(packed: bytes) -> Iterator[list[Any]]:
    """Yield each record, a list that begins with a path, until one that can't be decoded."""
    with contextlib.suppress(ValueError, msgpack.UnpackException):
        unpacker = msgpack.Unpacker()
        unpacker.feed(packed)
        yield from (record for record in unpacker if isinstance(record, list) and record and isinstance(record[0], bytes))
