"""`inboxd status`: the output, and what counts as a problem."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.repository import REPOSITORY
from support.terminal import on_terminal

import inboxd.console.commands.status
from inboxd.broker import heartbeat
from inboxd.broker.connection import make_client
from inboxd.broker.counters import DONE, FAILED, REFUSED, Counters, Tally
from inboxd.broker.heartbeat import Heartbeat, InboxReport, record_sweep, write_heartbeat
from inboxd.broker.inbox_outages import record_inbox_outage
from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.console.main import cli
from inboxd.console.status.snapshot import InboxStatus, Status
from inboxd.console.up.child_process import reap
from inboxd.console.up.server_address import has_listener
from inboxd.console.up.up import choose_server
from inboxd.logs.text import format_age
from inboxd.messaging.queues import WORK_QUEUE, files_queue, host_queue
from inboxd.monitoring.file_counts import FileCounts
from inboxd.service import preflight
from inboxd.service.clock_guard import ClockReading, ClockRecord
from inboxd.spool.layout import new_parcel_id

HEALTHY = InboxReport("inotify", "", is_busy=False, outage=None)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def all_queues(settings: Settings) -> set[str]:
    return {WORK_QUEUE, files_queue(settings.host), host_queue(settings.host)}


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('[inbox.drop]\nroot = "drop"\n')
    preflight.create_folders(load_settings(path))
    (tmp_path / "drop" / "inbox" / "\x1b[2Jhostile").touch()
    return path


@pytest.fixture
def _broker(settings_file: Path) -> Iterator[None]:
    server = choose_server(load_settings(settings_file))
    assert server is not None
    process = server.start()
    assert process is not None
    deadline = time.monotonic() + 20
    while not has_listener(server.address):
        assert time.monotonic() < deadline
    yield
    reap(process)


def test_an_unavailable_broker_is_a_problem(settings_file: Path) -> None:
    result = run("status", "--settings", settings_file)

    assert result.exit_code == 1
    assert "broker   unavailable" in result.stdout
    assert "! the broker is unavailable" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_pause_after_a_jump_of_the_clock_is_a_problem(settings_file: Path) -> None:
    record = ClockRecord(ClockReading("boot", 1.0, 1e9), 7200.0, 40 * 86_400.0)
    state_dir = load_settings(settings_file).state_dir
    Path(state_dir).mkdir(parents=True, exist_ok=True)
    (Path(state_dir) / "clock.json").write_text(json.dumps(dataclasses.asdict(record)))

    result = run("status", "--settings", settings_file)

    assert "! the clock was set forward by 960.0 hours: no file is deleted for 2.0 hours" in result.stdout


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_missing_workers_and_a_missing_watcher_are_problems(settings_file: Path) -> None:
    result = run("status", "--settings", settings_file, "--json")

    status = json.loads(result.stdout)
    assert result.exit_code == 1
    assert status["inboxes"]["drop"]["waiting"] == 1
    assert (status["broker"]["answers"], status["broker"]["why"]) == (True, None)
    assert status["broker"]["url"].startswith("unix://")
    assert (status["workers"], status["watcher"]) == (0, None)
    assert len(status["problems"]) == 2


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_the_watcher_s_heartbeat_is_shown(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    with make_client(settings) as client:
        report = InboxReport("polling", "an \x1b[31mNFS mount", is_busy=False, outage="a [bold]folder[/bold] is full")
        write_heartbeat(client, settings.host, Heartbeat(0.0, {"drop": report}))

    result = run("status", "--settings", settings_file)

    assert "polling" in result.stdout
    assert "! drop: a [bold]folder[/bold] is full" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_an_unreadable_heartbeat_is_shown_as_none(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    with make_client(settings) as client:
        client.set(heartbeat.KEY + settings.host, '{"at": 1}')

    result = run("status", "--settings", settings_file, "--json")

    assert json.loads(result.stdout)["watcher"] is None


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_the_files_filed_today_and_the_oldest_claimed_file_are_shown(settings_file: Path) -> None:
    settings, tally = load_settings(settings_file), Tally()
    parcel = settings_file.parent / "drop" / "claimed" / new_parcel_id(time.time() - 100)
    parcel.mkdir()
    (parcel / "a").touch()
    for outcome, files in ((DONE, 5), (FAILED, 2), (REFUSED, 1)):
        tally.count_filed("drop", outcome, files=files)
    with make_client(settings) as client:
        Counters(client, settings.host).write(tally)

    drop = json.loads(run("status", "--settings", settings_file, "--json").stdout)["inboxes"]["drop"]
    table = run("status", "--settings", settings_file).stdout

    assert (drop["done_today"], drop["failed_today"]) == (5, 3)
    assert 100 <= drop["oldest_claimed_seconds"] < 160
    assert "1 min 4" in table


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
@pytest.mark.parametrize(
    ("workers", "uptime", "has_swept", "has_queued_sweep", "is_problem"),
    [
        (1, 1000.0, False, False, True),
        (1, 1000.0, True, False, False),  # beat is running
        (1, 1000.0, False, True, False),  # beat publishes sweeps, and all workers are busy
        (1, 10.0, False, False, False),  # all programs have just been started
        (0, 1000.0, False, False, False),  # the missing worker is reported instead
    ],
)
def test_a_missing_beat_is_a_problem(
    workers: int, uptime: float, has_swept: bool, has_queued_sweep: bool, is_problem: bool, settings_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = load_settings(settings_file)
    monkeypatch.setattr(
        "inboxd.console.status.snapshot._list_worker_queues",
        lambda current: [(f"{n}@vm", all_queues(current)) for n in range(workers)],
    )
    with make_client(settings) as client:
        write_heartbeat(client, settings.host, Heartbeat(time.time(), {}, time.time() - uptime))
        if has_swept:
            record_sweep(client, settings)
        if has_queued_sweep:
            client.lpush(host_queue(settings.host), "a sweep")

    status = json.loads(run("status", "--settings", settings_file, "--json").stdout)

    assert any("is beat running?" in trouble for trouble in status["problems"]) is is_problem
    assert (status["beat"]["swept_seconds_ago"] is not None) is has_swept


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_an_outage_is_a_problem_although_the_watcher_reports_none(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    with make_client(settings) as client:
        write_heartbeat(client, settings.host, Heartbeat(time.time(), {"drop": HEALTHY}))
        record_inbox_outage(client, settings.host, "drop", "done/: Operation not permitted")

    status = json.loads(run("status", "--settings", settings_file, "--json").stdout)

    assert status["inboxes"]["drop"]["problem"] == "done/: Operation not permitted"
    assert "drop: done/: Operation not permitted" in status["problems"]


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_an_outage_that_several_programs_report_is_shown_once(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    (settings_file.parent / "drop" / "done").rmdir()
    with make_client(settings) as client:
        report = InboxReport("inotify", "", is_busy=False, outage="done: No such file or directory")
        write_heartbeat(client, settings.host, Heartbeat(time.time(), {"drop": report}))
        record_inbox_outage(client, settings.host, "drop", "done: it is missing")

    status = json.loads(run("status", "--settings", settings_file, "--json").stdout)

    assert sum(trouble.startswith("drop: ") for trouble in status["problems"]) == 1


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_a_watcher_that_has_not_reloaded_is_a_problem(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    with make_client(settings) as client:
        write_heartbeat(client, settings.host, Heartbeat(time.time(), {"old": HEALTHY}))

    result = run("status", "--settings", settings_file)

    assert result.exit_code == 1
    assert "drop is not watched" in result.stdout
    assert "! drop: the running watcher does not watch this inbox" in result.stdout
    assert "! old: watched, but not in the settings" in result.stdout


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
@pytest.mark.parametrize(
    ("worker_queues", "missing"),
    [
        ([{WORK_QUEUE}], ["large files", "callbacks and sweeps"]),  # only a worker of another host is left
        ([{WORK_QUEUE}, None], []),
        ([{WORK_QUEUE}, set()], []),  # a worker that is reconnecting
        ([], []),  # the missing workers are reported instead
    ],
)
def test_a_queue_that_no_worker_consumes_is_a_problem(
    worker_queues: list[set[str] | None], missing: list[str], settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "inboxd.console.status.snapshot._list_worker_queues",
        lambda current: [("celery@vm", all_queues(current) if queues is None else queues) for queues in worker_queues],
    )

    problems = json.loads(run("status", "--settings", settings_file, "--json").stdout)["problems"]

    found = [trouble for trouble in problems if trouble.startswith("no worker for")]
    assert len(found) == len(missing)
    assert all(any(purpose in trouble for trouble in found) for purpose in missing)


@pytest.mark.live
@pytest.mark.usefixtures("_broker")
def test_a_file_that_has_been_claimed_for_days_is_a_problem_and_named_on_one_line(settings_file: Path) -> None:
    parcel = settings_file.parent / "drop" / "claimed" / new_parcel_id(time.time() - 1e6)
    parcel.mkdir()
    (parcel / ("long\nname" + 90 * "x")).touch()

    result = run("status", "--settings", settings_file)

    (line,) = (line for line in result.stdout.splitlines() if "has been claimed for 11 d" in line)
    assert f"long\\nname{90 * 'x'}" in line
    assert line.endswith("run `inboxd explain` with its path")


def test_the_help_lists_the_problems() -> None:
    assert "is beat running?" in run("status", "--help").stdout


def test_a_missing_folder_is_a_problem(settings_file: Path) -> None:
    (settings_file.parent / "drop" / "claimed").rmdir()

    result = run("status", "--settings", settings_file, "--json")

    drop = json.loads(result.stdout)["inboxes"]["drop"]
    assert result.exit_code == 1
    assert drop["waiting"] is None
    assert "claimed" in drop["problem"]


def test_a_healthy_system_has_no_problems(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = InboxReport("inotify", "a local disk", is_busy=False, outage=None)
    inbox = InboxStatus("drop", FileCounts(1, 2, 3, 4, 5.0), report=report)
    healthy = Status(10.0, (inbox,), "", 1, Heartbeat(9.0, {}))
    monkeypatch.setattr(inboxd.console.commands.status, "take_snapshot", lambda *_: healthy)

    result = run("status", "--settings", settings_file)

    assert result.exit_code == 0
    assert healthy.problems() == []
    assert "inotify (a local disk)" in result.stdout
    assert "heartbeat 1 s ago" in result.stdout


def test_the_last_line_says_what_to_do_next_and_a_healthy_system_has_none(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = InboxStatus("drop", FileCounts(1, 2, 3, 4, 5.0), report=HEALTHY)
    healthy = Status(10.0, (inbox,), "", 1, Heartbeat(9.0, {}))
    shown = {}
    for name, status in (("healthy", healthy), ("no worker", dataclasses.replace(healthy, workers=0))):
        monkeypatch.setattr(inboxd.console.commands.status, "take_snapshot", lambda *_, status=status: status)
        shown[name] = run("status", "--settings", settings_file).stdout
        as_json = json.loads(run("status", "--settings", settings_file, "--json").stdout)
        assert (as_json["next"] is None) is (name == "healthy")

    assert "next:" not in shown["healthy"]
    assert shown["no worker"].splitlines()[-1] == "next: celery -A inboxd worker  # start a worker"


def test_ignored_files_and_a_pause_are_shown_while_no_program_runs_too(settings_file: Path) -> None:
    (settings_file.parent / "drop" / "inbox" / "upload.part").touch()

    result = run("status", "--settings", settings_file)

    assert "drop: 1 file is ignored" in result.stdout
    assert "upload.part: a temporary name" in result.stdout


def test_watching_needs_a_terminal_or_json(settings_file: Path) -> None:
    result = run("status", "--watch", "--settings", settings_file)

    assert result.exit_code == 2
    assert "--watch needs a terminal; for programs, add --json" in result.stderr


@pytest.mark.live
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_watching_shows_changes_until_ctrl_c_which_is_no_error(settings_file: Path, columns: int) -> None:
    argv = [sys.executable, "-m", "inboxd", "status", "--watch", "--settings", str(settings_file)]

    with on_terminal(argv, columns, cwd=REPOSITORY) as session:
        session.wait_for_text("next: inboxd up")
        for number in range(41):
            (settings_file.parent / "drop" / "inbox" / f"{number}").touch()
        session.wait_for(lambda: any(row.split()[:2] == ["drop", "42"] for row in session.rows))
        session.type(b"\x03")
        code = session.wait_for_exit()

    assert code == 0
    assert session.is_cursor_visible


@pytest.mark.live
def test_watching_as_json_prints_an_object_on_each_line(settings_file: Path) -> None:
    argv = [sys.executable, "-m", "inboxd", "status", "--watch", "--json", "--settings", str(settings_file)]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        statuses = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        process.kill()

    assert statuses[0]["at"] < statuses[1]["at"]
    assert statuses[0]["next"] == {"command": "inboxd up", "why": "start the programs: no server runs"}
    assert statuses[0]["inboxes"]["drop"]["stuck"] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")],
)
def test_an_age_is_shown_in_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert format_age(seconds) == text
