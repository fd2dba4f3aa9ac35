"""The journal's entries, received on a real socket and parsed as journald does."""

import io
import logging
import os
import socket
import sys
from collections.abc import Iterator

import pytest
import structlog
from support.live.datagrams import JournalSocket

from inboxd.config.tables import Log
from inboxd.logs import events, journald
from inboxd.logs.logger import get_logger
from inboxd.logs.setup import configure_logging

PARCEL = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Restore the process's logging configuration after each test."""
    config, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**config)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def journal() -> Iterator[JournalSocket]:
    with JournalSocket() as listener:
        configure_logging(Log(format="journal", level="debug"), program="worker", journal_socket=listener.address)
        yield listener


def test_each_key_of_an_event_is_a_field_and_the_message_has_all_of_them(journal: JournalSocket) -> None:
    get_logger("inboxd.tasks.outcomes.apply").info(
        events.FILE_DONE, inbox="drop", file=b"x/a.pdf", parcel=PARCEL, attempt=1, sha256="ab", size=7, took_ms=1.5, gone=None
    )

    (entry,) = journal.entries()
    assert entry == {
        "MESSAGE": f"file_done drop:x/a.pdf  parcel={PARCEL}  attempt=1  sha256=ab  size=7  took_ms=1.5",
        "MESSAGE_ID": journald.message_id("file_done"), "PRIORITY": "6", "SYSLOG_IDENTIFIER": "inboxd-worker",
        "EVENT": "file_done", "PROGRAM": "worker", "MODULE": "inboxd.tasks.outcomes.apply", "INBOX": "drop", "FILE": "x/a.pdf",
        "PARCEL": PARCEL, "ATTEMPT": "1", "SHA256": "ab", "SIZE": "7", "TOOK_MS": "1.5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_a_level_becomes_a_priority(journal: JournalSocket, level: str, priority: str) -> None:
    getattr(get_logger("m"), level)(events.STARTED)
    getattr(logging.getLogger("celery"), level)("theirs")

    assert [entry["PRIORITY"] for entry in journal.entries()] == [priority, priority]


def test_a_hostile_file_name_is_escaped_and_adds_no_field(journal: JournalSocket) -> None:
    hostile = b'x\n{"event":"file_done"}\nPRIORITY=0\x1b[2J\xff.pdf'

    get_logger("m").info(events.FILE_CLAIMED, inbox="drop", file=hostile)

    (entry,) = journal.entries()
    assert entry["FILE"] == r'x\n{"event":"file_done"}\nPRIORITY=0\x1b[2J\xff.pdf'
    assert entry["MESSAGE"] == f"file_claimed drop:{entry['FILE']}"
    assert (entry["EVENT"], entry["PRIORITY"]) == ("file_claimed", "6")


def test_a_librarys_record_is_an_entry_without_a_message_id(journal: JournalSocket) -> None:
    extra = {"tries": 3, "a key=\nPRIORITY": 1, "_BOOT_ID": "forged", "PRIORITY": "0", "MESSAGE": "no", "1st": [1], "ß" * 99: 1}

    logging.getLogger("celery").warning("can't reach %s", "redis\x1b", extra=extra)

    (entry,) = journal.entries()
    assert (entry["MESSAGE"].split("  ")[0], entry["PRIORITY"], entry["TRIES"]) == ("can't reach redis\\x1b", "4", "3")
    assert (entry["A_KEY__PRIORITY"], entry["BOOT_ID"], entry["ST"]) == ("1", "forged", "[1]")
    assert "MESSAGE_ID" not in entry


def test_a_traceback_is_escaped_and_is_part_of_the_message_and_a_field(journal: JournalSocket) -> None:
    get_logger("m").warning(events.FILE_HANDLED, raised="bad", exc_info=ValueError("\x1b[2J\rall\nis well"))

    (entry,) = journal.entries()
    first, *traceback = entry["MESSAGE"].split("\n")
    assert first == "file_handled  raised=bad"
    assert "\n".join(traceback) == entry["EXCEPTION"]
    assert traceback[-2:] == ["ValueError: \\x1b[2J\\rall", "is well"]
    assert all(line.isprintable() for line in traceback)


@pytest.mark.parametrize("size", [journald.VALUE_BYTES_MAX, journald.VALUE_BYTES_MAX + 1, 10_000_000])
def test_a_value_that_is_too_long_is_truncated(journal: JournalSocket, size: int) -> None:
    get_logger("m").info(events.FILE_HANDLED, result="ä" * (size // 2), file=b"a")

    (entry,) = journal.entries()
    kept, mark, _ = entry["RESULT"].partition(journald.TRUNCATED.decode())
    assert bool(mark) == (size > journald.VALUE_BYTES_MAX + 1)
    assert len(kept.encode()) == min(size // 2 * 2, journald.VALUE_BYTES_MAX)
    assert entry["FILE"] == "a"


def test_the_values_of_a_too_large_entry_are_truncated_until_it_fits_a_datagram(journal: JournalSocket) -> None:
    get_logger("m").info(events.FILE_HANDLED, file=b"a", **{f"k{number}": "x" * 60_000 for number in range(200)})

    (entry,) = journal.entries()
    assert len(entry["K0"]) < 60_000
    assert entry["K199"].endswith("(truncated)")
    assert (entry["FILE"], entry["EVENT"]) == ("a", "file_handled")


def test_events_go_to_stderr_while_the_journal_is_down(journal: JournalSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logging(Log(format="journal"), program="worker", journal_socket=journal.address)

    get_logger("m").info(events.STARTED)
    journal.close()
    get_logger("m").error(events.BROKER_UNAVAILABLE, error="gone\nfishing")
    journal.open()
    get_logger("m").info(events.BROKER_AVAILABLE)

    assert stderr.getvalue() == "<3>broker_unavailable  error=gone\\nfishing\n"
    assert [entry["EVENT"] for entry in journal.entries()] == ["broker_available"]


def test_a_forked_process_writes_to_the_journal(journal: JournalSocket) -> None:
    get_logger("m").info(events.STARTED)
    if (child := os.fork()) == 0:
        get_logger("m").info(events.STOPPED)
        os._exit(0)
    os.waitpid(child, 0)

    assert [entry["EVENT"] for entry in journal.entries()] == ["started", "stopped"]


@pytest.mark.parametrize(
    ("stream", "line_format"), [("{dev}:{ino}", "journal"), ("{dev}:1{ino}", "json"), ("", "json"), (None, "json")]
)
def test_auto_chooses_the_journal_if_stderr_is_its_stream(
    monkeypatch: pytest.MonkeyPatch, stream: str | None, line_format: str
) -> None:
    writer, reader = socket.socketpair()
    with JournalSocket() as journal, writer, reader, os.fdopen(os.dup(writer.fileno()), "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        stat = os.fstat(stderr.fileno())
        environment = {} if stream is None else {"JOURNAL_STREAM": stream.format(dev=stat.st_dev, ino=stat.st_ino)}
        configure_logging(Log(), program="beat", environment=environment, journal_socket=journal.address)
        get_logger("m").info(events.STARTED)
        stderr.flush()
        reader.settimeout(0)

        entries = journal.entries()
        written = b"" if entries else reader.recv(1000)

    assert [entry["SYSLOG_IDENTIFIER"] for entry in entries] == (["inboxd-beat"] if line_format == "journal" else [])
    assert (b'"event": "started"' in written) == (line_format == "json")


@pytest.mark.parametrize("line_format", ["json", "console"])
def test_a_configured_format_is_used_even_if_stderr_is_the_journals_stream(
    monkeypatch: pytest.MonkeyPatch, line_format: str
) -> None:
    with JournalSocket() as journal, os.fdopen(os.open("/dev/null", os.O_WRONLY), "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        stat = os.fstat(stderr.fileno())
        environment = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        configure_logging(Log(format=line_format), program="beat", environment=environment, journal_socket=journal.address)
        get_logger("m").info(events.STARTED)

        assert journal.entries() == []


def test_auto_chooses_json_if_stderr_is_not_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)

    configure_logging(Log(), program="beat", environment={"JOURNAL_STREAM": "1:2"})
    get_logger("m").info(events.STARTED)

    assert '"event": "started"' in stderr.getvalue()


def test_message_ids_are_constant_and_unique() -> None:
    ids = {event: journald.message_id(event) for event in events.EVENTS}

    assert ids["file_done"] == "b640e775c9cf5eecb0ef33e94f721ebc"
    assert ids["file_failed"] == "515cb1ccb1a758c0946a797ab388d7db"
    assert len(set(ids.values())) == len(ids) == len(events.EVENTS)
