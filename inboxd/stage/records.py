"""What Redis remembers of the store: which copies a host has there, and that the store has a fault. All of it may be lost."""

from collections.abc import Mapping
from typing import cast

import msgpack
import redis

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import DECODE_ERRORS, discard
from inboxd.spool.layout import is_parcel_id
from inboxd.stage.staged_copy import StagedCopy, copy_from_wire, copy_to_wire

KEY, FAULT_KEY, UPLOAD_KEY = "inboxd:staged:", "inboxd:stage_fault:", "inboxd:upload:"
READER = ":reader"
FAULT_SECONDS = 60
"""How long a fault of the store keeps files from being uploaded."""

Version = tuple[bytes, int, int]
"""A file's path, size and mtime in nanoseconds when it was uploaded."""


class StageRecords:
    """The copies in the store of one host's files, and the store's last fault. Methods raise BrokerUnavailable."""

    def __init__(self, client: redis.Redis, host: str) -> None:
        self._client = client
        self._key, self._fault_key, self._upload_key = KEY + host, FAULT_KEY + host, UPLOAD_KEY + host

    def read(self, parcel: str) -> dict[Version, StagedCopy]:
        """Return the copies of a parcel's files."""
        with translate_redis_errors():
            raw = self._client.hget(self._key, parcel)
        try:
            pairs = msgpack.unpackb(raw) if raw else []
            return {tuple(of): copy for of, wire in pairs if (copy := copy_from_wire(wire, of[1]))}
        except (*DECODE_ERRORS, msgpack.UnpackException) as error:
            with translate_redis_errors():
                discard(self._client, [self._key], f"{type(error).__name__}: {error}")
            return {}

    def write(self, parcel: str, copies: Mapping[Version, StagedCopy]) -> None:
        """Remember the copies of a parcel's files."""
        with translate_redis_errors():
            self._client.hset(self._key, parcel, msgpack.packb([(of, copy_to_wire(copy)) for of, copy in copies.items()]))

    def list_parcels(self) -> list[str]:
        """Return the parcels with copies."""
        with translate_redis_errors():
            names = [name.decode("ascii", "replace") for name in cast("list[bytes]", self._client.hkeys(self._key))]
        return [name for name in names if is_parcel_id(name)]

    def forget(self, parcel: str) -> None:
        """Forget the copies of a parcel."""
        with translate_redis_errors():
            self._client.hdel(self._key, parcel)

    def set_fault(self, why: str, *, reader: str = "") -> bool:
        """Remember that the store has a fault, or that the host ``reader`` can't read from it; return whether that is new."""
        key = self._fault_key + (READER if reader else "")
        with translate_redis_errors():
            return self._client.set(key, f"{reader}: {why}" if reader else why, ex=FAULT_SECONDS, get=True) is None

    def read_fault(self, *, of_readers: bool = False) -> str:
        """Return the store's fault of the last minute, or that of a host that can't read from it; "" if there is none."""
        with translate_redis_errors():
            raw = self._client.get(self._fault_key + (READER if of_readers else ""))
        return cast("bytes", raw or b"").decode("utf-8", "replace")

    def hold_upload(self, parcel: str, seconds: float, *, begin: bool) -> bool:
        """Begin a parcel's upload, or go on with it, for some seconds; return False if another one has begun."""
        with translate_redis_errors():
            return bool(self._client.set(f"{self._upload_key}:{parcel}", "", px=int(seconds * 1000), nx=begin))

    def end_upload(self, parcel: str) -> None:
        """End a parcel's upload."""
        with translate_redis_errors():
            self._client.delete(f"{self._upload_key}:{parcel}")
