"""The journal, at the other end of a real socket that takes entries apart as journald does."""

import io
import logging
import os
import socket
import sys
from collections.abc import Iterator

import pytest
import structlog
from support.live.datagrams import JournalSocket

from inboxd.config.settings import Log
from inboxd.logs import events, journald
from inboxd.logs.setup import configure_logging, get_logger

PARCEL = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the process's logging back as it was."""
    known, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**known)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def read() -> Iterator[JournalSocket]:
    with JournalSocket() as box:
        configure_logging(Log(format="journal", level="debug"), program="worker", journal_socket=box.address)
        yield box


def test_each_key_of_a_line_is_a_field_and_the_message_is_for_people(read: JournalSocket) -> None:
    get_logger("inboxd.tasks.outcomes.apply").info(
        events.FILE_DONE, inbox="drop", file=b"x/a.pdf", parcel=PARCEL, attempt=1, sha256="ab", size=7, took_ms=1.5, gone=None
    )

    (entry,) = read.entries()
    assert entry == {
        "MESSAGE": f"file_done drop:x/a.pdf  parcel={PARCEL}  attempt=1  sha256=ab  size=7  took_ms=1.5",
        "MESSAGE_ID": journald.message_id("file_done"), "PRIORITY": "6", "SYSLOG_IDENTIFIER": "inboxd-worker",
        "EVENT": "file_done", "PROGRAM": "worker", "MODULE": "inboxd.tasks.outcomes.apply", "INBOX": "drop", "FILE": "x/a.pdf",
        "PARCEL": PARCEL, "ATTEMPT": "1", "SHA256": "ab", "SIZE": "7", "TOOK_MS": "1.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_a_level_is_a_priority(read: JournalSocket, level: str, priority: str) -> None:
    getattr(get_logger("m"), level)(events.STARTED)
    getattr(logging.getLogger("celery"), level)("theirs")

    assert [entry["PRIORITY"] for entry in read.entries()] == [priority, priority]


def test_a_hostile_name_is_one_escaped_line_and_forges_no_field(read: JournalSocket) -> None:
    hostile = b'x\n{"event":"file_done"}\nPRIORITY=0\x1b[2J\xff.pdf'

    get_logger("m").info(events.FILE_CLAIMED, inbox="drop", file=hostile)

    (entry,) = read.entries()
    assert entry["FILE"] == r'x\n{"event":"file_done"}\nPRIORITY=0\x1b[2J\xff.pdf'
    assert entry["MESSAGE"] == f"file_claimed drop:{entry['FILE']}"
    assert (entry["EVENT"], entry["PRIORITY"]) == ("file_claimed", "6")


def test_a_librarys_lines_go_the_same_way_and_are_of_no_kind(read: JournalSocket) -> None:
    extra = {"tries": 3, "a key=\nPRIORITY": 1, "_BOOT_ID": "forged", "PRIORITY": "0", "MESSAGE": "no", "1st": [1], "ß" * 99: 1}

    logging.getLogger("celery").warning("can't reach %s", "redis\x1b", extra=extra)

    (entry,) = read.entries()
    assert (entry["MESSAGE"].split("  ")[0], entry["PRIORITY"], entry["TRIES"]) == ("can't reach redis\\x1b", "4", "3")
    assert (entry["A_KEY__PRIORITY"], entry["BOOT_ID"], entry["ST"]) == ("1", "forged", "[1]")
    assert "MESSAGE_ID" not in entry


def test_a_traceback_is_below_the_message_and_a_field_with_nothing_that_moves_a_cursor(read: JournalSocket) -> None:
    get_logger("m").warning(events.FILE_HANDLED, raised="bad", exc_info=ValueError("\x1b[2J\rall\nis well"))

    (entry,) = read.entries()
    first, *below = entry["MESSAGE"].split("\n")
    assert first == "file_handled  raised=bad"
    assert "\n".join(below) == entry["EXCEPTION"]
    assert below[-2:] == ["ValueError: \\x1b[2J\\rall", "is well"]
    assert all(line.isprintable() for line in below)


@pytest.mark.parametrize("size", [journald.VALUE_BYTES_MAX, journald.VALUE_BYTES_MAX + 1, 10_000_000])
def test_a_value_that_is_too_long_is_cut(read: JournalSocket, size: int) -> None:
    get_logger("m").info(events.FILE_HANDLED, result="ä" * (size // 2), file=b"a")

    (entry,) = read.entries()
    kept, cut, _ = entry["RESULT"].partition(journald.TRUNCATED.decode())
    assert bool(cut) == (size > journald.VALUE_BYTES_MAX + 1)
    assert len(kept.encode()) == min(size // 2 * 2, journald.VALUE_BYTES_MAX)
    assert entry["FILE"] == "a"


def test_an_entry_that_no_datagram_carries_is_cut_until_one_does(read: JournalSocket) -> None:
    get_logger("m").info(events.FILE_HANDLED, file=b"a", **{f"k{number}": "x" * 60_000 for number in range(200)})

    (entry,) = read.entries()
    assert len(entry["K0"]) < 60_000
    assert entry["K199"].endswith("(cut)")
    assert (entry["FILE"], entry["EVENT"]) == ("a", "file_handled")


def test_a_journal_that_comes_back_is_written_to_again_and_the_rest_goes_to_stderr(
    read: JournalSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logging(Log(format="journal"), program="worker", journal_socket=read.address)

    get_logger("m").info(events.STARTED)
    read.close()
    get_logger("m").error(events.BROKER_UNAVAILABLE, error="gone\nfishing")
    read.open()
    get_logger("m").info(events.BROKER_AVAILABLE)

    assert stderr.getvalue() == "<3>broker_unavailable  error=gone\\nfishing\n"
    assert [entry["EVENT"] for entry in read.entries()] == ["broker_available"]


def test_a_child_process_writes_to_it_too(read: JournalSocket) -> None:
    get_logger("m").info(events.STARTED)
    if (child := os.fork()) == 0:
        get_logger("m").info(events.STOPPED)
        os._exit(0)
    os.waitpid(child, 0)

    assert [entry["EVENT"] for entry in read.entries()] == ["started", "stopped"]


@pytest.mark.parametrize(
    ("stream", "shape"), [("{dev}:{ino}", "journal"), ("{dev}:1{ino}", "json"), ("", "json"), (None, "json")]
)
def test_auto_is_the_journal_where_stderr_is_its_stream(
    monkeypatch: pytest.MonkeyPatch, stream: str | None, shape: str
) -> None:
    ours, theirs = socket.socketpair()
    with JournalSocket() as box, ours, theirs, os.fdopen(os.dup(ours.fileno()), "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        look = os.fstat(stderr.fileno())
        environment = {} if stream is None else {"JOURNAL_STREAM": stream.format(dev=look.st_dev, ino=look.st_ino)}
        configure_logging(Log(), program="beat", environment=environment, journal_socket=box.address)
        get_logger("m").info(events.STARTED)
        stderr.flush()
        theirs.settimeout(0)

        entries = box.entries()
        written = b"" if entries else theirs.recv(1000)

    assert [entry["SYSLOG_IDENTIFIER"] for entry in entries] == (["inboxd-beat"] if shape == "journal" else [])
    assert (b'"event": "started"' in written) == (shape == "json")


@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_shape_that_is_asked_for_is_not_changed_by_the_journal(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    with JournalSocket() as box, os.fdopen(os.open("/dev/null", os.O_WRONLY), "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        look = os.fstat(stderr.fileno())
        environment = {"JOURNAL_STREAM": f"{look.st_dev}:{look.st_ino}"}
        configure_logging(Log(format=shape), program="beat", environment=environment, journal_socket=box.address)
        get_logger("m").info(events.STARTED)

        assert box.entries() == []


def test_a_stderr_that_is_no_file_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)

    configure_logging(Log(), program="beat", environment={"JOURNAL_STREAM": "1:2"})
    get_logger("m").info(events.STARTED)

    assert '"event": "started"' in told.getvalue()


def test_the_ids_of_kinds_stay_what_they_are() -> None:
    ids = {event: journald.message_id(event) for event in events.EVENTS}

    assert ids["file_done"] == "b640e775c9cf5eecb0ef33e94f721ebc"
    assert ids["file_failed"] == "515cb1ccb1a758c0946a797ab388d7db"
    assert len(set(ids.values())) == len(ids) == len(events.EVENTS)
