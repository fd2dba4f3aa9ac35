import struct
import time
from pathlib import Path

import pytest

from bench.measure.arrivals import IN_ISDIR, IN_MOVED_TO, IN_Q_OVERFLOW, Arrivals, Overflow, parse


def event(mask: int, name: bytes) -> bytes:
    padded = name + b"\0" * (16 - len(name) % 16)
    return struct.pack("iIII", 1, mask, 0, len(padded)) + padded


def test_names_of_files_but_not_folders_are_parsed_from_many_events() -> None:
    raw = event(IN_MOVED_TO, b"a.bin") + event(IN_MOVED_TO | IN_ISDIR, b"sub") + event(IN_MOVED_TO, b"sixteen bytes!!!")

    assert parse(raw) == [b"a.bin", b"sixteen bytes!!!"]


def test_lost_events_raise_overflow() -> None:
    with pytest.raises(Overflow):
        parse(event(IN_MOVED_TO, b"a") + struct.pack("iIII", -1, IN_Q_OVERFLOW, 0, 0))


def test_the_arrival_time_of_a_renamed_file_is_returned(tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    (tmp_path / "a.bin").write_bytes(b"a")

    with Arrivals(done) as arrivals:
        before = time.monotonic()
        (tmp_path / "a.bin").rename(done / "a.bin")
        arrived = arrivals.wait_for(b"a.bin", 5.0)

    assert arrived is not None
    assert before <= arrived <= time.monotonic()


def test_the_wait_for_a_file_that_does_not_arrive_times_out(tmp_path: Path) -> None:
    with Arrivals(tmp_path) as arrivals:
        (tmp_path / "other.bin").write_bytes(b"")

        assert arrivals.wait_for(b"a.bin", 0.05) is None
