"""What Redis knows of files that were written to after they were packed: how often, and which filed ones to look at again.

All of it may be lost (FLUSHALL): then a change that follows is not noticed, or is counted from one again.
"""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, discard, finite_number, read_value
from inboxd.spool.layout import split_path

COUNT_KEY = "inboxd:changes:"
FILED_KEY = "inboxd:filed:"
EXPIRES_SECONDS = 600
"""Seconds after which a file's changes are no longer counted: a later file may have the same name."""
LOOK_SECONDS = (10.0, 60.0)
"""Ages at which a filed file is looked at again, in seconds; each by the next sweep."""
FILED_MAX, LOOKS_MAX = 100_000, 10_000
"""Maximum number of an inbox's filed files that are kept for another look, and of those that one sweep looks at."""


class FiledFile(NamedTuple):
    """A file in done/ that a program may still write to: its paths below inbox/ and done/, and what was handled.

    It is watched before it is moved, and may not have got there. ``filed_at`` is unix seconds, ``looks`` how often it was
    found unchanged.
    """

    path: bytes
    filed: bytes
    size: int
    mtime_ns: int
    ino: int
    uid: int
    filed_at: float
    looks: int = 0


class Changes:
    """The changes in one Redis. Its methods raise BrokerUnavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def count(self, inbox: str, path: bytes) -> int:
        """Count a change of a file; return how many there were, each within EXPIRES_SECONDS of the one before."""
        key = _count_key(inbox, path)
        with translate_redis_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.incr(key)
            pipe.expire(key, EXPIRES_SECONDS)
            count, _ = pipe.execute()
        return int(count)

    def counted(self, inbox: str, path: bytes) -> int:
        """Return how many changes of a file were counted."""
        key = _count_key(inbox, path)
        with translate_redis_errors():
            raw = cast("bytes | None", self._client.get(key))
            return read_value(self._client, key, raw, int) or 0

    def watch(self, inbox: str, files: Sequence[FiledFile], done_with: Sequence[FiledFile] = ()) -> None:
        """Keep files for their next look, unless they had their last one, and forget ``done_with``."""
        due = {_pack(file): file.filed_at + LOOK_SECONDS[file.looks] for file in files if file.looks < len(LOOK_SECONDS)}
        key = FILED_KEY + inbox
        with translate_redis_errors(), self._client.pipeline() as pipe:
            if done_with:
                pipe.zrem(key, *map(_pack, done_with))
            if due:
                pipe.zadd(key, cast("dict[Any, float]", due))
                pipe.zremrangebyrank(key, 0, -FILED_MAX - 1)
                pipe.expire(key, EXPIRES_SECONDS)
            pipe.execute()

    def due(self, inbox: str) -> list[FiledFile]:
        """Return the files that are due for a look, those that wait longest first."""
        return self._read(inbox, time.time(), LOOKS_MAX)

    def newest(self, inbox: str) -> Mapping[tuple[bytes, int], float]:
        """Return when a file was last filed under a name with an inode: a later file may have got both of an earlier one."""
        newest: dict[tuple[bytes, int], float] = {}
        for file in self._read(inbox, math.inf, FILED_MAX):
            key = file.filed, file.ino
            newest[key] = max(newest.get(key, 0.0), file.filed_at)
        return newest

    def _read(self, inbox: str, due_at: float, count: int) -> list[FiledFile]:
        key = FILED_KEY + inbox
        with translate_redis_errors():
            members = cast("list[bytes]", self._client.zrangebyscore(key, "-inf", due_at, start=0, num=count))
            files = []
            for member in members:
                try:
                    files.append(_unpack(member))
                except (*DECODE_ERRORS, msgpack.UnpackException) as error:
                    discard(self._client, [key], f"{type(error).__name__}: {error}")
                    return []
        return files


def _count_key(inbox: str, path: bytes) -> str:
    return f"{COUNT_KEY}{inbox}:{hashlib.blake2b(path, digest_size=16).hexdigest()}"


def _unpack(member: bytes) -> FiledFile:
    path, filed, size, mtime_ns, ino, uid, filed_at, looks = msgpack.unpackb(member)
    split_path(path)
    split_path(filed)
    if not all(isinstance(number, int) for number in (size, mtime_ns, ino, uid, looks)) or not 0 <= looks < len(LOOK_SECONDS):
        raise TypeError("not what was filed")
    return FiledFile(path, filed, size, mtime_ns, ino, uid, finite_number(filed_at), looks)


def _pack(file: FiledFile) -> bytes:
    return cast("bytes", msgpack.packb(list(file)))
