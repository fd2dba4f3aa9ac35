"""The command line: exit codes, findings, and what is printed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import console.main
from console.address import is_listened_on
from console.main import inboxd
from console.process import bury
from console.status import InboxState, Status
from console.table import age
from console.up import server_to_start
from spool import broker, heartbeat, preflight
from spool.census import Census
from spool.counters import DONE, FAILED, REFUSED, Counters, Tally
from spool.folders import new_parcel_id
from spool.heartbeat import Heartbeat, Watched
from spool.loading import FILE_VARIABLE, load
from spool.queue import host_queue

COMMANDS = ["up", "watch", "check", "status"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(inboxd, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_settings_are_told_with_their_remedies_and_end_with_code_2(command: str, file: Path) -> None:
    file.write_text('hots = "me"\n[inbox.drop]\nroot = "drop"\nsettle_seconds = "soon"\n')

    result = run(command, "--settings", file)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "did you mean host?" in result.stderr
    assert "inbox.drop.settle_seconds" in result.stderr
    assert result.stderr.count("remedy:") == 2
    assert not (file.parent / "drop").exists()
    assert not (file.parent / "var").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_settings_file_that_is_missing_ends_with_code_2(command: str, tmp_path: Path) -> None:
    result = run(command, "--settings", tmp_path / "none.toml")

    assert result.exit_code == 2
    assert "none.toml: is not a file" in result.stderr


def test_hostile_settings_are_shown_on_one_printable_line(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "\\u001b[2J\\nfake: ok"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert "\nfake" not in result.stderr


def test_the_settings_file_can_be_named_in_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.make_folders(load(file))
    monkeypatch.setenv(FILE_VARIABLE, str(file))

    result = run("check")

    assert result.exit_code == 0


def test_check_says_ok_for_each_inbox_and_notes_a_broker_that_is_away(file: Path) -> None:
    preflight.make_folders(load(file))

    result = run("check", "--settings", file)

    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"{file}: ok",
        f"inbox drop: ok ({file.parent}/drop, handler tasks.handlers:describe)",
    ]
    assert result.stdout.splitlines()[2].startswith("note: the broker at unix://")
    assert "does not answer (`inboxd up` starts a server there)" in result.stdout


def test_check_tells_what_is_wrong_with_the_folders_and_the_handler(file: Path) -> None:
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "nowhere:at_all"\n')

    result = run("check", "--settings", file)

    assert result.exit_code == 2
    assert str(file.parent / "drop") in result.stderr
    assert "nowhere:at_all" in result.stderr
    assert not (file.parent / "drop").exists()


def test_the_version_is_shown() -> None:
    result = run("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("inboxd, version ")


def test_watch_becomes_the_watcher_with_the_settings_file_named_absolutely(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became = []
    monkeypatch.setattr(os, "execve", lambda *arguments: became.append(arguments))
    monkeypatch.chdir(file.parent)

    run("watch", "--settings", "settings.toml")

    path, argv, environment = became[0]
    assert (path, argv) == (sys.executable, [sys.executable, "-m", "watcher"])
    assert environment[FILE_VARIABLE] == str(file)
    assert environment["PATH"] == os.environ["PATH"]


def test_handlers_in_the_current_folder_are_found(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def handle(file): ...\n")
    file.write_text('[inbox.drop]\nroot = "drop"\nhandler = "mine:handle"\n')
    preflight.make_folders(load(file))
    code = f"import sys; sys.path[0] = {str(Path(console.__file__).parent.parent)!r}; from console.main import main; main()"

    found = subprocess.run([sys.executable, "-c", code, "check"], cwd=tmp_path, capture_output=True, check=False, text=True)

    assert found.returncode == 0, found.stderr


class TestStatus:
    @pytest.fixture
    def settings_file(self, file: Path) -> Path:
        preflight.make_folders(load(file))
        (file.parent / "drop" / "inbox" / "\x1b[2Jhostile").touch()
        return file

    @pytest.fixture
    def _broker(self, settings_file: Path) -> Iterator[None]:
        server = server_to_start(load(settings_file))
        assert server is not None
        process = server.start()
        assert process is not None
        deadline = time.monotonic() + 20
        while not is_listened_on(server.address):
            assert time.monotonic() < deadline
        yield
        bury(process)

    def test_a_broker_that_is_away_needs_a_person(self, settings_file: Path) -> None:
        result = run("status", "--settings", settings_file)

        assert result.exit_code == 1
        assert "broker   away" in result.stdout
        assert "! the broker is away" in result.stdout
        assert "\x1b" not in result.stdout

    @pytest.mark.live
    @pytest.mark.usefixtures("_broker")
    def test_workers_and_watcher_that_are_missing_need_a_person(self, settings_file: Path) -> None:
        result = run("status", "--settings", settings_file, "--json")

        status = json.loads(result.stdout)
        assert result.exit_code == 1
        assert status["inboxes"]["drop"]["waiting"] == 1
        assert status["broker"] == {"answers": True, "why": None}
        assert (status["workers"], status["watcher"]) == (0, None)
        assert len(status["troubles"]) == 2

    @pytest.mark.live
    @pytest.mark.usefixtures("_broker")
    def test_the_watcher_s_heartbeat_is_shown(self, settings_file: Path) -> None:
        settings = load(settings_file)
        with broker.client(settings) as client:
            watched = Watched("polling", "an \x1b[31mNFS mount", busy=False, trouble="a [bold]folder[/bold] is full")
            heartbeat.write(client, settings.host, Heartbeat(0.0, {"drop": watched}))

        result = run("status", "--settings", settings_file)

        assert "polling" in result.stdout
        assert "! drop: a [bold]folder[/bold] is full" in result.stdout
        assert "\x1b" not in result.stdout

    @pytest.mark.live
    @pytest.mark.usefixtures("_broker")
    def test_a_heartbeat_that_can_not_be_read_is_none(self, settings_file: Path) -> None:
        settings = load(settings_file)
        with broker.client(settings) as client:
            client.set(heartbeat.KEY + settings.host, '{"at": 1}')

        result = run("status", "--settings", settings_file, "--json")

        assert json.loads(result.stdout)["watcher"] is None

    @pytest.mark.live
    @pytest.mark.usefixtures("_broker")
    def test_what_was_filed_today_and_the_oldest_claimed_are_shown(self, settings_file: Path) -> None:
        settings, tally = load(settings_file), Tally()
        parcel = settings_file.parent / "drop" / "claimed" / new_parcel_id(time.time() - 100)
        parcel.mkdir()
        (parcel / "a").touch()
        for outcome, files in ((DONE, 5), (FAILED, 2), (REFUSED, 1)):
            tally.filed("drop", outcome, files=files)
        with broker.client(settings) as client:
            Counters(client, settings.host).write(tally)

        drop = json.loads(run("status", "--settings", settings_file, "--json").stdout)["inboxes"]["drop"]
        people = run("status", "--settings", settings_file).stdout

        assert (drop["done_today"], drop["failed_today"]) == (5, 3)
        assert 100 <= drop["oldest_claimed_seconds"] < 160
        assert "1 min 4" in people

    @pytest.mark.live
    @pytest.mark.usefixtures("_broker")
    @pytest.mark.parametrize(
        ("workers", "up_for", "swept", "asked_for", "needs"),
        [
            (1, 1000.0, False, False, True),
            (1, 1000.0, True, False, False),  # beat is there
            (1, 1000.0, False, True, False),  # beat asks, and all workers are busy
            (1, 10.0, False, False, False),  # everything has just been started
            (0, 1000.0, False, False, False),  # that no worker is there is said already
        ],
    )
    def test_a_beat_that_is_missing_needs_a_person(
        self, workers: int, up_for: float, swept: bool, asked_for: bool, needs: bool, settings_file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        settings = load(settings_file)
        monkeypatch.setattr("console.status._count_workers", lambda _: workers)
        with broker.client(settings) as client:
            heartbeat.write(client, settings.host, Heartbeat(time.time(), {}, time.time() - up_for))
            if swept:
                heartbeat.swept(client, settings)
            if asked_for:
                client.lpush(host_queue(settings.host), "a sweep")

        status = json.loads(run("status", "--settings", settings_file, "--json").stdout)

        assert any("is beat running?" in trouble for trouble in status["troubles"]) is needs
        assert (status["beat"]["swept_seconds_ago"] is not None) is swept

    def test_help_says_when_a_person_is_needed(self) -> None:
        assert "is beat there?" in run("status", "--help").stdout

    def test_a_folder_that_is_missing_needs_a_person(self, settings_file: Path) -> None:
        (settings_file.parent / "drop" / "claimed").rmdir()

        result = run("status", "--settings", settings_file, "--json")

        drop = json.loads(result.stdout)["inboxes"]["drop"]
        assert result.exit_code == 1
        assert drop["waiting"] is None
        assert "claimed" in drop["problem"]

    def test_when_all_is_well_nothing_needs_a_person(self, settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        watched = Watched("inotify", "a local disk", busy=False, trouble=None)
        inbox = InboxState("drop", Census(1, 2, 3, 4, 5.0), watched=watched)
        well = Status(10.0, (inbox,), "", 1, Heartbeat(9.0, {}))
        monkeypatch.setattr(console.main, "gather", lambda *_: well)

        result = run("status", "--settings", settings_file)

        assert result.exit_code == 0
        assert well.troubles() == []
        assert "inotify (a local disk)" in result.stdout
        assert "seen 1 s ago" in result.stdout


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")],
)
def test_an_age_is_told_in_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert age(seconds) == text
