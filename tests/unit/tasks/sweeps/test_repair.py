"""The stale sweep, on a real Valkey: each stale parcel gets the recovery action that it needs."""

import dataclasses
import errno
from collections import Counter

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery.states import FAILURE, RETRY, SUCCESS
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts import fake_context
from support.parts.fakes import FakeLeases, FakePublisher
from support.parts.real_context import context, lapse, lease, outcome, queued, spool, store, sweep
from support.processes import dead_token
from support.waiting import eventually

from inboxd.broker.leases import LeaseState
from inboxd.broker.recovery import RecoveryAction
from inboxd.errors import HandlerFailed, HandlerTimedOut, InvalidMessage, RejectFile
from inboxd.fs.syscalls import Disk, Fd
from inboxd.logs import events
from inboxd.messaging.outcome import FileOutcome, Verdict
from inboxd.messaging.queues import WORK_QUEUE, files_queue, queued_task_ids
from inboxd.messaging.results import read_results
from inboxd.spool.error_note import parse_note
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.outcomes import apply
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.process_identity import process_token
from inboxd.tasks.sweeps.repair import Repair

__all__ = ["context", "spool"]

SHORT = 0.001
LONG = 1000.0


def test_a_claimed_parcel_without_a_lease_is_published_with_its_own_id(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"x/a")

    assert sweep(context, spool) == {RecoveryAction.REPUBLISH: 1}

    assert queued(context) == {parcel}
    found = lease(context, parcel)
    assert found is not None
    assert found.state is LeaseState.QUEUED


def test_a_parcel_whose_message_is_still_queued_is_not_published_again(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    sweep(context, spool)
    lapse(context, parcel)

    assert sweep(context, spool) == {RecoveryAction.RENEW: 1}

    assert context.client.llen(WORK_QUEUE) == 1


def test_a_parcel_whose_message_was_lost_is_published_again(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    sweep(context, spool)
    lapse(context, parcel)
    context.client.delete(WORK_QUEUE)

    assert sweep(context, spool) == {RecoveryAction.REPUBLISH: 1}

    assert queued(context) == {parcel}


def test_every_parcel_is_published_again_after_redis_lost_its_dataset(context: WorkerContext, spool: Spool) -> None:
    parcels = {spool.claimed(b"a"), spool.claimed(b"b")}
    sweep(context, spool)
    context.client.flushall()
    assert sweep(context, spool) == {}, "running workers may still renew their leases"
    context.client.set("inboxd:dataset", 0)

    recovered: Counter[str] = Counter()
    eventually(lambda: recovered.update(sweep(context, spool)) or recovered[RecoveryAction.REPUBLISH] == 2)

    assert queued(context) == parcels


def test_a_parcel_by_reference_is_published_to_workers_on_its_host(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * 100)

    sweep(context, spool)

    assert queued_task_ids(context.client, [files_queue("here")]) == {parcel}


def test_a_stored_success_whose_callback_was_lost_is_applied_to_each_file(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"good", b"bad", b"alone", b"again")
    verdicts = {"good": Verdict.DONE, "bad": Verdict.REJECTED, "alone": Verdict.RETRY_ISOLATED, "again": Verdict.REQUEUE}
    store(context, parcel, outcome(parcel, **verdicts, gone=Verdict.MISSING))

    assert sweep(context, spool) == {RecoveryAction.APPLY: 1}

    assert spool.files("done") == {b"good": b"content"}
    assert spool.failed_files() == {b"bad": b"content"}
    assert b"Reason: a reason" in spool.notes()[b"bad.error.txt"]
    in_flight = spool.files("claimed")
    assert {path.partition(b"/")[2] for path in in_flight} == {b"alone", b"again"}
    assert queued(context) == {path.partition(b"/")[0].decode() for path in in_flight}
    found = lease(context, parcel)
    assert found is not None
    assert found.state is LeaseState.FILED


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (HandlerFailed("ValueError: no"), "raised", "ValueError: no"),
        (HandlerTimedOut("too long"), "time_limit", "too long"),
        (RejectFile("not ours"), "rejected", "not ours"),
    ],
)
def test_a_stored_failure_whose_callback_was_lost_is_applied_with_its_reason(
    error: Exception, kind: str, reason: str, context: WorkerContext, spool: Spool
) -> None:
    parcel = spool.claimed(b"x/a")
    store(context, parcel, error, FAILURE)

    assert sweep(context, spool) == {RecoveryAction.APPLY: 1}

    assert spool.failed_files() == {b"x/a": b"content"}
    note = parse_note(spool.notes()[b"x/a.error.txt"])
    assert note is not None
    assert (note.kind, note.reason) == (kind, reason)
    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"), [(FAILURE, ConnectionError("unavailable")), (FAILURE, InvalidMessage("no")), (RETRY, ValueError())]
)
def test_a_failure_of_the_worker_fails_no_file(status: str, error: Exception, context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    store(context, parcel, error, status)

    assert sweep(context, spool) == {RecoveryAction.REPUBLISH: 1}

    assert queued(context) == {parcel}


@pytest.mark.parametrize("seconds", [SHORT, LONG], ids=["a lapsed lease", "a running lease"])
def test_a_parcel_whose_worker_died_is_published_again(seconds: float, context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    context.leases.start(parcel, dead_token("here"), seconds)

    assert sweep(context, spool) == {RecoveryAction.COUNT_CRASH: 1}

    assert queued(context) == {parcel}
    found = lease(context, parcel)
    assert found is not None
    assert (found.state, found.crashes) == (LeaseState.QUEUED, 1)


def test_a_file_that_crashes_too_many_workers_fails(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    for _ in range(context.settings.work.crashes_max):
        context.leases.start(parcel, dead_token("here"), SHORT)
        context.client.delete(WORK_QUEUE)
        assert sweep(context, spool) == {RecoveryAction.COUNT_CRASH: 1}

    assert spool.failed_files() == {b"a": b"content"}
    assert b"3 times in a row" in spool.notes()[b"a.error.txt"]
    assert queued(context) == set()


def test_a_worker_that_was_killed_at_the_time_limit_is_told_as_the_time_limit(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    for _ in range(context.settings.work.crashes_max):
        context.leases.start(parcel, dead_token("here"), SHORT)
        context.client.delete(WORK_QUEUE)
        store(context, parcel, TimeLimitExceeded(310), FAILURE)
        assert sweep(context, spool) == {RecoveryAction.COUNT_CRASH: 1}

    note = parse_note(spool.notes()[b"a.error.txt"])
    assert note is not None
    assert note.kind == "time_limit"
    assert note.reason.startswith("processing took longer than 300 s and did not end")


def test_the_files_of_a_multi_file_parcel_whose_worker_died_are_retried_alone(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b")
    context.leases.start(parcel, dead_token("here"), SHORT)

    assert sweep(context, spool) == {RecoveryAction.COUNT_CRASH: 1}

    parcels = {path.partition(b"/")[2]: path.partition(b"/")[0].decode() for path in spool.files("claimed")}
    assert parcels.keys() == {b"a", b"b"}
    assert parcel not in parcels.values()
    assert queued(context) == set(parcels.values())
    assert len(queued(context)) == 2


def test_a_running_parcel_is_left_alone(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    context.leases.start(parcel, "elsewhere/namespace/1/1/1", LONG)

    assert sweep(context, spool) == {}

    assert queued(context) == set()


def test_a_living_worker_whose_lease_lapsed_keeps_its_parcel(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    context.leases.start(parcel, process_token("here"), SHORT)
    lapse(context, parcel)

    assert sweep(context, spool) == {}


@pytest.mark.parametrize("has_outcome", [True, False], ids=["with its outcome stored", "without"])
def test_a_parcel_that_a_living_worker_has_abandoned_is_recovered(has_outcome: bool, spool: Spool) -> None:
    """This happens if an outage of Redis exceeds outage_seconds: the worker proceeds without marking the parcel finished."""
    leases, sent = FakeLeases(), FakePublisher()
    parcel = spool.claimed(b"a")
    leases.start(parcel, process_token(fake_context.HOST), 15.0)
    if has_outcome:
        sent.results[parcel] = {"status": SUCCESS, "result": outcome(parcel, a=Verdict.DONE)}

    leases.now += 100_000.0
    with spool.folders() as folders:
        recovered = Repair(fake_context.make_worker_context(spool.inbox(), leases, sent), spool.inbox(), folders).run()

    assert recovered == {RecoveryAction.APPLY if has_outcome else RecoveryAction.COUNT_CRASH: 1}


def test_a_file_left_in_a_filed_parcel_is_split_off(context: WorkerContext, spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    context.leases.mark_filed(parcel)

    assert sweep(context, spool) == {RecoveryAction.SPLIT: 1}

    ((path, data),) = spool.files("claimed").items()
    assert data == b"content"
    assert queued(context) == {path.partition(b"/")[0].decode()} != {parcel}


def test_an_empty_parcel_is_removed(context: WorkerContext, spool: Spool) -> None:
    (spool.root / "claimed" / new_parcel_id() / "x").mkdir(parents=True)

    assert sweep(context, spool) == {RecoveryAction.REMOVE: 1}

    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize("made_for", ["nobody", "another parcel", "another inbox"])
def test_an_outcome_that_is_not_the_parcels_is_removed_and_the_parcel_published_again(
    context: WorkerContext, spool: Spool, made_for: str
) -> None:
    parcel = spool.claimed(b"a")
    forged = outcome(new_parcel_id() if made_for == "another parcel" else parcel, a=Verdict.DONE)
    store(context, parcel, {"nobody": {"no": "outcome"}, "another inbox": {**forged, "inbox": "other"}}.get(made_for, forged))

    with capture_logs() as lines:
        assert sweep(context, spool) == {}
        assert sweep(context, spool) == {RecoveryAction.REPUBLISH: 1}

    assert queued(context) == {parcel}
    assert spool.files("done") == {}
    assert [line["event"] for line in lines].count(events.VALUE_DISCARDED) == 1


class FullDisk(Disk):
    """A disk without room for another folder."""

    mkdir_calls = 0

    def mkdir(self, *_: object) -> None:
        self.mkdir_calls += 1
        raise OSError(errno.ENOSPC, "no room")


def claim_finished(context: WorkerContext, spool: Spool, count: int) -> None:
    for number in range(count):
        parcel = spool.claimed(b"x/%d" % number)
        store(context, parcel, outcome(parcel, **{f"x/{number}": Verdict.DONE}))


def test_a_full_disk_ends_the_sweep_at_the_first_parcel(context: WorkerContext, spool: Spool) -> None:
    claim_finished(context, spool, 20)
    on_full_disk = dataclasses.replace(context, disk=FullDisk())

    with pytest.raises(OSError, match="no room"), spool.folders() as folders:
        Repair(on_full_disk, context.settings.inbox["drop"], folders).run()

    assert on_full_disk.disk.mkdir_calls == 1
    sweep(context, spool)
    assert len(spool.files("done")) == 20


class BadSector(Disk):
    """A disk on which one file can't be read, because of a bad sector."""

    def read(self, fd: Fd, size: int) -> bytes:
        data = super().read(fd, size)
        if data == b"bad":
            raise OSError(errno.EIO, "bad sector")
        return data


def test_an_unreadable_file_does_not_block_its_inbox(context: WorkerContext, spool: Spool) -> None:
    spool.claimed(b"bad", data=b"bad")
    good = spool.claimed(b"good")

    recovered = sweep(dataclasses.replace(context, disk=BadSector()), spool)

    assert recovered == {RecoveryAction.REPUBLISH: 1}
    assert queued(context) == {good}


def test_a_parcel_that_has_just_finished_is_not_published_again_before_its_outcome_is_stored(
    context: WorkerContext, spool: Spool
) -> None:
    parcel = spool.claimed(b"a")
    context.leases.start(parcel, "me", 60.0)
    context.leases.finish(parcel, "me", 60.0)

    with spool.folders() as folders:
        recovered = Repair(context, context.settings.inbox["drop"], folders, finished_now=True).run()

    assert recovered == {}
    assert queued(context) == set()


def test_recorded_verdicts_are_applied_even_if_the_first_sweep_to_split_the_parcel_dies(
    context: WorkerContext, spool: Spool
) -> None:
    parcel = spool.claimed(b"done", b"rejected", b"in hand")
    context.progress.record(parcel, FileOutcome(b"done", Verdict.DONE))
    context.progress.record(parcel, FileOutcome(b"rejected", Verdict.REJECTED, "no good"))
    eventually(lambda: len(context.progress.read(parcel)) == 2)
    context.leases.start(parcel, dead_token("here"), 1e-6)
    context.leases.requeue_if_unchanged(parcel, lease(context, parcel), 1e-6, crashed=True)
    lapse(context, parcel)

    sweep(context, spool)

    assert spool.files("done").keys() == {b"done"}
    assert b"rejected" in spool.failed_files()
    assert len(queued(context)) == 1


def test_an_error_of_many_parcels_is_logged_once(context: WorkerContext, spool: Spool) -> None:
    for _ in range(20):
        spool.claimed(b"bad", data=b"bad")

    with capture_logs() as lines:
        sweep(dataclasses.replace(context, disk=BadSector()), spool)

    assert [line["parcels"] for line in lines if line["event"] == events.PARCEL_BLOCKED] == [20]


def test_a_parcel_emptied_by_hand_is_logged_and_not_processed(context: WorkerContext, spool: Spool) -> None:
    parcel = new_parcel_id()
    context.leases.queue(parcel, "drop", 1e-6)
    (spool.root / "claimed" / parcel).mkdir()
    lapse(context, parcel)

    with capture_logs() as lines:
        sweep(context, spool)

    assert [line["parcel"] for line in lines if line["event"] == events.FILE_MISSING] == [parcel]
    assert context.leases.start(parcel, "me", 1.0).verdict == "finished"


def test_a_parcel_with_too_many_files_for_one_message_is_split(
    context: WorkerContext, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a parcel remains if a process dies while it refuses a whole folder."""
    monkeypatch.setattr(apply, "FILES_MAX", 3)
    spool.claimed(*[b"%d" % number for number in range(7)])

    sweep(context, spool)

    sent = {}
    for parcel in queued(context):
        with spool.folders():
            sent[parcel] = len(spool.files(f"claimed/{parcel}"))
    assert sum(sent.values()) == 7
    assert max(sent.values()) <= 3


def test_the_stored_results_of_many_parcels_are_read_together(context: WorkerContext) -> None:
    parcels = [new_parcel_id() for _ in range(3)]
    store(context, parcels[0], "yes")

    stored = read_results(context.app, parcels)

    assert [stored[parcel]["status"] for parcel in parcels] == [SUCCESS, "PENDING", "PENDING"]
    assert read_results(context.app, []) == {}
