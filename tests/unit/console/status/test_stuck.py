"""Which files `inboxd status` calls stuck."""

from pathlib import PurePath

import pytest

from inboxd.broker.heartbeat import InboxReport
from inboxd.config.settings import Inbox
from inboxd.console.status.stuck import CLAIMED_SECONDS, WAITING_SECONDS, claimed_seconds_max, find_stuck, waiting_seconds_max
from inboxd.monitoring.file_counts import FileCounts

INBOX = Inbox(root=PurePath("/srv/drop"), name="drop")
WATCHED = InboxReport("inotify", "", is_busy=False, outage=None)


def waiting(seconds: float, path: bytes = b"a") -> FileCounts:
    return FileCounts(1, 0, 0, 0, seconds, None, path)


def claimed(seconds: float, in_flight: int = 1) -> FileCounts:
    return FileCounts(0, in_flight, 0, 0, None, seconds, None, b"x/a")


def told(inbox: Inbox, counts: FileCounts, watched: InboxReport | None = WATCHED, slots: int = 2) -> list[str]:
    return list(find_stuck(inbox, counts, watched, slots))


def test_a_file_that_nobody_takes_is_named_once_it_has_waited_too_long() -> None:
    long = waiting_seconds_max(INBOX)

    assert told(INBOX, waiting(long - 1)) == []
    assert "drop: inbox/a is not taken for 30 min" in told(INBOX, waiting(long + 1))[0]


def test_a_backlog_is_not_stuck() -> None:
    assert told(INBOX, waiting(1e6), InboxReport("inotify", "", is_busy=True, outage=None)) == []


def test_without_a_watcher_it_is_the_watcher_that_is_missed() -> None:
    assert told(INBOX, waiting(1e6), None) == []


@pytest.mark.parametrize("key", ["settle_seconds", "unsure_seconds", "empty_file_seconds"])
def test_a_file_is_given_the_time_that_the_settings_let_it_rest(key: str) -> None:
    patient = INBOX.model_copy(update={key: 7200.0})

    assert waiting_seconds_max(patient) == WAITING_SECONDS + 7200.0
    assert told(patient, waiting(WAITING_SECONDS + 7100)) == []


def test_a_claimed_file_is_named_once_no_limit_explains_it() -> None:
    assert told(INBOX, claimed(CLAIMED_SECONDS)) == []
    assert "drop: x/a is claimed for 2 h" in told(INBOX, claimed(2 * CLAIMED_SECONDS))[0]


def test_long_handlers_with_retries_get_their_time() -> None:
    slow = INBOX.model_copy(update={"time_limit_seconds": 3590, "retries": 2, "retry_backoff_seconds": 100.0})

    assert claimed_seconds_max(slow, 0, 1) == 2 * (3 * 3600 + 100 + 200)


def test_files_in_flight_behind_many_others_get_the_others_time() -> None:
    alone, behind = claimed_seconds_max(INBOX, 1, 2), claimed_seconds_max(INBOX, 2000, 2)

    assert alone == CLAIMED_SECONDS
    assert behind == CLAIMED_SECONDS + 1000 * 310
    assert told(INBOX, claimed(2 * CLAIMED_SECONDS, in_flight=2000)) == []


def test_a_hostile_name_stays_on_its_line() -> None:
    (line,) = told(INBOX, waiting(1e6, b"x\n! all is well\x1b[2J\xff"))

    assert line.isprintable()
