"""Child processes are restarted, stopped in order, and killed with their groups; with real processes and signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.repository import REPOSITORY
from support.waiting import PROGRAM_SECONDS

from inboxd.console.up.child_process import has_ended, spawn
from inboxd.console.up.stop_signals import StopSignals
from inboxd.console.up.supervisor import Child, Program, Supervisor, restart_delay
from inboxd.logs.text import describe_exit

pytestmark = pytest.mark.live

RECORDER = """
import os, signal, sys, time
def record(text):
    with open(sys.argv[1], "a") as file:
        file.write(text + "\\n")
"""
STOPS_ON_TERM = (
    RECORDER
    + """
def end(*_):
    record(sys.argv[2] + " ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
record(sys.argv[2] + " ready")
while True:
    time.sleep(60)
"""
)
IGNORES_TERM = (
    RECORDER
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    record(f"grandchild {os.getpid()}")
    time.sleep(600)
record(f"parent {os.getpid()}")
time.sleep(600)
"""
)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class RecordFile:
    """A file into which child processes write lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def pid(self, role: str) -> int:
        eventually(lambda: any(line.startswith(f"{role} ") for line in self.lines()))
        return next(int(line.split()[1]) for line in self.lines() if line.startswith(f"{role} "))

    def program(self, name: str, code: str, **stop_steps: tuple[tuple[signal.Signals, float], ...]) -> Program:
        return Program(name, lambda: spawn([sys.executable, "-c", code, str(self.path), name]), **stop_steps)


@pytest.fixture
def records(tmp_path: Path) -> RecordFile:
    return RecordFile(tmp_path / "records")


@pytest.fixture
def interrupts() -> Iterator[StopSignals]:
    with StopSignals(debounce_seconds=0) as entered:
        yield entered


@pytest.fixture
def supervisor(interrupts: StopSignals) -> Iterator[Supervisor]:
    supervisor = Supervisor(interrupts)
    yield supervisor
    interrupts.count = 2  # kill what a failed test has left
    supervisor.stop()


def test_a_killed_child_is_restarted_after_half_a_second(supervisor: Supervisor, records: RecordFile) -> None:
    child = supervisor.start(records.program("child", STOPS_ON_TERM))
    first = child.process
    assert first is not None

    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: has_ended(first))
    child.check(now=1000.0)
    process_in_backoff = child.process
    child.check(now=1000.6)

    assert process_in_backoff is None
    assert child.last_exit == "signal SIGKILL"
    assert child.process is not None
    assert child.process.pid != first.pid


def test_the_restart_delay_doubles_up_to_half_a_minute() -> None:
    assert [restart_delay(failures) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert restart_delay(1_000_000) == 30


def test_the_backoff_grows_with_each_exit_until_a_child_ran_for_a_minute(records: RecordFile) -> None:
    child = Child(records.program("child", "raise SystemExit(3)"))
    delays = []
    now = 0.0

    for lifetime in (0.0, 0.0, 61.0, 0.0):
        child.check(now)
        process = child.process
        assert process is not None
        eventually(lambda process=process: has_ended(process))
        now += lifetime
        child.check(now)
        delays.append(child.restart_at - now)
        now = child.restart_at

    assert delays == [0.5, 1.0, 0.5, 1.0]
    assert child.last_exit == "exit code 3"


def test_a_failed_start_is_retried(tmp_path: Path) -> None:
    child = Child(Program("child", lambda: spawn([str(tmp_path / "missing")])))

    child.check(now=10.0)

    assert "No such file" in child.last_exit
    assert child.restart_at == 10.5


def test_a_start_that_returns_none_is_repeated_after_a_second(records: RecordFile) -> None:
    startable: list[bool] = []
    program = records.program("child", "raise SystemExit(0)")
    child = Child(Program("child", lambda: program.start() if startable else None))

    child.check(now=10.0)
    standby = (child.process, child.last_exit, child.restart_at)
    startable.append(True)
    child.check(now=11.0)

    assert standby == (None, "", 11.0)
    assert child.process is not None
    assert child.process.wait(timeout=PROGRAM_SECONDS) == 0


def test_the_process_group_of_an_exited_child_is_killed(supervisor: Supervisor, records: RecordFile) -> None:
    child = supervisor.start(records.program("child", IGNORES_TERM))
    parent, grandchild = records.pid("parent"), records.pid("grandchild")

    os.kill(parent, signal.SIGKILL)
    eventually(lambda: not is_alive(parent))
    child.check(now=1000.0)

    eventually(lambda: not is_alive(grandchild))


def test_children_are_stopped_one_by_one_in_reverse_order(supervisor: Supervisor, records: RecordFile) -> None:
    for name in ("server", "worker", "beat", "watcher"):
        supervisor.start(records.program(name, STOPS_ON_TERM))
        eventually(lambda name=name: f"{name} ready" in records.lines())

    supervisor.stop()

    assert records.lines()[4:] == ["watcher ended", "beat ended", "worker ended", "server ended"]


def test_a_child_that_ignores_all_signals_is_killed_with_its_group(supervisor: Supervisor, records: RecordFile) -> None:
    supervisor.start(records.program("child", IGNORES_TERM, stop=((signal.SIGTERM, 0.2),)))
    pids = [records.pid("parent"), records.pid("grandchild")]

    supervisor.stop()

    eventually(lambda: not any(map(is_alive, pids)))


def test_the_second_stop_signal_is_sent_if_the_first_is_ignored(supervisor: Supervisor, records: RecordFile) -> None:
    quit_handler = "signal.signal(signal.SIGQUIT, lambda *_: (record('child quit'), os._exit(0)))\n"
    code = IGNORES_TERM.replace("if os.fork()", quit_handler + "if os.fork()")
    supervisor.start(records.program("child", code, stop=((signal.SIGTERM, 0.2), (signal.SIGQUIT, 20.0))))
    records.pid("parent")

    supervisor.stop()

    assert "child quit" in records.lines()


def test_a_second_signal_kills_children_except_those_with_a_quick_stop(
    supervisor: Supervisor, interrupts: StopSignals, records: RecordFile
) -> None:
    signals_parent = (
        RECORDER
        + """
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGTERM))
record("watcher ready")
while True:
    time.sleep(60)
"""
    )
    supervisor.start(records.program("server", STOPS_ON_TERM, quick_stop=((signal.SIGTERM, 20.0),)))
    supervisor.start(records.program("worker", IGNORES_TERM, stop=((signal.SIGTERM, 600.0),)))
    supervisor.start(records.program("watcher", signals_parent, stop=((signal.SIGTERM, 600.0),)))
    eventually(lambda: {"server ready", "watcher ready"} <= set(records.lines()))
    pids = [records.pid("parent"), records.pid("grandchild")]
    interrupts.count = 1

    supervisor.stop()

    assert "server ended" in records.lines()
    eventually(lambda: not any(map(is_alive, pids)))


def test_a_stop_signal_ends_the_run_with_code_0(supervisor: Supervisor, records: RecordFile) -> None:
    supervisor.start(records.program("child", "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"))

    assert supervisor.run() == 0


def test_a_child_that_refuses_its_settings_ends_the_run_with_code_2(supervisor: Supervisor, records: RecordFile) -> None:
    supervisor.start(records.program("good", STOPS_ON_TERM))
    supervisor.start(records.program("bad", "raise SystemExit(2)"))

    assert supervisor.run() == 2


def test_a_child_is_restarted_while_the_supervisor_runs(supervisor: Supervisor, records: RecordFile) -> None:
    # the first process exits at once; the second one signals the supervisor to stop
    code = (
        RECORDER
        + """
first = not os.path.exists(sys.argv[1])
record("started")
if not first:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
"""
    )
    supervisor.start(records.program("child", code))

    assert supervisor.run() == 0
    assert records.lines() == ["started", "started"]


def test_a_child_is_terminated_when_the_supervisor_is_killed(records: RecordFile) -> None:
    script = f"""
import sys
from inboxd.console.up.stop_signals import StopSignals
from inboxd.console.up.child_process import spawn
from inboxd.console.up.supervisor import Program, Supervisor
with StopSignals() as interrupts:
    supervisor = Supervisor(interrupts)
    code = "import os, sys, time; open(sys.argv[1], 'a').write(f'child {{os.getpid()}}\\\\n'); time.sleep(600)"
    supervisor.start(Program("child", lambda: spawn([sys.executable, "-c", code, {str(records.path)!r}])))
    supervisor.run()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY)
    child = records.pid("child")

    parent.kill()
    parent.wait()

    eventually(lambda: not is_alive(child))


def test_a_child_has_its_own_session_so_that_ctrl_c_does_not_signal_it() -> None:
    process = spawn([sys.executable, "-c", "import os, sys; sys.exit(os.getpgrp() == os.getpid() == os.getsid(0))"])

    assert process.wait(timeout=PROGRAM_SECONDS) == 1


@pytest.mark.parametrize(
    ("code", "description"), [(0, "exit code 0"), (73, "exit code 73"), (-9, "signal SIGKILL"), (-99, "signal 99")]
)
def test_an_exit_code_has_a_description(code: int, description: str) -> None:
    assert describe_exit(code) == description
