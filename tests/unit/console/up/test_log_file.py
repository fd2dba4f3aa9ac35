"""The log file of `inboxd up`: rotation, its lock, and errors."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inboxd.config.tables import Log
from inboxd.console.log_reading.files.log_files import FileSource
from inboxd.console.log_reading.records import LogFilter
from inboxd.console.up import log_file
from inboxd.console.up.log_file import LogFile, open_log_file
from inboxd.errors import SettingsError


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(log_file, "RETRY_SECONDS", 0.0)


def opened(path: Path, bytes_max: int = 1000, kept: int = 2) -> LogFile:
    file = LogFile(path, bytes_max, kept)
    file.open()
    return file


@contextmanager
def files_limited_to(length: int) -> Iterator[None]:
    """Let each write beyond ``length`` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def line(number: int) -> bytes:
    return b'{"timestamp": "2026-11-30T12:00:%02dZ", "event": "%d"}\n' % (number % 60, number)


def test_the_file_is_rotated_by_size_and_kept_by_count_and_the_log_reader_reads_all(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "inboxd.log"
    file = opened(path, bytes_max=len(line(10)) * 10)

    for number in range(10, 45):
        file.write(line(number))
    file.close()

    assert sorted(entry.name for entry in path.parent.iterdir()) == ["inboxd.log", "inboxd.log.1", "inboxd.log.2"]
    assert path.with_name("inboxd.log.1").read_bytes() == b"".join(map(line, range(30, 40)))
    records = FileSource([path], pytest.fail).records(LogFilter())
    assert [int(record.event) for record in records] == list(range(20, 45))


def test_with_no_kept_files_the_full_one_is_deleted(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.log", bytes_max=len(line(10)), kept=0)

    file.write(line(10))
    file.write(line(11))

    assert [entry.name for entry in tmp_path.iterdir()] == ["a.log"]
    assert (tmp_path / "a.log").read_bytes() == line(11)


def test_a_file_that_another_program_writes_is_refused_also_after_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    first = opened(path, bytes_max=len(line(10)))
    first.write(line(10))
    first.write(line(11))

    with pytest.raises(SettingsError, match=r"another program writes to this file"):
        opened(path)
    first.close()
    opened(path).close()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_regular_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.log"
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(tmp_path / "else")}
    make[kind]()

    file = LogFile(path, 1000, 1)
    try:
        file.open()
    except SettingsError as error:
        assert "not a regular file" in str(error)  # noqa: PT017 - the other kinds raise nothing
    file.write(line(10))

    assert (bool(file.error), file.lost_lines) == (True, 1)
    assert not (tmp_path / "else").exists()


@pytest.mark.parametrize(("uid", "problem"), [(None, "has a second link"), (65534, "belongs to another user")])
def test_a_file_that_others_may_have_put_there_is_refused(tmp_path: Path, uid: int | None, problem: str) -> None:
    path = tmp_path / "a.log"
    path.touch()
    status = list(path.stat())
    status[3] = 2  # links
    if uid is not None:
        status[4] = uid

    with pytest.raises(SettingsError, match=problem):
        log_file._require_own_file(os.stat_result(status), path)  # noqa: SLF001 - only root can give a file away


def test_a_full_disk_loses_lines_but_leaves_no_torn_one_and_later_lines_are_written(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.log", bytes_max=100_000)
    file.write(line(10))

    with files_limited_to(len(line(10)) * 2 + 5):
        file.write(line(11) + line(12))
    error, lost = file.error, file.lost_lines
    file.write(line(13))

    assert ("too large" in error, lost, file.error) == (True, 2, "")
    assert (tmp_path / "a.log").read_bytes() == line(10) + line(13)


def test_after_a_failed_write_the_next_attempt_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "RETRY_SECONDS", 600.0)
    file = opened(tmp_path / "a.log")
    with files_limited_to(5):
        file.write(line(10))

    file.write(line(11))

    assert (file.lost_lines, (tmp_path / "a.log").read_bytes()) == (2, b"")


def test_a_folder_that_can_not_be_made_stops_nothing_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file is in the way")
    file = opened(tmp_path / "logs" / "a.log")
    file.write(line(10))
    error = file.error

    (tmp_path / "logs").unlink()
    file.write(line(11))

    assert ("exists" in error or "directory" in error, file.error) == (True, "")
    assert (tmp_path / "logs" / "a.log").read_bytes() == line(11)


def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.log")
    file.write(line(10))
    (tmp_path / "a.log").rename(tmp_path / "a.log-20261130")

    file.write(line(11))

    assert (tmp_path / "a.log").read_bytes() == line(11)


def test_a_file_that_can_not_be_rotated_grows(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.log", bytes_max=len(line(10)))
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.2").write_text("")
    file.write(line(10))

    file.write(line(11))

    assert (file.error.startswith("can't be rotated"), file.lost_lines) == (True, 0)
    assert (tmp_path / "a.log").read_bytes() == line(10) + line(11)


def test_a_line_that_a_killed_writer_has_left_is_ended(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b'{"timesta')

    opened(tmp_path / "a.log").write(line(10))

    assert (tmp_path / "a.log").read_bytes() == b'{"timesta\n' + line(10)


def test_no_file_in_the_settings_is_none() -> None:
    assert open_log_file(Log(file="")) is None
