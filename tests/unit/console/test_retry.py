"""`inboxd retry`: the selection, the output, and the refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.disk.failed_files import drop_and_fail
from support.disk.spools import Spool
from support.live.stand import REPOSITORY

from inboxd.config.loading import load_settings
from inboxd.console.main import cli
from inboxd.service import preflight

HOSTILE = b'x\n{"event":"file_done"}\x1b[2J.pdf'


@pytest.fixture(autouse=True)
def _no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave logging as it is: it is configured once for a process, which here runs the tests."""
    monkeypatch.setattr("inboxd.console.commands.retry._configure_logging", lambda _: None)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write settings with two inboxes into the current folder."""
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.one]\nroot = "one"\n[inbox.two]\nroot = "two"\n')
    preflight.create_folders(load_settings(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INBOXD_SETTINGS", str(tmp_path / "settings.toml"))  # for root, the current folder does not count
    return path


@pytest.fixture
def spool_1(file: Path) -> Spool:
    """Return the first inbox, with three failed files."""
    spool = Spool(file.parent / "one")
    drop_and_fail(spool, b"a.pdf", "Connection refused by db1")
    drop_and_fail(spool, b"x/b.pdf", "no total")
    drop_and_fail(spool, b"x/c.pdf", "connection refused by db2")
    return spool


@pytest.fixture
def spool_2(file: Path) -> Spool:
    """Return the second inbox, with one failed file."""
    spool = Spool(file.parent / "two")
    drop_and_fail(spool, b"a.pdf", "no total")
    return spool


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["retry", *map(str, arguments)])


@pytest.mark.parametrize("typed", ["one/failed/a.pdf", "one/failed/a.pdf.error.txt", "./one/done/../failed/a.pdf"])
def test_a_file_is_selected_by_its_path_or_its_note(typed: str, spool_1: Spool, spool_2: Spool) -> None:
    result = run(typed)

    assert result.exit_code == 0, result.output
    assert spool_1.files("inbox").keys() == {b"a.pdf"}
    assert spool_2.files("inbox") == {}


def test_a_file_is_selected_by_its_absolute_path_and_through_links(spool_1: Spool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(spool_1.root / "failed" / "x")

    run(spool_1.root / "failed" / "a.pdf", tmp_path / "link" / "b.pdf")

    assert spool_1.files("inbox").keys() == {b"a.pdf", b"x/b.pdf"}


def test_a_sub_folder_selects_all_files_in_it(spool_1: Spool) -> None:
    result = run("one/failed/x")

    assert spool_1.files("inbox").keys() == {b"x/b.pdf", b"x/c.pdf"}
    assert "2 moved back to inbox/" in result.stdout


def test_files_are_selected_by_a_pattern_for_the_reason_in_any_case(spool_1: Spool, spool_2: Spool) -> None:
    run("--error", "*connection refused*")

    assert spool_1.files("inbox").keys() == {b"a.pdf", b"x/c.pdf"}
    assert spool_2.files("inbox") == {}


def test_an_inbox_and_an_error_must_both_match(spool_1: Spool, spool_2: Spool) -> None:
    run("--inbox", "one", "--error", "no total")

    assert spool_1.files("inbox").keys() == {b"x/b.pdf"}
    assert spool_2.files("inbox") == {}


def test_all_selects_all_inboxes(spool_1: Spool, spool_2: Spool) -> None:
    result = run("--all")

    assert result.stdout.splitlines()[-1] == "4 moved back to inbox/"
    assert (len(spool_1.files("inbox")), len(spool_2.files("inbox"))) == (3, 1)
    assert spool_1.failed_files() == spool_2.failed_files() == {}


def test_a_dry_run_changes_nothing(spool_1: Spool) -> None:
    before = spool_1.files()

    result = run("--all", "--dry-run")

    assert result.exit_code == 0
    assert "one: a.pdf -> inbox/a.pdf (failure reason: Connection refused by db1)" in result.stdout
    assert "3 would be moved back to inbox/" in result.stdout
    assert spool_1.files() == before


@pytest.mark.parametrize("arguments", [[], ["one/failed/a.pdf", "--all"], ["--inbox", "none"], ["one/failed/nothing"]])
def test_an_ambiguous_or_unknown_selection_is_refused(arguments: list[str], spool_1: Spool) -> None:
    before = spool_1.files()

    result = run(*arguments)

    assert result.exit_code == 2
    assert "remedy:" in result.stderr
    assert spool_1.files() == before


def test_one_unknown_path_among_several_moves_no_file(spool_1: Spool) -> None:
    run("one/failed/a.pdf", "one/failed/nothing")

    assert spool_1.files("inbox") == {}


def test_nothing_to_move_ends_with_code_1(file: Path) -> None:
    assert run("--all", "--settings", file).exit_code == 1


def test_unavailable_folders_end_with_code_1_and_a_message(spool_1: Spool) -> None:
    (spool_1.root / "claimed").rename(spool_1.root / "away")

    result = run("--all")

    assert result.exit_code == 1
    assert "claimed" in result.stderr


def test_an_unavailable_inbox_keeps_no_other_one_from_its_retry(spool_1: Spool, spool_2: Spool) -> None:
    (spool_1.root / "claimed").rename(spool_1.root / "away")

    result = run("--all")

    assert result.exit_code == 1
    assert "one: " in result.stderr
    assert list(spool_2.files("inbox")) == [b"a.pdf"]


def test_root_must_run_the_command_as_the_service_s_user(spool_1: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("inboxd.console.requeue._owner_uid", lambda _: 1234)

    result = run("--all")

    assert result.exit_code == 2
    assert "sudo -u '#1234' inboxd retry" in result.stderr
    assert spool_1.files("inbox") == {}


def test_each_move_is_logged_on_one_line_with_the_note_s_facts(file: Path) -> None:
    spool = Spool(file.parent / "one")
    drop_and_fail(spool, HOSTILE, "no total", attempts=4)

    result = subprocess.run(
        [sys.executable, "-m", "inboxd", "retry", "--all"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["inbox"], logged["attempt"], logged["reason"]) == ("file_requeued", "one", 4, "no total")
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 2
