"""`inboxd log` and `inboxd trace` on a journal that a real journald has written."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live.journald import Journald, entry
from support.live.log_lines import NOON, parcel, table

from inboxd.console.logs.journalctl import JournalSource, is_trusted, to_record
from inboxd.console.logs.records import LogFilter, Record
from inboxd.console.trace.question import parse_queries, run_queries

pytestmark = pytest.mark.live

P, Q = parcel(1, NOON), parcel(2, NOON)
SHA = "5" * 64
HOSTILE = 'x\\n{"event":"file_done"}\\x1b[2J.pdf'

LINES = [
    table("file_claimed", NOON, file="a.pdf", parcel=P, size=7, sha256=SHA, found_by="event"),
    table("file_claimed", NOON, file="1.0", parcel=P, size=7, sha256=None),
    table("file_claimed", NOON, file=HOSTILE, parcel=P),
    table("parcel_crashed", NOON, parcel=P, files=3, crashes=1),
    table("parcel_split", NOON, file="a.pdf", parcel=Q, out_of=P, why="ValueError: bad"),
    table("parcel_sent", NOON, parcel=Q, files=1),
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
        started.send({"MESSAGE": b"no line of ours \xff\n\x1b[2J", "SYSLOG_IDENTIFIER": b"inboxd-beat", "PRIORITY": b"4"})
        started.sync()
        yield started


@pytest.fixture
def journal(journald: Journald) -> JournalSource:
    return JournalSource(journald.folder)


def events(records: list[Record]) -> list[str]:
    return [record.event for record in records]


def shown(journal: JournalSource, **wishes: object) -> list[Record]:
    wanted = LogFilter(**wishes)  # type: ignore[arg-type]
    return [record for record in journal.records(wanted) if wanted.matches(record)]


def test_an_entry_has_the_keys_and_values_of_its_line(journal: JournalSource) -> None:
    records = shown(journal)[: len(LINES)]

    for record, line in zip(records, LINES, strict=True):
        kept = {key: value for key, value in line.items() if key not in ("timestamp", "reason")}
        assert {key: record.fields.get(key) for key in kept} == kept
        assert record.is_ours
    assert records[7].fields["reason"] == "two\\nlines"


def test_other_programs_entries_are_passed_over_and_captured_lines_read(journal: JournalSource) -> None:
    records = shown(journal)

    assert len(records) == len(LINES) + 2
    assert records[-2].text("file") == "captured"
    assert (records[-1].event, records[-1].text("level")) == ("no line of ours \\xff\\n\\x1b[2J", "warning")


@pytest.mark.parametrize(
    ("wishes", "count"),
    [
        ({"parcel": Q}, 4), ({"parcel": P}, 5), ({"outcomes": ("failed",)}, 1), ({"outcomes": ("retried",)}, 1),
        ({"inbox": "other"}, 0), ({"file": "*.pdf"}, 5), ({"parcel": P, "outcomes": ("retried",)}, 1), ({"since": NOON * 2}, 0),
    ],
)  # fmt: skip
def test_only_what_was_asked_for_is_shown(journal: JournalSource, wishes: dict[str, object], count: int) -> None:
    assert len(shown(journal, **wishes)) == count


@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.parametrize("wishes", [{}, {"file": "*.pdf"}, {"parcel": P}])
def test_the_last_entries_are_those_that_reading_them_all_would_have_shown_last(
    journal: JournalSource, wishes: dict[str, object], count: int
) -> None:
    wanted = LogFilter(**wishes)  # type: ignore[arg-type]

    found = journal.last(wanted, count)

    assert [record.fields for record in found] == [record.fields for record in shown(journal, **wishes)][-count:]
    assert found


def test_until_ends_with_that_moment(journal: JournalSource) -> None:
    everything = shown(journal)
    until = everything[2].at

    found = shown(journal, until=until)

    assert [r.fields for r in found] == [r.fields for r in everything if r.at <= until]
    assert 3 <= len(found) < len(LINES)


@pytest.mark.parametrize("asked", ["a.pdf", Q, SHA, "a (2).pdf"])
def test_a_file_s_life_is_told_across_its_parcels(journal: JournalSource, asked: str) -> None:
    (life,) = run_queries(journal, parse_queries(asked, {}, Path("/")))

    assert events(life.steps) == [
        "file_claimed", "parcel_crashed", "parcel_split", "parcel_sent", "file_handled", "file_failed",
    ]  # fmt: skip
    assert (life.parcels, life.outcome) == ([P, Q], "failed")


@pytest.mark.parametrize("asked", ["1.0", HOSTILE])
def test_names_that_look_like_something_else_stay_names(journal: JournalSource, asked: str) -> None:
    assert [life.file for life in run_queries(journal, parse_queries(asked, {}, Path("/")))] == [asked]


def test_the_commands_read_it(journald: Journald) -> None:
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


def test_the_audit_goes_by_it(journald: Journald, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[inbox.drop]\nroot = "drop"\n')
    for folder in ("inbox", "claimed", "done", "failed"):
        (tmp_path / "drop" / folder).mkdir(parents=True)
    (tmp_path / "drop" / "done" / "1.0").write_bytes(b"7 bytes")
    argv = [sys.executable, "-m", "inboxd", "audit", "--journal", journald.folder, "--settings", tmp_path / "settings.toml"]

    plainly = subprocess.run(argv, capture_output=True, text=True, check=False)
    in_json = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False)

    first, *named, by = plainly.stdout.splitlines()
    told = json.loads(in_json.stdout)
    assert (plainly.returncode, in_json.returncode, plainly.stderr) == (1, 1, "")
    assert first == "4 arrived = 1 done + 1 failed + 0 in flight + 2 unaccounted for"
    assert {line for line in named if line.startswith("!")} == {f"! drop: {HOSTILE}", "! drop: captured"}
    assert by.endswith(f"in the systemd journal in {journald.folder}")
    assert {(entry["file"], entry["parcel"]) for entry in told["unaccounted"]} == {(HOSTILE, P), ("captured", P)}
    assert told["log"]["lines"] == len(LINES)


def test_following_shows_the_last_entries_and_then_each_as_it_comes(journald: Journald) -> None:
    argv = [
        sys.executable,
        "-u",
        "-m",
        "inboxd",
        "log",
        "-f",
        "--json",
        "--outcome",
        "failed",
        "--journal",
        str(journald.folder),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
            journald.tell([table("file_failed", NOON, file="new.pdf", parcel=P, filed="new.pdf")])
            second = json.loads(process.stdout.readline())
        finally:
            process.terminate()

    assert (first["file"], second["file"]) == ("a.pdf", "new.pdf")


def test_following_since_a_moment_shows_all_since_then(journald: Journald) -> None:
    argv = [sys.executable, "-u", "-m", "inboxd", "log", "-f", "--json", "--since", "1h", "--journal", str(journald.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())
        finally:
            process.terminate()

    assert (first["event"], first["file"]) == ("file_claimed", "a.pdf"), "journalctl would begin ten entries before the end"


def test_what_is_sent_under_our_name_is_shown_only_if_root_or_oneself_has_sent_it(
    journald: Journald, journal: JournalSource
) -> None:
    told = (
        "MESSAGE=forged",
        "EVENT=file_done",
        "MODULE=inboxd.tasks.outcomes.apply",
        "FILE=forged",
        "SYSLOG_IDENTIFIER=inboxd-worker",
        "",
    )
    forged = "\n".join(told).encode()
    sender = 65534 if os.geteuid() == 0 else os.geteuid()  # who is not root can't be another
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(sys.argv[1]); "
        "os.setuid(int(sys.argv[2])); s.send(sys.stdin.buffer.read())"
    )

    subprocess.run([sys.executable, "-c", code, journald.address, str(sender)], input=forged, check=True)
    journald.sync()

    kept = ["journalctl", f"--directory={journald.folder}", "--output=cat", "--quiet", "FILE=forged"]
    assert subprocess.run(kept, capture_output=True, check=True).stdout == b"forged\n"
    assert bool(journal.search(("file",), {"forged"})) is (sender == os.getuid())


@pytest.mark.parametrize(
    ("entry_", "trusted"),
    [
        ({"_UID": "0"}, True),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "inboxd-worker.service"}, True),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "session-3.scope"}, False),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "user@987654.service"}, False),
        ({"_UID": "987654"}, False),
        ({}, False),
    ],
)
def test_another_user_s_entry_under_our_name_is_not_believed(entry_: dict[str, str], trusted: bool) -> None:
    assert is_trusted(entry_) is trusted


@pytest.mark.parametrize("broken", [{}, {"MESSAGE": None}, {"MESSAGE": "x", "__REALTIME_TIMESTAMP": "soon"}])
def test_an_entry_without_a_time_is_passed_over(broken: dict[str, object]) -> None:
    assert to_record(broken) is None
