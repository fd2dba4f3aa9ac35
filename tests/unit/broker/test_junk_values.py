"""No value in Redis stops a program: junk of every type under every key that inboxd reads counts as absent, and is removed."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs
from support.valkey import settings_for

from inboxd.broker import changes, counters, heartbeat, inbox_outages, leases
from inboxd.broker.changes import Changes, FiledFile
from inboxd.broker.connection import make_client
from inboxd.broker.counters import Counters, Tally
from inboxd.broker.heartbeat import Heartbeat, InboxReport
from inboxd.broker.leases import Leases, LeaseState, StartVerdict
from inboxd.logs import events
from inboxd.messaging import broker_keys, queues, results, worker_registry
from inboxd.messaging.celery_app import make_app
from inboxd.messaging.worker_registry import WorkerRegistry
from inboxd.stage import records as stage_records
from inboxd.stage.records import StageRecords
from inboxd.stage.staged_copy import BLOCK_BYTES, StagedCopy
from inboxd.tasks.hardening import message_filter
from inboxd.tasks.hardening.message_filter import MessageFilter
from inboxd.tasks.process_state import sweep_locks
from inboxd.tasks.process_state.context import WorkerContext, make_context
from inboxd.tasks.process_state.sweep_locks import SweepLocks
from inboxd.tasks.sweeps import stale

P = f"{1:028x}"
ME = "here/1/1/1/1"
HUGE = "9" * 400
FIELDS = (
    "state", "until", "token", "attempt", "crashes", "call", "lone_file", "outcome:done", "latency_sum", "events_lost", "a", P,
)  # fmt: skip

Put = Callable[[redis.Redis, str], object]


def _hash_of(value: str | bytes) -> Put:
    return lambda client, key: client.hset(key, mapping=dict.fromkeys(FIELDS, value))


JUNK: dict[str, Put] = {
    **{
        f"string {name}": lambda client, key, value=value: client.set(key, value)
        for name, value in {
            "junk": "junk", "empty": "", "bytes": b"\xff\xfe\x00", "NaN": "NaN", "inf": "inf", "negative": "-5", "huge": HUGE,
            "JSON list": "[]", "JSON number": "7", "JSON map": '{"at": [], "inboxes": 3}', "deep JSON": "[" * 100_000,
            "msgpack": b"\x93\x01\x02\x03", "large": "x" * 1_000_000,
        }.items()
    },
    "list": lambda client, key: client.rpush(key, "junk", ""),
    "set": lambda client, key: client.sadd(key, "junk", "a"),
    "sorted set": lambda client, key: client.zadd(key, {"junk": 1.0, b"\xff": float("inf"), b"\x97\x01": -5.0}),
    "sorted set of the future": lambda client, key: client.zadd(key, {"junk": 1e300}),
    "stream": lambda client, key: client.xadd(key, {"junk": "junk"}),
    "hash": lambda client, key: client.hset(key, "junk", "junk"),
    **{f"hash of {value!r:.20}": _hash_of(value) for value in ("junk", "", b"\xff", "NaN", "-5", HUGE, "1e400", "running")},
}  # fmt: skip


class Parts:
    """Each part of inboxd that reads Redis, as its programs use it."""

    def __init__(self, url: str, root: Path) -> None:
        self.settings = settings_for(url, root)
        self.client = make_client(self.settings)
        self.app = make_app(self.settings, results=True)
        self.context: WorkerContext = make_context(self.settings, self.app)
        self.leases = Leases(self.client, 100.0)

    def start_and_finish(self) -> None:
        """Take a parcel through its whole life."""
        self.leases.queue(P, "drop", 60.0)
        self.leases.read([P])
        start = self.leases.start(P, ME, 60.0)
        assert start.verdict in StartVerdict
        self.leases.renew(P, ME, 60.0)
        self.leases.finish(P, ME, 60.0)
        self.leases.mark_filed(P)
        lease = self.leases.read([P])[P]
        assert lease is not None
        assert lease.state is LeaseState.FILED

    def recover(self) -> None:
        lease = self.leases.read([P])[P]
        assert lease is None or lease.seconds_left <= leases.LEASE_MS_MAX / 1000
        self.leases.requeue_if_unchanged(P, lease, 60.0, crashed=True)
        self.leases.requeue_if_unchanged(P, lease, 60.0)
        self.leases.expire(P, crashed=True)
        self.leases.retry(P, ME, 60.0)
        self.leases.delete(P)

    def pace(self) -> None:
        mean = self.leases.queue(P, "drop", 60.0)
        assert mean is None or 0 <= mean <= leases.SECONDS_PER_FILE_MAX
        self.leases.report_seconds_per_file("drop", 0.5)
        mean = self.leases.queue(P, "drop", 60.0)
        assert mean is not None
        assert 0 <= mean <= leases.SECONDS_PER_FILE_MAX

    def age(self) -> None:
        assert self.leases.dataset_age() >= 0

    def progress(self) -> None:
        assert self.context.progress.read(P) == {}

    def change(self) -> None:
        known = Changes(self.client)
        known.due("drop")
        known.watch("drop", [FiledFile(b"a", b"a", 1, 1, 1, 0, 1.0)])
        known.watch("drop", [], done_with=known.due("drop"))
        assert known.count("drop", b"a") >= 1

    def beat(self) -> None:
        heartbeat.read_heartbeat(self.client, "here")
        report = Heartbeat(time.time(), {"drop": InboxReport("polling", "", is_busy=False, outage=None)})
        heartbeat.write_heartbeat(self.client, "here", report)
        assert heartbeat.read_heartbeat(self.client, "here") == report

    def sweep_times(self) -> None:
        heartbeat.seconds_since_sweep(self.client, self.settings)
        heartbeat.record_sweep(self.client, self.settings)
        assert heartbeat.seconds_since_sweep(self.client, self.settings) is not None

    def outages(self) -> None:
        inbox_outages.read_inbox_outages(self.client, "here", ["drop"])
        inbox_outages.record_inbox_outage(self.client, "here", "drop", "full")
        assert inbox_outages.read_inbox_outages(self.client, "here", ["drop"]) == {"drop": "full"}
        inbox_outages.clear_inbox_outage(self.client, "here", "drop", "")

    def unavailable(self) -> None:
        inbox_outages.read_inbox_outages(self.client, "here", ["drop"], "stale")
        inbox_outages.record_inbox_outage(self.client, "here", "drop", "gone", sweep="stale")
        inbox_outages.clear_inbox_outage(self.client, "here", "drop", "stale")

    def workers(self) -> None:
        registry = WorkerRegistry(self.client, "here")
        registry.refresh()
        registry.register([queues.WORK_QUEUE, queues.files_queue("here")])
        registry.refresh()
        assert not registry.needs_inline

    def stage(self) -> None:
        known, copy = StageRecords(self.client, "here"), StagedCopy("0" * 16, BLOCK_BYTES, b"0" * 32, "f")
        assert set(known.list_parcels()) <= {P}
        assert known.read(P) == {}
        known.write(P, {(b"a", 1, 2): copy})
        assert known.read(P) == {(b"a", 1, 2): copy}
        assert known.list_parcels() == [P]
        known.forget(P)

    def stage_fault(self) -> None:
        known = StageRecords(self.client, "here")
        known.read_fault()
        known.set_fault("gone")
        assert known.read_fault() == "gone"

    def count(self) -> None:
        statistics = Counters(self.client, "here")
        statistics.read(["drop"])
        tally = Tally()
        tally.count_filed("drop", counters.DONE, 0.5)
        statistics.write(tally)
        assert statistics.read(["drop"])["drop"].outcomes.get("done", 0) >= 0

    def lock(self) -> None:
        locks = SweepLocks(self.client, "here")
        with locks.acquire("stale", "drop") as acquired:
            assert acquired
        locks.flush()

    def extra_lease(self) -> None:
        stale._grant_extra_lease(self.context)  # noqa: SLF001

    def result(self) -> None:
        assert results.read_results(self.app, [P])[P]["status"] in ("PENDING", "SUCCESS")
        self.leases.start(P, ME, 60.0)
        self.app.backend.store_result(P, {"a": 1}, "SUCCESS")

    def redelivery(self) -> None:
        seen = MessageFilter(self.client, self.leases, list)
        for _ in range(3):
            seen._exceeds_redeliveries(P)  # noqa: SLF001
            seen._redelivered.clear()  # noqa: SLF001

    def quarantine(self) -> None:
        MessageFilter(self.client, self.leases, list).accepts(queues.WORK_QUEUE, b"junk")

    def kombu(self) -> None:
        names = (queues.WORK_QUEUE, queues.files_queue("here"), queues.host_queue("here"))
        queues.queued_task_ids(self.client, names)
        queues.locate_message(self.client, names, P)
        broker_keys.check_broker_keys(self.client, names, 60.0)

    def send(self) -> None:
        self.app.send_task("inboxd.sweep_stale", queue=queues.host_queue("here"), ignore_result=True)
        assert self.client.llen(queues.host_queue("here")) >= 1


KEYS: dict[str, Callable[[Parts], None]] = {
    leases.KEY + P: Parts.start_and_finish,
    f"{leases.KEY}{P} ": Parts.recover,
    leases.SECONDS_PER_FILE_KEY + "drop": Parts.pace,
    leases.DATASET_KEY: Parts.age,
    leases.PROGRESS_KEY + P: Parts.progress,
    changes.FILED_KEY + "drop": Parts.change,
    changes.COUNT_KEY + "drop:ca23bb2f6b43d73a9d3ea1a0c8d98e5a": Parts.change,
    heartbeat.KEY + "here": Parts.beat,
    heartbeat.SWEPT_KEY + "here": Parts.sweep_times,
    f"{inbox_outages.KEY}here:drop": Parts.outages,
    f"{inbox_outages.UNAVAILABLE_KEY}stale:here:drop": Parts.unavailable,
    worker_registry.KEY: Parts.workers,
    stage_records.KEY + "here": Parts.stage,
    stage_records.FAULT_KEY + "here": Parts.stage_fault,
    f"{counters.KEY}here:drop": Parts.count,
    f"{counters.DAY_KEY}here:drop:{time.strftime('%Y-%m-%d')}": Parts.count,
    f"{sweep_locks.KEY}stale:here:drop": Parts.lock,
    "inboxd:extra_lease:here": Parts.extra_lease,
    leases.OUTCOME_KEY + P: Parts.result,
    message_filter.REDELIVERED_KEY + P: Parts.redelivery,
    queues.QUARANTINE_KEY: Parts.quarantine,
    queues.UNACKED_KEY: Parts.kombu,
    queues.UNACKED_INDEX_KEY: Parts.kombu,
    queues.UNACKED_MUTEX_KEY: Parts.kombu,
    queues.WORK_QUEUE: Parts.kombu,
    queues.host_queue("here"): Parts.send,
    f"_kombu.binding.{queues.host_queue('here')}": Parts.send,
}


@pytest.fixture(scope="module")
def parts(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(valkey_url, tmp_path_factory.mktemp("spool") / "drop")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("key", KEYS)
def test_junk_under_any_key_counts_as_absent(parts: Parts, valkey: redis.Redis, key: str, junk: str) -> None:
    JUNK[junk](valkey, key.strip())

    KEYS[key](parts)
    KEYS[key](parts)


def test_a_discarded_value_is_logged_once_with_its_key(parts: Parts, valkey: redis.Redis) -> None:
    valkey.set(leases.KEY + P, "junk")

    with capture_logs() as lines:
        for _ in range(3):
            assert parts.leases.read([P]) == {P: None}

    (line,) = lines
    assert (line["event"], line["keys"]) == (events.VALUE_DISCARDED, [leases.KEY + P])


def test_a_value_that_redis_refuses_for_another_reason_is_kept(parts: Parts, valkey: redis.Redis) -> None:
    valkey.set(leases.KEY + P, "kept")

    with pytest.raises(redis.ResponseError):
        parts.client.execute_command("NO_SUCH_COMMAND", leases.KEY + P)

    assert valkey.get(leases.KEY + P) == b"kept"


def test_a_transaction_whose_value_is_junk_is_completed(parts: Parts, valkey: redis.Redis) -> None:
    valkey.set("list", "junk")

    with parts.client.pipeline(transaction=True) as pipe:
        pipe.set("before", "1")
        pipe.lpush("list", "a")
        pipe.get("before")
        assert pipe.execute() == [True, 1, b"1"]


def test_a_message_that_kombu_can_not_restore_is_removed(valkey: redis.Redis) -> None:
    good = json.dumps([{"headers": {}}, "", "inboxd.work"])
    valkey.hset(queues.UNACKED_KEY, mapping={"junk": "junk", "list": "[1]", "good": good})
    valkey.zadd(queues.UNACKED_INDEX_KEY, dict.fromkeys(("junk", "list", "good", "missing"), 1.0))

    broker_keys.check_broker_keys(valkey, [], 60.0)

    assert valkey.hkeys(queues.UNACKED_KEY) == [b"good"]
    assert valkey.zrange(queues.UNACKED_INDEX_KEY, 0, -1) == [b"good"]
