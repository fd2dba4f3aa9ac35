"""`inboxd up`, as a process: a real server, small programs in the place of watcher and worker, real signals."""

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
def tell(text):
    with open(sys.argv[1], "a") as file:
        file.write(text + "\\\\n")
if sys.argv[2] == "refuses":
    while not os.path.exists(sys.argv[1]):  # until another has begun
        time.sleep(0.01)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: (tell(sys.argv[2] + " ended"), os._exit(0)))
tell(f"{sys.argv[2]} {os.getpid()}")
time.sleep(600)
'''
notes, *names = sys.argv[1].split(",")
sys.argv[1:2] = []

def others(settings, file):
    return [Program(name, functools.partial(spawn, [sys.executable, "-c", CODE, notes, name])) for name in names]

inboxd.console.commands.up.bring_up = functools.partial(inboxd.console.up.up.up, make_programs=others)
inboxd.console.main.main()
"""


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def below(pid: int) -> list[int]:
    """Return the descendants of a process."""
    children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    return [*children, *(further for child in children for further in below(child))]


class Place:
    """A settings file in a folder of its own, and the `up`s that run there."""

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

    def said(self, number: int = -1) -> str:
        number %= len(self.ups)
        return (self.path / f"out{number}").read_text() + (self.path / f"err{number}").read_text()

    def real_up(self) -> subprocess.Popen[str]:
        """Start the true watcher, worker and beat, not the small programs."""
        return self._start("-m", "inboxd")

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        argv = [sys.executable, *arguments, "up", "--settings", str(self.file)]
        with (self.path / f"out{len(self.ups)}").open("w") as out, (self.path / f"err{len(self.ups)}").open("w") as err:
            self.ups.append(subprocess.Popen(argv, cwd=REPOSITORY, stdout=out, stderr=err, text=True))
        return self.ups[-1]

    def told(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def pid(self, name: str) -> int:
        eventually(lambda: any(re.fullmatch(rf"{name} \d+", line) for line in self.told()))
        return int(next(line.split()[1] for line in reversed(self.told()) if re.fullmatch(rf"{name} \d+", line)))

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
    made = Place(tmp_path)
    yield made
    for up in made.ups:
        up.kill()  # what it has started ends with it
        up.wait()


def stop(up: subprocess.Popen[str], signum: signal.Signals = signal.SIGINT) -> int:
    up.send_signal(signum)
    return up.wait(timeout=30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order_and_nothing_is_left(place: Place, signum: signal.Signals) -> None:
    up = place.up("worker", "beat", "watcher")
    pids = [place.pid(name) for name in ("worker", "beat", "watcher")] + [place.server_pid()]

    code = stop(up, signum)

    assert code == 0, place.said()
    assert place.told()[-3:] == ["watcher ended", "beat ended", "worker ended"]
    assert not any(map(lives, pids))


def test_the_banner_says_where_to_drop_files_and_where_they_end(place: Place) -> None:
    up = place.up("watcher")
    place.pid("watcher")
    stop(up)

    said = place.said()
    for folder in ("inbox", "done", "failed"):
        assert str(place.path / "drop" / folder) in said
        assert (place.path / "drop" / folder).is_dir()
    assert "Ctrl-C stops inboxd" in said


def test_data_survive_from_one_up_to_the_next(place: Place) -> None:
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


def test_a_second_up_is_refused_and_the_first_runs_on(place: Place) -> None:
    first = place.up("watcher")
    place.pid("watcher")
    second = place.up("watcher")

    assert second.wait(timeout=30) == 2
    assert f"another `inboxd up` runs with this state_dir (process {first.pid})" in place.said()
    assert first.poll() is None
    assert stop(first) == 0


def test_nothing_is_left_behind_by_an_up_that_is_killed_and_the_next_one_works(place: Place) -> None:
    up = place.up("worker", "watcher")
    pids = [place.pid("worker"), place.pid("watcher"), place.server_pid()]
    up.kill()
    up.wait()
    place.notes.unlink()
    again = place.up("watcher")  # at once: the old server may still be there, and be on its way out
    place.pid("watcher")

    eventually(lambda: not any(map(lives, pids)))
    eventually(lambda: place.answering_pid() not in (None, *pids))
    assert stop(again) == 0


def test_a_server_that_is_killed_is_started_again(place: Place) -> None:
    up = place.up("watcher")
    place.pid("watcher")
    first = place.server_pid()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: place.answering_pid() not in (None, first))
    assert "signal SIGKILL" in place.said()
    assert stop(up) == 0


def test_a_program_that_refuses_its_settings_stops_all_with_code_2(place: Place) -> None:
    up = place.up("worker", "refuses")

    assert up.wait(timeout=30) == 2
    assert place.told()[-1].startswith("worker")
    with pytest.raises(redis.ConnectionError), place.client() as client:
        client.ping()


def test_a_loopback_url_where_nobody_listens_gets_a_server_there(place: Place) -> None:
    place.write(f"redis://:secret@localhost:{free_port()}/0")
    up = place.up("watcher")
    place.pid("watcher")

    with place.client() as client:
        assert client.ping()
    assert "secret" not in place.said()
    assert stop(up) == 0


def test_a_unix_url_where_nobody_listens_gets_a_server_there(place: Place) -> None:
    place.write(f"unix://{place.path}/my.sock")
    up = place.up("watcher")
    place.pid("watcher")

    with place.client() as client:
        assert client.ping()
    assert stop(up) == 0


def test_a_file_where_the_socket_would_be_is_left_alone(place: Place) -> None:
    place.write(f"unix://{place.path}/precious")
    (place.path / "precious").write_text("precious")
    up = place.up("watcher")

    assert up.wait(timeout=30) == 2
    assert (place.path / "precious").read_text() == "precious"
    assert "is not a socket" in place.said()


def test_a_server_that_answers_is_used_and_left_running(place: Place) -> None:
    owner = place.up("watcher")
    place.pid("watcher")
    server = place.server_pid()
    other = Place(place.path / "other")
    other.write(f"unix://{place.path}/var/valkey/valkey.sock")
    guest = other.up("watcher")
    other.pid("watcher")

    assert stop(guest) == 0
    assert not (other.path / "var" / "valkey").exists()
    assert "broker_discovered" in other.said()
    assert place.server_pid() == server
    assert stop(owner) == 0


def test_a_remote_broker_that_is_away_is_waited_for(place: Place) -> None:
    place.write("redis://:secret@redis.invalid:6379/0")
    up = place.up("watcher")
    place.pid("watcher")

    assert not (place.path / "var" / "valkey").exists()
    assert [line for line in place.said().splitlines() if "broker_unavailable" in line and "redis.invalid:6379" in line]
    assert "secret" not in place.said()
    assert stop(up) == 0


def test_a_server_that_can_not_start_is_a_finding_with_its_own_words(place: Place) -> None:
    place.write(f"unix://{place.path}/missing/my.sock")
    up = place.up("watcher")

    assert up.wait(timeout=30) == 2
    assert "No such file or directory" in place.said()
    assert place.told() == []


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:1e9", "redis://localhost?no_such_option=1"])
def test_a_url_that_can_not_be_read_is_a_finding(place: Place, url: str) -> None:
    place.write(url)
    up = place.up("watcher")

    assert up.wait(timeout=30) == 2
    assert "redis.url" in place.said()


def test_a_state_dir_with_a_long_path_works_over_a_private_folder_in_tmp(place: Place) -> None:
    other = Place(place.path / ("deep" * 20) / ("deeper" * 10))
    up = other.up("watcher")
    other.pid("watcher")

    socket_path = Path(embedded_socket_path(load_settings(other.file)))
    assert socket_path.parent.parent == Path("/tmp")
    assert socket_path.parent.stat().st_mode & 0o777 == 0o700
    assert stop(up) == 0
    socket_path.parent.rmdir()


def test_only_our_own_folders_are_closed_whatever_the_path_of_state_dir_looks_like(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    above = tmp_path_factory.mktemp("p")  # a socket's path is short
    other = Place(above / "50%20 #1 ?x")
    before = above.stat().st_mode, other.path.stat().st_mode

    server = choose_server(load_settings(other.file))

    assert server is not None
    assert server.address.socket == other.path / "var" / "valkey" / "valkey.sock"
    assert (above.stat().st_mode, other.path.stat().st_mode) == before


def test_the_programs_are_what_is_typed_by_hand(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_WORK__CONCURRENCY", "3")
    monkeypatch.setenv("INBOXD_WORK__STOP_SECONDS", "7")

    worker, beat, watcher = programs(load_settings(place.file), place.file)

    typed = [program.start.args[0][1:] for program in (worker, beat, watcher)]
    assert typed[0] == ["-P", "-m", "celery", "-q", "-A", "inboxd", "worker", *SINGLE_WORKER_OPTIONS, "--concurrency=3"]
    assert typed[1] == ["-P", "-m", "celery", "-q", "-A", "inboxd", "beat"]
    assert typed[2] == ["-P", "-m", "inboxd.watcher"]
    assert worker.start.args[1][SETTINGS_VARIABLE] == str(place.file)
    assert worker.stop == ((signal.SIGTERM, 7.0), (signal.SIGQUIT, 5.0))


def test_the_true_programs_take_a_file_to_done_and_stop_cleanly(place: Place) -> None:
    up = place.real_up()
    inbox, done = place.path / "drop" / "inbox", place.path / "drop" / "done"
    eventually(inbox.is_dir)
    (inbox / "a.txt").write_text("content")
    eventually((done / "a.txt").exists, seconds=60)
    children = below(up.pid)

    assert stop(up) == 0, place.said()
    assert (done / "a.txt").read_text() == "content"
    assert len(children) >= 4
    assert not any(map(lives, children))


def test_the_true_programs_end_when_their_up_is_killed(place: Place) -> None:
    up = place.real_up()
    eventually(lambda: "ready." in place.said(), seconds=60)
    children = below(up.pid)

    up.kill()
    up.wait()

    assert len(children) >= 4
    # without its server, Celery's pool may wait half a minute for an answer that is not to come
    eventually(lambda: not any(map(lives, children)), seconds=60)
