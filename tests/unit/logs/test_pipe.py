"""Log lines in a shared pipe: long ones are written in parts, and joined again."""

import io
import json
import os
import select
import threading
from pathlib import Path

import pytest

from inboxd.config.loading import LOG_PIPE_VARIABLE
from inboxd.config.tables import Log
from inboxd.logs.logger import get_logger
from inboxd.logs.pipe import UNFINISHED_LINES_MAX, LineJoiner, PipeStream, is_log_pipe, pipe_name, split_line
from inboxd.logs.setup import configure_logging


@pytest.mark.parametrize("length", [1, select.PIPE_BUF, select.PIPE_BUF * 3, 100_001])
def test_the_parts_of_a_line_are_written_in_one_piece_each_and_make_the_line_again(length: int) -> None:
    line = bytes(97 + n % 26 for n in range(length))

    parts = list(split_line(line))

    assert max(map(len, parts)) <= select.PIPE_BUF
    assert LineJoiner().join(b"".join(parts)) == line + b"\n"


def test_parts_of_several_lines_may_be_mixed_and_come_in_several_blocks() -> None:
    first, second = list(split_line(b"a" * 9000)), list(split_line(b"b" * 9000))
    joiner = LineJoiner()

    blocks = [
        joiner.join(first[0] + second[0] + b"short\n" + second[1]),
        joiner.join(first[1] + first[2]),
        joiner.join(second[2]),
    ]

    assert blocks == [b"short\n", b"a" * 9000 + b"\n", b"b" * 9000 + b"\n"]


def test_what_has_come_of_an_unfinished_line_is_kept() -> None:
    joiner = LineJoiner()
    parts = list(split_line(b"a" * 9000))

    assert joiner.join(parts[0]) == b""
    assert set(joiner.unfinished()) == set(b"a\n")
    assert joiner.unfinished() == b""


def test_unfinished_lines_are_given_up_when_there_are_many() -> None:
    joiner = LineJoiner()

    given_up = b"".join(joiner.join(next(split_line(b"%05d" % n * 1000))) for n in range(UNFINISHED_LINES_MAX + 1))

    assert given_up.startswith(b"00000")
    assert given_up.endswith(b"\n")


@pytest.mark.parametrize("line", [b"\x1e\n", b"\x1e12345678?x\n", b"no part \x1e12345678+\n", b"\x1e12345678+x"])
def test_a_line_that_only_looks_like_a_part_is_unchanged(line: bytes) -> None:
    assert LineJoiner().join(line) == line


def test_threads_that_write_long_lines_to_a_full_pipe_tear_none() -> None:
    reader, writer = os.pipe()
    raw = io.FileIO(writer, "w")
    stream = PipeStream(raw)
    texts = [json.dumps({"writer": n, "text": str(n) * 30_000}) + "\n" for n in range(4)]
    threads = [threading.Thread(target=lambda text=text: [stream.write(text) for _ in range(10)]) for text in texts]

    for thread in threads:
        thread.start()
    data = bytearray()
    while any(thread.is_alive() for thread in threads):
        if select.select([reader], [], [], 0.05)[0]:
            data += os.read(reader, 1000)
    raw.close()
    while rest := os.read(reader, 100_000):
        data += rest
    os.close(reader)
    lines = LineJoiner().join(bytes(data)).decode().splitlines(keepends=True)

    assert sorted(lines) == sorted(texts * 10)


def test_without_a_reader_a_line_is_lost_and_nothing_is_raised() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    with io.FileIO(writer, "w") as raw:
        assert PipeStream(raw).write("line\n") == 5


def test_only_the_pipe_that_the_variable_names_gets_lines_in_parts() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        status = os.fstat(writer)
        named = {LOG_PIPE_VARIABLE: pipe_name(status.st_dev, status.st_ino)}

        assert is_log_pipe(stream, named)
        with Path(os.devnull).open("w") as other:
            assert not is_log_pipe(other, named)
        assert not is_log_pipe(stream, {})
    os.close(reader)


def test_in_the_pipe_the_format_is_json_whatever_the_settings_say() -> None:
    reader, writer = os.pipe()
    status = os.fstat(writer)
    environment = {LOG_PIPE_VARIABLE: pipe_name(status.st_dev, status.st_ino)}
    with os.fdopen(writer, "w") as stream:
        configure_logging(Log(format="console"), program="worker", environment=environment, stream=stream)
        get_logger("inboxd.test").info("file_done", reason="r" * 5000)

    with os.fdopen(reader, "rb") as file:
        record = json.loads(LineJoiner().join(file.read()))
    assert (record["event"], record["reason"]) == ("file_done", "r" * 5000)
