"""Fakes of Redis and Celery for tests whose subject is neither."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from inboxd.broker.changes import LOOK_SECONDS, FiledFile
from inboxd.broker.counters import Tally
from inboxd.broker.leases import Lease, LeaseState, StartAnswer, StartVerdict
from inboxd.config.rules import Inbox
from inboxd.messaging.outcome import FileOutcome
from inboxd.messaging.payload import Parcel, parcel_from_wire


@dataclass
class _Record:
    held: LeaseState
    until: float
    token: str = ""
    attempt: int = 0
    crashes: int = 0
    lone_file: bytes = b""
    stops: int = 0


@dataclass
class FakeLeases:
    """Leases in memory, with a clock that tests advance. test_leases.py compares their replies with those of real leases."""

    now: float = 1e6
    epoch: float = 0.0
    records: dict[str, _Record] = field(default_factory=dict)
    paces: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def queue(self, parcel: str, inbox: str, seconds: float, *, attempts: int = 0) -> float | None:
        record = self.records.setdefault(parcel, _Record(LeaseState.QUEUED, 0.0))
        record.held, record.until, record.token, record.attempt = LeaseState.QUEUED, self.now + seconds, "", attempts
        return self.paces.get(inbox)

    def requeue_if_unchanged(self, parcel: str, seen: Lease | None, seconds: float, *, crashed: bool = False) -> int | None:
        lease = self.read([parcel])[parcel]
        if (lease and (lease.state, lease.expires_ms, lease.owner)) != (seen and (seen.state, seen.expires_ms, seen.owner)):
            return None
        record = self.records.setdefault(parcel, _Record(LeaseState.QUEUED, 0.0))
        record.held, record.until, record.token = LeaseState.QUEUED, self.now + seconds, ""
        record.crashes += crashed
        return record.crashes

    def delete(self, parcel: str) -> None:
        self.records.pop(parcel, None)

    def start(self, parcel: str, token: str, seconds: float, *, dead_owner: str = "", lone_file: bytes = b"") -> StartAnswer:
        record = self.records.setdefault(parcel, _Record(LeaseState.QUEUED, 0.0))
        if record.held in (LeaseState.FINISHED, LeaseState.FILED):
            return StartAnswer(StartVerdict.FINISHED, 0)
        if record.held is LeaseState.RUNNING and record.token == token:
            return StartAnswer(StartVerdict.STARTED, record.attempt)
        if record.held is LeaseState.RUNNING and record.until > self.now and record.token != dead_owner:
            return StartAnswer(StartVerdict.BUSY, 0, record.token)
        record.held, record.until, record.token = LeaseState.RUNNING, self.now + seconds, token
        record.attempt += 1
        record.lone_file = lone_file
        return StartAnswer(StartVerdict.STARTED, record.attempt)

    def renew(self, parcel: str, token: str, seconds: float) -> bool:
        return self._transition(parcel, token, LeaseState.RUNNING, seconds, token)

    def finish(self, parcel: str, token: str, seconds: float) -> bool:
        return self._transition(parcel, token, LeaseState.FINISHED, seconds, token)

    def retry(self, parcel: str, token: str, seconds: float) -> bool:
        return self._transition(parcel, token, LeaseState.QUEUED, seconds, "")

    def _transition(self, parcel: str, token: str, state: LeaseState, seconds: float, next_token: str) -> bool:
        record = self.records.get(parcel)
        if record and (record.held is not LeaseState.RUNNING or record.token != token):
            return False
        record = self.records.setdefault(parcel, _Record(state, 0.0))
        record.held, record.until, record.token = state, self.now + seconds, next_token
        return True

    def count_stop(self, parcel: str) -> int:
        record = self.records.setdefault(parcel, _Record(LeaseState.QUEUED, 0.0))
        record.stops += 1
        return record.stops

    def mark_filed(self, parcel: str) -> LeaseState | None:
        before = self.records[parcel].held if parcel in self.records else None
        self.records[parcel] = _Record(LeaseState.FILED, 0.0)
        self.outcomes.pop(parcel, None)
        return before

    def expire(self, parcel: str, *, crashed: bool) -> bool:
        record = self.records.get(parcel)
        if record is None or record.held is not LeaseState.QUEUED:
            return False
        record.held, record.until, record.token = LeaseState.RUNNING if crashed else LeaseState.QUEUED, 0.0, ""
        return True

    def read(self, parcels: Sequence[str]) -> dict[str, Lease | None]:
        return {parcel: self._to_lease(self.records.get(parcel)) for parcel in parcels}

    def _to_lease(self, record: _Record | None) -> Lease | None:
        if record is None:
            return None
        seconds_left = record.until - self.now
        return Lease(
            record.held, seconds_left, record.token, record.attempt, record.crashes, int(record.until * 1000), record.lone_file
        )

    def dataset_age(self) -> float:
        return self.now - self.epoch

    def report_seconds_per_file(self, inbox: str, seconds_per_file: float) -> None:
        mean = self.paces.get(inbox, seconds_per_file)
        self.paces[inbox] = mean + 0.3 * (seconds_per_file - mean)

    def flush(self) -> None:
        """Delete everything, as FLUSHALL does."""
        self.records.clear()
        self.paces.clear()
        self.epoch = self.now


@dataclass
class FakeChanges:
    """Changes in memory; ``files`` are those to look at again, which are due at once."""

    counts: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    files: list[FiledFile] = field(default_factory=list)

    def count(self, inbox: str, path: bytes) -> int:
        self.counts[inbox, path] += 1
        return self.counts[inbox, path]

    def watch(self, _inbox: str, files: Sequence[FiledFile], done_with: Sequence[FiledFile] = ()) -> None:
        kept = [file for file in self.files if file not in done_with]
        self.files = [*kept, *(file for file in files if file.looks < len(LOOK_SECONDS))]

    def due(self, _inbox: str) -> list[FiledFile]:
        return [*self.files]

    def newest(self, _inbox: str) -> dict[tuple[bytes, int], float]:
        in_order = sorted(self.files, key=lambda file: file.filed_at)
        return {(file.filed, file.ino): file.filed_at for file in in_order}

    def counted(self, inbox: str, path: bytes) -> int:
        return self.counts[inbox, path]


@dataclass
class FakePublisher:
    """A fake Celery app: keeps the parcels sent by an intake or by ``send_task``, and the stored results by task id."""

    parcels: list[Parcel] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def send(self, parcel: Parcel, inbox: Inbox) -> None:
        del inbox
        self.parcels.append(parcel)

    def send_task(self, name: str, *, args: list[object], **options: object) -> None:
        self.parcels.append(parcel_from_wire(args[0]))
        self.options.append({"name": name, **options})

    @property
    def backend(self) -> "FakePublisher":
        return self

    def get_key_for_task(self, task_id: str) -> str:
        return task_id

    def mget(self, keys: list[str]) -> list[dict[str, Any] | None]:
        return [self.results.get(key) for key in keys]

    def decode_result(self, raw: dict[str, Any]) -> dict[str, Any]:
        return raw

    def delete(self, key: str) -> None:
        self.results.pop(key, None)

    def paths(self) -> list[bytes]:
        """Return the paths of all files sent."""
        return [part.filename for parcel in self.parcels for part in parcel.files]


@dataclass
class FakeProgress:
    """Progress in memory."""

    noted: dict[str, dict[bytes, FileOutcome]] = field(default_factory=dict)

    def record(self, parcel: str, file: FileOutcome) -> None:
        self.noted.setdefault(parcel, {})[file.path] = file

    def flush(self) -> None:
        """Do nothing: records are readable at once."""

    def read(self, parcel: str) -> dict[bytes, FileOutcome]:
        return dict(self.noted.get(parcel, {}))


class FakeCounters:
    """Counters in memory, by inbox and field."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def write(self, tally: Tally) -> None:
        self.counts.update(tally.counts)
        tally.counts.clear()


class FakeRedis:
    """A fake Redis client with empty queues, which stores plain keys."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def set(self, key: str, value: str, **_: object) -> bytes | None:
        before = self.values.get(key)
        self.values[key] = value.encode()
        return before

    def delete(self, *keys: str) -> int:
        return sum(self.values.pop(key, None) is not None for key in keys)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def register_script(self, _script: str) -> Callable[..., list[bytes]]:
        return lambda **_: []
