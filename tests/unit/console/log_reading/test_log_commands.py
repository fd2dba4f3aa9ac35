"""`inboxd log` and `inboxd trace`: output, exit codes and escaping of hostile names."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.live.log_lines import NOON, line, parcel, table
from support.repository import REPOSITORY

from inboxd.console.main import cli
from inboxd.console.times import format_duration
from inboxd.logs.text import escape

P, Q = parcel(1, NOON), parcel(2, NOON)
HOSTILE = b'x\n{"event":"file_done"}\x1b[2J.pdf'
AS_LOGGED = 'x\\n{"event":"file_done"}\\x1b[2J.pdf'


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("INBOXD_SETTINGS", raising=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "w.log"
    lines = [
        line("file_claimed", NOON, file="a.pdf", parcel=P, size=7, sha256="5" * 64, file_id="a" * 32, found_by="event"),
        line(
            "file_handled",
            NOON + 0.25,
            file="a.pdf",
            parcel=P,
            attempt=1,
            took_ms=4.2,
            raised="ValueError: bad",
            exception="Traceback",
        ),
        line("file_retried", NOON + 0.5, file="a.pdf", parcel=P, retry=1, of=3, in_seconds=2.0),
        line("file_handled", NOON + 90, file="a.pdf", parcel=P, attempt=2, took_ms=4.2, result={"n": 1}),
        line("file_done", NOON + 200, file="a.pdf", parcel=P, attempt=2, filed="a (2).pdf", took_ms=200_000.0),
        line("sweep_done", NOON + 300, stale=1),
    ]
    path.write_bytes(b"".join(lines))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


@contextmanager
def following(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that only Ctrl-C ends. SIGINT is reset: it is ignored in tests that run in the background."""
    argv = [sys.executable, "-m", "inboxd", *map(str, arguments)]
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), bufsize=0) as process:
        signal.signal(signal.SIGINT, previous_handler)
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready, "no line within 30 s"
    return bytes(process.stdout.readline())


def test_the_log_is_printed_a_line_for_each_record_with_its_date(log: Path) -> None:
    result = run("log", log)

    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines)) == (0, 6)
    assert lines[0].startswith("2026-11-22 ")
    assert "watcher    file_claimed drop:a.pdf" in lines[0]
    assert "Traceback" not in result.stdout


def test_the_json_output_has_the_logged_fields(log: Path) -> None:
    result = run("log", "--json", log)

    assert [json.loads(text) for text in result.stdout.splitlines()] == [
        json.loads(text) for text in log.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--file", "*.pdf"], 5),
        (["--file", "*.txt"], 0),
        (["--inbox", "drop"], 5),
        (["--inbox", "else"], 0),
        (["--parcel", P], 5),
        (["--parcel", P, "--outcome", "done"], 1),
        (["--outcome", "retried", "--outcome", "done"], 2),
        (["--since", "2026-11-22T12:01:00Z"], 3),
        (["--since", "2026-11-22T12:01:00Z", "--parcel", P], 2),
        (["--until", "2026-11-22T12:01:00Z"], 3),
        (["--since", "2026-11-22T12:01:00Z", "--until", "2026-11-22T12:04:00Z"], 2),
        (["-n", "2"], 2),
        (["-n", "all"], 6),
        (["-n", "0"], 0),
        (["-n", "2", "--outcome", "done"], 1),
    ],
)
def test_only_matching_records_are_printed(log: Path, options: list[str], count: int) -> None:
    result = run("log", *options, log)

    assert (result.exit_code, len(result.stdout.splitlines())) == (0, count)


def test_if_no_line_matches_the_searched_files_are_named(log: Path) -> None:
    result = run("log", "--inbox", "else", log)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"no line matches in {log}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", "so\x1b[2Jme"], "neither a number nor all"),
        (["-n", "-1"], "neither"),
        (["-f", "--until", "now"], "never ends"),
    ],
)
def test_invalid_options_are_refused_with_a_message(log: Path, options: list[str], message: str) -> None:
    result = run("log", *options, log)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    ("options", "count", "has_hint"),
    [([], 100, True), (["-n", "all"], 250, False), (["--since", "2026-11-22"], 250, False), (["--file", "1*"], 100, True),
     (["--file", "10?"], 10, False), (["-n", "5"], 5, False)],
)  # fmt: skip
def test_a_terminal_is_shown_the_last_hundred_lines(tmp_path: Path, options: list[str], count: int, has_hint: bool) -> None:
    (tmp_path / "w.log").write_bytes(b"".join(line("file_done", NOON + n, file=f"{n}", parcel=P) for n in range(250)))
    argv = [sys.executable, "-m", "inboxd", "log", *options, str(tmp_path / "w.log")]
    master, terminal = pty.openpty()

    with subprocess.Popen(argv, stdout=terminal, stderr=subprocess.PIPE, env=environment()) as process:
        os.close(terminal)
        output = b"".join(_read_terminal(master))
        assert process.stderr is not None
        errors = process.stderr.read()
    os.close(master)

    assert len(output.splitlines()) == count
    assert errors == (b"only the last 100 lines are shown; to show all, add -n all\n" if has_hint else b"")
    assert (b"drop 249 " in output) is (options[:1] != ["--file"])


def _read_terminal(master: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(master, 65_536):
            yield data


def test_an_invalid_time_is_refused_with_a_message(log: Path) -> None:
    result = run("log", "--since", "so\x1b[2Jon", log)

    assert result.exit_code == 2
    assert "yesterday" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_missing_log_file_is_an_error(tmp_path: Path) -> None:
    result = run("log", tmp_path / "none.log")

    assert result.exit_code == 2
    assert "there is no file" in result.stderr


@pytest.mark.usefixtures("log")
def test_the_settings_name_the_log_files(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[log]\nfiles = ["w.log"]\n[inbox.drop]\nroot = "drop"\n')

    logged = run("log", "--settings", tmp_path / "settings.toml")
    traced = run("trace", tmp_path / "drop" / "done" / "a (2).pdf", "--settings", tmp_path / "settings.toml")

    assert len(logged.stdout.splitlines()) == 6
    assert "drop:a.pdf" in traced.stdout


def test_the_log_is_readable_while_the_settings_are_broken(log: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("no = toml = at all")

    result = run("log", log, "--settings", tmp_path / "settings.toml")

    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 6)


def test_without_files_or_a_journal_the_error_names_log_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    result = run("log", "--journal", tmp_path / "empty")

    assert result.exit_code == 2
    assert "set log.files" in result.stderr


def test_a_trace_prints_the_steps_and_the_time_between_them(log: Path) -> None:
    result = run("trace", "a.pdf", log)

    heading, *steps, end = result.stdout.splitlines()
    assert result.exit_code == 0
    assert heading == f"drop:a.pdf  7 bytes  sha256 {'5' * 64}  id {'a' * 32}  parcel {P}"
    assert [step[26:].split(maxsplit=4)[:3] for step in steps[1:]] == [
        ["+250", "ms", "handled"], ["+250", "ms", "retried"], ["+1", "min", "29"], ["+1", "min", "50"],
    ]  # fmt: skip
    assert "found by event" in steps[0]
    assert steps[2].endswith("retry 1 of 3, in 2.0 s")
    assert "attempt 1, 4.2 ms, raised: ValueError: bad" in steps[1]
    assert "as done/a (2).pdf" in steps[-1]
    assert end == "  done after 3 min 20 s"


def test_a_trace_as_json_has_the_same_steps(log: Path) -> None:
    (life,) = json.loads(run("trace", "--json", "a.pdf", log).stdout)["lives"]

    assert [step["step"] for step in life["steps"]] == ["claimed", "handled", "retried", "handled", "done"]
    assert [step["after_seconds"] for step in life["steps"]] == [0, 0.25, 0.25, 89.5, 110]
    assert (life["outcome"], life["seconds"], life["filed"], life["parcels"]) == ("done", 200, "a (2).pdf", [P])


@pytest.mark.parametrize("command", ["trace", "explain"])
def test_an_empty_argument_is_refused(command: str) -> None:
    result = run(command, "")

    assert result.exit_code == 2
    assert "the value is empty" in result.stderr


def test_an_unknown_step_is_printed_with_all_fields_of_its_line(tmp_path: Path) -> None:
    fields = {**table("file_done", NOON, file="a", parcel=P, colour="red"), "event": "file_painted"}
    (tmp_path / "w.log").write_text(json.dumps(fields) + "\n")

    result = run("trace", "a", tmp_path / "w.log")

    assert "file_painted" in result.stdout
    assert "colour=red" in result.stdout
    assert "no end is logged" in result.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_the_trace_of_an_unknown_file_exits_with_1_and_names_the_searched_files(log: Path, as_json: bool) -> None:
    result = run("trace", "b\x1b[2J.pdf", log, *(["--json"] if as_json else []))

    assert result.exit_code == 1
    assert str(log) in result.stderr
    assert "inboxd explain $'b\\x1b[2J.pdf'" in result.stderr
    assert "\x1b" not in result.output
    assert (json.loads(result.stdout) == {"lives": []}) if as_json else (result.stdout == "")


@pytest.mark.parametrize("command", [["log"], ["log", "--json"], ["trace", os.fsdecode(HOSTILE)], ["trace", "--json", P]])
@pytest.mark.parametrize("is_raw", [True, False])
def test_a_hostile_name_forges_no_line_and_prints_no_escape_sequence(tmp_path: Path, command: list[str], is_raw: bool) -> None:
    name = HOSTILE.decode() if is_raw else escape(HOSTILE)  # log shippers may unescape values
    keys = {"parcel": P, "reason": name, "exception": name, "\x1b[2J": 1, "result": {name: name}}
    (tmp_path / "w.log").write_bytes(line("file_failed", NOON, file=AS_LOGGED, filed=name, **keys))  # type: ignore[arg-type]

    result = run(*command, tmp_path / "w.log")

    assert result.exit_code == 0
    assert all(text.isprintable() for text in result.stdout.splitlines())
    assert not any(text.lstrip().startswith('{"event"') for text in result.stdout.splitlines())
    if command == ["log"]:
        assert len(result.stdout.splitlines()) == 1


def test_following_prints_the_last_lines_then_each_new_one_across_a_rotation(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"".join(line("file_done", NOON + 400 + n, file=f"old {n}", parcel=P, filed="x") for n in range(20)))
    with following("log", "-f", "--json", log) as process:
        first = [json.loads(next_line(process))["file"] for _ in range(10)]
        log.rename(log.with_suffix(".log.1"))
        log.write_bytes(line("file_done", NOON + 500, file="new", parcel=P, filed="x"))
        then = json.loads(next_line(process))["file"]
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        assert process.stderr is not None
        errors = process.stderr.read()

    assert first == [f"old {n}" for n in range(10, 20)]
    assert then == "new"
    assert (code, errors) == (130, b"")


def test_following_starts_with_the_last_lines_of_a_just_rotated_log(log: Path) -> None:
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(line("file_done", NOON + 500, file="new", parcel=P, filed="x"))

    with following("log", "-f", "-n", "3", "--json", "--file", "*", log) as process:
        first = [json.loads(next_line(process)) for _ in range(3)]
        with log.open("ab") as file:
            file.write(line("file_done", NOON + 501, file="newer", parcel=P, filed="x"))
        then = json.loads(next_line(process))

    assert [(fields["event"], fields["file"]) for fields in first] == [
        ("file_handled", "a.pdf"), ("file_done", "a.pdf"), ("file_done", "new"),
    ]  # fmt: skip
    assert then["file"] == "newer"


@pytest.mark.parametrize("same_size", [True, False])
def test_following_continues_after_a_truncation(log: Path, same_size: bool) -> None:
    size = log.stat().st_size
    with following("log", "-f", "--json", log) as process:
        for _ in range(6):
            next_line(process)
        with log.open("r+b") as file:  # as logrotate's copytruncate, with a write before the next poll
            file.truncate(0)
            new = [
                line("file_done", NOON + 600 + n, file=f"new {n}", parcel=P, filed="x") for n in range(30 if same_size else 1)
            ]
            file.write(b"".join(new)[:size] if same_size else b"".join(new))
        then = json.loads(next_line(process))["file"]

    assert then == "new 0"


def test_following_since_a_time_prints_all_later_lines_of_rotated_files_too(log: Path) -> None:
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(line("file_done", NOON + 500, file="new", parcel=P, filed="x"))

    with following("log", "-f", "--json", "--since", "2026-11-22T12:01:00Z", "--outcome", "done", log) as process:
        found = [json.loads(next_line(process))["file"] for _ in range(2)]

    assert found == ["a.pdf", "new"]


def test_the_command_exits_silently_when_its_reader_closes_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "w.log").write_bytes(b"".join(line("sweep_done", NOON + n, n=n) for n in range(20_000)))

    with following("log", tmp_path / "w.log") as process:
        next_line(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        process.wait(30)

    assert errors == b""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.03, "30 ms"),
        (1.2, "1.20 s"),
        (59.999, "60.00 s"),
        (200, "3 min 20 s"),
        (7200, "2 h 0 min"),
    ],
)
def test_a_duration_is_formatted_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
