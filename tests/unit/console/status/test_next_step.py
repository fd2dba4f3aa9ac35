"""The command that `inboxd status` names in its last line."""

import dataclasses

import pytest

from inboxd.broker.counters import FAILED, REFUSED, InboxCounts
from inboxd.broker.heartbeat import Heartbeat, InboxReport
from inboxd.console.status.next_step import IGNORED_SECONDS, NextStep, find_next_step
from inboxd.console.status.snapshot import InboxStatus, Status
from inboxd.monitoring.file_counts import FileCounts, Untaken

REPORT = InboxReport("inotify", "", is_busy=False, outage=None)
COUNTS = FileCounts(waiting=1, in_flight=2, done=3, failed=4, oldest_waiting_seconds=5.0)
INBOX = InboxStatus("drop", COUNTS, report=REPORT, root=b"/srv/drop")
HEALTHY = Status(10.0, (INBOX,), "", 1, Heartbeat(9.0, {}), has_own_server=True)


def of_inbox(**changes: object) -> Status:
    return dataclasses.replace(HEALTHY, inboxes=(dataclasses.replace(INBOX, **changes),))


def command(status: Status) -> str:
    step = find_next_step(status)
    assert step is not None
    return step.command


def test_nothing_is_named_when_all_is_well() -> None:
    assert find_next_step(HEALTHY) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"broker_error": "refused"}, "inboxd up"),
        ({"broker_error": "refused", "has_own_server": False}, "inboxd check"),
        ({"workers": 0, "watcher": None}, "inboxd up"),
        ({"workers": 0}, "celery -A inboxd worker"),
        ({"watcher": None}, "inboxd watch"),
        ({"is_sweep_overdue": True}, "celery -A inboxd beat"),
        ({"server_problems": ("everybody can use it",)}, "inboxd check"),
        ({"removed_inboxes": ("old",)}, "inboxd check"),
    ],
)
def test_a_program_that_does_not_run_is_started_and_what_does_not_fit_is_checked(
    changes: dict[str, object], expected: str
) -> None:
    assert command(dataclasses.replace(HEALTHY, **changes)) == expected


@pytest.mark.parametrize("changes", [{"workers": 0}, {"watcher": None}, {"is_sweep_overdue": True}])
def test_installed_programs_are_started_as_services(changes: dict[str, object]) -> None:
    start = "sudo systemctl start inboxd.target"

    assert command(dataclasses.replace(HEALTHY, start_command=start, is_installed=True, **changes)) == start


def test_folders_that_can_not_be_used_are_checked() -> None:
    assert command(of_inbox(outage="the disk is full")) == "inboxd check"
    assert of_inbox(outage="the disk is full").inboxes[0].paused == "the disk is full"


def test_a_stuck_file_is_explained_by_its_quoted_path() -> None:
    counts = dataclasses.replace(COUNTS, oldest_waiting=b"a b\x1b.pdf", oldest_claimed=b"claimed/p/c")

    waiting = of_inbox(counts=counts, stuck=(r"drop: inbox/a b\x1b.pdf has not been claimed for 1 h",))
    claimed = of_inbox(counts=counts, stuck=("drop: claimed/p/c has been claimed for 3 h",))

    assert command(waiting) == r"inboxd explain $'/srv/drop/inbox/a b\x1b.pdf'"
    assert command(claimed) == "inboxd explain /srv/drop/claimed/p/c"


@pytest.mark.parametrize(("today", "expected"), [
    ({FAILED: 2, REFUSED: 1}, NextStep("inboxd retry --inbox drop", "3 files failed today: correct the cause first")),
    ({FAILED: 1}, NextStep("inboxd retry --inbox drop", "1 file failed today: correct the cause first")),
    ({}, None),
])  # fmt: skip
def test_files_that_failed_today_are_retried(today: dict[str, int], expected: NextStep | None) -> None:
    assert find_next_step(of_inbox(totals=InboxCounts(today=today))) == expected


def test_failed_files_that_are_gone_need_nothing() -> None:
    counts = dataclasses.replace(COUNTS, failed=0)

    assert find_next_step(of_inbox(counts=counts, totals=InboxCounts(today={FAILED: 2}))) is None


@pytest.mark.parametrize(("seconds", "is_named"), [(IGNORED_SECONDS - 1, False), (IGNORED_SECONDS, True)])
def test_a_file_that_has_been_ignored_for_long_is_explained(seconds: float, is_named: bool) -> None:
    counts = dataclasses.replace(COUNTS, ignored=Untaken(1, "a temporary name", b"x.part", seconds))

    step = find_next_step(of_inbox(counts=counts))

    assert (step is not None and step.command == "inboxd explain /srv/drop/inbox/x.part") is is_named
