"""Child processes: kept running, stopped in order, never left behind. All with real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from inboxd.console.up.child_process import describe_exit, has_ended, spawn
from inboxd.console.up.interrupts import StopSignals
from inboxd.console.up.supervisor import Child, Program, Supervisor, restart_delay

pytestmark = pytest.mark.live

TELLS = """
import os, signal, sys, time
def tell(text):
    with open(sys.argv[1], "a") as file:
        file.write(text + "\\n")
"""
OBEDIENT = (
    TELLS
    + """
def end(*_):
    tell(sys.argv[2] + " ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
tell(sys.argv[2] + " ready")
while True:
    time.sleep(60)
"""
)
STUBBORN = (
    TELLS
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    tell(f"grandchild {os.getpid()}")
    time.sleep(600)
tell(f"stubborn {os.getpid()}")
time.sleep(600)
"""
)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Notes:
    """A file that children write lines into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def pid(self, who: str) -> int:
        eventually(lambda: any(line.startswith(f"{who} ") for line in self.lines()))
        return next(int(line.split()[1]) for line in self.lines() if line.startswith(f"{who} "))

    def program(self, name: str, code: str, **ending: tuple[tuple[signal.Signals, float], ...]) -> Program:
        return Program(name, lambda: spawn([sys.executable, "-c", code, str(self.path), name]), **ending)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


@pytest.fixture
def interrupts() -> Iterator[StopSignals]:
    with StopSignals(apart_seconds=0) as entered:
        yield entered


@pytest.fixture
def supervisor(interrupts: StopSignals) -> Iterator[Supervisor]:
    made = Supervisor(interrupts)
    yield made
    interrupts.count = 2  # whatever a failed test has left is killed at once
    made.stop()


def test_a_child_that_is_killed_is_started_again_after_half_a_second(supervisor: Supervisor, notes: Notes) -> None:
    child = supervisor.start(notes.program("it", OBEDIENT))
    first = child.process
    assert first is not None

    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: has_ended(first))
    child.check(now=1000.0)
    paused = child.process
    child.check(now=1000.6)

    assert paused is None
    assert child.last_exit == "signal SIGKILL"
    assert child.process is not None
    assert child.process.pid != first.pid


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [restart_delay(deaths) for deaths in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert restart_delay(1_000_000) == 30


def test_a_child_that_dies_again_and_again_waits_longer_until_it_has_lived_a_minute(notes: Notes) -> None:
    child = Child(notes.program("it", "raise SystemExit(3)"))
    pauses = []
    now = 0.0

    for lifetime in (0.0, 0.0, 61.0, 0.0):
        child.check(now)
        process = child.process
        assert process is not None
        eventually(lambda process=process: has_ended(process))
        now += lifetime
        child.check(now)
        pauses.append(child.restart_at - now)
        now = child.restart_at

    assert pauses == [0.5, 1.0, 0.5, 1.0]
    assert child.last_exit == "exit code 3"


def test_a_program_that_can_not_be_started_is_tried_again(tmp_path: Path) -> None:
    child = Child(Program("it", lambda: spawn([str(tmp_path / "missing")])))

    child.check(now=10.0)

    assert "No such file" in child.last_exit
    assert child.restart_at == 10.5


def test_a_program_whose_job_somebody_else_does_is_asked_again_in_a_second(notes: Notes) -> None:
    willing: list[bool] = []
    real = notes.program("it", "raise SystemExit(0)")
    child = Child(Program("it", lambda: real.start() if willing else None))

    child.check(now=10.0)
    stood_by = (child.process, child.last_exit, child.restart_at)
    willing.append(True)
    child.check(now=11.0)

    assert stood_by == (None, "", 11.0)
    assert child.process is not None
    assert child.process.wait(timeout=20) == 0


def test_what_a_dead_child_leaves_in_its_group_is_killed(supervisor: Supervisor, notes: Notes) -> None:
    child = supervisor.start(notes.program("it", STUBBORN))
    stubborn, grandchild = notes.pid("stubborn"), notes.pid("grandchild")

    os.kill(stubborn, signal.SIGKILL)
    eventually(lambda: not lives(stubborn))
    child.check(now=1000.0)

    eventually(lambda: not lives(grandchild))


def test_the_last_started_is_stopped_first_and_each_is_waited_for(supervisor: Supervisor, notes: Notes) -> None:
    for name in ("server", "worker", "beat", "watcher"):
        supervisor.start(notes.program(name, OBEDIENT))
        eventually(lambda name=name: f"{name} ready" in notes.lines())

    supervisor.stop()

    assert notes.lines()[4:] == ["watcher ended", "beat ended", "worker ended", "server ended"]


def test_a_child_that_ignores_every_signal_is_killed_with_its_group(supervisor: Supervisor, notes: Notes) -> None:
    supervisor.start(notes.program("it", STUBBORN, stop=((signal.SIGTERM, 0.2),)))
    pids = [notes.pid("stubborn"), notes.pid("grandchild")]

    supervisor.stop()

    eventually(lambda: not any(map(lives, pids)))


def test_the_second_step_is_taken_when_the_first_does_not_help(supervisor: Supervisor, notes: Notes) -> None:
    quits = "signal.signal(signal.SIGQUIT, lambda *_: (tell('it quit'), os._exit(0)))\n"
    code = STUBBORN.replace("if os.fork()", quits + "if os.fork()")
    supervisor.start(notes.program("it", code, stop=((signal.SIGTERM, 0.2), (signal.SIGQUIT, 20.0))))
    notes.pid("stubborn")

    supervisor.stop()

    assert "it quit" in notes.lines()


def test_a_second_signal_ends_the_patience_but_not_the_server_s_chance_to_save(
    supervisor: Supervisor, interrupts: StopSignals, notes: Notes
) -> None:
    impatient = (
        TELLS
        + """
signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGTERM))
tell("watcher ready")
while True:
    time.sleep(60)
"""
    )
    supervisor.start(notes.program("server", OBEDIENT, quick_stop=((signal.SIGTERM, 20.0),)))
    supervisor.start(notes.program("worker", STUBBORN, stop=((signal.SIGTERM, 600.0),)))
    supervisor.start(notes.program("watcher", impatient, stop=((signal.SIGTERM, 600.0),)))
    eventually(lambda: {"server ready", "watcher ready"} <= set(notes.lines()))
    pids = [notes.pid("stubborn"), notes.pid("grandchild")]
    interrupts.count = 1

    supervisor.stop()

    assert "server ended" in notes.lines()
    eventually(lambda: not any(map(lives, pids)))


def test_a_stop_signal_ends_the_run_with_code_0(supervisor: Supervisor, notes: Notes) -> None:
    supervisor.start(notes.program("it", "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"))

    assert supervisor.run() == 0


def test_a_child_that_refuses_its_settings_ends_the_run_with_code_2(supervisor: Supervisor, notes: Notes) -> None:
    supervisor.start(notes.program("good", OBEDIENT))
    supervisor.start(notes.program("bad", "raise SystemExit(2)"))

    assert supervisor.run() == 2


def test_a_child_is_restarted_while_the_supervisor_runs(supervisor: Supervisor, notes: Notes) -> None:
    # the first life ends at once; the second one asks for the stop
    code = (
        TELLS
        + """
first = not os.path.exists(sys.argv[1])
tell("lives")
if not first:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
"""
    )
    supervisor.start(notes.program("it", code))

    assert supervisor.run() == 0
    assert notes.lines() == ["lives", "lives"]


def test_nothing_is_left_behind_when_the_supervisor_is_killed(notes: Notes) -> None:
    script = f"""
import sys
from inboxd.console.up.interrupts import StopSignals
from inboxd.console.up.child_process import spawn
from inboxd.console.up.supervisor import Program, Supervisor
with StopSignals() as interrupts:
    supervisor = Supervisor(interrupts)
    code = "import os, sys, time; open(sys.argv[1], 'a').write(f'child {{os.getpid()}}\\\\n'); time.sleep(600)"
    supervisor.start(Program("it", lambda: spawn([sys.executable, "-c", code, {str(notes.path)!r}])))
    supervisor.run()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY)
    child = notes.pid("child")

    parent.kill()
    parent.wait()

    eventually(lambda: not lives(child))


def test_a_child_is_out_of_reach_of_a_ctrl_c_in_our_terminal() -> None:
    process = spawn([sys.executable, "-c", "import os, sys; sys.exit(os.getpgrp() == os.getpid() == os.getsid(0))"])

    assert process.wait(timeout=20) == 1


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (73, "exit code 73"), (-9, "signal SIGKILL"), (-99, "signal 99")]
)
def test_an_end_is_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
