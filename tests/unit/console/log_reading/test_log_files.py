"""Reading, searching and following log files: rotated, compressed, torn and interleaved ones."""

import bz2
import gzip
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.live.log_lines import NOON, line, long_log, parcel, table

from inboxd.console.log_reading.files import blocks, follow, log_files
from inboxd.console.log_reading.files.follow import Tail
from inboxd.console.log_reading.files.log_files import FileSource
from inboxd.console.log_reading.files.rotation import rotated_files
from inboxd.console.log_reading.files.search import SEPARATE_SEARCHES_MAX
from inboxd.console.log_reading.records import LogFilter, Record, parse

P = parcel(1, NOON)


@pytest.fixture
def notices() -> list[str]:
    return []


def done(number: int, at: float | None = None, **keys: object) -> bytes:
    return line(
        "file_done", NOON + (number if at is None else at), **{"file": f"{number}.pdf", "parcel": parcel(number, NOON), **keys}
    )


def names(records: object) -> list[str | None]:
    assert hasattr(records, "__iter__")
    return [record.text("file") for record in records]


def read(notices: list[str], *paths: Path, since: float | None = None) -> list[str | None]:
    return names(FileSource(paths, notices.append).records(LogFilter(since=since)))


def search(files: FileSource, key: str, *values: str) -> list[Record]:
    return files.search((key,), set(values))


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".1", bytes),
        (".1.gz", gzip.compress),
        (".2.xz", lzma.compress),
        (".3.bz2", bz2.compress),
        ("-20261121.gz", gzip.compress),
    ],
)
def test_rotated_files_are_read_before_the_current_one(
    tmp_path: Path, notices: list[str], suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "w.log").write_bytes(done(2))
    (tmp_path / f"w.log{suffix}").write_bytes(pack(done(1)))

    assert read(notices, tmp_path / "w.log") == ["1.pdf", "2.pdf"]
    assert names(search(FileSource([tmp_path / "w.log"], notices.append), "parcel", parcel(1, NOON))) == ["1.pdf"]
    assert notices == []


def test_rotated_files_are_read_in_order_of_time_not_of_their_numbers(tmp_path: Path, notices: list[str]) -> None:
    for number in range(12):  # .10 is older than .9, and sorts before it
        (tmp_path / ("w.log" if number == 0 else f"w.log.{number}")).write_bytes(done(100 - number))

    assert read(notices, tmp_path / "w.log") == [f"{100 - number}.pdf" for number in range(11, -1, -1)]


def test_other_files_in_the_folder_are_ignored(tmp_path: Path) -> None:
    for name in ("w.log", "w.log.1", "w.log.bak", "w.log.1.gz.tmp", "w.logs", "other.log", "w.log.1~"):
        (tmp_path / name).touch()

    assert [path.name for path in rotated_files(tmp_path / "w.log")] == ["w.log", "w.log.1"]


def test_a_file_that_is_being_compressed_is_read_once(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(done(2))
    (tmp_path / "w.log.1").write_bytes(done(1))
    (tmp_path / "w.log.1.gz").write_bytes(gzip.compress(done(1))[:-9])

    assert read(notices, tmp_path / "w.log") == ["1.pdf", "2.pdf"]
    assert notices == []


def test_files_named_twice_are_read_once(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(done(2))
    (tmp_path / "w.log.1").write_bytes(done(1))

    assert read(notices, tmp_path / "w.log", tmp_path / "w.log.1", tmp_path / "w.log") == ["1.pdf", "2.pdf"]


def test_a_rotated_file_can_be_read_alone(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(done(2))
    (tmp_path / "w.log.1").write_bytes(done(1))

    assert read(notices, tmp_path / "w.log.1") == ["1.pdf"]


def test_several_programs_lines_are_merged_by_time(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "watcher.log").write_bytes(done(1) + done(4) + done(5))
    (tmp_path / "worker.log").write_bytes(done(2) + done(3) + done(6))

    assert read(notices, tmp_path) == [f"{number}.pdf" for number in range(1, 7)]


def test_foreign_and_torn_lines_are_skipped(tmp_path: Path, notices: list[str]) -> None:
    banner = b"\n -------------- celery@vm v5.7.0\nTraceback (most recent call last):\n\xff\xfe\n"
    (tmp_path / "w.log").write_bytes(banner + done(1) + banner + done(2)[:50] + done(3) + done(4)[:-10])

    assert read(notices, tmp_path / "w.log") == ["1.pdf", "3.pdf"]


@pytest.mark.parametrize("hole", [10, 300_000])
def test_the_first_line_after_the_hole_that_a_truncation_leaves_is_read(tmp_path: Path, notices: list[str], hole: int) -> None:
    (tmp_path / "w.log").write_bytes(b"\0" * hole + done(1) + done(2))
    files = FileSource([tmp_path / "w.log"], notices.append)

    assert read(notices, tmp_path / "w.log") == ["1.pdf", "2.pdf"]
    assert names(files.last(LogFilter(), 2)) == ["1.pdf", "2.pdf"]
    assert names(search(files, "file", "1.pdf")) == ["1.pdf"]


def test_an_overlong_line_is_skipped(tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 512)
    monkeypatch.setattr(blocks, "LINE_BYTES_MAX", 2048)
    (tmp_path / "w.log").write_bytes(done(1) + b"x" * 10_000 + b"\n" + done(2) + b"y" * 10_000)

    assert read(notices, tmp_path / "w.log") == ["1.pdf", "2.pdf"]


@pytest.mark.parametrize("block_bytes", [1, 7, 100, 1000, 100_000])
def test_lines_are_whole_at_any_block_size(
    tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    (tmp_path / "w.log").write_bytes(b"".join(map(done, range(20))))

    assert read(notices, tmp_path / "w.log") == [f"{number}.pdf" for number in range(20)]
    assert names(search(FileSource([tmp_path / "w.log"], notices.append), "file", "7.pdf")) == ["7.pdf"]


def test_a_broken_file_is_reported_once_and_the_others_are_read(tmp_path: Path, notices: list[str]) -> None:
    packed = gzip.compress(b"".join(map(done, range(200))))
    (tmp_path / "w.log.1").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "w.log").write_bytes(done(300))

    files = FileSource([tmp_path / "w.log"], notices.append)
    found = names(files.records(LogFilter()))
    again = names(files.records(LogFilter()))

    assert found == again
    assert found[-1] == "300.pdf"
    assert len(notices) == 1
    assert str(tmp_path / "w.log.1") in notices[0]


def test_zstd_is_reported_if_python_can_not_read_the_format_or_the_file(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log.1.zst").write_bytes(b"\x28\xb5\x2f\xfdnonsense")
    (tmp_path / "w.log").write_bytes(done(1))

    assert read(notices, tmp_path / "w.log") == ["1.pdf"]
    assert len(notices) == 1
    assert ("zstd -d" in notices[0]) == (sys.version_info < (3, 14))


def test_since_skips_old_files(tmp_path: Path, notices: list[str]) -> None:
    old = tmp_path / "w.log.1.gz"
    old.write_bytes(gzip.compress(done(1)))
    os.utime(old, (NOON + 1, NOON + 1))
    (tmp_path / "w.log").write_bytes(done(100) + done(200))

    files = FileSource([tmp_path / "w.log"], notices.append)
    found = [record for record in files.records(LogFilter(since=NOON + 150)) if record.at >= NOON + 150]

    assert names(found) == ["200.pdf"]
    assert names(files.records(LogFilter(since=NOON + 1))) == ["1.pdf", "100.pdf", "200.pdf"]


def test_a_value_is_found_at_its_key_and_nowhere_else(tmp_path: Path, notices: list[str]) -> None:
    lines = [
        table("file_done", NOON, file="drop", parcel=P),
        table("file_done", NOON + 1, file="x", parcel=P, filed="drop"),
        table("file_done", NOON + 2, file="y", parcel=P, result={"file": "drop"}),
        table("file_done", NOON + 3, file='"file": "drop"', parcel=P),
        table("file_done", NOON + 4, file="drop.pdf", parcel=P),
    ]
    (tmp_path / "w.log").write_bytes(b"".join(line(**_arguments(keys), at=NOON + n) for n, keys in enumerate(lines)))

    assert names(search(FileSource([tmp_path / "w.log"], notices.append), "file", "drop")) == ["drop"]


@pytest.mark.parametrize("block_bytes", [7, 300, 100_000])
@pytest.mark.parametrize("count", [1, 4, 1000])
@pytest.mark.parametrize(
    "criteria", [{}, {"file": "*1.pdf"}, {"since": NOON + 13}, {"until": NOON + 12.5}, {"outcomes": ("failed",)}]
)
def test_reading_backwards_returns_the_same_last_records_as_reading_forwards(
    tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch, block_bytes: int, count: int, criteria: dict[str, Any]
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(blocks, "LINE_BYTES_MAX", 2000)
    foreign = b"\nTraceback\n" + b"x" * 5000 + b"\n"
    (tmp_path / "a.log.2").write_bytes(b"".join(map(done, range(8))))
    (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(b"".join(map(done, range(8, 12))) + foreign + done(12)))
    (tmp_path / "a.log").write_bytes(foreign + b"".join(map(done, range(13, 20))) + foreign + done(20) + done(21)[:-20])
    (tmp_path / "b.log").write_bytes(b"".join(done(n, n + 0.5) for n in range(30, 50)))
    for path in tmp_path.iterdir():
        os.utime(path, (NOON + 100, NOON + 100))
    files, wanted = FileSource([tmp_path], notices.append), LogFilter(**criteria)

    found = files.last(wanted, count)

    all_of_them = [record for record in files.records(wanted) if wanted.matches(record)]
    assert found == all_of_them[-count:]
    assert notices == []
    assert bool(found) is (criteria != {"outcomes": ("failed",)})


def test_last_stops_at_the_offset_of_an_open_file_and_omits_other_current_files(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log.1").write_bytes(done(1))
    (tmp_path / "w.log").write_bytes(done(2) + done(3))
    status = (tmp_path / "w.log").stat()
    files = FileSource([tmp_path / "w.log"], notices.append)

    rotated_only = files.last(LogFilter(), 5, {})
    up_to_offset = files.last(LogFilter(), 5, {(status.st_dev, status.st_ino): len(done(2))})

    assert (names(rotated_only), names(up_to_offset)) == (["1.pdf"], ["1.pdf", "2.pdf"])


def test_the_last_lines_of_a_long_log_are_found_without_parsing_the_others(
    tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    parsed: list[bytes] = []
    monkeypatch.setattr(log_files, "parse", lambda text: parsed.append(text) or parse(text))
    (tmp_path / "w.log").write_bytes(b"".join(map(done, range(10_000))))

    found = FileSource([tmp_path / "w.log"], notices.append).last(LogFilter(), 3)

    assert names(found) == ["9997.pdf", "9998.pdf", "9999.pdf"]
    assert len(parsed) < 20, "two blocks: one for the file's first time, one from its end"


@pytest.mark.parametrize(
    ("pattern", "part"),
    [("*.pdf", ".pdf"), ("a?bcd*e", "bcd"), ("[ab]*.pdf", ""), ("x[ab]*.pdf", "x"), ("*", ""), ("2026/*", "2026/"), (None, "")],
)
def test_the_literal_part_of_a_pattern_is_in_each_matching_path(pattern: str | None, part: str) -> None:
    assert LogFilter(file=pattern).literal_part == part


@pytest.mark.parametrize(
    "name", ["a.pdf", 'quo"te', "back\\slash", "\u00e9", "scan [1].pdf", "\\n\\x1b[2J", "a\\xff", "\U0001f4c4.pdf"]
)
def test_a_pattern_finds_names_in_any_json_encoding(tmp_path: Path, notices: list[str], name: str) -> None:
    ours = line("file_done", NOON, file=name, parcel=P)
    shipped = json.dumps(json.loads(ours), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    (tmp_path / "w.log").write_bytes(done(1) + ours + shipped + done(2))
    wanted = LogFilter(file=name)

    found = [record for record in FileSource([tmp_path / "w.log"], notices.append).records(wanted) if wanted.matches(record)]

    assert names(found) == [name, name]


def test_until_includes_its_own_time(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(b"".join(done(n, n / 4) for n in range(12)))
    wanted = LogFilter(until=NOON + 1.25)

    found = [record for record in FileSource([tmp_path / "w.log"], notices.append).records(wanted) if wanted.matches(record)]

    assert names(found) == [f"{n}.pdf" for n in range(6)]


def _arguments(fields: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if key not in ("timestamp", "level", "program", "module", "inbox")}


@pytest.mark.parametrize("name", ["a.pdf", 'quo"te', "back\\slash", "é", "日本", "\\n\\x1b[2J", "a\\xff"])
@pytest.mark.parametrize("count", [1, SEPARATE_SEARCHES_MAX + 1])
def test_a_name_is_found_with_and_without_spaces_in_the_json(tmp_path: Path, notices: list[str], name: str, count: int) -> None:
    ours = line("file_done", NOON, file=name, parcel=P)
    shipped = ours.decode("ascii").replace('": ', '":').encode()
    (tmp_path / "w.log").write_bytes(done(1) + ours + shipped + done(2))

    found = search(FileSource([tmp_path / "w.log"], notices.append), "file", name, *(f"other {n}" for n in range(count - 1)))

    assert names(found) == [name, name]


def test_searches_for_one_value_and_for_many_find_the_same_records(tmp_path: Path, notices: list[str]) -> None:
    lines = list(long_log(500))
    (tmp_path / "w.log").write_bytes(b"".join(line(**{**_arguments(fields), "at": NOON}) for fields in lines))  # type: ignore[arg-type]
    parcels = sorted({str(fields["parcel"]) for fields in lines})
    files = FileSource([tmp_path / "w.log"], notices.append)

    many = files.search(("parcel", "out_of"), set(parcels))
    few = [record for value in parcels for record in files.search(("parcel", "out_of"), {value})]

    assert len(parcels) > SEPARATE_SEARCHES_MAX
    assert len(many) == len(lines)
    assert {content(record) for record in few} == {content(record) for record in many}


def content(record: Record) -> str:
    return repr(sorted(record.fields.items()))


def test_a_search_can_be_limited_to_lines_that_name_no_file(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(done(1) + line("parcel_republished", NOON + 2, parcel=parcel(1, NOON)))

    found = FileSource([tmp_path / "w.log"], notices.append).search(("parcel",), {parcel(1, NOON)}, with_files=False)

    assert [record.event for record in found] == ["parcel_republished"]


def test_a_digest_is_found_in_a_handler_s_result(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "w.log").write_bytes(line("file_handled", NOON, file="a", parcel=P, result={"sha256": "5" * 64, "size": 1}))

    assert names(search(FileSource([tmp_path / "w.log"], notices.append), "sha256", "5" * 64)) == ["a"]


class TestFollowing:
    def test_only_whole_lines_are_returned(self, tmp_path: Path) -> None:
        log = tmp_path / "w.log"
        log.write_bytes(b"one\ntw")
        tail = Tail(log, at_end=False)

        first = tail.lines()
        with log.open("ab") as file:
            file.write(b"o\nthree\n")

        assert (first, tail.lines(), tail.lines()) == ([b"one"], [b"two", b"three"], [])

    def test_a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning(self, tmp_path: Path) -> None:
        log = tmp_path / "w.log"
        log.write_bytes(b"one\n")
        tail = Tail(log, at_end=False)
        tail.lines()

        with log.open("ab") as writer:
            log.rename(tmp_path / "w.log.1")
            log.write_bytes(b"three\n")
            writer.write(b"two\n")

        assert tail.lines() == [b"two", b"three"]

    def test_a_renamed_file_is_closed_once_it_is_idle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follow, "RENAMED_IDLE_SECONDS", -1.0)
        log = tmp_path / "w.log"
        log.touch()
        tail = Tail(log, at_end=False)
        before = len(list(Path("/proc/self/fd").iterdir()))

        for number in range(5):
            log.rename(tmp_path / f"w.log.{number}")
            log.write_bytes(b"%d\n" % number)
            assert tail.lines() == [b"%d" % number]

        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @pytest.mark.parametrize("content", [b"1\n", b"another first line, which is longer than all that was there before\n"])
    def test_a_truncated_file_is_read_from_its_beginning(self, tmp_path: Path, content: bytes) -> None:
        log = tmp_path / "w.log"
        log.write_bytes(b"first\nsecond\n")
        tail = Tail(log, at_end=False)
        tail.lines()

        log.write_bytes(content)

        assert tail.lines() == content.splitlines()

    def test_a_file_truncated_before_the_first_read_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        log = tmp_path / "w.log"
        log.write_bytes(b"x\n" * 500)
        tail = Tail(log, at_end=True)

        log.write_bytes(b"one\n")

        assert tail.lines() == [b"one"]

    def test_a_missing_file_is_read_once_it_exists(self, tmp_path: Path) -> None:
        tail = Tail(tmp_path / "w.log", at_end=False)

        before = tail.lines()
        (tmp_path / "w.log").write_bytes(b"one\n")

        assert (before, tail.lines()) == ([], [b"one"])

    @pytest.mark.parametrize("torn", [b"", b"to"])
    def test_a_tail_can_start_after_the_last_whole_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
    ) -> None:
        monkeypatch.setattr(follow, "READ_BYTES", 7)
        log = tmp_path / "w.log"
        log.write_bytes(b"".join(b"%05d\n" % number for number in range(100)) + torn)
        tail = Tail(log, at_end=True)

        with log.open("ab") as file:
            file.write(b"rn\n")

        assert (tail.lines(), tail.lines()) == ([torn + b"rn"], [])
