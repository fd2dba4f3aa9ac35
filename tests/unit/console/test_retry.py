"""`inboxd retry`: what is chosen, what is told, and what is refused."""

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
    """The log is set up once for a process: here that would be the tests'."""
    monkeypatch.setattr("inboxd.console.commands.retry._configure_logging", lambda _: None)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write settings with two inboxes; the current folder is beside them."""
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.one]\nroot = "one"\n[inbox.two]\nroot = "two"\n')
    preflight.create_folders(load_settings(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def one(file: Path) -> Spool:
    """Return the first inbox, with three failed files."""
    spool = Spool(file.parent / "one")
    drop_and_fail(spool, b"a.pdf", "Connection refused by db1")
    drop_and_fail(spool, b"x/b.pdf", "no total")
    drop_and_fail(spool, b"x/c.pdf", "connection refused by db2")
    return spool


@pytest.fixture
def two(file: Path) -> Spool:
    """Return the second inbox, with one failed file."""
    spool = Spool(file.parent / "two")
    drop_and_fail(spool, b"a.pdf", "no total")
    return spool


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["retry", *map(str, arguments)])


@pytest.mark.parametrize("typed", ["one/failed/a.pdf", "one/failed/a.pdf.error.txt", "./one/done/../failed/a.pdf"])
def test_a_file_is_named_by_its_path_or_its_note(typed: str, one: Spool, two: Spool) -> None:
    result = run(typed)

    assert result.exit_code == 0, result.output
    assert one.files("inbox").keys() == {b"a.pdf"}
    assert two.files("inbox") == {}


def test_a_file_is_named_by_its_absolute_path_and_through_links(one: Spool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(one.root / "failed" / "x")

    run(one.root / "failed" / "a.pdf", tmp_path / "link" / "b.pdf")

    assert one.files("inbox").keys() == {b"a.pdf", b"x/b.pdf"}


def test_a_sub_folder_names_all_that_is_in_it(one: Spool) -> None:
    result = run("one/failed/x")

    assert one.files("inbox").keys() == {b"x/b.pdf", b"x/c.pdf"}
    assert "2 put back" in result.stdout


def test_reasons_are_chosen_by_a_pattern_in_small_letters_or_large(one: Spool, two: Spool) -> None:
    run("--error", "*connection refused*")

    assert one.files("inbox").keys() == {b"a.pdf", b"x/c.pdf"}
    assert two.files("inbox") == {}


def test_inbox_and_error_are_joined_by_and(one: Spool, two: Spool) -> None:
    run("--inbox", "one", "--error", "no total")

    assert one.files("inbox").keys() == {b"x/b.pdf"}
    assert two.files("inbox") == {}


def test_all_is_all_inboxes(one: Spool, two: Spool) -> None:
    result = run("--all")

    assert result.stdout.splitlines()[-1] == "4 put back"
    assert (len(one.files("inbox")), len(two.files("inbox"))) == (3, 1)
    assert one.failed_files() == two.failed_files() == {}


def test_a_dry_run_changes_nothing(one: Spool) -> None:
    before = one.files()

    result = run("--all", "--dry-run")

    assert result.exit_code == 0
    assert "one: a.pdf -> inbox/a.pdf (failed of: Connection refused by db1)" in result.stdout
    assert "3 would be put back" in result.stdout
    assert one.files() == before


@pytest.mark.parametrize("arguments", [[], ["one/failed/a.pdf", "--all"], ["--inbox", "none"], ["one/failed/nothing"]])
def test_what_is_not_clear_is_refused(arguments: list[str], one: Spool) -> None:
    before = one.files()

    result = run(*arguments)

    assert result.exit_code == 2
    assert "remedy:" in result.stderr
    assert one.files() == before


def test_one_name_of_many_that_is_wrong_moves_none(one: Spool) -> None:
    run("one/failed/a.pdf", "one/failed/nothing")

    assert one.files("inbox") == {}


def test_nothing_to_put_back_ends_with_code_1(file: Path) -> None:
    assert run("--all", "--settings", file).exit_code == 1


def test_folders_that_are_away_end_with_code_1_and_a_word(one: Spool) -> None:
    (one.root / "claimed").rename(one.root / "away")

    result = run("--all")

    assert result.exit_code == 1
    assert "claimed" in result.stderr


def test_root_is_told_to_become_the_service(one: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("inboxd.console.requeue._owner_uid", lambda _: 1234)

    result = run("--all")

    assert result.exit_code == 2
    assert "sudo -u '#1234' inboxd retry" in result.stderr
    assert one.files("inbox") == {}


def test_each_move_is_logged_with_what_the_note_said_on_one_line(file: Path) -> None:
    spool = Spool(file.parent / "one")
    drop_and_fail(spool, HOSTILE, "no total", attempts=4)

    ran = subprocess.run(
        [sys.executable, "-m", "inboxd", "retry", "--all"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=False, text=True,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stderr.splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["inbox"], logged["attempt"], logged["reason"]) == ("file_requeued", "one", 4, "no total")
    assert "\x1b" not in ran.stdout
    assert len(ran.stdout.splitlines()) == 2
