"""`inboxd up` as a process with a real server and real signals; small programs stand in for watcher, worker and beat."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from support.repository import REPOSITORY
from support.terminal import on_terminal
from support.waiting import PROGRAM_SECONDS

from inboxd.broker.connection import embedded_socket_path, make_client
from inboxd.config.loading import SETTINGS_VARIABLE, load_settings
from inboxd.console.up.up import SINGLE_WORKER_OPTIONS, choose_server, programs

pytestmark = pytest.mark.live

UP = """
import functools, sys
import inboxd.console.commands.up, inboxd.console.main, inboxd.console.up.up
from inboxd.console.up.child_process import spawn
from inboxd.console.up.supervisor import Program

CODE = '''
import os, signal, sys, time
def note(text):
    with open(sys.argv[1], "a") as file:
        file.write(text + "\\\\n")
if sys.argv[2] == "refuses":
    while not os.path.exists(sys.argv[1]):  # until another program has started
        time.sleep(0.01)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: (note(sys.argv[2] + " ended"), os._exit(0)))
note(f"{sys.argv[2]} {os.getpid()}")
time.sleep(600)
'''
notes, *names = sys.argv[1].split(",")
sys.argv[1:2] = []

def stand_ins(settings, file, open_output):
    argvs = {name: [sys.executable, "-c", CODE, notes, name] for name in names}
    return [Program(name, functools.partial(spawn, argv, open_output=open_output)) for name, argv in argvs.items()]

inboxd.console.commands.up.bring_up = functools.partial(inboxd.console.up.up.up, make_programs=stand_ins)
inboxd.console.main.main()
"""


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {seconds} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process."""
    children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [*children, *(pid for child in children for pid in descendants(child))]


class Place:
    """A project folder with a settings file, and the `inboxd up` processes that were started in it."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path / "settings.toml"
        self.notes = path / "notes"
        self.ups: list[subprocess.Popen[str]] = []
        self.write("")

    def write(self, url: str) -> None:
        self.file.write_text(f'redis.url = "{url}"\n[log]\nformat = "json"\n[inbox.drop]\nroot = "drop"\n')

    def up(self, *names: str) -> subprocess.Popen[str]:
        return self._start("-c", UP, ",".join([str(self.notes), *names]))

    def output(self, number: int = -1) -> str:
        number %= len(self.ups)
        return (self.path / f"out{number}").read_text() + (self.path / f"err{number}").read_text()

    def real_up(self) -> subprocess.Popen[str]:
        """Start `inboxd up` with the real watcher, worker and beat."""
        return self._start("-m", "inboxd")

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, *arguments, "up", "--settings", str(self.file)]
        with (self.path / f"out{len(self.ups)}").open("w") as out, (self.path / f"err{len(self.ups)}").open("w") as err:
            self.ups.append(subprocess.Popen(argv, cwd=REPOSITORY, stdout=out, stderr=err, text=True))
        return self.ups[-1]

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def pid(self, name: str) -> int:
        eventually(lambda: any(re.fullmatch(rf"{name} \d+", line) for line in self.noted()))
        return int(next(line.split()[1] for line in reversed(self.noted()) if re.fullmatch(rf"{name} \d+", line)))

    def client(self) -> redis.Redis:
        return make_client(load_settings(self.file))

    def server_pid(self) -> int:
        with self.client() as client:
            return int(client.info("server")["process_id"])

    def answering_pid(self) -> int | None:
        try:
            return self.server_pid()
        except redis.RedisError:
            return None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    new_place = Place(tmp_path)
    yield new_place
    for up in new_place.ups:
        up.kill()  # its child processes exit with it
        up.wait()


def stop(up: subprocess.Popen[str], signum: signal.Signals = signal.SIGINT) -> int:
    up.send_signal(signum)
    return up.wait(timeout=PROGRAM_SECONDS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_watcher_beat_and_worker_in_order_and_no_process_remains(place: Place, signum: signal.Signals) -> None:
    up = place.up("worker", "beat", "watcher")
    pids = [place.pid(name) for name in ("worker", "beat", "watcher")] + [place.server_pid()]

    code = stop(up, signum)

    assert code == 0, place.output()
    assert place.noted()[-3:] == ["watcher ended", "beat ended", "worker ended"], place.output()
    assert not any(map(is_alive, pids))


def test_the_banner_names_the_folders_inbox_done_and_failed(place: Place) -> None:
    up = place.up("watcher")
    place.pid("watcher")
    stop(up)

    output = place.output()
    for folder in ("inbox", "done", "failed"):
        assert str(place.path / "drop" / folder) in output
        assert (place.path / "drop" / folder).is_dir()
    assert "Ctrl-C stops inboxd" in output


def test_redis_keeps_its_data_between_two_ups(place: Place) -> None:
    up = place.up("watcher")
    place.pid("watcher")
    with place.client() as client:
        client.set("key", "value")
    stop(up)
    place.notes.unlink()
    up = place.up("watcher")
    place.pid("watcher")

    with place.client() as client:
        assert client.get("key") == b"value"


def test_a_second_up_in_the_same_state_dir_exits_with_code_2_and_the_first_keeps_running(place: Place) -> None:
    first = place.up("watcher")
    place.pid("watcher")
    second = place.up("watcher")

    assert second.wait(timeout=PROGRAM_SECONDS) == 2
    assert f"another `inboxd up` runs with this state_dir (process {first.pid})" in place.output()
    assert first.poll() is None
    assert stop(first) == 0


def test_the_children_of_a_killed_up_exit_and_a_new_up_works(place: Place) -> None:
    up = place.up("worker", "watcher")
    pids = [place.pid("worker"), place.pid("watcher"), place.server_pid()]
    up.kill()
    up.wait()
    place.notes.unlink()
    second = place.up("watcher")  # at once: the old server may still be running
    place.pid("watcher")

    eventually(lambda: not any(map(is_alive, pids)))
    eventually(lambda: place.answering_pid() not in (None, *pids))
    assert stop(second) == 0


def test_a_killed_server_is_restarted(place: Place) -> None:
    up = place.up("watcher")
    place.pid("watcher")
    first = place.server_pid()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: place.answering_pid() not in (None, first))
    assert "signal SIGKILL" in place.output()
    assert stop(up) == 0


def test_up_stops_all_programs_and_exits_with_code_2_if_one_refuses_its_settings(place: Place) -> None:
    up = place.up("worker", "refuses")

    assert up.wait(timeout=PROGRAM_SECONDS) == 2
    assert place.noted()[-1].startswith("worker")
    with pytest.raises(redis.ConnectionError), place.client() as client:
        client.ping()


def test_up_starts_a_server_at_an_unused_loopback_url(place: Place) -> None:
    place.write(f"redis://:secret@localhost:{free_port()}/0")
    up = place.up("watcher")
    place.pid("watcher")

    with place.client() as client:
        assert client.ping()
    assert "secret" not in place.output()
    assert stop(up) == 0


def test_up_starts_a_server_at_an_unused_unix_socket_url(place: Place) -> None:
    place.write(f"unix://{place.path}/my.sock")
    up = place.up("watcher")
    place.pid("watcher")

    with place.client() as client:
        assert client.ping()
    assert stop(up) == 0


def test_up_refuses_a_socket_path_that_is_a_regular_file_and_does_not_change_the_file(place: Place) -> None:
    place.write(f"unix://{place.path}/precious")
    (place.path / "precious").write_text("precious")
    up = place.up("watcher")

    assert up.wait(timeout=PROGRAM_SECONDS) == 2
    assert (place.path / "precious").read_text() == "precious"
    assert "is not a socket" in place.output()


def test_up_uses_a_running_server_and_does_not_stop_it(place: Place) -> None:
    owner = place.up("watcher")
    place.pid("watcher")
    server = place.server_pid()
    other = Place(place.path / "other")
    other.write(f"unix://{place.path}/var/valkey/valkey.sock")
    guest = other.up("watcher")
    other.pid("watcher")

    assert stop(guest) == 0
    assert not (other.path / "var" / "valkey").exists()
    assert "broker_discovered" in other.output()
    assert place.server_pid() == server
    assert stop(owner) == 0


def test_up_waits_for_an_unreachable_remote_broker_without_starting_a_server(place: Place) -> None:
    place.write("redis://:secret@redis.invalid:6379/0")
    up = place.up("watcher")
    place.pid("watcher")

    assert not (place.path / "var" / "valkey").exists()
    assert [line for line in place.output().splitlines() if "broker_unavailable" in line and "redis.invalid:6379" in line]
    assert "secret" not in place.output()
    assert stop(up) == 0


def test_up_quotes_the_error_of_a_server_that_can_not_start_and_exits_with_code_2(place: Place) -> None:
    place.write(f"unix://{place.path}/missing/my.sock")
    up = place.up("watcher")

    assert up.wait(timeout=PROGRAM_SECONDS) == 2
    assert "No such file or directory" in place.output()
    assert place.noted() == []


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:1e9", "redis://localhost?no_such_option=1"])
def test_up_reports_an_invalid_redis_url_and_exits_with_code_2(place: Place, url: str) -> None:
    place.write(url)
    up = place.up("watcher")

    assert up.wait(timeout=PROGRAM_SECONDS) == 2
    assert "redis.url" in place.output()


def test_with_a_long_state_dir_path_the_socket_is_in_a_private_folder_in_tmp(place: Place) -> None:
    other = Place(place.path / ("deep" * 20) / ("deeper" * 10))
    up = other.up("watcher")
    other.pid("watcher")

    socket_path = Path(embedded_socket_path(load_settings(other.file)))
    assert socket_path.parent.parent == Path("/tmp")
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700
    assert stop(up) == 0
    socket_path.parent.rmdir()


def test_permissions_of_the_folders_above_the_socket_do_not_change_whatever_the_state_dir_is_called(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    parent = tmp_path_factory.mktemp("p")  # a short path, for the socket
    other = Place(parent / "50%20 #1 ?x")
    modes_before = parent.stat().st_mode, other.path.stat().st_mode

    server = choose_server(load_settings(other.file))

    assert server is not None
    assert server.address.socket == other.path / "var" / "valkey" / "valkey.sock"
    assert (parent.stat().st_mode, other.path.stat().st_mode) == modes_before


def test_the_programs_have_the_documented_command_lines(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_WORK__CONCURRENCY", "3")
    monkeypatch.setenv("INBOXD_WORK__STOP_SECONDS", "7")

    worker, beat, watcher = programs(load_settings(place.file), place.file)

    arguments = [program.start.args[0][1:] for program in (worker, beat, watcher)]
    assert arguments[0] == ["-P", "-m", "celery", "-q", "-A", "inboxd", "worker", *SINGLE_WORKER_OPTIONS, "--concurrency=3"]
    assert arguments[1] == ["-P", "-m", "celery", "-q", "-A", "inboxd", "beat"]
    assert arguments[2] == ["-P", "-m", "inboxd.watcher"]
    assert worker.start.args[1][SETTINGS_VARIABLE] == str(place.file)
    assert worker.stop == ((signal.SIGTERM, 7.0), (signal.SIGQUIT, 5.0))


def test_the_real_programs_file_a_file_to_done_and_stop_cleanly(place: Place) -> None:
    up = place.real_up()
    inbox, done = place.path / "drop" / "inbox", place.path / "drop" / "done"
    eventually(inbox.is_dir)
    (inbox / "a.txt").write_text("content")
    eventually((done / "a.txt").exists, seconds=60)
    children = descendants(up.pid)

    assert stop(up) == 0, place.output()
    assert (done / "a.txt").read_text() == "content"
    assert len(children) >= 4
    assert not any(map(is_alive, children))


def test_the_log_of_the_real_programs_is_in_the_file_which_the_commands_find(place: Place) -> None:
    up = place.real_up()
    inbox, done = place.path / "drop" / "inbox", place.path / "drop" / "done"
    eventually(inbox.is_dir)
    for name in ("a.txt", "b.txt"):
        (inbox / name).write_text("content")
    eventually(lambda: (done / "a.txt").exists() and (done / "b.txt").exists(), seconds=60)
    log = place.path / "var" / "log" / "inboxd.log"
    eventually(lambda: '"program": "beat"' in log.read_text(), seconds=60)
    assert stop(up) == 0, place.output()

    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    records = list(map(json.loads, lines))
    audit = subprocess.run(
        [sys.executable, "-m", "inboxd", "audit", "--settings", place.file], cwd=REPOSITORY, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert {record["program"] for record in records} == {"up", "watcher", "worker", "beat"}
    assert [record["event"] for record in records if record["program"] == "up"][-2:] == ["child_stopped", "stopped"]
    (end, _) = [record for record in records if record["event"] == "file_done"]
    assert (end["size"], end["content_type"], end["took_ms"] > 0) == (7, "text/plain", True)
    assert audit.stdout.startswith("2 arrived = 2 done + 0 failed + 0 in flight\n")
    # what is no terminal gets the same lines
    assert [line for line in place.output().splitlines() if line.startswith("{")] == lines


def test_a_second_up_with_the_same_log_file_is_refused_in_words(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INBOXD_LOG__FILE", str(tmp_path / "both.log"))
    place.up("watcher")
    place.pid("watcher")
    (tmp_path / "second").mkdir()
    other = Place(tmp_path / "second")

    second = other.up("watcher")

    assert second.wait(30) == 2
    assert "another program writes to this file" in other.output()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_shows_one_line_for_each_file_and_is_clean_after_ctrl_c(
    place: Place, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("INBOXD_LOG__FORMAT", "auto")
    argv = [sys.executable, "-m", "inboxd", "up", "--settings", str(place.file)]
    inbox = place.path / "drop" / "inbox"
    hostile = b"\x1b[2J\x1b]0;t\x07\n" + "\u202e請求書".encode() * 9 + b".txt"

    with on_terminal(argv, columns, 60, cwd=REPOSITORY) as session:
        session.wait_for_text("Ctrl-C stops inboxd.")
        for name in (b"a.txt", hostile):
            Path(os.fsdecode(os.path.join(os.fsencode(inbox), name))).write_text("content")  # noqa: PTH118 - bytes
        session.wait_for(lambda: sum(row.endswith(" done") for row in session.rows) == 2)
        session.type(b"\x03")
        code = session.wait_for_exit()

    after_banner = session.rows[next(n for n, row in enumerate(session.rows) if "Ctrl-C stops" in row) + 1 :]
    assert code == 0
    assert [row.split()[-1] for row in after_banner] == ["done", "done", "stopping", "stopped"]
    assert session.is_cursor_visible
    assert session.cursor == (0, "")


def test_the_real_programs_exit_when_their_up_is_killed(place: Place) -> None:
    up = place.real_up()
    eventually(lambda: "ready." in place.output(), seconds=60)
    children = descendants(up.pid)

    up.kill()
    up.wait()

    assert len(children) >= 4
    # without its server, Celery's pool may wait half a minute for a reply
    eventually(lambda: not any(map(is_alive, children)), seconds=60)
