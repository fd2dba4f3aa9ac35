"""The file that `inboxd up` writes: the commands that read the log find it, and follow it; a terminal's short lines."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.live.log_lines import NOON, line, parcel
from support.repository import REPOSITORY
from support.terminal import on_terminal

from inboxd.config.loading import load_settings
from inboxd.console.log_reading.journalctl import JournalSource
from inboxd.console.log_reading.records import Record
from inboxd.console.main import cli
from inboxd.console.up.log_file import LogFile
from inboxd.service import preflight

P = parcel(1, NOON)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make settings with the file that an `inboxd up` has written, and nothing in log.files."""
    monkeypatch.delenv("INBOXD_SETTINGS", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")  # without journalctl there is no journal
    file = tmp_path / "settings.toml"
    file.write_text('[inbox.drop]\nroot = "drop"\n')
    preflight.create_folders(load_settings(file))
    (tmp_path / "drop" / "done" / "a.pdf").write_text("a")
    log = tmp_path / "var" / "log" / "inboxd.log"
    log.parent.mkdir(parents=True)
    log.with_name("inboxd.log.1").write_bytes(line("file_claimed", NOON, file="a.pdf", parcel=P, size=1))
    log.write_bytes(line("file_done", NOON + 1, file="a.pdf", parcel=P, attempt=1, filed="a.pdf", took_ms=1000.0))
    return file


def test_log_trace_and_audit_read_the_file_and_those_rotated_from_it(settings: Path) -> None:
    logged = run("log", "--settings", settings)
    traced = run("trace", "a.pdf", "--settings", settings)
    audited = run("audit", "--settings", settings)

    assert [text.split()[3] for text in logged.stdout.splitlines()] == ["file_claimed", "file_done"]
    assert "as done/a.pdf" in traced.stdout
    assert (audited.exit_code, audited.stdout.splitlines()[0]) == (0, "1 arrived = 1 done + 0 failed + 0 in flight")


def test_files_in_the_settings_or_on_the_command_line_come_first(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "other.log").write_bytes(line("file_done", NOON, file="other", parcel=P))
    from_argument = run("log", tmp_path / "other.log", "--settings", settings)
    settings.write_text('[log]\nfiles = ["other.log"]\n[inbox.drop]\nroot = "drop"\n')

    from_settings = run("log", "--settings", settings)

    assert ["drop:other" in result.stdout for result in (from_argument, from_settings)] == [True, True]
    assert len((from_argument.stdout + from_settings.stdout).splitlines()) == 2


def test_while_the_settings_are_broken_the_default_file_is_read(settings: Path) -> None:
    settings.write_text("no = toml = at all")

    result = run("log", "--settings", settings)

    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)


def test_before_the_first_up_the_message_names_the_file_and_the_command(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "var" / "log" / "inboxd.log").unlink()

    result = run("log", "--settings", settings)

    assert result.exit_code == 2
    assert f"there is no log.file {tmp_path / 'var' / 'log' / 'inboxd.log'}" in result.stderr
    assert "start `inboxd up`" in result.stderr


@pytest.mark.parametrize(("is_installed", "is_newer", "source"), [
    (True, True, "journal"), (True, False, "file"), (False, True, "file"),
])  # fmt: skip
def test_installed_services_have_their_journal_if_it_is_newer(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool, is_newer: bool, source: str
) -> None:
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    if is_installed:
        (home / ".config" / "inboxd").symlink_to(tmp_path)
        settings = home / ".config" / "inboxd" / "settings.toml"
    modified = (tmp_path / "var" / "log" / "inboxd.log").stat().st_mtime
    record = Record(modified + (60 if is_newer else -60), {"event": "from_the_journal"})
    monkeypatch.setattr(JournalSource, "has_entries", lambda _: True)
    monkeypatch.setattr(JournalSource, "last", lambda *_: [record])
    monkeypatch.setattr(JournalSource, "records", lambda *_: [record])

    result = run("log", "--settings", settings)

    assert ("from_the_journal" in result.stdout) is (source == "journal")


@pytest.mark.parametrize(("options", "rows"), [([], 1), (["-v"], 2), (["--json"], 2)])
def test_a_terminal_is_shown_a_line_for_each_file_unless_all_lines_are_asked_for(
    settings: Path, options: list[str], rows: int
) -> None:
    argv = [sys.executable, "-m", "inboxd", "log", *options, "--settings", str(settings)]

    with on_terminal(argv, 300, cwd=REPOSITORY) as session:
        code = session.wait_for_exit()

    assert (code, len(session.rows)) == (0, rows)
    assert ("1.00 s done" in session.rows[-1]) is (options == [])


def test_without_a_short_line_the_option_for_all_lines_is_named(settings: Path) -> None:
    argv = [sys.executable, "-m", "inboxd", "log", "--outcome", "retried", "--settings", str(settings)]

    with on_terminal(argv, 200, cwd=REPOSITORY) as session:
        session.wait_for_exit()

    assert session.rows[0].endswith("-v shows all lines")


def test_following_shows_each_line_once_while_the_file_is_rotated(settings: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "inboxd", "log", "-f", "-n", "0", "--settings", str(settings)]
    lines = [line("file_done", NOON + n, file=f"{n}.pdf", parcel=P) for n in range(60)]
    file = LogFile(tmp_path / "var" / "log" / "inboxd.log", len(lines[0]) * 7, 20)
    file.open()

    with on_terminal(argv, 80, cwd=REPOSITORY, environment={"PYTHONUNBUFFERED": "1"}) as session:
        file.write(lines[0])
        while not session.rows:  # until the command follows the file
            file.write(line("file_done", NOON, file="begin.pdf", parcel=P))
            session.show_output(0.2)
        for number, text in enumerate(lines[1:], 1):
            file.write(text)
            if number % 5 == 4:  # a file is rotated after seven lines: none within a poll twice
                session.wait_for_text(f" {number}.pdf")
        session.type(b"\x03")
        code = session.wait_for_exit()
    file.close()

    numbers = [row.split()[3] for row in session.rows if "begin" not in row and "^C" not in row]
    assert code == 130
    assert [name for name in numbers if name != "0.pdf"] == [f"{n}.pdf" for n in range(1, 60)]
    assert json.loads((tmp_path / "var" / "log" / "inboxd.log").read_bytes().splitlines()[-1])["file"] == "59.pdf"
    assert (tmp_path / "var" / "log" / "inboxd.log.5").exists()
