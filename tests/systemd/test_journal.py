"""`inboxd log`, `trace` and `audit` on a journal that a real journald has written."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live.journald import Journald, entry
from support.live.log_lines import NOON, parcel, table

from inboxd.console.log_reading.journalctl import JournalSource
from inboxd.console.log_reading.records import LogFilter, Record
from inboxd.console.trace.query import parse_queries, run_queries

pytestmark = pytest.mark.systemd

P, Q = parcel(1, NOON), parcel(2, NOON)
SHA = "5" * 64
HOSTILE = 'x\\n{"event":"file_done"}\\x1b[2J.pdf'

LINES = [
    table("file_claimed", NOON, file="a.pdf", parcel=P, size=7, sha256=SHA, found_by="event"),
    table("file_claimed", NOON, file="1.0", parcel=P, size=7, sha256=None),
    table("file_claimed", NOON, file=HOSTILE, parcel=P),
    table("parcel_crashed", NOON, parcel=P, files=3, crashes=1),
    table("parcel_split", NOON, file="a.pdf", parcel=Q, out_of=P, why="ValueError: bad"),
    table("parcel_republished", NOON, parcel=Q, files=1),
    table("file_handled", NOON, file="a.pdf", parcel=Q, attempt=2, took_ms=4.5, result={"n": 1}),
    table("file_failed", NOON, file="a.pdf", parcel=Q, filed="a (2).pdf", reason="two\nlines"),
    table("sweep_done", NOON, crashed=1),
]


@pytest.fixture(scope="module")
def journald(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journald]:
    with Journald(tmp_path_factory.mktemp("journal")) as started:
        started.tell(LINES)
        started.send({**entry(LINES[0]), "SYSLOG_IDENTIFIER": b"somebody"})
        started.send({"MESSAGE": json.dumps(LINES[0] | {"file": "captured"}).encode(), "SYSLOG_IDENTIFIER": b"inboxd-beat"})
        started.send({"MESSAGE": b"not our line \xff\n\x1b[2J", "SYSLOG_IDENTIFIER": b"inboxd-beat", "PRIORITY": b"4"})
        started.sync()
        yield started


@pytest.fixture
def journal(journald: Journald) -> JournalSource:
    return JournalSource(journald.folder)


def events(records: list[Record]) -> list[str]:
    return [record.event for record in records]


def read(journal: JournalSource, **options: object) -> list[Record]:
    log_filter = LogFilter(**options)  # type: ignore[arg-type]
    return [record for record in journal.records(log_filter) if log_filter.matches(record)]


def test_a_record_has_the_keys_and_values_of_its_log_line(journal: JournalSource) -> None:
    records = read(journal)[: len(LINES)]

    for record, line in zip(records, LINES, strict=True):
        expected = {key: value for key, value in line.items() if key not in ("timestamp", "reason")}
        assert {key: record.fields.get(key) for key in expected} == expected
        assert record.is_from_inboxd
    assert records[7].fields["reason"] == "two\\nlines"


def test_other_programs_entries_are_skipped_and_captured_output_is_read(journal: JournalSource) -> None:
    records = read(journal)

    assert len(records) == len(LINES) + 2
    assert records[-2].text("file") == "captured"
    assert (records[-1].event, records[-1].text("level")) == ("not our line \\xff\\n\\x1b[2J", "warning")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"parcel": Q}, 4), ({"parcel": P}, 5), ({"outcomes": ("failed",)}, 1), ({"outcomes": ("retried",)}, 1),
        ({"inbox": "other"}, 0), ({"file": "*.pdf"}, 5), ({"parcel": P, "outcomes": ("retried",)}, 1), ({"since": NOON * 2}, 0),
    ],
)  # fmt: skip
def test_only_matching_records_are_read(journal: JournalSource, options: dict[str, object], count: int) -> None:
    assert len(read(journal, **options)) == count


@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.parametrize("options", [{}, {"file": "*.pdf"}, {"parcel": P}])
def test_last_returns_the_same_records_as_the_end_of_a_full_read(
    journal: JournalSource, options: dict[str, object], count: int
) -> None:
    log_filter = LogFilter(**options)  # type: ignore[arg-type]

    records = journal.last(log_filter, count)

    assert [record.fields for record in records] == [record.fields for record in read(journal, **options)][-count:]
    assert records


def test_until_includes_records_of_that_time(journal: JournalSource) -> None:
    all_records = read(journal)
    until = all_records[2].at

    records = read(journal, until=until)

    assert [r.fields for r in records] == [r.fields for r in all_records if r.at <= until]
    assert 3 <= len(records) < len(LINES)


@pytest.mark.parametrize("query", ["a.pdf", Q, SHA, "a (2).pdf"])
def test_a_trace_follows_a_file_across_its_parcels(journal: JournalSource, query: str) -> None:
    (life,) = run_queries(journal, parse_queries(query, {}, Path("/")))

    assert events(life.steps) == [
        "file_claimed", "parcel_crashed", "parcel_split", "parcel_republished", "file_handled", "file_failed",
    ]  # fmt: skip
    assert (life.parcels, life.outcome) == ([P, Q], "failed")


@pytest.mark.parametrize("query", ["1.0", HOSTILE])
def test_file_names_that_resemble_numbers_or_log_lines_are_found(journal: JournalSource, query: str) -> None:
    assert [life.file for life in run_queries(journal, parse_queries(query, {}, Path("/")))] == [query]


def test_the_log_and_trace_commands_read_a_journal(journald: Journald) -> None:
    argv = [sys.executable, "-m", "inboxd"]

    log = subprocess.run([*argv, "log", "--journal", journald.folder], capture_output=True, text=True, check=True)
    trace = subprocess.run([*argv, "trace", "a.pdf", "--journal", journald.folder], capture_output=True, text=True, check=True)
    unknown = subprocess.run(
        [*argv, "trace", "b.pdf", "--journal", journald.folder], capture_output=True, text=True, check=False
    )

    assert len(log.stdout.splitlines()) == len(LINES) + 2
    assert all(line.isprintable() for line in log.stdout.splitlines())
    assert "failed     " in trace.stdout
    assert (unknown.returncode, "systemd journal" in unknown.stderr) == (1, True)


def test_the_audit_command_reads_a_journal(journald: Journald, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[inbox.drop]\nroot = "drop"\n')
    for folder in ("inbox", "claimed", "done", "failed"):
        (tmp_path / "drop" / folder).mkdir(parents=True)
    (tmp_path / "drop" / "done" / "1.0").write_bytes(b"7 bytes")
    argv = [sys.executable, "-m", "inboxd", "audit", "--journal", journald.folder, "--settings", tmp_path / "settings.toml"]

    # `make test-systemd` sets variables of its own, which would be unknown settings
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INBOXD_")}
    text = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    in_json = subprocess.run([*argv, "--json"], env=environment, capture_output=True, text=True, check=False)

    first, *lines, source = text.stdout.splitlines()
    report = json.loads(in_json.stdout)
    assert (text.returncode, in_json.returncode, text.stderr) == (1, 1, "")
    assert first == "4 arrived = 1 done + 1 failed + 0 in flight + 2 unaccounted for"
    assert {line for line in lines if line.startswith("!")} == {f"! drop: {HOSTILE}", "! drop: captured"}
    assert source.endswith(f"in the systemd journal in {journald.folder}")
    assert {(entry["file"], entry["parcel"]) for entry in report["unaccounted"]} == {(HOSTILE, P), ("captured", P)}
    assert report["log"]["lines"] == len(LINES)


def test_log_follow_prints_the_last_entries_and_then_each_new_one(journald: Journald) -> None:
    argv = [sys.executable, "-u", "-m", "inboxd", "log", "-f", "--json", "--outcome", "failed", "--journal", journald.folder]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            journald.tell([table("file_failed", NOON, file="new.pdf", parcel=P, filed="new.pdf")])
            second = json.loads(process.stdout.readline())
        finally:
            process.terminate()

    assert (first["file"], second["file"]) == ("a.pdf", "new.pdf")


def test_log_follow_with_since_prints_all_entries_since_then(journald: Journald) -> None:
    argv = [sys.executable, "-u", "-m", "inboxd", "log", "-f", "--json", "--since", "1h", "--journal", str(journald.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
        finally:
            process.terminate()

    assert (first["event"], first["file"]) == ("file_claimed", "a.pdf"), "journalctl would begin ten entries before the end"


def test_an_entry_under_our_name_is_read_only_if_root_or_the_reader_has_sent_it(
    journald: Journald, journal: JournalSource
) -> None:
    lines = (
        "MESSAGE=forged",
        "EVENT=file_done",
        "MODULE=inboxd.tasks.outcomes.apply",
        "FILE=forged",
        "SYSLOG_IDENTIFIER=inboxd-worker",
        "",
    )
    forged = "\n".join(lines).encode()
    sender = 65534 if os.geteuid() == 0 else os.geteuid()  # only root can send as another user
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(sys.argv[1]); "
        "os.setuid(int(sys.argv[2])); s.send(sys.stdin.buffer.read())"
    )

    subprocess.run([sys.executable, "-c", code, journald.address, str(sender)], input=forged, check=True)
    journald.sync()

    argv = ["journalctl", f"--directory={journald.folder}", "--output=cat", "--quiet", "FILE=forged"]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b"forged\n"
    assert bool(journal.search(("file",), {"forged"})) is (sender == os.getuid())
