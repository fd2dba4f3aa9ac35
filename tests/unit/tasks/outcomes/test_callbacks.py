"""Celery's two callbacks: either may come twice, late, together, or from somebody who means no good."""

from pathlib import Path

import pytest
from celery.states import FAILURE, SUCCESS
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts import fake_context as rooms
from support.parts.fakes import FakeLeases, Sent
from support.processes import dead_token

from inboxd.broker.leases import LeaseState
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.spool.filing import file_done
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.outcomes.callbacks import failed, succeeded
from inboxd.tasks.worker.context import WorkerContext
from inboxd.tasks.worker.process_identity import process_token


class Stage:
    """One inbox with a parcel, and the context that callbacks get."""

    def __init__(self, root: Path) -> None:
        self.spool, self.leases, self.sent = Spool.make(root), FakeLeases(), Sent()
        self.parcel = self.spool.claimed(b"x/a.pdf")

    @property
    def context(self) -> WorkerContext:
        return rooms.make_worker_context(self.spool.inbox(), self.leases, self.sent)

    def outcome(self, verdict: Verdict = Verdict.DONE) -> dict[str, object]:
        return outcome_to_wire(Outcome(self.parcel, "drop", 1, (FileOutcome(b"x/a.pdf", verdict, "a reason"),)))

    def fails(self, kind: str = "HandlerFailed") -> None:
        self.sent.results[self.parcel] = {"status": FAILURE, "result": {"exc_type": kind, "exc_message": ["no"]}}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Set the stage."""
    return Stage(tmp_path / "drop")


def test_a_success_files_the_parcel_away_and_leaves_word_of_it(stage: Stage) -> None:
    succeeded(stage.context, stage.outcome())

    assert stage.spool.files() == {b"done/x/a.pdf": b"content"}
    assert list((stage.spool.root / "claimed").iterdir()) == []
    assert stage.leases.records[stage.parcel].held is LeaseState.FILED


def test_a_failure_files_the_parcel_away_with_its_reason(stage: Stage) -> None:
    stage.fails()

    failed(stage.context, "drop", stage.parcel)

    assert stage.spool.failed_files() == {b"x/a.pdf": b"content"}
    assert stage.spool.notes().keys() == {b"x/a.pdf.error.txt"}


def test_both_callbacks_twice_and_in_any_order_file_once(stage: Stage) -> None:
    stage.fails()

    for _ in range(2):
        succeeded(stage.context, stage.outcome())
        failed(stage.context, "drop", stage.parcel)

    assert stage.spool.files() == {b"done/x/a.pdf": b"content"}


def test_a_file_is_counted_when_it_is_filed_and_not_again(stage: Stage) -> None:
    stage.fails()
    context = stage.context
    counted = context.counters.counts  # type: ignore[attr-defined]  # a fake

    for _ in range(2):
        failed(context, "drop", stage.parcel)
        succeeded(context, stage.outcome())

    assert counted == {("drop", "outcome:failed"): 1}


def test_a_success_is_counted_with_how_long_it_took(stage: Stage) -> None:
    context = stage.context
    counted = context.counters.counts  # type: ignore[attr-defined]  # a fake

    succeeded(context, stage.outcome())

    assert counted["drop", "outcome:done"] == 1
    assert 0.0 <= counted["drop", "latency_sum"] < 60.0
    assert sum(count for (_, name), count in counted.items() if name.startswith("latency:")) == 1


def test_counts_that_can_not_be_written_keep_nothing_from_being_filed(stage: Stage) -> None:
    context = stage.context

    def refuse(_tally: object) -> None:
        raise BrokerUnavailable("redis: gone fishing")

    context.counters.write = refuse  # type: ignore[method-assign]

    with capture_logs() as lines:
        succeeded(context, stage.outcome())

    assert [line["event"] for line in lines] == [events.FILE_DONE]
    assert stage.spool.files() == {b"done/x/a.pdf": b"content"}
    assert stage.leases.records[stage.parcel].held is LeaseState.FILED


def test_a_failure_before_a_late_success_files_once(stage: Stage) -> None:
    stage.fails()

    failed(stage.context, "drop", stage.parcel)
    succeeded(stage.context, stage.outcome())

    assert stage.spool.failed_files() == {b"x/a.pdf": b"content"}
    assert stage.spool.files("done") == {}


def test_a_failure_that_is_the_workers_own_leaves_the_parcel_to_the_sweep(stage: Stage) -> None:
    stage.fails("WorkerLostError")

    failed(stage.context, "drop", stage.parcel)

    assert stage.spool.files("claimed").keys() == {stage.parcel.encode() + b"/x/a.pdf"}
    assert stage.sent.parcels == []


def test_a_worker_that_is_known_to_be_dead_is_not_waited_for(stage: Stage) -> None:
    stage.fails("WorkerLostError")
    stage.leases.start(stage.parcel, dead_token(rooms.HOST), 1000.0)

    failed(stage.context, "drop", stage.parcel)

    assert [parcel.id for parcel in stage.sent.parcels] == [stage.parcel]
    assert stage.leases.records[stage.parcel].crashes == 1


def test_a_worker_that_lives_keeps_its_parcel(stage: Stage) -> None:
    stage.fails("WorkerLostError")
    stage.leases.start(stage.parcel, process_token(rooms.HOST), 1000.0)

    failed(stage.context, "drop", stage.parcel)

    assert stage.sent.parcels == []


def test_a_file_that_raised_in_company_is_tried_again_alone_with_one_attempt_used(stage: Stage) -> None:
    succeeded(stage.context, stage.outcome(Verdict.RETRY_ISOLATED))

    (parcel,) = stage.sent.parcels
    (options,) = stage.sent.options
    assert parcel.id != stage.parcel
    assert (options["task_id"], options["retries"]) == (parcel.id, 1)
    assert stage.spool.files("claimed") == {parcel.id.encode() + b"/x/a.pdf": b"content"}


def test_a_folder_that_is_away_leaves_the_parcel_to_the_sweep(stage: Stage) -> None:
    (stage.spool.root / "failed").rmdir()

    with capture_logs() as lines:
        succeeded(stage.context, stage.outcome())

    assert [line["event"] for line in lines] == [events.FOLDER_UNAVAILABLE]
    assert stage.spool.files("claimed") != {}


def gone(lines: list[dict[str, object]]) -> list[object]:
    return [line["file"] for line in lines if line["event"] == events.FILE_MISSING]


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.REJECTED, Verdict.MISSING])
def test_a_file_that_has_left_claimed_by_another_hand_is_told_once(verdict: Verdict, stage: Stage) -> None:
    stage.leases.start(stage.parcel, "me", 60.0)
    stage.spool.where(b"claimed/" + stage.parcel.encode() + b"/x/a.pdf").unlink()

    with capture_logs() as lines:
        for _ in range(2):
            succeeded(stage.context, stage.outcome(verdict))

    assert gone(lines) == [b"x/a.pdf"]


def test_a_file_that_was_filed_before_its_filer_died_is_not_missed(stage: Stage) -> None:
    stage.leases.start(stage.parcel, "me", 60.0)
    with stage.spool.folders() as folders:
        file_done(Disk(), folders, stage.parcel, b"x/a.pdf")

    with capture_logs() as lines:
        succeeded(stage.context, stage.outcome())

    assert gone(lines) == []


FORGED = [
    None,
    "x",
    {},
    {"version": 2},
    [1, 2, 3],
    {"version": 1, "parcel": "../../etc", "inbox": "drop", "attempt": 1, "files": []},
]


@pytest.mark.parametrize("wire", FORGED)
def test_a_success_of_no_parcel_is_refused_and_told(wire: object, stage: Stage) -> None:
    with capture_logs() as lines:
        succeeded(stage.context, wire)

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]


@pytest.mark.parametrize(
    "changed",
    [{"inbox": "other"}, {"attempt": float("inf")}, {"attempt": "x"}, {"files": [{"filename": b"../a"}]}, {"files": 5}],
)
def test_a_forged_success_is_refused_and_moves_nothing(changed: dict[str, object], stage: Stage) -> None:
    before = stage.spool.files()

    with capture_logs() as lines:
        succeeded(stage.context, {**stage.outcome(), **changed})

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]
    assert stage.spool.files() == before


@pytest.mark.parametrize("forged", [{"filename": 10**20}, {"reason": 5}, {"reason": b"x"}], ids=str)
def test_a_forged_file_is_refused_and_moves_nothing(forged: dict[str, object], stage: Stage) -> None:
    before = stage.spool.files()
    wire = stage.outcome(Verdict.REJECTED)
    file = {**wire["files"][0], **forged}

    with capture_logs() as lines:
        succeeded(stage.context, {**wire, "files": [file]})

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]
    assert stage.spool.files() == before


@pytest.mark.parametrize(
    ("inbox", "parcel"), [("drop", "../../etc"), ("drop", None), ("drop", 5), ("other", "0" * 28), (None, "0" * 28), ([], {})]
)
def test_a_failure_of_no_parcel_is_refused_and_told(inbox: object, parcel: object, stage: Stage) -> None:
    with capture_logs() as lines:
        failed(stage.context, inbox, parcel)

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]


def test_a_callback_for_a_parcel_that_is_long_gone_does_nothing(stage: Stage) -> None:
    gone = new_parcel_id()
    stage.sent.results[gone] = {"status": SUCCESS, "result": None}
    before = stage.spool.files()

    failed(stage.context, "drop", gone)
    succeeded(stage.context, outcome_to_wire(Outcome(gone, "drop", 1, (FileOutcome(b"a", Verdict.DONE),))))

    assert stage.spool.files() == before
