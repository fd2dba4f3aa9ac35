"""`inboxd audit`: every file is accounted for, whichever lines are missing; a file that is in no folder is listed."""

import gzip
import hashlib
import json
import lzma
import os
import random
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.disk.failed_files import drop_and_fail
from support.disk.spools import Spool

from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.console.audit.audit import AuditReport, audit
from inboxd.console.log_reading.records import from_fields
from inboxd.console.main import cli
from inboxd.console.times import format_iso
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.text import escape
from inboxd.service import preflight
from inboxd.spool.filing import move_to_done
from inboxd.spool.layout import new_parcel_id

HOSTILE = b'x\n{"event":"file_done"}\x1b[2J\xff.pdf'
P, Q, R = (new_parcel_id(1_000_000.0 + number) for number in range(3))

Line = dict[str, Any]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    preflight.create_folders(load_settings(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INBOXD_SETTINGS", str(tmp_path / "settings.toml"))  # for root, the current folder does not count
    return path


@pytest.fixture
def settings(file: Path) -> Settings:
    return load_settings(file)


@pytest.fixture
def spool(file: Path) -> Spool:
    return Spool(file.parent / "drop")


def line(event: str, path: bytes | None, parcel: str, **more: object) -> Line:
    """Return a log line with the current time."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    file = {} if path is None else {"file": escape(path)}
    return {"timestamp": now, "event": event, "module": "inboxd.x", "inbox": "drop", "parcel": parcel, **file, **more}


def claimed(path: bytes, parcel: str, content: bytes = b"content") -> Line:
    return line(events.FILE_CLAIMED, path, parcel, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def done(path: bytes, parcel: str, filed: bytes | None = None) -> Line:
    return line(events.FILE_DONE, path, parcel, filed=escape(filed or path))


def totals(report: AuditReport) -> tuple[int, int, int, int, int]:
    return report.arrivals, report.done, report.failed, report.in_flight, len(report.unaccounted)


def audit_lines(settings: Settings, lines: Iterable[Line]) -> AuditReport:
    return audit(settings, [record for line in lines if (record := from_fields(line))])


def audit_totals(settings: Settings, *lines: Line) -> tuple[int, int, int, int, int]:
    return totals(audit_lines(settings, lines))


def test_a_done_file_is_accounted_for_wherever_it_is_now(settings: Settings) -> None:
    assert audit_totals(settings, claimed(b"a", P), done(b"a", P)) == (1, 1, 0, 0, 0)


def test_refused_files_count_as_failed_and_need_no_line_about_a_claim(settings: Settings) -> None:
    failed = [
        claimed(b"a", P),
        line(events.FILE_FAILED, b"a", P, filed="a"),
        line(events.FILE_REFUSED, b"link", Q, filed="link"),
    ]

    report = audit_lines(settings, failed)

    assert (totals(report), report.refused) == ((2, 0, 2, 0, 0), 1)


def test_files_in_claimed_are_in_flight(settings: Settings, spool: Spool) -> None:
    parcel = spool.claimed(b"x/a", HOSTILE)

    assert audit_totals(settings, claimed(b"x/a", parcel), claimed(HOSTILE, parcel)) == (2, 0, 0, 2, 0)


def test_a_released_file_is_no_arrival(settings: Settings) -> None:
    report = audit_lines(settings, [claimed(b"a", P), line(events.FILE_RELEASED, b"a", P), claimed(b"a", Q), done(b"a", Q)])

    assert (totals(report), report.released) == ((1, 1, 0, 0, 0), 1)


def test_a_file_in_no_folder_is_listed_with_its_last_step(settings: Settings) -> None:
    lines = [claimed(b"x/a", P), claimed(b"x/b", P), line(events.FILE_HANDLED, b"x/a", P), done(b"x/b", P)]

    report = audit_lines(settings, lines)

    (entry,) = report.unaccounted
    assert (entry.position.file, entry.position.parcel, entry.last_step.event) == ("x/a", P, events.FILE_HANDLED)
    assert format_iso(entry.last_step.at) == lines[2]["timestamp"].replace("Z", "+00:00")
    assert totals(report) == (2, 1, 0, 0, 1)


@pytest.mark.parametrize("path", [b"a", None])
def test_a_missing_file_is_unaccounted_for(path: bytes | None, settings: Settings) -> None:
    report = audit_lines(settings, [claimed(b"a", P), line(events.FILE_MISSING, path, P)])

    assert [entry.last_step.event for entry in report.unaccounted] == [events.FILE_MISSING]


def test_a_line_about_a_missing_file_does_not_override_its_filing(settings: Settings) -> None:
    assert audit_totals(settings, claimed(b"a", P), done(b"a", P), line(events.FILE_MISSING, b"a", P)) == (1, 1, 0, 0, 0)


def test_a_parcel_without_files_is_not_unaccounted_for(settings: Settings) -> None:
    assert audit_totals(settings, line(events.FILE_MISSING, None, P)) == (0, 0, 0, 0, 0)


def test_a_file_is_followed_through_its_splits(settings: Settings) -> None:
    splits = [line(events.PARCEL_SPLIT, b"a", Q, out_of=P), line(events.PARCEL_SPLIT, b"a", R, out_of=Q)]

    assert audit_totals(settings, claimed(b"a", P), *splits, done(b"a", R)) == (1, 1, 0, 0, 0)
    assert audit_totals(settings, claimed(b"a", P), *splits) == (1, 0, 0, 0, 1)


def test_lines_may_come_in_any_order_and_more_than_once(settings: Settings, spool: Spool) -> None:
    parcel = spool.claimed(b"c")
    lines = [
        *(claimed(name, P) for name in (b"a", b"b")), line(events.PARCEL_SPLIT, b"b", Q, out_of=P),
        done(b"a", P), done(b"b", Q),
        claimed(b"c", parcel), claimed(b"d", R),
    ]  # fmt: skip

    for seed in range(20):
        shuffled = lines * 2
        random.Random(seed).shuffle(shuffled)

        assert audit_totals(settings, *shuffled) == (4, 2, 0, 1, 1)


def test_lines_of_other_inboxes_and_malformed_lines_are_skipped(settings: Settings) -> None:
    others: list[Line] = [
        {**claimed(b"a", P), "inbox": "other"},
        {**claimed(b"a", P), "inbox": ["drop"]},
        {"event": events.FILE_DONE},
        {"event": None, "parcel": {}, "inbox": "drop", "file": []},
    ]

    assert audit_totals(settings, *others) == (0, 0, 0, 0, 0)


class TestMissingLines:
    """The process that moved a file was killed before it logged the move."""

    def test_of_a_claim(self, settings: Settings, spool: Spool) -> None:
        spool.claimed(b"b")

        assert audit_totals(settings, done(b"a", P)) == (2, 1, 0, 1, 0)

    def test_of_a_split(self, settings: Settings, spool: Spool) -> None:
        spool.claimed(b"b")

        assert audit_totals(settings, claimed(b"a", P), done(b"a", Q), claimed(b"b", P)) == (2, 1, 0, 1, 0)

    @pytest.mark.parametrize("is_name_taken", [False, True])
    @pytest.mark.parametrize("path", [b"x/a.pdf", HOSTILE, b"b (2).pdf"])
    def test_of_a_filing_to_done(self, path: bytes, is_name_taken: bool, settings: Settings, spool: Spool) -> None:
        parcel = spool.claimed(path)
        lines = [claimed(path, parcel)]
        if is_name_taken:
            spool.put(b"done/" + path, b"another")
        with spool.folders() as folders:
            move_to_done(Disk(), folders, parcel, path)

        assert audit_totals(settings, *lines) == (1, 1, 0, 0, 0)

    def test_of_a_filing_to_failed(self, settings: Settings, spool: Spool) -> None:
        lines = [claimed(b"a", P, b"a")]
        drop_and_fail(spool, b"a")

        assert audit_totals(settings, *lines) == (1, 0, 1, 0, 0)

    def test_of_a_release(self, settings: Settings, spool: Spool) -> None:
        lines = [claimed(b"a", P)]
        spool.put(b"inbox/a")

        report = audit_lines(settings, lines)

        assert (totals(report), report.released) == ((0, 0, 0, 0, 0), 1)

    def test_a_file_with_other_content_and_the_same_name_is_no_match(self, settings: Settings, spool: Spool) -> None:
        lines = [claimed(b"a", P, b"its content")]
        for path in (b"inbox/a", b"done/a", b"done/a (2)"):
            spool.put(path, b"another one")

        assert audit_totals(settings, *lines) == (1, 0, 0, 0, 1)

    def test_a_file_that_another_line_accounts_for_is_no_match(self, settings: Settings, spool: Spool) -> None:
        lines = [claimed(b"a", P), done(b"a", P), claimed(b"a", Q)]
        spool.put(b"done/a")

        assert audit_totals(settings, *lines) == (2, 1, 0, 0, 1)

    def test_one_file_matches_only_one_claim(self, settings: Settings, spool: Spool) -> None:
        lines = [claimed(b"a", P), claimed(b"a", Q)]
        spool.put(b"done/a")

        assert audit_totals(settings, *lines) == (2, 1, 0, 0, 1)

    def test_a_file_that_was_filed_long_before_the_claim_is_no_match(self, settings: Settings, spool: Spool) -> None:
        spool.put(b"done/a")
        later = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()

        assert audit_totals(settings, {**claimed(b"a", P), "timestamp": later}) == (1, 0, 0, 0, 1)

    def test_a_file_without_a_checksum_is_matched_by_its_size(self, settings: Settings, spool: Spool) -> None:
        lines = [{**claimed(b"a", P), "sha256": None}, {**claimed(b"b", P), "sha256": None}]
        spool.put(b"done/a")
        spool.put(b"done/b", b"shorter")

        assert audit_totals(settings, *lines) == (2, 2, 0, 0, 0)
        spool.put(b"done/b", b"another size")
        assert audit_totals(settings, *lines) == (2, 1, 0, 0, 1)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, arguments)])


def encode(lines: Iterable[Line]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.fixture
def logs(file: Path) -> Iterator[list[Path]]:
    """Write three logs, two of them compressed; one file of the last is in no folder."""
    found = [file.parent / name for name in ("worker.log", "watcher.log.1.gz", "watcher.log.xz")]
    found[0].write_bytes(b'no JSON "parcel"\n{"parcel": torn\n[1]\n' + encode([done(b"a", P), done(b"b", P)]))
    found[1].write_bytes(gzip.compress(encode([claimed(b"a", P)])))
    found[2].write_bytes(lzma.compress(encode([claimed(b"b", P), claimed(HOSTILE, Q)])))
    return found


def test_plain_and_compressed_logs_are_read_and_listed_in_the_result(logs: list[Path]) -> None:
    result = run(*logs)

    first, *_, last = result.stdout.splitlines()
    assert result.exit_code == 1
    assert first == "3 arrived = 2 done + 0 failed + 0 in flight + 1 unaccounted for"
    assert last.startswith("based on 5 log lines from 20")
    assert last.endswith(f"in {', '.join(map(str, logs))}")


def test_the_log_of_the_settings_is_read_with_its_rotated_files(file: Path) -> None:
    (file.parent / "w.log").write_bytes(encode([done(b"a", P)]))
    (file.parent / "w.log.1.gz").write_bytes(gzip.compress(encode([claimed(b"a", P), claimed(b"b", Q), done(b"b", Q)])))
    with file.open("a") as settings:
        settings.write('[log]\nfiles = ["w.log"]\n')

    result = run()

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("2 arrived = 2 done + 0 failed + 0 in flight\nevery file is accounted for\nbased on 4 log ")


def test_a_truncated_log_is_reported_and_the_exit_code_is_1(logs: list[Path]) -> None:
    logs[0].write_bytes(encode([done(b"a", P), done(b"b", P), done(HOSTILE, Q)]))
    logs.append(logs[0].with_suffix(".log.2.gz"))
    logs[-1].write_bytes(gzip.compress(encode([claimed(b"c", R)] * 100))[:-30])

    plain, as_json = run(*logs), run("--json", *logs)

    assert (plain.exit_code, as_json.exit_code) == (1, 1)
    assert "worker.log.2.gz: can't be read to its end" in plain.stderr
    assert json.loads(as_json.stdout)["unread"] == plain.stderr.splitlines()


def test_a_log_that_mentions_no_file_is_reported_and_the_exit_code_is_1(file: Path) -> None:
    (file.parent / "w.log").write_text("nothing of ours\n")

    result = run("w.log")

    assert result.exit_code == 1
    assert "no log line about a file was found" in result.stdout
    assert "every file is accounted for" not in result.stdout


def test_a_line_that_a_handler_logs_is_no_final_event(settings: Settings) -> None:
    forged = {**done(b"a", P), "module": "invoices"}

    assert audit_totals(settings, claimed(b"a", P), forged) == (1, 0, 0, 0, 1)


def test_a_hostile_name_is_shown_on_one_line(logs: list[Path]) -> None:
    shown = run(*logs).stdout.splitlines()

    assert f"! drop: {escape(HOSTILE)}" in shown
    assert all(line.isprintable() for line in shown)


def test_the_json_has_the_totals_and_the_unaccounted_files(logs: list[Path]) -> None:
    result = json.loads(run("--json", *logs).stdout)

    (missing,) = result.pop("unaccounted")
    log = result.pop("log")
    assert result.pop("outputs") == {"made": 0, "delivered": 0, "waiting": 0, "missing": []}
    totals_of_all = {"arrived": 3, "done": 2, "failed": 0, "refused": 0, "in_flight": 0, "released": 0}
    assert result == {**totals_of_all, "unavailable": [], "unread": []}
    assert log["lines"] == 5
    assert log["first"] <= missing["claimed_at"] == missing["last_step_at"] <= log["last"]
    assert (missing["inbox"], missing["parcel"], missing["file"]) == ("drop", Q, escape(HOSTILE))
    assert missing["last_step"] == events.FILE_CLAIMED


def test_the_exit_code_is_0_when_every_file_is_accounted_for(logs: list[Path], spool: Spool) -> None:
    spool.put(b"done/" + HOSTILE)

    result = run(*logs)

    assert result.exit_code == 0, result.stdout
    assert "every file is accounted for" in result.stdout


@pytest.mark.usefixtures("file")
def test_an_unreadable_log_is_an_error() -> None:
    result = run("none.log")

    assert result.exit_code == 2
    assert "there is no file none.log" in result.stderr


@pytest.mark.usefixtures("file")
def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()

    result = run("--journal", tmp_path / "journal")

    assert result.exit_code == 2
    assert "set log.files" in result.stderr


def test_an_unavailable_folder_does_not_count_as_empty(logs: list[Path], spool: Spool) -> None:
    os.rename(spool.root / "claimed", spool.root / "away")  # noqa: PTH104

    result = run(*logs)

    assert result.exit_code == 1
    assert "unaccounted" not in result.stdout
    assert "claimed" in result.stderr


def test_an_unavailable_inbox_keeps_no_other_one_from_being_audited(file: Path) -> None:
    file.write_text('[inbox.away]\nroot = "away"\n[inbox.drop]\nroot = "drop"\n')
    lines = [{**claimed(b"a", P), "inbox": "away"}, claimed(b"b", Q), claimed(b"c", R), done(b"c", R)]

    report = audit_lines(load_settings(file), lines)

    assert totals(report) == (2, 1, 0, 0, 1)
    assert [sentence.partition(":")[0] for sentence in report.unavailable] == ["away"]
    assert "1 files without a logged end" in report.unavailable[0]


def handled(path: bytes, parcel: str, *outputs: str) -> Line:
    return line(events.FILE_HANDLED, path, parcel, outputs=list(outputs))


def delivered(path: bytes, parcel: str, filed: str) -> Line:
    return line(events.OUTPUT_DELIVERED, path, parcel, output=filed, filed=filed)


def test_outputs_of_done_files_are_delivered_or_wait_or_are_missing(settings: Settings, spool: Spool) -> None:
    spool.put(b"out/x/unlogged (2).txt", b"1")
    spool.put(b"claimed/" + Q.encode() + b"/.inboxd-out/x", b"1")
    lines = [
        *(
            claimed(b"a", P),
            handled(b"a", P, "a.txt", "x/unlogged.txt", "gone.txt"),
            delivered(b"a", P, "a.txt"),
            done(b"a", P),
        ),
        *(claimed(b"b", Q), handled(b"b", Q, "b.txt"), done(b"b", Q)),
        *(claimed(b"c", R), handled(b"c", R, "c.txt"), line(events.FILE_FAILED, b"c", R, filed="c")),
    ]

    balance = audit_lines(settings, lines).outputs

    assert (balance.made, balance.delivered, balance.waiting) == (4, 2, 1)
    assert [missing.output for missing in balance.missing] == ["gone.txt"]


def test_an_output_that_went_on_in_the_next_inbox_is_not_missing(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nout = "inbox:next"\n[inbox.next]\nroot = "next"\n')
    settings = load_settings(file)
    preflight.create_folders(settings)
    (file.parent / "next" / "done" / "a.txt").touch()
    (file.parent / "next" / "claimed" / R).mkdir()
    (file.parent / "next" / "claimed" / R / "b.txt").touch()
    lines = [claimed(b"a", P), handled(b"a", P, "a.txt", "b.txt", "c.txt"), done(b"a", P)]

    balance = audit_lines(settings, lines).outputs

    assert [missing.output for missing in balance.missing] == ["c.txt"]


@pytest.mark.usefixtures("settings")
def test_the_command_tells_of_missing_outputs(tmp_path: Path) -> None:
    log = tmp_path / "inboxd.log"
    lines = [claimed(b"a", P), handled(b"a", P, "a.txt", "b.txt"), delivered(b"a", P, "a (2).txt"), done(b"a", P)]
    log.write_text("".join(json.dumps(each) + "\n" for each in lines), "utf-8")

    result = CliRunner().invoke(cli, ["audit", str(log)])

    assert "2 outputs made = 1 delivered + 0 waiting + 1 missing" in result.output
    assert "! drop: a: its output b.txt was not delivered" in result.output
    assert result.exit_code == 1
