"""What a sweep finds of another app's workers: what it records and logs, when that is over, and when it is no fault."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from support.parts.real_context import context, spool

from inboxd.logs import events
from inboxd.messaging.other_app.task_faults import FaultKind, TaskFault, find_fault, read_fault
from inboxd.messaging.other_app.workers import OtherWorkers
from inboxd.spool.layout import created_at, new_parcel_id
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps import task_faults
from inboxd.tasks.sweeps.task_faults import SILENT_SECONDS, TaskFaultFinder, TaskNews

__all__ = ["context", "spool"]

NONE: frozenset[str] = frozenset()
NOBODY = OtherWorkers(NONE, NONE, NONE)
GOOD = OtherWorkers(frozenset({"good@vm"}), frozenset({"good@vm"}), NONE)
IGNORANT = OtherWorkers(frozenset({"bad@vm"}), NONE, NONE)
PARCEL = new_parcel_id()


class Sweeps:
    """One inbox's sweeps at times in seconds after a file was claimed; ``answers`` are what the workers say to a patience."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        inbox = context.settings.inbox["drop"]
        self.inbox = inbox.model_copy(update={"task": "invoices.tasks.book", "queue": "celerry"})
        self.answer: Callable[[float], OtherWorkers] = lambda _seconds: NOBODY
        self.patience: list[float] = []
        self.lines: list[Any] = []

    def ask(self, _settings: object, _inbox: object, seconds: float = 0.7) -> OtherWorkers:
        self.patience.append(seconds)
        return self.answer(seconds)

    def sweep(self, after: float, *, queued: int = 0, unanswered: int = 0, has_taken: bool = False) -> TaskNews:
        self.context.client.delete(f"{task_faults.ASKED_KEY}here:drop")
        finder = TaskFaultFinder(self.context, self.inbox, lambda: created_at(PARCEL) + after)
        with capture_logs() as lines:
            news = finder.look([PARCEL] * queued, [PARCEL] * unanswered, has_taken=has_taken)
        self.lines += lines
        return news

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    def fault(self) -> TaskFault | None:
        return find_fault(self.context.client, "here", "drop", self.inbox.queue)


@pytest.fixture
def sweeps(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    made = Sweeps(context)
    monkeypatch.setattr(task_faults, "ask_workers", made.ask)
    return made


def test_a_queue_that_nobody_consumes_is_logged_once_until_that_is_over(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=2)
    sweeps.sweep(71.0, queued=3)
    fault = sweeps.fault()
    assert fault is not None
    assert (fault.kind, fault.where, fault.files) == (FaultKind.UNCONSUMED, "celerry", 3)

    sweeps.answer = lambda _seconds: GOOD
    sweeps.sweep(131.0, queued=3)

    assert sweeps.events() == [events.QUEUE_UNCONSUMED, events.QUEUE_CONSUMED]
    assert (sweeps.lines[0]["log_level"], sweeps.lines[0]["queue"], sweeps.lines[0]["files"]) == ("warning", "celerry", 2)
    assert sweeps.fault() is None


def test_a_queue_from_which_everything_was_taken_is_consumed(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=1)
    sweeps.sweep(20.0, unanswered=1)

    assert sweeps.events() == [events.QUEUE_UNCONSUMED, events.QUEUE_CONSUMED]


def test_nobody_is_asked_for_a_file_that_was_just_queued(sweeps: Sweeps) -> None:
    sweeps.sweep(5.0, queued=1)

    assert sweeps.patience == []


def test_a_worker_that_takes_two_seconds_to_answer_consumes_the_queue(sweeps: Sweeps) -> None:
    sweeps.answer = lambda seconds: GOOD if seconds > 2 else NOBODY
    sweeps.sweep(11.0, queued=1)

    assert sweeps.events() == []
    assert sweeps.fault() is None
    assert sweeps.patience == [0.7, 3.0]


def test_a_worker_that_has_taken_files_may_be_silent_for_minutes(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=1, has_taken=True)
    sweeps.sweep(71.0, queued=1, has_taken=True)
    assert sweeps.fault() is None
    assert sweeps.events() == []

    sweeps.sweep(12.0 + SILENT_SECONDS, queued=1, has_taken=True)

    assert sweeps.events() == [events.QUEUE_UNCONSUMED]


def test_a_suspicion_that_is_over_is_not_logged(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=1, has_taken=True)
    sweeps.answer = lambda _seconds: GOOD
    sweeps.sweep(71.0, queued=1, has_taken=True)

    assert sweeps.events() == []
    assert read_fault(sweeps.context.client, "here", "drop", FaultKind.UNCONSUMED) is None


def test_another_queue_in_the_settings_ends_what_was_found_of_the_old_one(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=1)

    assert find_fault(sweeps.context.client, "here", "drop", "celery") is None


def test_the_end_of_all_files_ends_a_fault(sweeps: Sweeps) -> None:
    sweeps.sweep(11.0, queued=1)
    with capture_logs() as lines:
        TaskFaultFinder(sweeps.context, sweeps.inbox).end_all()

    assert [line["event"] for line in lines] == [events.QUEUE_CONSUMED]
    assert sweeps.fault() is None


def test_an_unknown_task_is_logged_at_growing_intervals_and_when_it_is_known(sweeps: Sweeps) -> None:
    sweeps.answer = lambda _seconds: IGNORANT
    assert {sweeps.sweep(float(after), unanswered=1) for after in range(0, 4000, 15)} == {TaskNews.UNKNOWN}
    logged = len(sweeps.lines)
    sweeps.answer = lambda _seconds: GOOD
    last = sweeps.sweep(4000.0, unanswered=1)

    assert logged == 4
    assert last is TaskNews.KNOWN_AGAIN
    assert sweeps.events() == [events.TASK_UNKNOWN] * 4 + [events.TASK_KNOWN]


@pytest.mark.parametrize("lines", [0, 1, 4, 5, 400])
def test_a_long_fault_is_logged_once_a_day(lines: int) -> None:
    fault = TaskFault(FaultKind.UNKNOWN, "bad@vm", 1, 0.0, lines)
    due_at = 86_400 * (lines - 3) if lines > 3 else (0, 60, 600, 3600)[lines]

    assert fault.is_line_due(due_at)
    assert not fault.is_line_due(due_at - 1)


def test_a_task_that_is_known_again_ends_the_fault_even_if_nothing_is_unanswered(sweeps: Sweeps) -> None:
    sweeps.answer = lambda _seconds: IGNORANT
    sweeps.sweep(11.0, unanswered=1)
    sweeps.answer = lambda _seconds: GOOD
    sweeps.sweep(20.0)

    assert sweeps.events() == [events.TASK_UNKNOWN, events.TASK_KNOWN]


@pytest.mark.parametrize("raw", [b"bad@vm", b"{}", b"[" * 5000, b'{"where": 5, "files": 1, "since": 1, "lines": 1}', b"\xff"])
def test_a_record_of_another_form_is_none(valkey: redis.Redis, raw: bytes) -> None:
    valkey.set("inboxd:task_unknown:here:drop", raw)

    assert read_fault(valkey, "here", "drop", FaultKind.UNKNOWN) is None
