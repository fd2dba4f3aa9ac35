"""The collector: lines of real child processes reach the file and the terminal, whole, and to the last one."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inboxd.console.up import log_file
from inboxd.console.up.child_process import spawn
from inboxd.console.up.collector import Collector
from inboxd.console.up.log_file import LogFile
from inboxd.logs import events

WRITER = """
import os, sys
from inboxd.config.tables import Log
from inboxd.logs.logger import get_logger
from inboxd.logs.setup import configure_logging
os.fork()  # two processes share the pipe, as in a worker's pool
configure_logging(Log(format="console"), program="worker", environment=os.environ)
log, me = get_logger("inboxd.test"), str(os.getpid())
for number in range(int(sys.argv[1])):
    log.info("handler_output", me=me, number=number, text=me * int(sys.argv[2]))
"""


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)


@contextmanager
def collecting(path: Path | None, show: Callable[[bytes], None]) -> Iterator[Collector]:
    file = LogFile(path, 100_000_000, 1) if path else None
    if file:
        file.open()
    collector = Collector(file, show)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
        if file:
            file.close()


def print_line(collector: Collector, text: str) -> None:
    spawn([sys.executable, "-c", f"print({text!r}, end='')"], open_output=collector.open_output).wait()


@pytest.mark.live
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("count", "length"), [(3000, 1), (200, 5000)], ids=["short lines", "long lines"])
def test_the_lines_of_processes_that_share_a_pipe_are_whole_and_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, length: int, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    shown: list[bytes] = []

    with collecting(tmp_path / "a.log", shown.append) as collector:
        children = [
            spawn([sys.executable, "-c", WRITER, str(count), str(length)], open_output=collector.open_output) for _ in range(2)
        ]
        codes = [child.wait() for child in children]
        eventually(lambda: sum(block.count(b"\n") for block in shown) >= 4 * count)

    records = [json.loads(line) for line in (tmp_path / "a.log").read_bytes().splitlines()]
    assert codes == [0, 0]
    assert b"".join(shown) == (tmp_path / "a.log").read_bytes()
    assert all(record["text"] == record["me"] * length for record in records)
    numbers = {me: [record["number"] for record in records if record["me"] == me] for me in {r["me"] for r in records}}
    assert list(numbers.values()) == [list(range(count))] * 4


def test_a_last_line_without_an_end_is_kept(tmp_path: Path) -> None:
    with collecting(tmp_path / "a.log", lambda _: None) as collector:
        print_line(collector, "no end")

    assert (tmp_path / "a.log").read_bytes() == b"no end\n"


def test_at_the_stop_a_pipe_that_a_stranger_holds_open_is_not_waited_for(tmp_path: Path) -> None:
    with collecting(tmp_path / "a.log", lambda _: None) as collector:
        with collector.open_output() as pipe:
            strange = os.dup(pipe.fd)
        os.write(strange, b"line\nand half a one")

    os.close(strange)
    assert (tmp_path / "a.log").read_bytes() == b"line\nand half a one\n"


def test_what_can_not_be_shown_is_still_written_to_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(_lines: bytes) -> None:
        raise RuntimeError("no terminal")

    with collecting(tmp_path / "a.log", fail) as collector:
        print_line(collector, "one\n")
        print_line(collector, "two\n")

    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"
    assert "no terminal" in capfd.readouterr().err


def test_an_unwritable_file_is_told_once_on_the_terminal_and_its_end_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(log_file, "RETRY_SECONDS", 0.0)
    (tmp_path / "logs").write_text("in the way")
    shown: list[bytes] = []

    with collecting(tmp_path / "logs" / "a.log", shown.append) as collector:
        for text in ("one\n", "two\n"):
            print_line(collector, text)
            eventually(lambda text=text: text.encode() in b"".join(shown))
        (tmp_path / "logs").unlink()
        print_line(collector, "three\n")

    lines = b"".join(shown).splitlines()
    told = [json.loads(line) for line in lines if line.startswith(b"{")]
    assert [line for line in lines if not line.startswith(b"{")] == [b"one", b"two", b"three"]
    assert [record["event"] for record in told] == [events.LOG_FILE_UNAVAILABLE, events.LOG_FILE_AVAILABLE]
    assert told[1]["lost_lines"] == 2
    assert (tmp_path / "logs" / "a.log").read_bytes().startswith(b"three\n")


def test_lines_of_several_programs_that_arrive_together_are_in_order_of_time(tmp_path: Path) -> None:
    def line(second: int) -> bytes:
        return b'{"timestamp": "2026-11-30T12:00:%02d.000001Z", "event": "x"}\n' % second

    file = LogFile(tmp_path / "a.log", 1000, 1)
    file.open()
    collector = Collector(file, lambda _: None)
    with collector.open_output() as first, collector.open_output() as second:
        os.write(first.fd, line(2) + line(4))
        os.write(second.fd, line(1) + line(3))
    collector.start()
    collector.stop()

    assert (tmp_path / "a.log").read_bytes() == b"".join(map(line, (1, 2, 3, 4)))
    file.close()
