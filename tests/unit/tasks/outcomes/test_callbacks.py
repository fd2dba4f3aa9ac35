"""Celery's two callbacks: either may run twice, late, concurrently, or with forged arguments."""

from pathlib import Path

import pytest
from celery.states import FAILURE, SUCCESS
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts import fake_context
from support.parts.fakes import FakeLeases, FakePublisher
from support.processes import dead_token

from inboxd.broker.leases import LeaseState
from inboxd.errors import BrokerUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.spool.filing import move_to_done
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.outcomes.callbacks import failed, succeeded
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.process_state.process_identity import process_token


class InboxWithParcel:
    """One inbox with a parcel, and the worker context of its callbacks."""

    def __init__(self, root: Path) -> None:
        self.spool, self.leases, self.sent = Spool.make(root), FakeLeases(), FakePublisher()
        self.parcel = self.spool.claimed(b"x/a.pdf")

    @property
    def context(self) -> WorkerContext:
        return fake_context.make_worker_context(self.spool.inbox(), self.leases, self.sent)

    def outcome(self, verdict: Verdict = Verdict.DONE) -> dict[str, object]:
        return outcome_to_wire(Outcome(self.parcel, "drop", 1, (FileOutcome(b"x/a.pdf", verdict, "a reason"),)))

    def store_failure(self, error: str = "HandlerFailed") -> None:
        self.sent.results[self.parcel] = {"status": FAILURE, "result": {"exc_type": error, "exc_message": ["no"]}}


@pytest.fixture
def setup(tmp_path: Path) -> InboxWithParcel:
    """Return an inbox with one parcel."""
    return InboxWithParcel(tmp_path / "drop")


def test_a_success_files_the_parcel_and_marks_it_filed(setup: InboxWithParcel) -> None:
    succeeded(setup.context, setup.outcome())

    assert setup.spool.files() == {b"done/x/a.pdf": b"content"}
    assert list((setup.spool.root / "claimed").iterdir()) == []
    assert setup.leases.records[setup.parcel].held is LeaseState.FILED


def test_a_failure_files_the_parcel_with_an_error_note(setup: InboxWithParcel) -> None:
    setup.store_failure()

    failed(setup.context, "drop", setup.parcel)

    assert setup.spool.failed_files() == {b"x/a.pdf": b"content"}
    assert setup.spool.notes().keys() == {b"x/a.pdf.error.txt"}


def test_both_callbacks_run_twice_file_once(setup: InboxWithParcel) -> None:
    setup.store_failure()

    for _ in range(2):
        succeeded(setup.context, setup.outcome())
        failed(setup.context, "drop", setup.parcel)

    assert setup.spool.files() == {b"done/x/a.pdf": b"content"}


def test_a_file_is_counted_once(setup: InboxWithParcel) -> None:
    setup.store_failure()
    context = setup.context
    counts = context.counters.counts  # type: ignore[attr-defined]  # a fake

    for _ in range(2):
        failed(context, "drop", setup.parcel)
        succeeded(context, setup.outcome())

    assert counts == {("drop", "outcome:failed"): 1}


def test_a_success_is_counted_with_its_latency(setup: InboxWithParcel) -> None:
    context = setup.context
    counts = context.counters.counts  # type: ignore[attr-defined]  # a fake

    succeeded(context, setup.outcome())

    assert counts["drop", "outcome:done"] == 1
    assert 0.0 <= counts["drop", "latency_sum"] < 60.0
    assert sum(count for (_, name), count in counts.items() if name.startswith("latency:")) == 1


def test_a_file_is_filed_even_if_the_counters_can_not_be_written(setup: InboxWithParcel) -> None:
    context = setup.context

    def refuse(_tally: object) -> None:
        raise BrokerUnavailable("redis: unavailable")

    context.counters.write = refuse  # type: ignore[method-assign]

    with capture_logs() as lines:
        succeeded(context, setup.outcome())

    assert [line["event"] for line in lines] == [events.FILE_DONE]
    assert setup.spool.files() == {b"done/x/a.pdf": b"content"}
    assert setup.leases.records[setup.parcel].held is LeaseState.FILED


def test_a_failure_before_a_late_success_files_once(setup: InboxWithParcel) -> None:
    setup.store_failure()

    failed(setup.context, "drop", setup.parcel)
    succeeded(setup.context, setup.outcome())

    assert setup.spool.failed_files() == {b"x/a.pdf": b"content"}
    assert setup.spool.files("done") == {}


def test_a_failure_of_the_worker_leaves_the_parcel_to_the_sweep(setup: InboxWithParcel) -> None:
    setup.store_failure("WorkerLostError")

    failed(setup.context, "drop", setup.parcel)

    assert setup.spool.files("claimed").keys() == {setup.parcel.encode() + b"/x/a.pdf"}
    assert setup.sent.parcels == []


def test_a_parcel_of_a_dead_worker_is_published_again_at_once(setup: InboxWithParcel) -> None:
    setup.store_failure("WorkerLostError")
    setup.leases.start(setup.parcel, dead_token(fake_context.HOST), 1000.0)

    failed(setup.context, "drop", setup.parcel)

    assert [parcel.id for parcel in setup.sent.parcels] == [setup.parcel]
    assert setup.leases.records[setup.parcel].crashes == 1


def test_a_living_worker_keeps_its_parcel(setup: InboxWithParcel) -> None:
    setup.store_failure("WorkerLostError")
    setup.leases.start(setup.parcel, process_token(fake_context.HOST), 1000.0)

    failed(setup.context, "drop", setup.parcel)

    assert setup.sent.parcels == []


def test_a_file_that_raised_in_a_multi_file_parcel_is_retried_alone_with_one_attempt_used(setup: InboxWithParcel) -> None:
    succeeded(setup.context, setup.outcome(Verdict.RETRY_ISOLATED))

    (parcel,) = setup.sent.parcels
    (options,) = setup.sent.options
    assert parcel.id != setup.parcel
    assert (options["task_id"], options["retries"]) == (parcel.id, 1)
    assert setup.spool.files("claimed") == {parcel.id.encode() + b"/x/a.pdf": b"content"}


def test_a_missing_folder_leaves_the_parcel_to_the_sweep(setup: InboxWithParcel) -> None:
    (setup.spool.root / "failed").rmdir()

    with capture_logs() as lines:
        succeeded(setup.context, setup.outcome())

    assert [line["event"] for line in lines] == [events.FOLDER_UNAVAILABLE]
    assert setup.spool.files("claimed") != {}


def missing_files(lines: list[dict[str, object]]) -> list[object]:
    return [line["file"] for line in lines if line["event"] == events.FILE_MISSING]


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.REJECTED, Verdict.MISSING])
def test_a_file_removed_from_claimed_by_another_program_is_logged_once(verdict: Verdict, setup: InboxWithParcel) -> None:
    setup.leases.start(setup.parcel, "me", 60.0)
    setup.spool.where(b"claimed/" + setup.parcel.encode() + b"/x/a.pdf").unlink()

    with capture_logs() as lines:
        for _ in range(2):
            succeeded(setup.context, setup.outcome(verdict))

    assert missing_files(lines) == [b"x/a.pdf"]


def test_a_file_filed_by_a_process_that_died_is_not_logged_as_missing(setup: InboxWithParcel) -> None:
    setup.leases.start(setup.parcel, "me", 60.0)
    with setup.spool.folders() as folders:
        move_to_done(Disk(), folders, setup.parcel, b"x/a.pdf")

    with capture_logs() as lines:
        succeeded(setup.context, setup.outcome())

    assert missing_files(lines) == []


FORGED = [
    None,
    "x",
    {},
    {"version": 2},
    [1, 2, 3],
    {"version": 1, "parcel": "../../etc", "inbox": "drop", "attempt": 1, "files": []},
]


@pytest.mark.parametrize("wire", FORGED)
def test_a_success_without_a_valid_parcel_is_refused_and_logged(wire: object, setup: InboxWithParcel) -> None:
    with capture_logs() as lines:
        succeeded(setup.context, wire)

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]


@pytest.mark.parametrize(
    "changed",
    [{"inbox": "other"}, {"attempt": float("inf")}, {"attempt": "x"}, {"files": [{"filename": b"../a"}]}, {"files": 5}],
)
def test_a_forged_success_is_refused_and_moves_nothing(changed: dict[str, object], setup: InboxWithParcel) -> None:
    before = setup.spool.files()

    with capture_logs() as lines:
        succeeded(setup.context, {**setup.outcome(), **changed})

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]
    assert setup.spool.files() == before


@pytest.mark.parametrize("forged", [{"filename": 10**20}, {"reason": 5}, {"reason": b"x"}], ids=str)
def test_a_forged_file_is_refused_and_moves_nothing(forged: dict[str, object], setup: InboxWithParcel) -> None:
    before = setup.spool.files()
    wire = setup.outcome(Verdict.REJECTED)
    file = {**wire["files"][0], **forged}

    with capture_logs() as lines:
        succeeded(setup.context, {**wire, "files": [file]})

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]
    assert setup.spool.files() == before


@pytest.mark.parametrize(
    ("inbox", "parcel"), [("drop", "../../etc"), ("drop", None), ("drop", 5), ("other", "0" * 28), (None, "0" * 28), ([], {})]
)
def test_a_failure_without_a_valid_parcel_is_refused_and_logged(inbox: object, parcel: object, setup: InboxWithParcel) -> None:
    with capture_logs() as lines:
        failed(setup.context, inbox, parcel)

    assert [line["event"] for line in lines] == [events.MESSAGE_INVALID]


def test_a_callback_for_a_parcel_that_no_longer_exists_is_a_no_op(setup: InboxWithParcel) -> None:
    removed = new_parcel_id()
    setup.sent.results[removed] = {"status": SUCCESS, "result": None}
    before = setup.spool.files()

    failed(setup.context, "drop", removed)
    succeeded(setup.context, outcome_to_wire(Outcome(removed, "drop", 1, (FileOutcome(b"a", Verdict.DONE),))))

    assert setup.spool.files() == before
