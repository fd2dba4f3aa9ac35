"""After a jump of the clock, nothing is deleted for a day."""

from pathlib import Path, PurePath

import pytest
from support.disk.disks import RefusingDisk

from inboxd.fs.syscalls import Disk
from inboxd.service.clock_guard import (
    OFF_SECONDS_MAX,
    PAUSE_SECONDS,
    RECORD,
    ClockReading,
    ClockRecord,
    describe_pause,
    load_record,
    next_record,
    read_clock,
    update_record,
)

HOUR, DAY = 3600.0, 86_400.0
UP = 10_000.0
LAST = ClockRecord(ClockReading("boot", UP, 1e9))


@pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY, 2 * HOUR, -2 * HOUR])
def test_a_jump_starts_a_pause_of_a_day(jump: float) -> None:
    record = next_record(LAST, ClockReading("boot", UP + HOUR, 1e9 + HOUR + jump))

    assert (record.pause_seconds, record.jump_seconds) == (PAUSE_SECONDS, jump)
    assert "set forward by" in describe_pause(record) if jump > 0 else "set back by" in describe_pause(record)


@pytest.mark.parametrize("adjusted", [0.0, 1800.0, -1800.0])
def test_time_that_passes_and_small_adjustments_are_no_jump(adjusted: float) -> None:
    record = next_record(LAST, ClockReading("boot", UP + 40 * DAY, 1e9 + 40 * DAY + adjusted))

    assert record.pause_seconds == 0
    assert describe_pause(record) == ""


def test_a_pause_lasts_a_day_of_uptime_and_a_second_jump_starts_it_again() -> None:
    jumped = next_record(LAST, ClockReading("boot", UP, 2e9))
    later = next_record(jumped, ClockReading("boot", UP + 10 * HOUR, 2e9 + 10 * HOUR))
    corrected = next_record(later, ClockReading("boot", UP + 11 * HOUR, 1e9 + 11 * HOUR))

    assert later.pause_seconds == 14 * HOUR
    assert corrected.pause_seconds == PAUSE_SECONDS
    end = ClockReading("boot", UP + 35 * HOUR, 1e9 + 35 * HOUR)
    assert next_record(corrected, end).pause_seconds == 0


@pytest.mark.parametrize(
    ("off_seconds", "pause"), [(60.0, 0.0), (OFF_SECONDS_MAX, 0.0), (40 * DAY, PAUSE_SECONDS), (-2 * HOUR, PAUSE_SECONDS)]
)
def test_after_a_reboot_a_machine_may_have_been_off_for_a_day(off_seconds: float, pause: float) -> None:
    assert next_record(LAST, ClockReading("next boot", 30.0, 1e9 + 30.0 + off_seconds)).pause_seconds == pause


def test_a_clock_without_a_battery_may_be_set_by_the_network_soon_after_the_boot() -> None:
    early = ClockRecord(ClockReading("boot", 20.0, 1e9))

    assert next_record(early, ClockReading("boot", 30.0, 1e9 + 8 * HOUR)).pause_seconds == 0
    assert next_record(early, ClockReading("boot", 30.0, 1e9 + 40 * DAY)).pause_seconds == PAUSE_SECONDS
    assert next_record(early, ClockReading("boot", 30.0, 1e9 - 8 * HOUR)).pause_seconds == PAUSE_SECONDS


def test_the_first_reading_is_no_jump() -> None:
    assert next_record(None, ClockReading("boot", 1.0, 1e9)).pause_seconds == 0


def test_a_record_is_stored_and_read_back(tmp_path: Path) -> None:
    state_dir = PurePath(tmp_path / "state")
    assert load_record(Disk(), state_dir) is None

    first = update_record(Disk(), state_dir)
    (tmp_path / "state" / f".inboxd-{RECORD.decode()}").write_bytes(b"a crash left it")
    second = update_record(Disk(), state_dir)

    assert first.pause_seconds == second.pause_seconds == 0
    assert load_record(Disk(), state_dir) == second
    assert second.reading.boot == read_clock(Disk()).boot


@pytest.mark.parametrize("text", [b"", b"[]", b'{"reading": 1}', b'{"reading": {"boot": "x"}}'])
def test_an_invalid_record_counts_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / RECORD.decode()).write_bytes(text)

    assert load_record(Disk(), PurePath(tmp_path)) is None


def test_an_unwritable_state_dir_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused"):
        update_record(RefusingDisk("create", b".inboxd-" + RECORD, 30), PurePath(tmp_path))
