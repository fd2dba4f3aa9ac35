"""Files that `inboxd status` reports as stuck."""

from pathlib import PurePath

import pytest

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.rules import Inbox
from inboxd.monitoring.file_counts import FileCounts
from inboxd.monitoring.stuck import CLAIMED_SECONDS, WAITING_SECONDS, claimed_seconds_max, find_stuck, waiting_seconds_max

INBOX = Inbox(root=PurePath("/srv/drop"), name="drop")
REPORT = InboxReport("inotify", "", is_busy=False, outage=None)


def waiting(seconds: float, path: bytes = b"a") -> FileCounts:
    return FileCounts(1, 0, 0, 0, seconds, None, path)


def claimed(seconds: float, in_flight: int = 1) -> FileCounts:
    return FileCounts(0, in_flight, 0, 0, None, seconds, None, b"x/a")


def stuck(inbox: Inbox, counts: FileCounts, report: InboxReport | None = REPORT, slots: int = 2) -> list[str]:
    return list(find_stuck(inbox, counts, report, slots))


def test_an_unclaimed_file_is_stuck_after_the_maximum_wait() -> None:
    limit = waiting_seconds_max(INBOX)

    assert stuck(INBOX, waiting(limit - 1)) == []
    assert "drop: inbox/a has not been claimed for 30 min" in stuck(INBOX, waiting(limit + 1))[0]


def test_a_backlog_is_not_stuck() -> None:
    assert stuck(INBOX, waiting(1e6), InboxReport("inotify", "", is_busy=True, outage=None)) == []


def test_no_file_is_stuck_while_the_watcher_is_missing() -> None:
    assert stuck(INBOX, waiting(1e6), None) == []


@pytest.mark.parametrize("key", ["settle_seconds", "unsure_seconds", "empty_file_seconds"])
def test_the_settings_wait_times_extend_the_limit(key: str) -> None:
    slow = INBOX.model_copy(update={key: 7200.0})

    assert waiting_seconds_max(slow) == WAITING_SECONDS + 7200.0
    assert stuck(slow, waiting(WAITING_SECONDS + 7100)) == []


def test_a_claimed_file_is_stuck_once_no_limit_explains_the_wait() -> None:
    assert stuck(INBOX, claimed(CLAIMED_SECONDS)) == []
    assert "drop: x/a has been claimed for 2 h" in stuck(INBOX, claimed(2 * CLAIMED_SECONDS))[0]


def test_time_limits_and_retries_extend_the_limit() -> None:
    slow = INBOX.model_copy(update={"time_limit_seconds": 3590, "retries": 2, "retry_backoff_seconds": 100.0})

    assert claimed_seconds_max(slow, 0, 1) == 2 * (3 * 3600 + 100 + 200)


def test_other_files_in_flight_extend_the_limit() -> None:
    single, queued = claimed_seconds_max(INBOX, 1, 2), claimed_seconds_max(INBOX, 2000, 2)

    assert single == CLAIMED_SECONDS
    assert queued == CLAIMED_SECONDS + 1000 * 310
    assert stuck(INBOX, claimed(2 * CLAIMED_SECONDS, in_flight=2000)) == []


def test_a_hostile_name_is_shown_on_one_line() -> None:
    (line,) = stuck(INBOX, waiting(1e6, b"x\n! all is well\x1b[2J\xff"))

    assert line.isprintable()
